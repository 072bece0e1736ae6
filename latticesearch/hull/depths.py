"""How far each stable point lies below what would be the hull without it.

Without a vertex the hull at its composition is the least energy of a mixture of other points: a
linear programme in the weights of the mixture. Any facet that touches the vertex is dual feasible
for it, so the dual simplex method (Lemke, Naval Res. Logist. Q. 1 36 (1954)) is there after a few
exchanges of corners, and for all vertices at once each step is a matrix product. (A small hull
around each vertex says the same, but takes seconds in seven dimensions.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from latticesearch.hull.facets import ENERGY_TOLERANCE, with_one
from latticesearch.hull.points import COMPOSITION_TOLERANCE, lowest_per_composition

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.hull.surface import Surface

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

_BLOCK: Final = 1 << 18
"""Entries of the (vertices, points) matrices held at once: a few megabytes stay in the cache."""

_PIVOT: Final = 1e-9
"""Exchanges with smaller pivots would make simplices without volume."""

_NEGATIVE: Final = 1e-10
"""Weights of a mixture are fractions: what is above minus this is zero but for rounding."""

_EXCHANGES: Final = 60
"""After so many exchanges ties are broken by index, which ends circles (Bland's rule) ..."""

_MAX_EXCHANGES: Final = 300
"""... and what is not settled after so many is left to a library, which is slower."""


def depths_below_others(surface: Surface, vertices: Integers) -> Floats:
    """Return the (n_vertices,) eV/atom each vertex lies below the hull of all other points."""
    x, e = surface.coordinates, surface.formation
    lowest = lowest_per_composition(x, e)
    # What lies above the end members' envelope is on no hull as long as they are there.
    below = lowest[e[lowest] < -ENERGY_TOLERANCE]
    depths = _depths(surface, vertices, np.union1d(below, surface.end_members))
    return np.minimum(depths, _second_lowest(x, e, vertices) - e[vertices])


def depths_below_vertices(surface: Surface, vertices: Integers) -> Floats:
    """Return the (n_vertices,) eV/atom each vertex lies below the hull of the other vertices."""
    return _depths(surface, vertices, vertices)


def _second_lowest(x: Floats, energies: Floats, vertices: Integers) -> Floats:
    """Return the (n_vertices,) lowest energies of other points at the vertices' compositions."""
    others = np.setdiff1d(np.arange(len(energies)), vertices)
    second = np.full(len(vertices), np.inf)
    if not len(others) or not x.shape[1]:
        return np.full(len(vertices), energies[others].min(initial=np.inf))
    order = others[np.argsort(x[others, 0], kind="stable")]
    column = x[order, 0]
    first = np.searchsorted(column, x[vertices, 0] - COMPOSITION_TOLERANCE)
    last = np.searchsorted(column, x[vertices, 0] + COMPOSITION_TOLERANCE, side="right")
    for i, (start, stop) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        near = order[start:stop]
        same = np.abs(x[near] - x[vertices[i]]).max(axis=1) < COMPOSITION_TOLERANCE
        second[i] = energies[near[same]].min(initial=np.inf)
    return second


def _depths(surface: Surface, vertices: Integers, points: Integers) -> Floats:
    """Return how far vertices lie below the hull of other points.

    Parameters
    ----------
    surface
        Points, hull and formation energies, eV/atom.
    vertices
        (n_vertices,) points that are taken away, one at a time.
    points
        The (m,) that take part, the vertices among them, no two of one composition.

    Returns
    -------
    Floats
        (n_vertices,) eV/atom; infinite for end members.
    """
    inner = np.flatnonzero(~np.isin(vertices, surface.end_members))
    depths = np.full(len(vertices), np.inf)
    step = max(1, _BLOCK // len(points))
    for start in range(0, len(inner), step):
        block = inner[start : start + step]
        depths[block] = _Mixtures.of(surface, points, vertices[block]).depths()
    return depths


class _Mixtures:
    """The best mixtures at the compositions of vertices of which each does without its own.

    Attributes
    ----------
    corners : (m, d + 1) float
        Rows are the coordinates of the points with a 1 behind.
    energies : (m,) float
        eV/atom.
    own : (n,) int
        The vertices, as rows of `corners`.
    basis : (n, d + 1) int
        Rows of the points that each mixture is made of. No point lies below the plane through
        them, and one of them is the vertex itself as long as it is not replaced.
    """

    def __init__(self, corners: Floats, energies: Floats, own: Integers, basis: Integers) -> None:
        self.corners, self.energies, self.own, self.basis = corners, energies, own, basis
        self.values = np.full(len(own), np.nan)

    @classmethod
    def of(cls, surface: Surface, points: Integers, vertices: Integers) -> _Mixtures:
        """Begin with any facet at each vertex."""
        row = np.full(len(surface.formation), -1, dtype=np.int64)
        row[points] = np.arange(len(points))
        facets = surface.facets
        touched = np.zeros(len(surface.formation), dtype=np.int64)
        touched[facets] = np.arange(len(facets))[:, None]
        corners = with_one(surface.coordinates[points])
        basis = row[facets[touched[vertices]]]
        return cls(corners, surface.formation[points], row[vertices], basis)

    def depths(self) -> Floats:
        """Return the (n,) eV/atom vertices lie below the mixtures, infinite where there is none."""
        active = np.arange(len(self.own))
        for number in range(_MAX_EXCHANGES):
            if not len(active):
                break
            try:
                active = self._exchange(active, by_index=number > _EXCHANGES)
            except np.linalg.LinAlgError:
                break
        for i in np.flatnonzero(np.isnan(self.values)).tolist():
            self.values[i] = _by_programme(self.corners, self.energies, int(self.own[i]))
        return self.values - self.energies[self.own]

    def _exchange(self, active: Integers, *, by_index: bool) -> Integers:
        """Exchange one point in each mixture; return the mixtures that are not yet the best."""
        own, basis = self.own[active], self.basis[active]
        inverse = np.linalg.inv(self.corners[basis]).astype(np.float64, copy=False)
        planes = (inverse @ self.energies[basis][..., None])[..., 0]
        at = self.corners[own]
        weights = (at[:, None] @ inverse)[:, 0]
        is_own = basis == own[:, None]
        # The vertex has to go, and so has what would be there with a negative weight.
        excess = np.where(is_own, np.inf, -weights)
        is_over = excess > _NEGATIVE
        settled = ~is_over.any(axis=1)
        self.values[active[settled]] = (planes * at).sum(axis=1)[settled]
        leaving = is_over.argmax(axis=1) if by_index else excess.argmax(axis=1)
        rows = np.arange(len(active))
        sign = np.where(is_own[rows, leaving], 1.0, -1.0)
        direction: Floats = inverse[rows, :, leaving] * sign[:, None]
        entering = self._entering(own, basis, planes, direction, by_index=by_index)
        self.values[active[~settled & (entering < 0)]] = np.inf
        going_on = ~settled & (entering >= 0)
        self.basis[active[going_on], leaving[going_on]] = entering[going_on]
        return active[going_on]

    def _entering(
        self, own: Integers, basis: Integers, planes: Floats, direction: Floats, *, by_index: bool
    ) -> Integers:
        """Return the (n,) points that the planes touch first as they turn; -1 for none."""
        rows = np.arange(len(own))
        pivots = direction @ self.corners.T
        heights = np.maximum(self.energies - planes @ self.corners.T, 0.0)
        possible = pivots > _PIVOT
        possible[rows, own] = False
        possible[rows[:, None], basis] = False
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(possible, heights / pivots, np.inf)
        least = ratios.min(axis=1)
        tied = ratios <= (least * (1.0 + 1e-12) + 1e-15)[:, None]
        # Of several the one with the largest pivot keeps the numbers good.
        chosen = (tied & possible).argmax(axis=1)
        if not by_index:
            chosen = np.where(tied & possible, pivots, 0.0).argmax(axis=1)
        return np.where(np.isfinite(least), chosen, -1)


def _by_programme(corners: Floats, energies: Floats, vertex: int) -> float:
    """Return the energy of the best mixture of all points but one at its composition, eV/atom."""
    from scipy.optimize import linprog

    others = np.delete(np.arange(len(energies)), vertex)
    answer = linprog(energies[others], A_eq=corners[others].T, b_eq=corners[vertex], method="highs")
    return float("inf") if answer.fun is None else float(answer.fun)
