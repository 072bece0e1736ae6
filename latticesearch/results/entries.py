"""A structure with its energy, on its way to a file or to another program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latticesearch.campaign.sources import PREDICTED

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from ase import Atoms


@dataclass(frozen=True, eq=False)
class Entry:
    """A structure with what is known of it.

    Parameters
    ----------
    key
        Canonical key; of a competing phase its name.
    name
        What it is called: its formula, of a competing phase its name.
    atoms
        The structure, without vacancies.
    energy
        eV per cell of `atoms`; None where unknown. Of an ideal structure: after relaxation.
    source
        Where the energy comes from.
    forces
        (n_atoms, 3) eV/Å; None where unknown.
    stress
        (6,) eV/Å³, order xx, yy, zz, yz, xz, xy, in ASE's sign; None where unknown.
    above
        eV/atom above the hull; None where unknown.
    file
        What its file is to be called, without ending; default from name and key.
    """

    key: str
    name: str
    atoms: Atoms
    energy: float | None
    source: str = PREDICTED
    forces: npt.NDArray[np.float64] | None = None
    stress: npt.NDArray[np.float64] | None = None
    above: float | None = None
    file: str = ""

    @property
    def comment(self) -> str:
        """Name, key and energy in one line."""
        parts = [self.name, f"key={self.key}"]
        if self.energy is not None:
            parts += [f"energy={self.energy:.10g} eV ({self.source})"]
        if self.above is not None:
            parts += [f"above_hull={1000 * self.above:.3f} meV/atom"]
        return " ".join(" ".join(parts).split())

    @property
    def info(self) -> dict[str, Any]:
        """What a file says of the structure beside its energy."""
        above = {} if self.above is None else {"energy_above_hull": float(self.above)}
        return {"key": self.key, "name": self.name, "source": self.source, **above}

    def to_ase(self) -> Atoms:
        """Return the structure with energy, forces and stress attached, and the key in ``info``."""
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms = self.atoms.copy()
        atoms.info = self.info
        known = {"energy": self.energy, "forces": self.forces, "stress": self.stress}
        known = {name: value for name, value in known.items() if value is not None}
        if known:
            atoms.calc = SinglePointCalculator(atoms, **known)
        return atoms

    def to_pymatgen(self) -> Any:
        """Return the structure as pymatgen has it."""
        from pymatgen.core import Structure

        return Structure(
            self.atoms.cell.array,
            self.atoms.get_chemical_symbols(),
            self.atoms.get_scaled_positions(),
        )

    def computed_entry(self) -> Any:
        """Return a pymatgen ``ComputedStructureEntry``; its ``entry_id`` is the key.

        Raises
        ------
        ValueError
            The energy is unknown.
        """
        from pymatgen.entries.computed_entries import ComputedStructureEntry

        if self.energy is None:
            raise ValueError(f"the energy of {self.key} is not known")
        return ComputedStructureEntry(
            self.to_pymatgen(), self.energy, entry_id=self.key, data=self.info
        )
