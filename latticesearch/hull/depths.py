"""How far each stable point lies below what would be the hull without it.

Facets that do not touch a vertex stay what they are when it is taken away, so only points over
the facets that touch it can take its place: a small hull around each vertex, not a new one of all
points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.hull.envelope import Envelope
from latticesearch.hull.facets import lower_facets
from latticesearch.hull.points import COMPOSITION_TOLERANCE, lowest_per_composition

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.hull.surface import Surface

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


def depths_below_others(surface: Surface, vertices: Integers) -> Floats:
    """Return the (n_vertices,) eV/atom each vertex lies below the hull of all other points."""
    facet_of_point = surface.envelope.locate(surface.coordinates)
    return np.array([_depth(surface, int(v), facet_of_point) for v in vertices])


def depths_below_vertices(surface: Surface, vertices: Integers) -> Floats:
    """Return the (n_vertices,) eV/atom each vertex lies below the hull of the other vertices."""
    nowhere = np.full(len(surface.formation), -1, dtype=np.int64)
    return np.array([_depth(surface, int(v), nowhere) for v in vertices])


def _depth(surface: Surface, vertex: int, facet_of_point: Integers) -> float:
    """Return how far a vertex lies below the hull of other vertices and some other points.

    Parameters
    ----------
    surface
        Points, hull and formation energies, eV/atom.
    vertex
        Index of the point that is taken away.
    facet_of_point
        (n,) the facet over which each point lies; -1 for points that do not take part.

    Returns
    -------
    float
        eV/atom; infinite for an end member that no other point could replace.
    """
    x, e, facets = surface.coordinates, surface.formation, surface.facets
    star = np.flatnonzero((facets == vertex).any(axis=1))
    others = np.flatnonzero(np.isin(facet_of_point, star))
    others = np.setdiff1d(np.union1d(others, facets[star]), [vertex])
    distance = np.abs(x[others] - x[vertex]).max(axis=1, initial=0.0)
    if vertex in surface.end_members and not (distance < COMPOSITION_TOLERANCE).any():
        return float("inf")
    local = others[lowest_per_composition(x[others], e[others])]
    local_facets = local[lower_facets(x[local], e[local])]
    return float(Envelope.of(x, e, local_facets)(x[[vertex]])[0] - e[vertex])
