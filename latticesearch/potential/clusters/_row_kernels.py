"""Compiled rows of swaps: what the coefficients multiply in changes of energy, many at a time.

What surrounds a site is the same for all sites of a sublattice, but for the species. So one list of
pairs of neighbours serves a block of swaps, each step of it a loop over contiguous numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LANES = 16
"""Swaps are padded to multiples of this: loops over a remainder would take most of the time."""

BLOCK = 8 * LANES
"""Swaps of one block: enough that starting the loops costs little, few enough for a cache."""


class SwapTables(NamedTuple):
    """Clusters around the sites of one supercell, with site functions in place of species.

    A coefficient multiplies the change of one site function times sums, over the pairs or triplets
    of one kind, of the site functions on the other vertices.

    Parameters
    ----------
    functions
        (n_functions, n_species): site functions without the constant.
    sublattice
        (n_sites,): site of the basis.
    around
        (n_sites, n_around): sites around each site, in the same order on all of a sublattice.
    kind_start
        (n_basis + 1,): kinds of pairs and triplets of each sublattice.
    kinds
        (n_kinds, 4): first and end of the segments of each kind, and of its terms.
    segments
        (n_segments, 3): place in `around` of one vertex, -1 for pairs; first and end in `partners`
        of the last vertices.
    partners
        (n_partners,): places in `around`.
    terms
        (n_terms, 3): coefficient, site function of the centre, and sum: site function of the other
        vertex, or of the two others, the last one's running faster.
    weights
        (n_terms,): factor of each term.
    points
        (n_basis, n_species, n_parameters): what does not depend on other sites.
    """

    functions: Floats
    sublattice: npt.NDArray[np.int64]
    around: npt.NDArray[np.int64]
    kind_start: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int64]
    segments: npt.NDArray[np.int64]
    partners: npt.NDArray[np.int64]
    terms: npt.NDArray[np.int64]
    weights: Floats
    points: Floats


class Seen(NamedTuple):
    """Species met along a walk, swaps of the same two sublattices together.

    Parameters
    ----------
    place
        (n,): of each swap.
    start
        (n_groups + 1,): first place of each group.
    before
        (2, n + LANES): species of both sites before.
    species
        (2, n_around, n + LANES): species around the first site, and around the second after the
        first has changed; the padding lets whole vectors of places be read.
    """

    place: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    before: npt.NDArray[np.uint8]
    species: npt.NDArray[np.uint8]


@njit(cache=True)
def swap_features(
    tables: SwapTables, start: npt.NDArray[np.int8], swaps: npt.NDArray[np.int64]
) -> Floats:
    """Return d(change of energy)/d(coefficients), (n_parameters, n), along a walk of swaps.

    Parameters
    ----------
    tables
        Of the supercell.
    start
        (n_sites,): labels before the first swap.
    swaps
        (n, 3): two sites, and whether the swap was carried out before the next.
    """
    seen, n_basis = _see(tables, start, swaps), tables.points.shape[0]
    columns = np.zeros((tables.points.shape[2], swaps.shape[0]))
    for group in range(n_basis * n_basis):
        first, end = seen.start[group], seen.start[group + 1]
        for a in range(first, end, BLOCK):
            part = (a, min(a + BLOCK, end))
            _add_block(tables, seen, (group // n_basis, group % n_basis), part, columns)
    if n_basis == 1:  # the places are the swaps
        return columns
    return columns[:, seen.place]


@njit(cache=True)
def _see(tables: SwapTables, start: npt.NDArray[np.int8], swaps: npt.NDArray[np.int64]) -> Seen:
    """Follow the walk."""
    n_basis, n_around = tables.points.shape[0], tables.around.shape[1]
    place, starts = _places(tables.sublattice, n_basis, swaps)
    n_places = swaps.shape[0] + LANES
    before = np.zeros((2, n_places), dtype=np.uint8)
    species = np.zeros((2, n_around, n_places), dtype=np.uint8)
    labels = start.astype(np.uint8)
    for s in range(swaps.shape[0]):
        i, j, k = swaps[s, 0], swaps[s, 1], place[s]
        first, second = labels[i], labels[j]
        before[0, k], before[1, k] = first, second
        for r in range(n_around):
            species[0, r, k] = labels[tables.around[i, r]]
        labels[i] = second
        for r in range(n_around):
            species[1, r, k] = labels[tables.around[j, r]]
        if swaps[s, 2]:
            labels[j] = first
        else:
            labels[i] = first
    return Seen(place, starts, before, species)


@njit(cache=True)
def _places(
    sublattice: npt.NDArray[np.int64], n_basis: int, swaps: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the place of each swap and the first place of each group, as in `Seen`."""
    group = np.empty(swaps.shape[0], dtype=np.int64)
    counts = np.zeros(n_basis * n_basis, dtype=np.int64)
    for s in range(group.size):
        group[s] = sublattice[swaps[s, 0]] * n_basis + sublattice[swaps[s, 1]]
        counts[group[s]] += 1
    start = np.zeros(counts.size + 1, dtype=np.int64)
    for g in range(counts.size):
        start[g + 1] = start[g] + counts[g]
    free, place = start.copy(), np.empty_like(group)
    for s in range(group.size):
        place[s] = free[group[s]]
        free[group[s]] += 1
    return place, start


