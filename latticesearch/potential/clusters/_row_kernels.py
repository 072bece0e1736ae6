"""Compiled rows of swaps: what the coefficients multiply in changes of energy, many at a time.

What surrounds a site is the same for all sites of a sublattice, but for the species. So one list of
pairs of neighbours serves a block of swaps, each step of it a loop over contiguous numbers.

Cluster functions are products of site functions (Sanchez, Ducastelle & Gratias, Physica A 128, 334
(1984)): what a coefficient multiplies in a flip is the change of the centre's site function times a
sum of products of those of the other vertices. The sums are worked out once per kind of cluster and
serve all coefficients of its shape. Plain loops are enough here: all arrays run along the swaps,
contiguous and of whole vectors, which LLVM turns into vector code by itself.
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
    """Return d(change of energy)/d(coefficients) along a walk of swaps.

    A swap is the flip of its first site, then that of the second with the first as it is by then.

    Parameters
    ----------
    tables
        Of the supercell.
    start
        (n_sites,): labels before the first swap.
    swaps
        (n, 3): two sites, and whether the swap was carried out before the next.

    Returns
    -------
    (n_parameters, n)
        What each coefficient multiplies in the change of the cell's energy.
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
    """Follow the walk and note what surrounds the sites of each swap; arguments as above.

    The only loop over the walk in its order. Species are copied, 1 byte each; site functions of
    them are looked up later, a block at a time, when they fit into a cache.
    """
    n_basis, n_around = tables.points.shape[0], tables.around.shape[1]
    place, starts = _places(tables.sublattice, n_basis, swaps)
    n_places = swaps.shape[0] + LANES
    before = np.zeros((2, n_places), dtype=np.uint8)
    species = np.zeros((2, n_around, n_places), dtype=np.uint8)
    labels = start.astype(np.uint8)
    # One walk through all swaps; `place` sends them to their groups.
    for s in range(swaps.shape[0]):
        i, j, k = swaps[s, 0], swaps[s, 1], place[s]
        first, second = labels[i], labels[j]
        before[0, k], before[1, k] = first, second
        for r in range(n_around):
            species[0, r, k] = labels[tables.around[i, r]]
        labels[i] = second
        # Clusters that contain both sites are then counted as they are after the first flip.
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
    """Return the place of each swap and the first place of each group, as in `Seen`.

    A counting sort by the two sublattices: swaps of one group have the same neighbours in the same
    order.

    Parameters
    ----------
    sublattice
        (n_sites,).
    n_basis
        Number of sublattices; n_groups = n_basis**2.
    swaps
        (n, 3).

    Returns
    -------
    place
        (n,).
    start
        (n_groups + 1,).
    """
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
    """Add to a part of `columns`, (n_parameters, n_places), whose swaps are of two sublattices.

    `sublattices` are those of the first and the second sites, `part` is the range of places.
    """
    # Loops run over whole vectors; what lies beyond the part is computed and not used.
    wide = (part[0], part[0] + (part[1] - part[0] + LANES - 1) // LANES * LANES)
    for side in range(2):
        basis = sublattices[side]
        old = seen.before[side, wide[0] : wide[1]]
        new = seen.before[1 - side, wide[0] : wide[1]]
        values = _values(tables.functions, seen.species[side], wide)
        change = _change(tables.functions, old, new)
        # Kind by kind: its sums are made, used by all its coefficients, and forgotten.
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
    """Return how site functions change, (n_functions, n), from species `old` to `new`, (n,)."""
    change = np.empty((functions.shape[0], old.size))
    for f in range(change.shape[0]):
        for k in range(change.shape[1]):
            change[f, k] = functions[f, new[k]] - functions[f, old[k]]
    return change


@njit(cache=True)
def _sums(tables: SwapTables, kind: int, values: Floats, shape: tuple[int, int]) -> Floats:
    """Return the sums of products of site functions on the other vertices of one kind.

    Triplets that share a vertex share its factor: the last vertices are added up first, then
    multiplied once. So the products go with the vertices and only the sums with the triplets.

    Parameters
    ----------
    tables
        Of the supercell.
    kind
        Row of `SwapTables.kinds`.
    values
        (n_around, n_functions * n), from `_values`.
    shape
        n_functions, n.

    Returns
    -------
    (n_functions**2, n)
        Of pairs only the first n_functions rows are filled.
    """
    n_functions, n = shape
    partial = np.empty(n_functions * n)
    first, end = tables.kinds[kind, 0], tables.kinds[kind, 1]
    sums = np.zeros((n_functions, n_functions * n))
    for s in range(first, end):
        vertex = tables.segments[s, 0]
        places = tables.partners[tables.segments[s, 1] : tables.segments[s, 2]]
        # Pairs have one other vertex and one segment: their sums are the result.
        if vertex < 0:
            _sum_rows(values, places, sums[0])
            continue
        _sum_rows(values, places, partial)
        # Every product of two functions, for the swaps of the block side by side.
        for f in range(n_functions):
            factor = values[vertex, f * n : (f + 1) * n]
            for g in range(n_functions):
                into, last = sums[f, g * n : (g + 1) * n], partial[g * n : (g + 1) * n]
                for k in range(n):
                    into[k] += factor[k] * last[k]
    return sums.reshape(-1, n)


@njit(cache=True)
def _values(functions: Floats, species: npt.NDArray[np.uint8], part: tuple[int, int]) -> Floats:
    """Return the site functions, (n_around, n_functions * n), in a part of (n_around, n_places).

    One row per neighbour holds all functions one after the other, so that sums over neighbours
    are sums of rows, for all functions at once.
    """
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
    """Set `total`, (width,), to the sum of the rows `places` of `values`, (any, width).

    Two at a time: half the stores.
    """
    # The first one or two are copied, so nothing has to be set to zero before.
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
    """Add what one kind of cluster changes in a part of the places.

    Parameters
    ----------
    tables
        Of the supercell.
    kind
        Row of `SwapTables.kinds`.
    change
        (n_functions, n): of the site functions of the centre.
    sums
        (n_sums, n), from `_sums`; n may exceed the part by what fills up a vector.
    result
        The columns, (n_parameters, n_places), added to, and the range of places.
    """
    columns, (first, end) = result
    for t in range(tables.kinds[kind, 2], tables.kinds[kind, 3]):
        into, factor = columns[tables.terms[t, 0], first:end], change[tables.terms[t, 1]]
        total, weight = sums[tables.terms[t, 2]], tables.weights[t]
        # As long as the part itself: behind it, another group's places begin.
        for k in range(into.size):
            into[k] += weight * factor[k] * total[k]
