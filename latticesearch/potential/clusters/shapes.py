"""What the clusters of a basis are: which coefficients a shape has, and how long its edges are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.clusters.basis import ClusterBasis, Clusters


def columns_of(tables: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which coefficients the tables, (n, ..., n_parameters), depend on."""
    used: npt.NDArray[np.bool_] = (tables != 0.0).reshape(-1, tables.shape[-1]).any(axis=0)
    return used


def shape_lengths(basis: ClusterBasis, clusters: Clusters) -> list[float]:
    """Return the longest edge of each shape of the pairs or the triplets of a basis, Å."""
    parent = basis.parent
    others = clusters.cells + parent.basis[clusters.basis]
    vertices = np.concatenate([parent.basis[clusters.centre][:, None], others], axis=1)
    edges = (vertices[:, :, None] - vertices[:, None]) @ parent.cell
    longest = np.linalg.norm(edges, axis=3).max(axis=(1, 2))
    return [float(longest[clusters.shape == s].mean()) for s in range(len(clusters.kinds))]
