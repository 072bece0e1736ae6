"""The hull as a random quantity: hulls of joint samples of all energies that are not known yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.hull import Hull
    from latticesearch.learning.opinions import Opinions
    from latticesearch.learning.survey import Survey

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

SAMPLES = 200
"""Sampled hulls: probabilities of a few percent are known to about one and a half percent."""


@dataclass(frozen=True, eq=False)
class Outlook:
    """What the true hull may be.

    Attributes
    ----------
    indices : (m,) int
        Candidates that are not computed and could be stable.
    stable : (m,) float
        Probability of each to be a vertex of the true hull.
    vertices : (v,) int
        Rows of the points of the hull of what is computed that are its vertices.
    stays : (v,) float
        Probability of each to be a vertex of the true hull.
    distances : (s,) float
        Largest distance of the computed hull from each sampled one, eV/atom, ascending.
    """

    indices: Indices
    stable: Floats
    vertices: Indices
    stays: Floats
    distances: Floats

    @property
    def distance(self) -> float:
        """Expected largest distance to the true hull, eV/atom."""
        return float(self.distances.mean())

    def missing(self, tolerance: float) -> float:
        """Return how likely it is that the true hull is lower by more than this somewhere."""
        return float((self.distances > tolerance).mean())


def sampled_hulls(
    hull: Hull, found: Survey, opinions: Opinions, rng: np.random.Generator, number: int = SAMPLES
) -> Outlook:
    """Return the outlook on the true hull.

    Parameters
    ----------
    hull
        Of what is computed, energies relative to the end members.
    found
        All candidates that could be stable, from a survey.
    opinions
        What is thought of them.
    rng
        Random numbers.
    number
        Hulls.
    """
    energies = opinions.samples(found.rows, found.indices, number, rng)
    level = hull.energy(found.compositions) if len(found.indices) else np.zeros(0)
    depths = level - energies
    known = hull.vertices
    stable, stays = np.zeros(len(found.indices)), np.zeros(len(known))
    distances = np.zeros(number)
    for s in range(number):
        # What lies above the computed hull is no vertex of a lower one.
        below = np.flatnonzero(depths[s] > 0.0)
        if not len(below):
            stays += 1.0
            continue
        is_kept, is_new = hull.vertices_with(found.compositions[below], energies[s, below])
        new = below[is_new]
        stays[is_kept] += 1.0
        stable[new] += 1.0
        # The distance of a convex function from a lower one that is linear on a facet is largest at
        # a corner of that facet.
        distances[s] = depths[s, new].max(initial=0.0)
    return Outlook(found.indices, stable / number, known, stays / number, np.sort(distances))
