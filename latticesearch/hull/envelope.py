"""A convex piecewise linear function of composition.

Its value is the maximum over the planes of its facets, so many points are judged with one matrix
product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from latticesearch.hull.facets import ENERGY_TOLERANCE, with_one
from latticesearch.hull.points import COMPOSITION_TOLERANCE

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

_SLIVER: Final = 1e-7
"""Facets thinner than this, left by the triangulation of a flat region, carry no information."""

_BLOCK: Final = 1 << 16
"""Entries of the (points, facets) matrix held at once: 512 kB stay in the cache, 10x faster."""


@dataclass(frozen=True, eq=False)
class Envelope:
    """A convex piecewise linear function: the maximum of the planes through its facets.

    Attributes
    ----------
    facets : (m, d + 1) int
        Indices of points.
    corners : (m, d + 1, d + 1) float
        Rows are the corners' coordinates with a 1 behind.
    planes : (m, d + 1) float
        ``corners[f] @ planes[f]`` are the energies, eV/atom, of the corners of facet f.
    """

    facets: Integers
    corners: Floats
    planes: Floats

    @classmethod
    def of(cls, x: Floats, energies: Floats, facets: Integers) -> Envelope:
        """Return the envelope through given facets of points (n, d), leaving out slivers."""
        corners = np.concatenate([x[facets], np.ones((*facets.shape, 1))], axis=2)
        if x.shape[1]:
            edges = corners[:, 1:, :-1] - corners[:, :1, :-1]
            thickness = np.linalg.svd(edges, compute_uv=False)[:, -1]
            keep = thickness > min(_SLIVER, 0.5 * float(thickness.max()))
            facets, corners = facets[keep], corners[keep]
        planes = np.linalg.solve(corners, energies[facets][..., None])[..., 0]
        return cls(facets, corners, planes)

    def _blocks(self, x: Floats) -> list[slice]:
        step = max(1, _BLOCK // len(self.planes))
        return [slice(start, start + step) for start in range(0, len(x), step)]

    def __call__(self, x: Floats) -> Floats:
        """Return the (n,) values at coordinates (n, d)."""
        values = np.empty(len(x))
        for block in self._blocks(x):
            values[block] = (with_one(x[block]) @ self.planes.T).max(axis=1)
        return values

    def locate(self, x: Floats) -> Integers:
        """Return the (n,) rows of a facet that holds each of the coordinates (n, d)."""
        rows = np.empty(len(x), dtype=np.int64)
        for block in self._blocks(x):
            rows[block] = (with_one(x[block]) @ self.planes.T).argmax(axis=1)
        return rows

    def decompose(self, x: Floats) -> tuple[Integers, Floats]:
        """Return point indices and weights of the facet that holds coordinates (d,)."""
        point = np.append(x, 1.0)
        heights = self.planes @ point
        # Flat regions are cut into several facets with one plane; take the one around the point.
        rows = np.flatnonzero(heights >= heights.max() - ENERGY_TOLERANCE)
        transposed = self.corners[rows].swapaxes(1, 2)
        weights = np.linalg.solve(
            transposed, np.broadcast_to(point[:, None], (len(rows), len(point), 1))
        )
        weights = weights[..., 0]
        best = int(weights.min(axis=1).argmax())
        chosen = np.where(weights[best] > COMPOSITION_TOLERANCE, weights[best], 0.0)
        present = chosen > 0
        return self.facets[rows[best]][present], chosen[present] / chosen.sum()
