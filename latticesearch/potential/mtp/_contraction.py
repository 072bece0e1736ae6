"""From basic moments to site energies: compiled products and sums, many sites at once.

The list of products of a potential is rewritten (see `latticesearch.potential.mtp.products`) so
that few results have to be stored: with the basic moments m and the products behind them,

    m[n_basic + p] = sum_t factors[t] m[left[t]] m[right[t]],   starts[p] <= t < starts[p + 1]
    energy = sum_g m[group[g]] (linear[g] + sum_t weights[t] m[partner[t]])

with group_starts[g] <= t < group_starts[g + 1]. Sites stand in the lanes of vectors: the moment k
of lane l is ``work[k * LANES + l]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from latticesearch.potential.walk import LEAN
from latticesearch.vectors import (
    LANES,
    SQUARE,
    load,
    plus,
    splat,
    store,
    times,
    times_plus,
    transpose,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.vectors import Lanes


class Contraction(NamedTuple):
    """Products and sums as in the formulae above; all indices are multiplied by LANES.

    Parameters
    ----------
    n_basic, n_stored
        Numbers of basic and of all moments.
    starts
        (n_stored - n_basic + 1,).
    left, right, factors
        (n_terms,).
    group_starts
        (n_groups + 1,).
    group, linear
        (n_groups,); `linear` in eV.
    partner, weights
        (n_pairs,); `weights` in eV.
    """

    n_basic: int
    n_stored: int
    starts: npt.NDArray[np.int64]
    left: npt.NDArray[np.uint32]
    right: npt.NDArray[np.uint32]
    factors: npt.NDArray[np.float64]
    group_starts: npt.NDArray[np.int64]
    group: npt.NDArray[np.uint32]
    linear: npt.NDArray[np.float64]
    partner: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float64]


@njit(cache=True)
def aligned(size: int) -> npt.NDArray[np.float64]:
    """Return new doubles, (size,), that begin where a cache line begins.

    A vector of two cache lines would touch three otherwise.
    """
    buffer = np.empty(size + 8)
    first = (-np.int64(buffer.ctypes.data) // 8) % 8
    part: npt.NDArray[np.float64] = buffer[first : first + size]
    return part


@njit(cache=True)
def space(contraction: Contraction) -> npt.NDArray[np.float64]:
    """Return space for the moments of one vector of sites."""
    doubles: npt.NDArray[np.float64] = aligned((contraction.n_stored + SQUARE) * LANES)
    return doubles


@njit(**LEAN)
def multiply(contraction: Contraction, work: npt.NDArray[np.float64]) -> None:
    """Fill the products behind the basic moments."""
    for p in range(contraction.starts.size - 1):
        total = splat(0.0)
        for t in range(contraction.starts[p], contraction.starts[p + 1]):
            scaled = times(splat(contraction.factors[t]), load(work, contraction.left[t]))
            total = times_plus(scaled, load(work, contraction.right[t]), total)
        store(work, (contraction.n_basic + p) * LANES, total)


@njit(**LEAN)
def energy(contraction: Contraction, work: npt.NDArray[np.float64]) -> Lanes:
    """Return the energies that all moments give, eV, without the species' own."""
    total = splat(0.0)
    for g in range(contraction.group.size):
        slope = splat(contraction.linear[g])
        for t in range(contraction.group_starts[g], contraction.group_starts[g + 1]):
            moment = load(work, contraction.partner[t])
            slope = times_plus(splat(contraction.weights[t]), moment, slope)
        total = times_plus(slope, load(work, contraction.group[g]), total)
    return total


@njit(**LEAN)
def differentiate(
    contraction: Contraction,
    work: npt.NDArray[np.float64],
    adjoints: npt.NDArray[np.float64],
) -> None:
    """Write d(energy)/d(moment) of all moments `work` to `adjoints`, of the same shape."""
    for k in range(contraction.n_stored):
        store(adjoints, k * LANES, splat(0.0))
    for g in range(contraction.group.size):
        at = contraction.group[g]
        moment = load(work, at)
        slope = splat(contraction.linear[g])
        for t in range(contraction.group_starts[g], contraction.group_starts[g + 1]):
            weight, partner = splat(contraction.weights[t]), contraction.partner[t]
            slope = times_plus(weight, load(work, partner), slope)
            store(adjoints, partner, times_plus(weight, moment, load(adjoints, partner)))
        store(adjoints, at, plus(slope, load(adjoints, at)))
    for p in range(contraction.starts.size - 2, -1, -1):
        outer = load(adjoints, (contraction.n_basic + p) * LANES)
        for t in range(contraction.starts[p], contraction.starts[p + 1]):
            one, other = contraction.left[t], contraction.right[t]
            weight = times(splat(contraction.factors[t]), outer)
            store(adjoints, one, times_plus(weight, load(work, other), load(adjoints, one)))
            store(adjoints, other, times_plus(weight, load(work, one), load(adjoints, other)))


@njit(**LEAN)
def fill_lanes(
    n_basic: int,
    rows: npt.NDArray[np.float64],
    first: int,
    n_rows: int,
    work: npt.NDArray[np.float64],
) -> None:
    """Put the moments of up to LANES rows from `first` on into the lanes, zeros behind them.

    `rows` are as wide as whole vectors; up to SQUARE - 1 moments behind the basic ones are
    overwritten.
    """
    if n_rows == LANES:
        width = rows.shape[1]
        for lane in range(0, LANES, SQUARE):
            for k in range(0, n_basic, SQUARE):
                transpose(rows, (first + lane) * width + k, width, work, k * LANES + lane)
        return
    for lane in range(n_rows):
        for k in range(n_basic):
            work[k * LANES + lane] = rows[first + lane, k]
    for lane in range(n_rows, LANES):
        for k in range(n_basic):
            work[k * LANES + lane] = 0.0


@njit(**LEAN)
def contract_rows(
    contraction: Contraction,
    rows: npt.NDArray[np.float64],
    n_rows: int,
    work: npt.NDArray[np.float64],
    energies: npt.NDArray[np.float64],
) -> None:
    """Write what the first rows of basic moments give, eV, without the species' own energies.

    Parameters
    ----------
    rows
        (at least n_rows, width), as wide as whole vectors.
    work
        From `space`, overwritten.
    energies
        (at least n_rows,), written.
    """
    for first in range(0, n_rows, LANES):
        n = min(LANES, n_rows - first)
        fill_lanes(contraction.n_basic, rows, first, n, work)
        multiply(contraction, work)
        store(work, 0, energy(contraction, work))
        for lane in range(n):
            energies[first + lane] = work[lane]
