"""Bases of clusters that hold other bases: rows of features are made once for all of them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from latticesearch.potential.clusters.basis import ClusterBasis, Clusters

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


def rows_of(bases: Sequence[ClusterBasis], make: Callable[[ClusterBasis], Floats]) -> list[Floats]:
    """Return what `make` gives for every basis, (n, n_parameters) each.

    Where one basis holds another, its rows are made once: those of the other are columns of it.
    """
    made: dict[ClusterBasis, Floats] = {}
    result = []
    for basis in bases:
        wider, columns = widest(basis, bases)
        if wider not in made:
            made[wider] = make(wider)
        # Transposed, since the rows of swaps come column by column.
        result.append(made[wider] if wider is basis else made[wider].T[columns].T)
    return result


def widest(basis: ClusterBasis, bases: Sequence[ClusterBasis]) -> tuple[ClusterBasis, Integers]:
    """Return the largest of `bases` that holds all functions of `basis`, and which those are.

    These are (n_parameters,) columns of the larger one.
    """
    best, columns = basis, np.arange(basis.n_parameters)
    for other in bases:
        shared = columns_within(basis, other)
        if shared is not None and other.n_parameters > best.n_parameters:
            best, columns = other, shared
    return best, columns


@lru_cache(maxsize=64)
def columns_within(basis: ClusterBasis, wider: ClusterBasis) -> Integers | None:
    """Return which functions of `wider` are those of `basis`, (n_parameters,), None if not all.

    A shape is recognized by one of its clusters; all others with the same edges go with it.
    """
    if basis.points.shape[:2] != wider.points.shape[:2]:
        return None
    columns = [np.flatnonzero((wider.points != 0.0).any(axis=(0, 1)))]
    for clusters, tables, others, other_tables in (
        (basis.pairs, basis.pair_tables, wider.pairs, wider.pair_tables),
        (basis.triplets, basis.triplet_tables, wider.triplets, wider.triplet_tables),
    ):
        shape_of = dict(zip(_names(others), others.shape.tolist(), strict=True))
        names = _names(clusters)
        for shape, first in zip(*np.unique(clusters.shape, return_index=True), strict=True):
            other = shape_of.get(names[first])
            if other is None:
                return None
            mine, found = _used(tables[shape]), _used(other_tables[other])
            if not np.array_equal(tables[shape][..., mine], other_tables[other][..., found]):
                return None
            columns.append(found)
    result = np.concatenate(columns)
    return result if len(result) == basis.n_parameters else None


def _used(table: Floats) -> Integers:
    """Return the coefficients, (n,), that a table, (..., n_parameters), depends on."""
    return np.flatnonzero((table != 0.0).any(axis=tuple(range(table.ndim - 1))))


def _names(clusters: Clusters) -> list[tuple[int, bytes, bytes]]:
    """Return what tells clusters from each other: their vertices."""
    rows = zip(clusters.centre.tolist(), clusters.basis, clusters.cells, strict=True)
    return [(centre, sites.tobytes(), cells.tobytes()) for centre, sites, cells in rows]
