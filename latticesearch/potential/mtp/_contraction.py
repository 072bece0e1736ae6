"""From basic moments to site energies: compiled products and sums, many sites at once.

The basis functions B_alpha of a moment tensor potential are contractions of the moments of a site,
and its energy is V = xi_0 + sum_alpha xi_alpha B_alpha (Shapeev, Multiscale Model. Simul. 14, 1153
(2016); Gubaev et al., Comput. Mater. Sci. 156, 148 (2019), for several species). The list of
products of a potential is rewritten (see `latticesearch.potential.mtp.products`) so that few
results have to be stored: with the basic moments m and the products behind them,

    m[n_basic + p] = sum_t factors[t] m[left[t]] m[right[t]],   starts[p] <= t < starts[p + 1]
    energy = sum_g m[group[g]] (linear[g] + sum_t weights[t] m[partner[t]])

with group_starts[g] <= t < group_starts[g + 1]. Sites stand in the lanes of vectors: the moment k
of lane l is ``work[k * LANES + l]``. The products of one site depend on each other and take many
single look-ups; those of different sites are independent and all of one form, so one look-up of
an index serves LANES sites, and a site's result does not depend on its neighbours in the lanes.
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


class ContractionTables(NamedTuple):
    """Products and sums as in the formulae above; all indices are multiplied by LANES.

    Indices are unsigned, so numba tests none for being counted from the end, and of 32 bits, which
    leaves more of the nearest cache to the moments.

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
    # A cache line is 64 bytes, 8 doubles; numpy promises less.
    buffer = np.empty(size + 8)
    first = (-np.int64(buffer.ctypes.data) // 8) % 8
    part: npt.NDArray[np.float64] = buffer[first : first + size]
    return part


@njit(cache=True)
def space(contraction: ContractionTables) -> npt.NDArray[np.float64]:
    """Return space for the moments of one vector of sites, ((n_stored + SQUARE) * LANES,)."""
    # `fill_lanes` writes whole squares of moments, also where nothing stands behind the last.
    doubles: npt.NDArray[np.float64] = aligned((contraction.n_stored + SQUARE) * LANES)
    return doubles


@njit(**LEAN)
def multiply(contraction: ContractionTables, work: npt.NDArray[np.float64]) -> None:
    """Fill the products behind the basic moments.

    Parameters
    ----------
    contraction
        What to multiply.
    work
        From `space`: basic moments in lanes (`fill_lanes`), products written behind them.
    """
    # The list is sorted so that a product stands behind all it is made of. The terms of one product
    # stand together: their sum stays in a register and is stored once.
    for p in range(contraction.starts.size - 1):
        total = splat(0.0)
        for t in range(contraction.starts[p], contraction.starts[p + 1]):
            scaled = times(splat(contraction.factors[t]), load(work, contraction.left[t]))
            total = times_plus(scaled, load(work, contraction.right[t]), total)
        store(work, (contraction.n_basic + p) * LANES, total)


@njit(**LEAN)
def energy(contraction: ContractionTables, work: npt.NDArray[np.float64]) -> Lanes:
    """Return the energies that all moments give, without the species' own.

    Parameters
    ----------
    contraction
        What to add up.
    work
        From `space`, after `multiply`.

    Returns
    -------
    (LANES,) vector
        V - xi_0 of each lane's site, eV.
    """
    # The last products of each chain are not stored: the energy is linear in them, so their
    # coefficients are in the weights, and what they share is multiplied once per group.
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
    contraction: ContractionTables,
    work: npt.NDArray[np.float64],
    adjoints: npt.NDArray[np.float64],
) -> None:
    """Write the derivatives of the energies by all moments (reverse mode).

    One pass back through the list gives all of them for a small multiple of the work of the way
    there; forces and gradients by radial coefficients both follow from those of the basic moments.

    Parameters
    ----------
    contraction
        As in `multiply`.
    work
        From `space`, after `multiply`.
    adjoints
        From `space`, overwritten: d(energy)/d(moment) of the lanes, eV per unit of the moment.
    """
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
        # A moment may be its own partner: what the loop has added to it is read again.
        store(adjoints, at, plus(slope, load(adjoints, at)))
    # Backwards, so that a product's own derivative is complete before it is handed down.
    for p in range(contraction.starts.size - 2, -1, -1):
        outer = load(adjoints, (contraction.n_basic + p) * LANES)
        for t in range(contraction.starts[p], contraction.starts[p + 1]):
            one, other = contraction.left[t], contraction.right[t]
            weight = times(splat(contraction.factors[t]), outer)
            # In this order also for squares, one == other: the second line reads what the first
            # has written.
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

    A site's moments are summed as one row, because table rows are contiguous; products want them
    side by side with those of other sites. Here the one becomes the other.

    Parameters
    ----------
    n_basic
        Number of basic moments.
    rows
        (at least first + n_rows, width), as wide as whole vectors.
    first, n_rows
        Which rows; at most LANES.
    work
        From `space`, written; up to SQUARE - 1 moments behind the basic ones are overwritten.
    """
    if n_rows == LANES:
        width = rows.shape[1]
        for lane in range(0, LANES, SQUARE):
            for k in range(0, n_basic, SQUARE):
                transpose(rows, (first + lane) * width + k, width, work, k * LANES + lane)
        return
    # The last rows of a batch: rare, and a transposition could read behind the array.
    for lane in range(n_rows):
        for k in range(n_basic):
            work[k * LANES + lane] = rows[first + lane, k]
    # Lanes without a site are computed with the others: of zeros, not of what was left there.
    for lane in range(n_rows, LANES):
        for k in range(n_basic):
            work[k * LANES + lane] = 0.0


@njit(**LEAN)
def contract_rows(
    contraction: ContractionTables,
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
        # The moments have served: the energies take the place of the first one.
        store(work, 0, energy(contraction, work))
        for lane in range(n):
            energies[first + lane] = work[lane]
