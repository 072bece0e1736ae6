"""The lower convex hull of energy over composition, for any number of components.

The hull works in the affine hull of the compositions it is given: three components of which one
is fixed by its sublattice make a pseudo-binary, and so on. Compositions are fractions of the
components and energies are per the same unit: per atom, or per site where vacancies are a
component.

`points` checks what is given, `region` and `end_members` find the coordinates and corners,
`facets` and `envelope` the geometry, `surface` puts them together, `lower_hull` answers questions
and `depths` the dearest one: how stable each stable phase is. `zero` says what formation energies
are counted from, where that is not the end members of the hull, `others` adds points that are no
structures of the campaign.
"""

from __future__ import annotations

from latticesearch.hull.end_members import corners
from latticesearch.hull.facets import ENERGY_TOLERANCE
from latticesearch.hull.lower_hull import Hull, hull_change
from latticesearch.hull.others import hull_with, joined
from latticesearch.hull.points import COMPOSITION_TOLERANCE, SUM_TOLERANCE
from latticesearch.hull.zero import FormationZero

__all__ = [
    "COMPOSITION_TOLERANCE",
    "ENERGY_TOLERANCE",
    "SUM_TOLERANCE",
    "FormationZero",
    "Hull",
    "corners",
    "hull_change",
    "hull_with",
    "joined",
]
