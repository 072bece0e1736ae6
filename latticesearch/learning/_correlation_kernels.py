"""Compiled counting of what species stand on the vertices of clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt


@njit("float64[:, ::1](int8[:, ::1], int32[:, ::1], int32[::1], int64, int64)", cache=True)
def count_patterns(
    labels: npt.NDArray[np.int8],
    sites: npt.NDArray[np.int32],
    places: npt.NDArray[np.int32],
    n_species: int,
    n_patterns: int,
) -> npt.NDArray[np.float64]:
    """Return how often each pattern of species occurs on the clusters of a supercell.

    A pattern is read as a number whose digits, in base `n_species`, are the species on the
    vertices of a cluster, the first vertex in front.

    Parameters
    ----------
    labels
        (n, n_sites).
    sites
        ``sites[c, v]``: site that vertex v of cluster c is, (n_clusters, size).
    places
        First column of the patterns of each cluster's kind, (n_clusters,).
    n_species, n_patterns
        Species, and columns of the result.

    Returns
    -------
    (n, n_patterns)
        Numbers of clusters.
    """
    counts = np.zeros((labels.shape[0], n_patterns))
    for n in range(labels.shape[0]):
        for c in range(sites.shape[0]):
            pattern = 0
            for v in range(sites.shape[1]):
                pattern = pattern * n_species + labels[n, sites[c, v]]
            counts[n, places[c] + pattern] += 1.0
    return counts


@njit("float64[::1](int8[:, ::1], int32[:, ::1], int32[::1], int64, float64[::1])", cache=True)
def sum_patterns(
    labels: npt.NDArray[np.int8],
    sites: npt.NDArray[np.int32],
    places: npt.NDArray[np.int32],
    n_species: int,
    values: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return the sums, (n,), of one value per cluster, found by its pattern of species.

    Parameters are those of `count_patterns`, but for

    values
        Of each pattern, (n_patterns,).
    """
    sums = np.zeros(labels.shape[0])
    for n in range(labels.shape[0]):
        for c in range(sites.shape[0]):
            pattern = 0
            for v in range(sites.shape[1]):
                pattern = pattern * n_species + labels[n, sites[c, v]]
            sums[n] += values[places[c] + pattern]
    return sums
