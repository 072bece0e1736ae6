"""Search of one composition of one supercell for a given time, whatever number of energies that is.

A second is many swaps of a fast potential and few of a slow one, so the cost of a swap is measured.
Where swaps are dear this is a guided search. Where they are not, the time goes to small cells that
tile the one searched, to the best of the labelings they give, and to annealings from random
labelings. Unless swaps are as cheap as those under a surrogate there is one of these, and it is
guided, too. Otherwise there are several where there is time: one alone may end in a glass however
slowly it cools.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.search.annealing import _kernels as kernels
from latticesearch.search.annealing import _partner_kernels as partners
from latticesearch.search.annealing.guided import (
    FREE_SAMPLES,
    TUNING,
    GuidedAnnealing,
    guided_search,
)
from latticesearch.search.annealing.tiling import tiles_of
from latticesearch.search.annealing.walks import Walk, joined, random_start, random_state, result_of
from latticesearch.search.polish import ENERGY_DECIMALS, Allowance
from latticesearch.search.surrogate import Guides

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.protocol import LatticeEvaluator
    from latticesearch.search.annealing.guided import EvaluatorOf, Tuning
    from latticesearch.search.annealing.tiling import Tile
    from latticesearch.search.greedy import SearchResult

    Labels = npt.NDArray[np.int8]
    Counts = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

CHEAP = 1.5e-6
"""Seconds: a swap that costs less is cheap."""

DEAR = 20e-6
"""Seconds: a swap that costs less is not worth the time of a wide surrogate."""

GUIDING, GUIDING_WIDE = 2.5e-6, 40e-6
"""Seconds that a guided evaluation costs besides the model, without and with a wide surrogate."""

QUICK = replace(TUNING, long=0.65, pieces=12, free_steps=250, free_first=0.5)
"""How swaps are guided that are neither cheap nor dear; what the long walk leaves is for small
cells.
"""

HASTY = replace(QUICK, long=0.95, first=0.6, last=0.08)
"""The same where they are few. A walk that cools so fast ends in a glass unless it spends the time
where it is hot; descending from its end takes few swaps.
"""

IN_CYCLE = 1000
"""Evaluations of one cycle through small cells."""

SAMPLES = 400
"""Random swaps that teach the surrogates before the first fit."""

LEAST = 1e-9
"""Seconds: no shorter time is measured."""

MEASURABLE = 2e-4
"""Seconds below which a time says little about the cost of a swap."""


@dataclass(frozen=True)
class Shares:
    """How cheap swaps share the time. Temperatures in units of the mean size of a random swap.

    Near the best of some two hundred sets drawn at random, on frustrated models of 54, 64 and 128
    sites for 0.05 s; most of the others are nearly as good. They walk by rows, which makes little
    of the time that nothing happens in; `SWAP_SHARES` are for models that do not.

    Attributes
    ----------
    tiles
        Part of the time for small cells and what they give.
    again
        Part for the best of these.
    last
        Part at the end for the best of all; what is left between is for the annealings.
    restart
        Swaps per site of each of these at least, where there are several.
    in_small, in_large
        Swaps per site of a small cell, and of the whole tiled with it, in the first round; none of
        the whole where the small cell has exactly its composition.
    fewest
        Part of these below which fewer small cells are tried instead.
    hot, warm, mild, cold
        First temperatures of an annealing from a random labeling, of one from the best, and of
        a tiled cell; last temperature of all.
    pilot
        Part of the time of an annealing for a fast one that shows where the energy fluctuates.
    slowest
        Ratio of the slowest to the fastest cooling.
    """

    tiles: float = 0.35
    again: float = 0.12
    last: float = 0.06
    restart: float = 24_000.0
    in_small: float = 30.0
    in_large: float = 5.0
    fewest: float = 0.3
    hot: float = 0.4
    warm: float = 0.2
    mild: float = 0.12
    cold: float = 0.05
    pilot: float = 0.35
    slowest: float = 12.0

    @property
    def hurried(self) -> Shares:
        """How few swaps share the time: small cells, and little after them.

        Where there are none it is one annealing, which has to begin hotter to miss the glass.
        """
        return replace(self, tiles=0.65, again=0.3, last=0.05, warm=0.15, hot=0.6, cold=0.04)


SHARES = Shares()

SWAP_SHARES = Shares(
    again=0.2, last=0.1, restart=500.0, mild=0.15, cold=0.03, pilot=0.1, slowest=6.0
)

ROUNDS = 8
"""Rounds through the small cells at most; each keeps the better half and doubles the swaps."""

SET_UP = 3e-4
"""Seconds that a small cell costs besides the swaps."""

PIECES = 24
"""Temperatures of an annealing by the clock; after each, its pace is measured again."""

READINGS = 16
"""Energies read at each temperature to see how much they fluctuate."""

HOT = 0.25
"""Pace of an annealing by rows where it begins, in that where nearly no swap is accepted any more.
"""

ENOUGH = 300
"""Swaps per site below which an annealing of the whole from a random labeling ends far above what
small cells give.
"""

ENOUGH_TO_TILE = 50
"""Swaps per site below which there is no time for small cells either."""

ENOUGH_GUIDED = 150
"""Swaps per site below which none are guided: surrogates learn too little to be worth their time.
"""

ENOUGH_TO_FREEZE = 600
"""Swaps per site below which a guided walk is hasty."""

ENOUGH_FOR_BOTH = 35_000
"""Swaps below which a guided search has no time for small cells before the surrogates know them."""

MOST = 16
"""Annealings from random labelings at most; where there is time for more they get longer."""

QUENCH = 4
"""Swaps per site from one temperature to the next at least, even after the deadline."""


class Schedule(NamedTuple):
    """How an annealing cools.

    Attributes
    ----------
    parts
        (n,) of the time between neighbouring temperatures.
    rates
        (n,) swaps per second there; 0 where that is not known.
    """

    parts: Floats
    rates: Floats


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
    counts: Counts,
    *,
    guides: Guides,
    allowance: Allowance,
    rng: np.random.Generator,
    evaluator_of: EvaluatorOf,
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
    evaluator_of
        Gives the energies of the small cells that tile this one.

    Returns
    -------
    SearchResult
        What each part of the search found.
    """
    began = time.monotonic()
    start = random_start(evaluator, counts, rng)
    walk = Walk(evaluator, start, allowance, random_state(rng))
    walk.sample(1)  # loads what is compiled, which is not the cost of a swap
    asked = time.monotonic()
    _, changes = walk.sample(FREE_SAMPLES)
    pace = Pace(len(changes), time.monotonic() - asked)
    if len(changes) == 0:
        return result_of([walk.here()], allowance)
    if pace.rate * DEAR > 1.0:
        scale = float(np.abs(changes).mean())
        shares = SHARES if evaluator.has_rows else SWAP_SHARES
        annealer = ClockedAnnealing(walk, scale, rng, pace, Guides(guides.surrogates), shares)
        return annealer.run(counts, evaluator_of, began)
    results = [result_of([walk.here()], allowance)]
    again = partial(guided_search, evaluator, counts, guides=guides, evaluator_of=evaluator_of)
    while (left := allowance.deadline - time.monotonic()) > 0.0:
        n = left / (1.0 / pace.rate + GUIDING_WIDE)
        part = Allowance(max(int(n), 2), 0, allowance.deadline)
        results.append(again(allowance=part, rng=rng))
        allowance.used += part.used
    return joined(results, allowance.used)


