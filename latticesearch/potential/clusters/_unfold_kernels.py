"""Compiled repetition of what surrounds the sites of the first cell around those of all cells.

Translations map the clusters of the first cell onto those of all others, so only the first cell's
are counted, and the rest is additions of cells. Site ``b * n_cells + t`` is basis site b in cell t.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]
    Numbers = npt.NDArray[np.int32]


class Unfolded(NamedTuple):
    """Neighbours and ordered triples of all sites; each field as in `ClusterTables`."""

    neighbours: Integers
    class_of: Numbers
    near: Numbers
    second: Numbers
    third: Numbers
    oriented: Numbers
    start: Integers


@njit(cache=True)
def unfold(
    difference: npt.NDArray[np.intp], classes: Numbers, around: Integers, n_species: int
) -> Unfolded:
    """Return the neighbours and ordered triples of all sites.

    Parameters
    ----------
    difference
        (n_cells, n_cells): ``difference[t, s]`` is the cell at that of s less that of t.
    classes
        (n_basis, n_sites): of the sites of the first cell with each site, -1 for none.
    around
        (n, 4): ordered triples that begin in the first cell: first, second and third site, row of
        the tables.
    n_species
        Number of species.

    Returns
    -------
    Unfolded
        No units: numbers of sites, classes and rows only.
    """
    # The triples of the first cell are sorted once; those of every site then come out in order.
    neighbours, class_of, near = _neighbours(difference, classes, n_species)
    first, order = _by_second(around, classes)
    around = around[order]
    second, third, oriented, start = _sorted(difference, around, first, classes.shape)
    return Unfolded(neighbours, class_of, near, second, third, oriented, start)


@njit(cache=True)
def _neighbours(
    difference: npt.NDArray[np.intp], classes: Numbers, n_species: int
) -> tuple[Integers, Numbers, Numbers]:
    """Return `neighbours`, `class_of` and `near`, as in `ClusterTables`.

    Parameters
    ----------
    difference
        (n_cells, n_cells).
    classes
        (n_basis, n_sites).
    n_species
        Lines of a table of pairs.

    Returns
    -------
    neighbours
        (n_sites, n_rows).
    class_of
        (n_sites, n_sites).
    near
        (n_sites, n_rows, 2).
    """
    n_cells, (n_basis, n_sites) = difference.shape[0], classes.shape
    n_rows = 0
    for b in range(n_basis):
        n_rows = max(n_rows, (classes[b] >= 0).sum())
    class_of = np.empty((n_sites, n_sites), dtype=np.int32)
    neighbours = np.full((n_sites, n_rows), -1)
    near = np.full((n_sites, n_rows, 2), -1, dtype=np.int32)
    for i in range(n_sites):
        b, t, r = i // n_cells, i % n_cells, 0
        for j in range(n_sites):
            # Site j as the first cell sees it when cell t is moved there.
            seen = classes[b, j - j % n_cells + difference[t, j % n_cells]]
            class_of[i, j] = seen
            if seen >= 0:
                neighbours[i, r] = j
                # Beside the site the line where its table begins: a walk needs both, always.
                near[i, r, 0], near[i, r, 1] = j, seen * n_species
                r += 1
    return neighbours, class_of, near


@njit(cache=True)
def _by_second(around: Integers, classes: Numbers) -> tuple[Integers, Integers]:
    """Return the first triple of each pair, and how triples are sorted by first and second site.

    A counting sort: pairs of sites are few, and triples of one pair stay in their order.

    Parameters
    ----------
    around
        (n, 4), as in `unfold`.
    classes
        (n_basis, n_sites), for their numbers alone.

    Returns
    -------
    first
        (n_basis * n_sites + 1,).
    order
        (n,).
    """
    n_basis, n_sites = classes.shape
    n_cells = n_sites // n_basis
    first = np.zeros(n_basis * n_sites + 1, dtype=np.int64)
    for row in range(around.shape[0]):
        first[around[row, 0] // n_cells * n_sites + around[row, 1] + 1] += 1
    # Counts were put one place up, so their sums are where each pair begins.
    first = first.cumsum()
    free, order = first.copy(), np.empty(around.shape[0], dtype=np.int64)
    for row in range(around.shape[0]):
        name = around[row, 0] // n_cells * n_sites + around[row, 1]
        order[free[name]] = row
        free[name] += 1
    return first, order


@njit(cache=True)
def _sums(difference: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the cell at the sum of two, (n_cells, n_cells), from that at their difference."""
    # Row by row the inverse permutation: t + (s - t) is s.
    sums = np.empty_like(difference)
    for t in range(difference.shape[0]):
        for s in range(difference.shape[0]):
            sums[t, difference[t, s]] = s
    return sums


@njit(cache=True)
def _sorted(
    difference: npt.NDArray[np.intp], around: Integers, first: Integers, shape: tuple[int, int]
) -> tuple[Numbers, Numbers, Numbers, Integers]:
    """Return `second`, `third`, `oriented` and `start`, as in `ClusterTables`.

    Parameters
    ----------
    difference
        (n_cells, n_cells).
    around
        (n, 4), sorted by first and second site.
    first
        (n_basis * n_sites + 1,): first triple of each pair.
    shape
        n_basis, n_sites.

    Returns
    -------
    second, third, oriented
        (n * n_cells,).
    start
        (n_sites * n_sites + 1,).
    """
    n_cells, (_, n_sites), n = difference.shape[0], shape, 0
    sums = _sums(difference)
    second = np.empty(around.shape[0] * n_cells, dtype=np.int32)
    third, oriented = np.empty_like(second), np.empty_like(second)
    start = np.empty(n_sites * n_sites + 1, dtype=np.int64)
    inside, offset = around[:, 2] % n_cells, around[:, 2] - around[:, 2] % n_cells
    for i in range(n_sites):
        b, t = i // n_cells, i % n_cells
        # The list is written in order of (i, j): it need not be sorted as a whole.
        for j in range(n_sites):
            start[i * n_sites + j] = n
            name = b * n_sites + j - j % n_cells + difference[t, j % n_cells]
            for row in range(first[name], first[name + 1]):
                second[n], oriented[n] = j, around[row, 3]
                third[n] = offset[row] + sums[t, inside[row]]
                n += 1
    start[-1] = n
    return second, third, oriented, start
