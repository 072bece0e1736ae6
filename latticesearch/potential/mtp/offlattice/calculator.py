"""ASE calculator of a moment tensor potential."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

from ase.calculators.calculator import Calculator, all_changes

from latticesearch.potential.mtp.offlattice.evaluation import OffLatticeStructure, evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from latticesearch.potential.mtp.coefficients import MtpCoefficients

log = logging.getLogger(__name__)


class MtpCalculator(Calculator):  # type: ignore[misc]  # ASE has no types
    """Energy, forces and stress of any structure for ASE.

    Sites without an atom are simply empty: a potential with the species "X" sees no neighbour
    there, while the on-lattice evaluator counts X as a species.

    Parameters
    ----------
    potential
        The potential. Structures with other species raise an `InputError`.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]

    def __init__(self, potential: MtpCoefficients, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.potential = potential
        self._warned = False

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``self.results``: eV, eV/Å, eV/Å³; stress only if periodic in all directions.

        Raises
        ------
        InputError
            The structure contains a species that the potential does not know.
        """
        super().calculate(atoms, properties, system_changes)
        structure = OffLatticeStructure.from_atoms(self.atoms, self.potential)
        self._warn_if_close(structure.min_distance)
        result = evaluate(self.potential, structure)
        self.results = {
            "energy": result.energy,
            "free_energy": result.energy,
            "energies": result.site_energies,
            "forces": result.forces,
        }
        if self.atoms.pbc.all():
            self.results["stress"] = result.stress

    def _warn_if_close(self, distance: float) -> None:
        if distance < self.potential.min_dist and not self._warned:
            self._warned = True
            log.warning(
                "atoms %.3f Å apart, closer than the potential's min_dist %.3f Å: its radial "
                "functions are extrapolated (said once)",
                distance,
                self.potential.min_dist,
            )
