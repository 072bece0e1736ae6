"""What structures with calculated energies, forces and stresses can be wrong about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.training_set import scatter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from ase import Atoms

    Floats = npt.NDArray[np.float64]

CONTRADICTION = 0.05
"""eV/atom; two energies of one structure further apart cannot both be right."""

SAME_PLACE = 4
"""Decimals, Å, in which positions and cells of one structure agree."""

PER_ATOM_SCATTER = 0.3
"""eV/atom; energies that are per atom, taken per cell, scatter more about the species' energies."""

PER_ATOM_GAIN = 10.0
"""Energies are per atom if taking them so makes them scatter this much less."""


def check_structures(structures: Sequence[Atoms], species: tuple[str, ...]) -> None:
    """Complain about structures that nothing can be learned from.

    Raises
    ------
    InputError
        No energy, a result that is not finite or has the wrong shape, a species that is not in
        `species`, energies per atom, or one structure with two energies.
    """
    for number, atoms in enumerate(structures):
        _check_one(atoms, species, name(structures, number))
    if structures:
        _check_per_cell(structures, species)
        _check_duplicates(structures)


def name(structures: Sequence[Atoms], number: int) -> str:
    """Return what to call a structure in a message."""
    return f"training structure {number} ({structures[number].get_chemical_formula()})"


def _check_one(atoms: Atoms, species: tuple[str, ...], called: str) -> None:
    results: dict[str, Any] = {} if atoms.calc is None else atoms.calc.results
    if results.get("energy") is None:
        raise InputError(f"{called} has no energy: attach the results of a calculation")
    shapes = {"energy": (), "forces": (len(atoms), 3), "stress": (6,)}
    for quantity, shape in shapes.items():
        if results.get(quantity) is None:
            continue
        value = np.asarray(results[quantity], dtype=np.float64)
        if value.shape != shape:
            raise InputError(
                f"the {quantity} of {called} must have the shape {shape}, not {value.shape}"
            )
        if not np.isfinite(value).all():
            raise InputError(
                f"the {quantity} of {called} is not finite: leave failed calculations out"
            )
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(species))
    if unknown:
        raise InputError(
            f"{called} contains {', '.join(unknown)}, the basis only {', '.join(species)}: make a "
            "basis of all species"
        )
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise InputError(f"positions or cell of {called} are not finite")


def _check_per_cell(structures: Sequence[Atoms], species: tuple[str, ...]) -> None:
    """Complain if energies make sense only as energies per atom."""
    sizes = np.array([len(atoms) for atoms in structures])
    if len(np.unique(sizes)) < 2 or len(sizes) <= len(species) + 2:
        return
    symbols = [atoms.get_chemical_symbols() for atoms in structures]
    fractions = np.array([[s.count(symbol) / len(s) for symbol in species] for s in symbols])
    energies = np.array([atoms.calc.results["energy"] for atoms in structures])
    per_cell, per_atom = (scatter(fractions, e) for e in (energies / sizes, energies))
    if per_cell > PER_ATOM_SCATTER and per_cell > PER_ATOM_GAIN * per_atom:
        raise InputError(
            f"the structures' energies scatter by {per_cell:.3g} eV per atom about the species' "
            f"energies, but by {per_atom:.3g} eV if taken as energies per atom: give the energies "
            "of the cells"
        )


def _check_duplicates(structures: Sequence[Atoms]) -> None:
    """Complain about structures that occur twice, atom by atom, with different energies."""
    first: dict[bytes, int] = {}
    for number, atoms in enumerate(structures):
        same = first.setdefault(_fingerprint(atoms), number)
        energies = [structures[k].calc.results["energy"] / len(atoms) for k in (same, number)]
        if abs(energies[0] - energies[1]) > CONTRADICTION:
            raise InputError(
                f"{name(structures, same)} and {number} are the same structure, but have "
                f"{energies[0]:.6f} and {energies[1]:.6f} eV/atom, more than "
                f"{CONTRADICTION * 1e3:.0f} meV/atom apart: remove the wrong one"
            )


def _fingerprint(atoms: Atoms) -> bytes:
    """Return what shifted copies of a structure, atoms in any order, have in common."""
    shifted = np.asarray(atoms.positions - atoms.positions[0])
    if atoms.pbc.all():
        fractional = shifted @ np.linalg.inv(atoms.cell.array)
        fractional -= np.floor(fractional + 10.0**-SAME_PLACE)
        shifted = fractional @ atoms.cell.array
    # Adding zero turns minus zero into zero.
    rows = np.column_stack([atoms.numbers, shifted.round(SAME_PLACE) + 0.0])
    rows = rows[np.lexsort(rows.T)]
    cell = atoms.cell.array.round(SAME_PLACE) + 0.0
    return bytes(rows.tobytes() + cell.tobytes() + np.asarray(atoms.pbc).tobytes())
