"""Compiled counts of decorated clusters around sites."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt


class StarTables(NamedTuple):
    """The equivalent sites of one supercell and what surrounds each of them.

    Parameters
    ----------
    sites
        The centres, (n_centres,).
    neighbours
        Their neighbours, (n_centres, n_neighbours), in corresponding order.
    clusters
        Up to three neighbours each, (n_clusters, 3); ``n_neighbours`` stands for none.
    first
        First column of each cluster's orbit, (n_clusters,).
    table
        ``table[a, b, c]``: column, after the first, of the species a, b, c in any order;
        ``n_species`` stands for none. (n_species + 1,) * 3.
    """

    sites: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]
    clusters: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    table: npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def _count(
    labels: npt.NDArray[np.int8],
    tables: StarTables,
    centre: int,
    seen: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int16],
) -> None:
    """Add the clusters around one centre to its counts; `seen` is (n_neighbours + 1,) space."""
    n_neighbours = tables.neighbours.shape[1]
    for j in range(n_neighbours):
        seen[j] = labels[tables.neighbours[centre, j]]
    seen[n_neighbours] = tables.table.shape[0] - 1
    for c in range(tables.clusters.shape[0]):
        i, j, k = tables.clusters[c, 0], tables.clusters[c, 1], tables.clusters[c, 2]
        counts[tables.first[c] + tables.table[seen[i], seen[j], seen[k]]] += 1


@njit(cache=True, nogil=True)
def add_structure_counts(
    labels: npt.NDArray[np.int8],
    tables: StarTables,
    blocks: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int16],
) -> None:
    """Add the clusters around all centres of labelings to the counts of the labelings.

    Parameters
    ----------
    labels
        (n, n_sites).
    tables
        The centres.
    blocks
        First column of each centre species, (n_species,).
    counts
        (n, n_counts).
    """
    seen = np.zeros(tables.neighbours.shape[1] + 1, dtype=np.int64)
    for n in range(labels.shape[0]):
        for s in range(len(tables.sites)):
            _count(labels[n], tables, s, seen, counts[n, blocks[labels[n, tables.sites[s]]] :])


@njit(cache=True, nogil=True)
def add_site_counts(
    labels: npt.NDArray[np.int8], tables: StarTables, counts: npt.NDArray[np.int16]
) -> None:
    """Add the clusters around each centre of labelings to its own counts.

    Parameters
    ----------
    labels
        (n, n_sites).
    tables
        The centres.
    counts
        (n, n_centres, width).
    """
    seen = np.zeros(tables.neighbours.shape[1] + 1, dtype=np.int64)
    for n in range(labels.shape[0]):
        for s in range(len(tables.sites)):
            _count(labels[n], tables, s, seen, counts[n, s])


@njit(cache=True, nogil=True)
def predictions(
    counts: npt.NDArray[np.int16], coefficients: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return ``counts @ coefficients``, (n, n_fits), summed in one order for any block of rows.

    Parameters
    ----------
    counts
        (n, n_counts).
    coefficients
        (n_counts, n_fits).
    """
    n_fits = coefficients.shape[1]
    result = np.zeros((counts.shape[0], n_fits))
    for n in range(counts.shape[0]):
        for j in range(counts.shape[1]):
            if counts[n, j] != 0:
                for k in range(n_fits):
                    result[n, k] += counts[n, j] * coefficients[j, k]
    return result
