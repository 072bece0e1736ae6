"""Compiled walks over labelings of fixed composition, for any model.

A model is a pair (tables, state) behind the names of `latticesearch.potential.walk`; nothing
here knows what stands behind them. One asked swap is one evaluation.

Random numbers come from a state that is handed in, (1,) uint64: numba's own generator is one per
thread and hidden, so a walk would depend on what ran before it. Ties are decided by comparisons, so
nothing is compiled with ``fastmath``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit

from latticesearch.potential.walk import INLINE, LEAN, accept, swap_change

if TYPE_CHECKING:
    import numpy.typing as npt

    Model = tuple[Any, Any]

SAME = 1e-10
"""eV: a swap that lowers the energy by less is rounding."""

DRAWS = 1000
"""Pairs drawn in vain before a labeling counts as one with nothing to swap."""

STRIDE = np.uint64(0x9E3779B97F4A7C15)
"""From one state of the generator of random numbers to the next."""


class SwapRules(NamedTuple):
    """Which swaps a cell allows.

    Parameters
    ----------
    sites
        Sites with a choice, (n,).
    allowed
        (n_sites, n_species).
    """

    sites: npt.NDArray[np.int64]
    allowed: npt.NDArray[np.bool_]


class Cooling(NamedTuple):
    """Geometric cooling.

    Parameters
    ----------
    first, last
        Temperatures of the whole, eV.
    begin, end
        Which part of the whole this piece is, fractions from 0 to 1.
    """

    first: float
    last: float
    begin: float
    end: float


class Best(NamedTuple):
    """The lowest labeling met.

    Parameters
    ----------
    labels
        (n_sites,).
    energy
        (1,), eV.
    """

    labels: npt.NDArray[np.int8]
    energy: npt.NDArray[np.float64]


@njit(**INLINE)
def random_bits(rng: npt.NDArray[np.uint64]) -> np.uint64:
    """Return 64 random bits (SplitMix64; Steele, Lea & Flood, OOPSLA (2014)).

    `rng` is (1,), the state, brought up to date.
    """
    rng[0] += STRIDE
    return mixed(rng[0])  # type: ignore[no-any-return]


@njit(**INLINE)
def mixed(z: np.uint64) -> np.uint64:
    """Return the random bits, uint64, of one state of the generator, its finalizer."""
    # A function of the state alone: the numbers of many states can be had side by side.
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(**INLINE)
def unit_of(bits: np.uint64) -> float:
    """Return random bits, uint64, as a number in [0, 1)."""
    # The upper 53 bits, as many as a double holds: no rounding, hence never 1.
    return float(bits >> np.uint64(11)) * 2.0**-53


@njit(**INLINE)
def random_below(rng: npt.NDArray[np.uint64], n: int) -> int:
    """Return a random integer from 0 to n - 1 of the state `rng`, (1,); n is far below 2**32."""
    # A product and a shift instead of a division; the relative bias is n / 2**32 at most.
    return np.int64(((random_bits(rng) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))  # type: ignore[return-value]


@njit(**INLINE)
def random_unit(rng: npt.NDArray[np.uint64]) -> float:
    """Return a random number in [0, 1) of the state `rng`, (1,)."""
    return unit_of(random_bits(rng))  # type: ignore[no-any-return]


@njit(**INLINE)
def is_swap(rules: SwapRules, labels: npt.NDArray[np.int8], i: int, j: int) -> bool:
    """Tell whether the exchange of two sites of `labels`, (n_sites,), gives another allowed one."""
    a, b = labels[i], labels[j]
    return bool(a != b and rules.allowed[i, b] and rules.allowed[j, a])


@njit(**INLINE)
def draw_swap(
    rules: SwapRules, labels: npt.NDArray[np.int8], rng: npt.NDArray[np.uint64]
) -> tuple[int, int]:
    """Return two sites whose exchange gives another allowed labeling; (-1, -1) if none is met.

    `labels` are (n_sites,), `rng` is (1,), brought up to date.
    """
    # Drawn until one fits, each as likely as any other; a list of what can be swapped would have to
    # be brought up to date with every swap.
    n = rules.sites.size
    for _ in range(DRAWS):
        i, j = rules.sites[random_below(rng, n)], rules.sites[random_below(rng, n)]
        if is_swap(rules, labels, i, j):
            return i, j
    return -1, -1


@njit(**INLINE)
def may_pass(unit: float, cost: float) -> bool:
    """Tell without an exponential whether ``unit < exp(-cost)`` can hold; cost is not negative."""
    # The inverse of a sum that begins like that of exp(x), all terms of which are positive.
    return unit * (1.0 + cost * (1.0 + cost * (0.5 + cost * (1.0 / 6.0)))) < 1.0


@njit(**INLINE)
def is_accepted(unit: float, cost: float) -> bool:
    """Metropolis' test of a cost in units of the temperature with a random number in [0, 1).

    Metropolis et al., J. Chem. Phys. 21, 1087 (1953): accepted with probability min(1, exp(-cost)).
    """
    if cost <= 0.0:
        return True
    # Of what is refused, most is refused without an exponential.
    return bool(may_pass(unit, cost) and unit < np.exp(-cost))


@njit(**INLINE)
def keep_best(state: Any, best: Best) -> None:
    """Copy the labels where the energy, eV per cell, is lower than before."""
    # Lower by more than rounding: of equals the first met is kept, whatever the last bits are.
    if state.energy[0] < best.energy[0] - SAME:
        best.energy[0] = state.energy[0]
        for i in range(best.labels.size):
            best.labels[i] = state.labels[i]


@njit(cache=True)
def sample_swaps(
    model: Model, rules: SwapRules, swaps: npt.NDArray[np.int64], rng: npt.NDArray[np.uint64]
) -> npt.NDArray[np.float64]:
    """Ask about random swaps and carry out none of them.

    Parameters
    ----------
    model, rules
        Of the cell.
    swaps
        (n, 3): receives the sites and 0 for "not carried out".
    rng
        (1,), state of the random numbers.

    Returns
    -------
    (m,)
        Changes of energy of the cell, eV; fewer than n where nothing can be swapped.
    """
    tables, state = model
    changes = np.empty(swaps.shape[0])
    for n in range(swaps.shape[0]):
        i, j = draw_swap(rules, state.labels, rng)
        if i < 0:
            return changes[:n]
        swaps[n, 0], swaps[n, 1], swaps[n, 2] = i, j, 0
        changes[n] = swap_change(tables, state, i, j)
    return changes


@njit(**LEAN)
def anneal(
    model: Model,
    rules: SwapRules,
    cooling: Cooling,
    best: Best,
    n_steps: int,
    rng: npt.NDArray[np.uint64],
) -> int:
    """Metropolis swaps while cooling.

    Kirkpatrick, Gelatt & Vecchi, Science 220, 671 (1983).

    Parameters
    ----------
    model, rules
        Of the cell; the state of the model walks.
    cooling
        Temperatures, eV.
    best
        Brought up to date.
    n_steps
        Evaluations.
    rng
        (1,), state of the random numbers.

    Returns
    -------
    int
        Number of evaluations.
    """
    tables, state = model
    step = (cooling.end - cooling.begin) / max(n_steps, 1)
    ratio = np.log(cooling.last / cooling.first)
    # One multiplication per step instead of an exponential.
    factor = np.exp(ratio * step)
    temperature = cooling.first * np.exp(ratio * cooling.begin)
    for n in range(n_steps):
        i, j = draw_swap(rules, state.labels, rng)
        if i < 0:
            return n
        change = swap_change(tables, state, i, j)
        # No random number where none is needed; changes within rounding are none.
        if change <= SAME or is_accepted(random_unit(rng), change / temperature):
            accept(tables, state)
            keep_best(state, best)
        temperature *= factor
    return n_steps


@njit(**LEAN)
def descend(
    model: Model, rules: SwapRules, best: Best, limit: int, rng: npt.NDArray[np.uint64]
) -> int:
    """Carry out every swap that lowers the energy until none does.

    All pairs are asked in turn, in an order that jumps about; the walk ends when as many as
    there are have been asked in vain, or at the limit.

    Parameters
    ----------
    model, rules
        Of the cell; the state of the model walks.
    best
        Brought up to date.
    limit
        Evaluations at most.
    rng
        (1,), state of the random numbers.

    Returns
    -------
    int
        Number of evaluations.
    """
    tables, state = model
    n = rules.sites.size
    n_pairs = n * (n - 1) // 2
    # A stride without a common divisor meets every pair once before the first again, without a list
    # of what was asked; by the golden section, pairs asked one after the other are far apart.
    stride = _coprime(n_pairs, 0.618)
    at = random_below(rng, max(n_pairs, 1))
    asked, in_vain = 0, 0
    while in_vain < n_pairs:
        at = (at + stride) % n_pairs
        # Pairs (i, j), j < i, numbered row by row.
        i = int((1.0 + np.sqrt(1.0 + 8.0 * at)) / 2.0)
        one, other = rules.sites[i], rules.sites[at - i * (i - 1) // 2]
        in_vain += 1
        if not is_swap(rules, state.labels, one, other):
            continue
        if asked >= limit:
            break
        asked += 1
        if swap_change(tables, state, one, other) < -SAME:
            accept(tables, state)
            # Everything may have changed: all pairs have to be asked in vain again.
            in_vain = 0
    keep_best(state, best)
    return asked


@njit(**LEAN)
def _coprime(n: int, fraction: float) -> int:
    """Return a number near a fraction of n without a common divisor."""
    number = max(1, int(fraction * n))
    while True:
        a, b = n, number
        while b:
            a, b = b, a % b
        if a <= 1:
            return number
        number += 1