@njit(cache=True)
def _add_block(
    tables: SwapTables,
    seen: Seen,
    sublattices: tuple[int, int],
    part: tuple[int, int],
    columns: Floats,
) -> None:
    """Add to a part of `columns`, (n_parameters, n_places), whose swaps are of two sublattices."""
    # Loops run over whole vectors; what lies beyond the part is computed and not used.
    wide = (part[0], part[0] + (part[1] - part[0] + LANES - 1) // LANES * LANES)
    for side in range(2):
        basis = sublattices[side]
        old = seen.before[side, wide[0] : wide[1]]
        new = seen.before[1 - side, wide[0] : wide[1]]
        values = _values(tables.functions, seen.species[side], wide)
        change = _change(tables.functions, old, new)
        for kind in range(tables.kind_start[basis], tables.kind_start[basis + 1]):
            sums = _sums(tables, kind, values, change.shape)
            _add_terms(tables, kind, change, sums, (columns, part))
        if sublattices[0] != sublattices[1]:  # else both sites together cancel
            points = tables.points[basis]
            for c in range(columns.shape[0]):
                into = columns[c, part[0] : part[1]]
                for k in range(into.size):
                    into[k] += points[new[k], c] - points[old[k], c]


@njit(cache=True)
def _change(functions: Floats, old: npt.NDArray[np.uint8], new: npt.NDArray[np.uint8]) -> Floats:
    """Return how site functions change with the species, (n_functions, n), of (n,)."""
    change = np.empty((functions.shape[0], old.size))
    for f in range(change.shape[0]):
        for k in range(change.shape[1]):
            change[f, k] = functions[f, new[k]] - functions[f, old[k]]
    return change


@njit(cache=True)
def _sums(tables: SwapTables, kind: int, values: Floats, shape: tuple[int, int]) -> Floats:
    """Return the sums of one kind, (n_sums, n), of (n_around, n_functions * n)."""
    n_functions, n = shape
    partial = np.empty(n_functions * n)
    first, end = tables.kinds[kind, 0], tables.kinds[kind, 1]
    sums = np.zeros((n_functions, n_functions * n))
    for s in range(first, end):
        vertex = tables.segments[s, 0]
        places = tables.partners[tables.segments[s, 1] : tables.segments[s, 2]]
        if vertex < 0:
            _sum_rows(values, places, sums[0])
            continue
        _sum_rows(values, places, partial)
        for f in range(n_functions):
            factor = values[vertex, f * n : (f + 1) * n]
            for g in range(n_functions):
                into, last = sums[f, g * n : (g + 1) * n], partial[g * n : (g + 1) * n]
                for k in range(n):
                    into[k] += factor[k] * last[k]
    return sums.reshape(-1, n)


@njit(cache=True)
def _values(functions: Floats, species: npt.NDArray[np.uint8], part: tuple[int, int]) -> Floats:
    """Return the site functions, (n_around, n_functions * n), in a part of (n_around, n_places)."""
    n_around, n_functions, n = species.shape[0], functions.shape[0], part[1] - part[0]
    values = np.empty((n_around, n_functions * n))
    for r in range(n_around):
        seen = species[r, part[0] : part[1]]
        for f in range(n_functions):
            function, row = functions[f], values[r, f * n : (f + 1) * n]
            for k in range(n):
                row[k] = function[seen[k]]
    return values


@njit(cache=True)
def _sum_rows(values: Floats, places: npt.NDArray[np.int64], total: Floats) -> None:
    """Set `total` to the sum of some rows, two at a time: half the stores."""
    odd = places.size % 2
    one = values[places[0]]
    if odd:
        for q in range(total.size):
            total[q] = one[q]
    else:
        other = values[places[1]]
        for q in range(total.size):
            total[q] = one[q] + other[q]
    for t in range(2 - odd, places.size, 2):
        one, other = values[places[t]], values[places[t + 1]]
        for q in range(total.size):
            total[q] += one[q] + other[q]


@njit(cache=True)
def _add_terms(
    tables: SwapTables,
    kind: int,
    change: Floats,
    sums: Floats,
    result: tuple[Floats, tuple[int, int]],
) -> None:
    """Add what one kind changes to `columns`, (n_parameters, n_places), in a part of the places."""
    columns, (first, end) = result
    for t in range(tables.kinds[kind, 2], tables.kinds[kind, 3]):
        into, factor = columns[tables.terms[t, 0], first:end], change[tables.terms[t, 1]]
        total, weight = sums[tables.terms[t, 2]], tables.weights[t]
        for k in range(into.size):
            into[k] += weight * factor[k] * total[k]
