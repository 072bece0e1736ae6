"""Other cells of the same crystal: nothing moves, nothing turns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import spglib
from ase import Atoms

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.results.entries import Entry

    Floats = npt.NDArray[np.float64]

Cell = Literal["primitive", "conventional"]

SYMPREC: Final = 1e-2
"""Å; relaxed positions are good to about this."""


def in_cell(entry: Entry, cell: Cell | None) -> Entry:
    """Return a structure in another cell of its own lattice, its energy, forces and stress too.

    Parameters
    ----------
    entry
        The structure.
    cell
        The primitive or conventional cell of its symmetry within `SYMPREC`; None for its own. It
        keeps the orientation, so that the stress stays what it is.
    """
    primitive = None if cell is None else _standard(entry.atoms, "primitive")
    if cell is None or primitive is None:
        return entry
    atoms = primitive if cell == "primitive" else _standard(entry.atoms, cell)
    assert atoms is not None
    ratio = len(atoms) / len(entry.atoms)
    forces = entry.forces
    if forces is not None:
        forces = forces[_counterparts(atoms, entry.atoms, primitive.cell.array)]
    energy = None if entry.energy is None else entry.energy * ratio
    return replace(entry, atoms=atoms, energy=energy, forces=forces)


def _standard(atoms: Atoms, cell: Cell) -> Atoms | None:
    """Return a structure in a standard cell, None where no symmetry is found."""
    given = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = spglib.standardize_cell(
        given, to_primitive=cell == "primitive", no_idealize=True, symprec=SYMPREC
    )
    if found is None:
        return None
    lattice, positions, numbers = found
    return Atoms(numbers, cell=lattice, scaled_positions=positions, pbc=True)


def _counterparts(atoms: Atoms, original: Atoms, lattice: Floats) -> npt.NDArray[np.intp]:
    """Return, for each atom, the original one that a lattice vector takes there."""
    inverse = np.linalg.inv(lattice)
    found = []
    for number, position in zip(atoms.numbers, atoms.positions, strict=True):
        moved = (original.positions - position) @ inverse
        distances = np.linalg.norm((moved - np.rint(moved)) @ lattice, axis=1)
        found.append(np.where(original.numbers == number, distances, np.inf).argmin())
    return np.array(found, dtype=np.intp)
