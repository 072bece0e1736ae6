"""The lower surface of points: formation energies, and the envelope under them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.hull.envelope import Envelope
from latticesearch.hull.facets import ENERGY_TOLERANCE, lower_facets

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Surface:
    """Points in the coordinates of their region, with the two envelopes that judge them.

    Attributes
    ----------
    coordinates : (n, d) float
    formation : (n,) float
        eV/atom relative to the end members.
    end_members : (m,) int
        Indices of points.
    reference : Envelope
        Energies, eV/atom, of the best mixtures of the end members.
    envelope : Envelope
        Formation energies, eV/atom, of the best mixtures of all points: the hull.
    """

    coordinates: Floats
    formation: Floats
    end_members: Integers
    reference: Envelope
    envelope: Envelope

    @classmethod
    def under(cls, x: Floats, energies: Floats, lowest: Integers, end_members: Integers) -> Surface:
        """Return the surface under points at coordinates (n, d) with energies (n,), eV/atom.

        `lowest` are the (l,) indices of the lowest point at each composition. The hull is made of
        formation energies, which are small numbers whatever the zero of the energies, so tolerances
        mean the same for all.
        """
        corners = lower_facets(x[end_members], energies[end_members])
        reference = Envelope.of(x, energies, end_members[corners])
        formation = energies - reference(x)
        # A point above the end members' envelope is never stable, so Qhull need not see it.
        below = lowest[formation[lowest] < -ENERGY_TOLERANCE]
        candidates = np.union1d(below, end_members)
        facets = np.sort(candidates[lower_facets(x[candidates], formation[candidates])], axis=1)
        facets = facets[np.lexsort(facets.T[::-1])]
        return cls(x, formation, end_members, reference, Envelope.of(x, formation, facets))

    @property
    def facets(self) -> Integers:
        """(n_facets, d + 1) indices of the points at the corners of each facet."""
        return self.envelope.facets

    def above(self, x: Floats, formation: Floats) -> Floats:
        """Return how far formation energies (n,) at coordinates (n, d) lie above the hull, eV/atom.

        Differences smaller than `ENERGY_TOLERANCE` are exactly 0.
        """
        distance = formation - self.envelope(x)
        above: Floats = np.where(np.abs(distance) < ENERGY_TOLERANCE, 0.0, distance)
        return above
