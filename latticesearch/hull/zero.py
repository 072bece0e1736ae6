"""What formation energies are counted from: the end members, or the most stable elements.

The hull itself does not depend on it. A phase that is more stable than an end member has a negative
formation energy at the end member's own composition, which is how it shows that the end member is
not stable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.hull.end_members import corners
from latticesearch.hull.lower_hull import Hull
from latticesearch.hull.points import SUM_TOLERANCE, as_compositions, energies_like, validated

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FormationZero:
    """The energies that formation energies are counted from.

    Attributes
    ----------
    points : (m,) int
        Positions, among the points it was made of, of the structures that set the zero.
    hull : Hull
        Of these points alone: its energy is the zero.
    """

    points: Integers
    hull: Hull

    @classmethod
    def of_end_members(cls, compositions: npt.ArrayLike, energies: npt.ArrayLike) -> FormationZero:
        """Count from the corners of the region that points span: pure components if there are any.

        Parameters
        ----------
        compositions
            (n, k) fractions of the components.
        energies
            (n,) eV/atom.

        Raises
        ------
        InputError
            As `Hull`.
        """
        whole = Hull(compositions, energies, end_members=corners(compositions))
        points = whole.end_members
        x = whole.compositions[points]
        return cls(points, Hull(x, whole.energies[points], end_members=x))

    @classmethod
    def of_elements(
        cls, compositions: npt.ArrayLike, energies: npt.ArrayLike, species: Sequence[str]
    ) -> FormationZero:
        """Count from the lowest point of each pure component.

        Parameters
        ----------
        compositions
            (n, k) fractions of the components.
        energies
            (n,) eV/atom.
        species
            k names of the components, for the message.

        Raises
        ------
        InputError
            A component has no pure point.
        """
        x, e = validated(compositions, energies)
        pure: npt.NDArray[np.bool_] = x > 1.0 - SUM_TOLERANCE
        has_pure = np.any(pure, axis=0).tolist()
        missing = [s for s, is_there in zip(species, has_pure, strict=True) if not is_there]
        if missing:
            raise InputError(
                f"formation energies relative to the elements need an energy of pure "
                f"{', '.join(missing)}: add a phase of it, or count from the end members"
            )
        points = np.where(pure, e[:, None], np.inf).argmin(axis=0).astype(np.int64)
        return cls(points, Hull(np.eye(len(species)), e[points]))

    def energies(self, compositions: npt.ArrayLike) -> Floats:
        """Return the zero, (n,) eV/atom, at compositions (n, k).

        It is NaN where no mixture of the points that set the zero has the composition.
        """
        x = as_compositions(compositions)
        zero = np.full(len(x), np.nan)
        covered = self.hull.covers(x)
        if covered.any():
            zero[covered] = self.hull.energy(x[covered])
        return zero

    def formation_energies(self, compositions: npt.ArrayLike, energies: npt.ArrayLike) -> Floats:
        """Return energies, (n,) eV/atom, of compositions (n, k) relative to the zero."""
        x = as_compositions(compositions)
        formation: Floats = energies_like(energies, (len(x),)) - self.energies(x)
        return formation