@dataclass(eq=False)
class ClockedAnnealing:
    """The parts of a search by annealing, each of which gets a time.

    Attributes
    ----------
    walk : Walk
        Through the labelings of the supercell, with a deadline.
    scale : float
        Mean size of a random swap, eV.
    rng : numpy.random.Generator
    pace : Pace
        The cost of swaps when last measured.
    guides : Guides
        Surrogates for the long annealing where swaps are worth it; they learn.
    shares : Shares
    found : list of Best
        What the parts found.
    """

    walk: Walk
    scale: float
    rng: np.random.Generator
    pace: Pace
    guides: Guides
    shares: Shares
    found: list[kernels.Best] = field(default_factory=list)

    def run(self, counts: Counts, evaluator_of: EvaluatorOf, began: float) -> SearchResult:
        """Search until the deadline; the time counts from `began`, s."""
        deadline = self.walk.allowance.deadline
        seconds = deadline - began
        tiles, guiding = self._choose(seconds * self.pace.rate, counts)
        shares = self.shares
        if tiles:
            end = began + shares.tiles * seconds
            self._tile(tiles, counts, evaluator_of, end)
            if self.found:
                self.anneal(end + shares.again * seconds, shares.warm, self._lowest())
        end = deadline - (shares.last * seconds if self.found else 0.0)
        if guiding is None:
            self.anneal_often(end, counts)
        else:
            self._guide(end, counts, evaluator_of, guiding)
        self.anneal(deadline, shares.mild, self._lowest())
        return result_of(self.found, self.walk.allowance)

    def _choose(self, swaps: float, counts: Counts) -> tuple[list[Tile], Tuning | None]:
        """Return the small cells to begin with, and how the rest is guided if it is.

        That depends on how many swaps there is time for; few get shares of their own.
        """
        per_site = swaps / len(self.walk.rules.sites)
        is_hurried, tiles = per_site < ENOUGH, []
        is_guided = self.pace.rate * CHEAP < 1.0 and per_site > ENOUGH_GUIDED
        if per_site > ENOUGH_TO_TILE and (is_hurried or not is_guided or swaps > ENOUGH_FOR_BOTH):
            tiles = tiles_of(self.walk.evaluator.supercell, counts)
        if is_hurried:
            # Those not exact need walks through the whole: in a hurry there is no time for them.
            tiles = [tile for tile in tiles if tile.is_exact]
            if tiles or not is_guided:
                self.shares = self.shares.hurried
                return tiles, None
        if not is_guided:
            return tiles, None
        return tiles, HASTY if per_site < ENOUGH_TO_FREEZE else QUICK

    def anneal_often(self, end: float, counts: Counts) -> None:
        """Cool from random labelings, one after the other, until a time, s."""
        n_sites = len(self.walk.rules.sites)
        swaps = (end - time.monotonic()) * self.pace.rate
        number = int(np.clip(swaps / (self.shares.restart * n_sites), 1, MOST))
        schedule = None
        for left in range(number, 0, -1):
            start = random_start(self.walk.evaluator, counts, self.rng)
            now = time.monotonic()
            schedule = self.anneal(now + (end - now) / left, self.shares.hot, start, schedule)

    def anneal(
        self, end: float, first: float, start: Labels, schedule: Schedule | None = None
    ) -> Schedule | None:
        """Cool from a labeling, (n_sites,), until a time, s, from a temperature `first`.

        Slowly where the energy fluctuates, as a schedule tells or, without one, if there is time
        to see where that is. Returns the schedule with the pace met.
        """
        walk = self.walk
        left = end - time.monotonic()
        if self.found and left <= 0.0:
            return schedule
        walk.restart(start)
        best = walk.here()
        fewest = QUENCH * len(walk.rules.sites)
        rate = self.pace.rate * (HOT if walk.evaluator.has_rows else 1.0)
        pieces = int(np.clip(left * rate / fewest, 1, PIECES))
        temperatures = self.scale * np.geomspace(first, self.shares.cold, pieces + 1)
        if schedule is None or len(schedule.parts) != pieces:
            schedule = self._schedule(temperatures, self.shares.pilot * left, rate, best)
        parts, rates = schedule
        for piece, part in enumerate(parts.tolist()):
            # Out of time it still cools, but fast: nothing is worth less than a hot labeling.
            seconds = (end - time.monotonic()) * part / float(parts[piece:].sum())
            n = max(int(seconds * (rates[piece] or rate)), fewest)
            hot, cold = temperatures[piece : piece + 2].tolist()
            self._cool(walk, (hot, cold), n, best)
            rates[piece] = rate = self.pace.rate
        self.found.append(best)
        return schedule

    def _schedule(
        self, temperatures: Floats, seconds: float, rate: float, best: kernels.Best
    ) -> Schedule:
        """Return how to cool between temperatures, (n + 1,) eV; equally, without time to see how.

        A pilot may take a time, s; `rate` is the pace expected at the first, 1/s.
        """
        pieces, n_sites = len(temperatures) - 1, len(self.walk.rules.sites)
        if seconds * rate <= pieces * READINGS * n_sites / 4:
            return Schedule(np.full(pieces, 1.0 / pieces), np.zeros(pieces))
        start = self.walk.labels.copy()
        spreads, rates = self._pilot(temperatures, seconds, rate, best)
        self.walk.restart(start)
        return Schedule(cooling_shares(spreads / temperatures, self.shares.slowest), rates[:-1])

    def _pilot(
        self, temperatures: Floats, seconds: float, rate: float, best: kernels.Best
    ) -> tuple[Floats, Floats]:
        """Cool fast, for a time, s; return how far the energy varies, eV, and the pace, 1/s.

        Both of each of the temperatures, (n,); `rate` is the pace expected at the first.
        """
        walk, by_rows = self.walk, self.walk.evaluator.has_rows
        spreads, rates = np.zeros(len(temperatures)), np.zeros(len(temperatures))
        for k, temperature in enumerate(temperatures.tolist()):
            steps = max(int(seconds * rate / len(temperatures) / READINGS), 1)
            began = time.monotonic()
            spreads[k], used = partners.fluctuation(
                walk.model, walk.rules, temperature, best, (READINGS, steps), by_rows, walk.rng
            )
            walk.allowance.used += used
            rates[k] = rate = Pace(used, time.monotonic() - began).rate
        return spreads, rates

    def _guide(self, end: float, counts: Counts, evaluator_of: EvaluatorOf, tuning: Tuning) -> None:
        """Cool from a random labeling until a time, s, guided by surrogates.

        Then search small cells, for these are what the surrogates have become good at.
        """
        start = random_start(self.walk.evaluator, counts, self.rng)
        n = int((end - time.monotonic()) / (1.0 / self.pace.rate + GUIDING))
        if n < QUENCH * len(start):
            self.anneal(end, self.shares.hot, start)
            return
        part = Allowance(n, 0, end)
        walk = Walk(self.walk.evaluator, start, part, self.walk.rng)
        swaps, changes = walk.sample(min(SAMPLES, n // 4))
        self.guides.learn_swaps(walk.evaluator.supercell, start, swaps, changes)
        guided = GuidedAnnealing(walk, self.guides, self.scale, tuning, self.rng)
        self.found.append(guided.long_walk(int(tuning.long * part.left)))
        tilings, number = guided.tilings(counts, evaluator_of), 0
        while tilings and guided.can_tile():
            self.found += guided.tiled_cycles(tilings, counts, number, IN_CYCLE)
            number += 1
        self.walk.allowance.used += part.used

    def _lowest(self) -> Labels:
        """Return the lowest labeling found so far, (n_sites,)."""
        return min(self.found, key=_rank).labels

    def _tile(
        self, tiles: list[Tile], counts: Counts, evaluator_of: EvaluatorOf, end: float
    ) -> None:
        """Search small cells and tile with them until a time, s: the better, the longer."""
        shares, factor = self.shares, 1.0
        cost = [shares.in_small * t.cell.n_sites + self._in_large(t) for t in tiles]
        affordable = (end - time.monotonic()) * self.pace.rate / sum(cost)
        if affordable < 1.0:
            factor = max(affordable, shares.fewest)
        # Swaps that take less time than the rest are not worth saving.
        factor = max(factor, SET_UP * self.pace.rate * len(tiles) / sum(cost))
        order = self.rng.permutation(len(tiles)).tolist()
        for number in range(ROUNDS):
            ends: list[tuple[float, int]] = []
            for i in order:
                if time.monotonic() > end:
                    return
                best = self._tiled(tiles[i], counts, evaluator_of, factor)
                if best is not None:
                    self.found.append(best)
                    ends.append((_rank(best)[0], i))
            kept = sorted(ends)[: math.ceil(len(ends) / 2)] if number else ends
            order = [i for _, i in kept]
            factor *= 2.0

    def _in_large(self, tile: Tile) -> float:
        """Return the swaps of the whole, tiled with a small cell, in the first round."""
        # A labeling of the right composition tells by itself what it is worth.
        return 0.0 if tile.is_exact else self.shares.in_large * len(tile.sites)

    def _tiled(
        self, tile: Tile, counts: Counts, evaluator_of: EvaluatorOf, factor: float
    ) -> kernels.Best | None:
        """Anneal a small cell, tile, and anneal the whole a little; return the lowest of it."""
        shares, walk = self.shares, self.walk
        evaluator = evaluator_of(tile.cell)
        start = random_start(evaluator, tile.counts, self.rng)
        small = Walk(evaluator, start, walk.allowance, walk.rng)
        n = int(factor * shares.in_small * tile.cell.n_sites)
        hot, mild, cold = (self.scale * t for t in (shares.hot, shares.mild, shares.cold))
        self._cool(small, (hot, cold), n, small.best)
        allowed = walk.evaluator.supercell.allowed
        filled = tile.fill(small.best.labels, counts, allowed, self.rng)
        if filled is None:
            return None
        walk.restart(filled)
        best = walk.here()
        n = int(factor * self._in_large(tile))
        if n:
            self._cool(walk, (mild, cold), n, best)
        return best

    def _cool(
        self, walk: Walk, temperatures: tuple[float, float], n: int, best: kernels.Best
    ) -> None:
        """Anneal with `n` swaps between two temperatures, eV; take note of the pace."""
        began = time.monotonic()
        used = walk.cool(temperatures, max(n, 1), best)
        seconds = time.monotonic() - began
        if walk is self.walk and seconds > MEASURABLE:
            self.pace = Pace(used, seconds)


def cooling_shares(fluctuations: Floats, slowest: float) -> Floats:
    """Return the parts of the time, (n - 1,), between n temperatures on a geometric scale.

    At constant thermodynamic speed the time per logarithm of the temperature is in proportion to
    the spread of the energy over the temperature, the root of the heat capacity (Salamon, Nulton,
    Harland, Pedersen, Ruppeiner & Liao, Comput. Phys. Commun. 49, 423 (1988)).

    Parameters
    ----------
    fluctuations
        (n,) standard deviations of the energy over the temperature.
    slowest
        Ratio of the largest to the smallest part at most.
    """
    padded = np.pad(fluctuations, 1)
    smooth = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    shares = smooth[:-1]
    highest = float(shares.max())
    shares = np.maximum(shares, highest / slowest) if highest > 0.0 else np.ones(len(shares))
    result: Floats = shares / shares.sum()
    return result


def _rank(best: kernels.Best) -> tuple[float, bytes]:
    """Return what orders labelings, lowest first."""
    return round(float(best.energy[0]), ENERGY_DECIMALS), best.labels.tobytes()
