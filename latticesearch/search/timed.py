"""Search of one composition of one supercell for a given time, whatever number of energies that is.

A second is many swaps of a fast potential and few of a slow one. The cost of a swap is measured;
guided annealing gives the potential as much time as the surrogate gets, and where swaps are cheap
most of the time goes to one long annealing under the potential itself, whose schedule follows from
a short one: it is slow where the energy fluctuates.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.search import _kernels as kernels
from latticesearch.search.guided import (
    FREE_SAMPLES,
    SHORTEST,
    TUNING,
    Walk,
    guided_cycle,
    random_start,
    random_state,
    result_of,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.protocol import LatticeEvaluator
    from latticesearch.search.greedy import SearchResult
    from latticesearch.search.polish import Allowance
    from latticesearch.search.surrogate import Guides

CHEAP = 10e-6
"""Seconds: a swap that costs less is cheap. Under a surrogate one costs 0.4 to 0.8 µs."""

LONG = 0.85
"""Part of the time for the long annealing where swaps are cheap."""

PILOT = 0.1
"""Part of that for the short one that says where to be slow."""

FIRST, LAST = 0.4, 0.03
"""Its temperatures, in units of the mean size of a random swap."""

READINGS = 16
"""Energies read at each temperature of the short annealing; the first quarter is not used."""

QUENCH = 4
"""Swaps per site from one temperature to the next at least, even after the deadline."""

SLOWEST = 10.0
"""Ratio of the slowest to the fastest cooling."""

FREE_STEPS, FREE_FIRST = 30_000, 1.0
"""Swaps under the surrogate in the first cycle, and their first temperature: there is no number
of energies to make the most of, so few long cycles from hot labelings."""

GROWTH = 1.1
"""Each cycle is longer than the one before by this factor, so that longer searches cool slower."""

PIECES = 24
"""Temperatures of an annealing by the clock; after each, its pace is measured again."""

LEAST = 1e-9
"""Seconds: no shorter time is measured."""


class Pace(NamedTuple):
    """Swaps and the wall time they took, s."""

    swaps: int
    seconds: float

    @property
    def rate(self) -> float:
        """Swaps per second."""
        return max(self.swaps, 1) / max(self.seconds, LEAST)


def timed_search(
    evaluator: LatticeEvaluator,
    counts: npt.NDArray[np.int64],
    *,
    guides: Guides,
    allowance: Allowance,
    rng: np.random.Generator,
) -> SearchResult:
    """Search one composition of one supercell until a deadline.

    The result depends on how fast the machine is.

    Parameters
    ----------
    evaluator
        Energies of the cell.
    counts
        (n_species,) atoms of each species in the cell.
    guides
        Surrogates of the parent lattice; they learn.
    allowance
        With a deadline; the number of energies is unlimited.
    rng
        Source of all chance.

    Returns
    -------
    SearchResult
        The lowest labeling of each cycle and of the annealing.
    """
    began = time.monotonic()
    seed = random_state(rng)
    start = random_start(evaluator, counts, rng)
    walk = Walk(evaluator, start, allowance, seed)
    walk.sample(1)  # loads what is compiled, which is not the cost of a swap
    asked = time.monotonic()
    swaps, changes = walk.sample(FREE_SAMPLES)
    pace = Pace(len(changes), time.monotonic() - asked)
    found = [(float(walk.best.energy[0]), start)]
    if len(changes) == 0:
        return result_of(found, allowance)
    scale = float(np.abs(changes).mean())
    guides.learn_swaps(evaluator.supercell, start, swaps, changes)
    is_cheap = pace.rate * CHEAP > 1.0
    seconds = allowance.deadline - began
    end = allowance.deadline - (LONG * seconds if is_cheap else 0.0)
    best, pace = _cycles(walk, guides, scale, end, pace)
    found += best
    if is_cheap:
        walk.restart(random_start(evaluator, counts, rng))
        lowest = anneal_by_clock(walk, scale, pace)
        found.append((float(lowest.energy[0]), lowest.labels))
    return result_of(found, allowance)


def _cycles(
    walk: Walk, guides: Guides, scale: float, end: float, pace: Pace
) -> tuple[list[tuple[float, npt.NDArray[np.int8]]], Pace]:
    """Run cycles of guided annealing until a time; return the lowest of each, and the pace."""
    found = []
    least = TUNING.lessons * SHORTEST
    number, n = 0, least
    while (left := end - time.monotonic()) > 0.0:
        n = max(1, min(n, int(left * pace.rate)))
        began, before = time.monotonic(), walk.allowance.used
        free_steps = int(FREE_STEPS * GROWTH**number / len(walk.rules.sites))
        tuning = replace(TUNING, free_steps=free_steps, free_first=FREE_FIRST)
        lap = guided_cycle(walk, guides, number, n, scale, tuning)
        seconds = time.monotonic() - began
        found.append((float(lap.best.energy[0]), lap.best.labels))
        pace = Pace(walk.allowance.used - before, seconds - lap.free_seconds)
        # As much time for the potential as for the surrogate, but no sudden leap.
        n = max(least, min(4 * n, int(pace.rate * lap.free_seconds)))
        number += 1
    return found, pace


def anneal_by_clock(walk: Walk, scale: float, pace: Pace) -> kernels.Best:
    """Cool from where a walk stands until its deadline; return the lowest labeling met.

    Parameters
    ----------
    walk
        With a deadline.
    scale
        Mean size of a random swap, eV.
    pace
        The first guess of the cost of a swap.
    """
    best = kernels.Best(walk.labels.copy(), walk.model[1].energy.copy())
    temperatures = scale * np.geomspace(FIRST, LAST, PIECES)
    now = time.monotonic()
    pilot = PILOT * (walk.allowance.deadline - now)
    spreads = np.zeros(PIECES)
    n_sites = len(walk.rules.sites)
    if pilot * pace.rate > PIECES * READINGS * n_sites / 4:  # with fewer swaps it says nothing
        for piece, temperature in enumerate(temperatures):
            seconds = (now + pilot - time.monotonic()) / (PIECES - piece)
            spreads[piece], pace = _spread(walk, temperature, seconds, pace, best)
    shares = cooling_shares(spreads / temperatures)
    for piece in range(PIECES - 1):
        # Out of time it still cools, but fast: nothing is worth less than a hot labeling.
        left = walk.allowance.deadline - time.monotonic()
        seconds = left * float(shares[piece] / shares[piece:].sum())
        seconds = max(seconds, QUENCH * n_sites / pace.rate)
        first, last = temperatures[piece : piece + 2].tolist()
        pace = _cool(walk, kernels.Cooling(first, last, 0.0, 1.0), seconds, pace, best)
    return best


def cooling_shares(fluctuations: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the parts of the time, (n - 1,), between n temperatures on a geometric scale.

    At constant thermodynamic speed the time per logarithm of the temperature is in proportion to
    the spread of the energy over the temperature, the root of the heat capacity (Salamon, Nulton,
    Harland, Pedersen, Ruppeiner & Liao, Comput. Phys. Commun. 49, 423 (1988)).

    Parameters
    ----------
    fluctuations
        (n,) standard deviations of the energy over the temperature.
    """
    padded = np.pad(fluctuations, 1)
    smooth = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    shares = smooth[:-1]
    highest = float(shares.max())
    shares = np.maximum(shares, highest / SLOWEST) if highest > 0.0 else np.ones(len(shares))
    result: npt.NDArray[np.float64] = shares / shares.sum()
    return result


def _spread(
    walk: Walk, temperature: float, seconds: float, pace: Pace, best: kernels.Best
) -> tuple[float, Pace]:
    """Return the standard deviation of the energy at a temperature, eV, and the pace."""
    energies = []
    cooling = kernels.Cooling(temperature, temperature, 0.0, 1.0)
    for _ in range(READINGS):
        pace = _cool(walk, cooling, seconds / READINGS, pace, best)
        energies.append(float(walk.model[1].energy[0]))
    return float(np.std(energies[READINGS // 4 :])), pace


def _cool(
    walk: Walk, cooling: kernels.Cooling, seconds: float, pace: Pace, best: kernels.Best
) -> Pace:
    """Anneal for about a time; return the pace."""
    began = time.monotonic()
    n = max(int(seconds * pace.rate), 1)
    used = int(kernels.anneal(walk.model, walk.rules, cooling, best, n, walk.rng))
    walk.allowance.used += used
    return Pace(used, time.monotonic() - began)
