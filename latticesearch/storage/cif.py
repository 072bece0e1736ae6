"""Crystallographic information files with the symmetry they have.

ASE writes every structure in P1; a stable structure deserves its space group, the conventional
cell and the asymmetric unit, all from spglib. ASE, VESTA and pymatgen read the result.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import spglib
from ase import Atoms
from ase.data import chemical_symbols
from ase.formula import Formula
from ase.geometry import cell_to_cellpar

if TYPE_CHECKING:
    import numpy.typing as npt

SYMPREC = 1e-2
"""Å; relaxed positions are good to about this."""

LARGEST_DENOMINATOR = 12
"""Translations of space groups are multiples of 1/2, 1/3, 1/4, 1/6 and 1/8; of 1/12 combined."""


def cif_bytes(atoms: Atoms) -> bytes:
    """Return a structure as a CIF file: conventional cell, symmetry, asymmetric unit.

    Parameters
    ----------
    atoms
        The structure, periodic in three directions; its orientation is not kept.
    """
    arrays = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers.astype(np.int64))
    return _cif_bytes(*(np.ascontiguousarray(array).tobytes() for array in arrays))


@lru_cache(maxsize=1024)  # the stable structures of a run: most stay so for many rounds
def _cif_bytes(cell: bytes, positions: bytes, numbers: bytes) -> bytes:
    """Return the CIF of cell vectors, fractional positions and atomic numbers, as bytes."""
    atoms = Atoms(
        np.frombuffer(numbers, dtype=np.int64),
        cell=np.frombuffer(cell).reshape(3, 3),
        scaled_positions=np.frombuffer(positions).reshape(-1, 3),
        pbc=True,
    )
    structure = (atoms.cell.array, np.frombuffer(positions).reshape(-1, 3), atoms.numbers)
    dataset = spglib.get_symmetry_dataset(structure, symprec=SYMPREC)
    if dataset is None:
        return _text(
            atoms.get_chemical_formula("metal"), *structure, _NoSymmetry(len(atoms))
        ).encode()
    lattice, standard = dataset.std_lattice, dataset.std_positions
    types = dataset.std_types
    symmetry = spglib.get_symmetry_dataset((lattice, standard, types), symprec=SYMPREC)
    name = atoms.get_chemical_formula("metal", empirical=True)
    return _text(name, lattice, standard, types, symmetry or _NoSymmetry(len(types))).encode()


class _NoSymmetry:
    """Stands for a data set of spglib where spglib finds none."""

    def __init__(self, n_atoms: int) -> None:
        self.international, self.number = "P1", 1
        self.rotations, self.translations = np.eye(3, dtype=int)[None], np.zeros((1, 3))
        self.equivalent_atoms = np.arange(n_atoms)


def _text(
    name: str,
    lattice: npt.NDArray[np.float64],
    positions: npt.NDArray[np.float64],
    numbers: npt.NDArray[np.int32],
    symmetry: Any,
) -> str:
    """Return the file's text; `positions` fractional, `symmetry` with spglib's names."""
    lengths_angles = cell_to_cellpar(lattice)
    counts = sorted(Formula(name).count().items())
    total = " ".join(f"{symbol}{count}" for symbol, count in counts)
    lines = [f"data_{name}", f"_chemical_formula_sum '{total}'"]
    for key, value in zip(_CELL_KEYS, lengths_angles, strict=True):
        lines.append(f"{key} {value:.10f}")
    lines += [
        f"_space_group_name_H-M_alt '{symmetry.international}'",
        f"_space_group_IT_number {symmetry.number}",
        "loop_",
        "  _space_group_symop_operation_xyz",
    ]
    operations = zip(symmetry.rotations, symmetry.translations, strict=True)
    lines += [f"  '{_operation(r, t)}'" for r, t in operations]
    lines += ["loop_", *(f"  {key}" for key in _SITE_KEYS)]
    unique, multiplicities = np.unique(symmetry.equivalent_atoms, return_counts=True)
    for rank, (i, n) in enumerate(zip(unique, multiplicities, strict=True), start=1):
        symbol = chemical_symbols[numbers[i]]
        x, y, z = positions[i]
        lines.append(f"  {symbol} {symbol}{rank} {n} {x:.10f} {y:.10f} {z:.10f} 1.0")
    return "\n".join(lines) + "\n"


_CELL_KEYS = (
    *("_cell_length_a", "_cell_length_b", "_cell_length_c"),
    *("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma"),
)
_SITE_KEYS = (
    *("_atom_site_type_symbol", "_atom_site_label", "_atom_site_symmetry_multiplicity"),
    *("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z", "_atom_site_occupancy"),
)


def _operation(rotation: npt.NDArray[np.int32], translation: npt.NDArray[np.float64]) -> str:
    """Return a symmetry operation in the notation x,y,z, e.g. "-y,x-y,z+1/3"."""
    parts = []
    for row, shift in zip(rotation, translation, strict=True):
        terms = [f"{'+' if c > 0 else '-'}{axis}" for c, axis in zip(row, "xyz", strict=True) if c]
        parts.append("".join([*terms, _fraction(float(shift))]).removeprefix("+"))
    return ",".join(parts)


# A space group has a handful of different components, which come back in every file.
@lru_cache(maxsize=256)
def _fraction(shift: float) -> str:
    """Return one component of a translation as a signed fraction, nothing for 0."""
    fraction = Fraction(shift).limit_denominator(LARGEST_DENOMINATOR) % 1
    return f"+{fraction}" if fraction else ""
