"""The parent lattice: sites, the species each may hold, and the symmetry that respects both.

Symmetry comes from spglib (Togo, Shinohara & Tanaka, Sci. Technol. Adv. Mater., Meth. 4, 2384822
(2024)); two sites can be equivalent only if they allow the same species.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.errors import InputError
from latticesearch.lattice.normal_forms import (
    hermite_normal_form,
    hermite_normal_forms,
    hnf_entries,
    lexicographic_order,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from ase import Atoms

VACANCY = "X"
"""Symbol of an empty site."""

MAX_SPECIES = 26
"""Keys write labels as letters."""

SYMMETRY_TOLERANCE = 1e-3
"""Distance, Å, within which spglib takes positions as equivalent; files carry 4 to 6 decimals."""

OVERLAP_DISTANCE = 0.5
"""Distance, Å, below which two sites of a parent lattice are one by mistake."""

_FCC = ((0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))
_BCC = ((-0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.5, 0.5, -0.5))
_CUBE = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
_HEXAGONAL = ((1, 0, 0), (-0.5, math.sqrt(0.75), 0), (0, 0, 1))
_QUARTER, _HALF = (0.25,) * 3, (0.5,) * 3


@dataclass(frozen=True)
class _Prototype:
    """Primitive rows and conventional rows in units of a, and fractional sites per sublattice."""

    cell: tuple[tuple[float, ...], ...]
    conventional: tuple[tuple[float, ...], ...]
    sublattices: Mapping[str, tuple[tuple[float, ...], ...]]
    c_over_a: float | None = None


_ORIGIN = ((0.0, 0.0, 0.0),)
PROTOTYPES: Mapping[str, _Prototype] = {
    "sc": _Prototype(_CUBE, _CUBE, {"site": _ORIGIN}),
    "bcc": _Prototype(_BCC, _CUBE, {"site": _ORIGIN}),
    "fcc": _Prototype(_FCC, _CUBE, {"site": _ORIGIN}),
    "hcp": _Prototype(
        _HEXAGONAL,
        _HEXAGONAL,
        {"site": ((1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75))},
        c_over_a=math.sqrt(8 / 3),
    ),
    "diamond": _Prototype(_FCC, _CUBE, {"site": (*_ORIGIN, _QUARTER)}),
    "b2": _Prototype(_CUBE, _CUBE, {"corner": _ORIGIN, "centre": (_HALF,)}),
    "rocksalt": _Prototype(_FCC, _CUBE, {"cation": _ORIGIN, "anion": (_HALF,)}),
    "zincblende": _Prototype(_FCC, _CUBE, {"cation": _ORIGIN, "anion": (_QUARTER,)}),
    "fluorite": _Prototype(_FCC, _CUBE, {"cation": _ORIGIN, "anion": (_QUARTER, (0.75,) * 3)}),
    "perovskite": _Prototype(
        _CUBE,
        _CUBE,
        {"A": _ORIGIN, "B": (_HALF,), "X": ((0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5))},
    ),
}
"""Parent lattices by name; the fields of `ParentLattice.from_prototype`."""


class FieldsOnlyPickle:
    """Pickle the dataclass fields and leave out what is cached beside them."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields."""
        return {f.name: self.__dict__[f.name] for f in dataclasses.fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class ParentLattice(FieldsOnlyPickle):
    """A primitive lattice with the species each of its sites may hold.

    Attributes
    ----------
    cell : (3, 3) float
        Lattice vectors as rows, Å. Primitive with regard to sites and allowed species.
    basis : (n_basis, 3) float
        Fractional coordinates of the sites, each in [0, 1).
    species : tuple of str
        Symbols; labels are indices into it. "X" is a vacancy.
    allowed : (n_basis, n_species) bool
        ``allowed[b, s]``: site b may hold species s.
    rotations : (n_ops, 3, 3) int
        ``rotations[o] @ x + translations[o]`` maps fractional coordinates x of a site to those
        of an equivalent one. Improper operations are included.
    translations : (n_ops, 3) float
        Fractional translations of the operations.
    conventional : (3, 3) int
        Rows of the conventional (or the input file's) cell in units of the rows of `cell`.
    """

    cell: npt.NDArray[np.float64]
    basis: npt.NDArray[np.float64]
    species: tuple[str, ...]
    allowed: npt.NDArray[np.bool_]
    rotations: npt.NDArray[np.int64]
    translations: npt.NDArray[np.float64]
    conventional: npt.NDArray[np.int64]

    @classmethod
    def from_prototype(
        cls,
        name: str,
        a: float,
        species: Sequence[str] | Sequence[Sequence[str]],
        *,
        c: float | None = None,
    ) -> ParentLattice:
        """Make a parent lattice from the name of a prototype and its lattice constant.

        Parameters
        ----------
        name : str
            sc, bcc, fcc, hcp, diamond (one sublattice), b2, rocksalt, zincblende, fluorite,
            perovskite (several), in any case.
        a, c : float
            Lattice constants, Å. `c` is for hcp only; default a·sqrt(8/3).
        species : sequence of str, or one sequence of str per sublattice
            Symbols that the sites may hold; "X" is a vacancy. Several sublattices take one
            sequence each, e.g. ``(("Ti", "Hf"), ("N", "X"))`` for rocksalt.

        Raises
        ------
        InputError
            Unknown name or symbol, lattice constant not positive, or wrong number of sublattices.
        """
        prototype = PROTOTYPES.get(name.lower())
        if prototype is None:
            raise InputError(f"unknown parent lattice {name!r}; known are {', '.join(PROTOTYPES)}")
        scale = np.array([a, a, _c_constant(name, prototype, a, c)], dtype=float)
        sublattices = list(prototype.sublattices.values())
        names = _species_per_sublattice(name.lower(), prototype, species)
        return _build(
            np.array(prototype.cell) * scale,
            np.array([site for sites in sublattices for site in sites], dtype=float),
            [n for n, sites in zip(names, sublattices, strict=True) for _ in sites],
            conventional=np.array(prototype.conventional) * scale,
        )

    @classmethod
    def from_atoms(
        cls,
        atoms: Atoms,
        species: Mapping[str, str | Sequence[str]] | Sequence[str],
        *,
        tolerance: float = SYMMETRY_TOLERANCE,
    ) -> ParentLattice:
        """Make a parent lattice from a structure, reduced to its primitive cell.

        Parameters
        ----------
        atoms : ase.Atoms
            Sites with placeholder elements; periodic in all directions. Its orientation is kept.
        species : mapping of str to symbols, or sequence of str
            Allowed symbols for each placeholder, e.g. ``{"Ti": ("Ti", "Hf"), "N": ("N", "X")}``;
            a flat sequence means that every site allows all of them.
        tolerance : float
            Distance, Å, within which positions count as equivalent.

        Raises
        ------
        InputError
            Overlapping sites, no cell, or an element of the structure without allowed species.
        """
        symbols = list(atoms.get_chemical_symbols())
        if not symbols or abs(atoms.cell.volume) < 1e-6 or not all(atoms.pbc):
            raise InputError(
                f"a parent lattice needs sites and three periodic lattice vectors; got "
                f"{len(symbols)} sites, cell {atoms.cell.array.tolist()}, pbc {atoms.pbc.tolist()}"
            )
        return _build(
            np.array(atoms.cell.array, dtype=float),
            np.array(atoms.get_scaled_positions(), dtype=float),
            _species_per_site(symbols, species),
            conventional=np.array(atoms.cell.array, dtype=float),
            tolerance=tolerance,
        )

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        species: Mapping[str, str | Sequence[str]] | Sequence[str],
        *,
        tolerance: float = SYMMETRY_TOLERANCE,
    ) -> ParentLattice:
        """Make a parent lattice from any structure file that ASE reads.

        The other parameters are those of `from_atoms`.

        Raises
        ------
        InputError
            The file cannot be read, or `from_atoms` refuses the structure.
        """
        from ase.io import read

        try:
            atoms = read(path)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"cannot read a structure from {path}: {reason}") from error
        try:
            return cls.from_atoms(atoms, species, tolerance=tolerance)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @property
    def n_basis(self) -> int:
        """Number of sites in the primitive cell."""
        return len(self.basis)

    @property
    def n_species(self) -> int:
        """Number of species."""
        return len(self.species)

    @property
    def n_ops(self) -> int:
        """Number of symmetry operations."""
        return len(self.rotations)

    @cached_property
    def is_active(self) -> npt.NDArray[np.bool_]:
        """Which sites of the basis allow more than one species, (n_basis,)."""
        active: npt.NDArray[np.bool_] = self.allowed.sum(axis=1) > 1
        return active

    @cached_property
    def basis_images(self) -> npt.NDArray[np.int64]:
        """Site of the basis, (n_ops, n_basis), that each operation maps each site to."""
        return self._site_images[0]

    @cached_property
    def basis_shifts(self) -> npt.NDArray[np.int64]:
        """Lattice vectors, (n_ops, n_basis, 3), between the images and the sites of the basis.

        ``rotations[o] @ basis[b] + translations[o]
        == basis[basis_images[o, b]] + basis_shifts[o, b]`` within the symmetry tolerance.
        """
        return self._site_images[1]

    @cached_property
    def _site_images(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        images = np.einsum("oij,bj->obi", self.rotations, self.basis) + self.translations[:, None]
        difference = images[:, :, None] - self.basis
        shifts = np.rint(difference)
        distance = np.linalg.norm((difference - shifts) @ self.cell, axis=-1)
        nearest = distance.argmin(axis=2)
        chosen = np.take_along_axis(shifts, nearest[:, :, None, None], axis=2)[:, :, 0]
        return nearest.astype(np.int64), chosen.astype(np.int64)

    @cached_property
    def sublattices(self) -> list[npt.NDArray[np.intp]]:
        """Indices of the sites of the basis, one array per set of equivalent sites."""
        first = self.basis_images.min(axis=0)
        return [np.flatnonzero(first == site) for site in np.unique(first)]

    def equivalent_hnfs(self, hnf: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the images, (n_ops, 3, 3), of the superlattice `hnf` under the operations."""
        return hermite_normal_forms(hnf @ self.rotations.transpose(0, 2, 1))

    def canonical_hnf(self, hnf: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], int]:
        """Return the smallest equivalent superlattice, (3, 3), and an operation to it."""
        images = self.equivalent_hnfs(hnf)
        operation = int(lexicographic_order(hnf_entries(images))[0])
        return images[operation], operation


def _c_constant(name: str, prototype: _Prototype, a: float, c: float | None) -> float:
    if not (math.isfinite(a) and a > 0):
        raise InputError(f"the lattice constant of {name} is a length in Å above zero; got a = {a}")
    if prototype.c_over_a is None:
        if c is not None:
            raise InputError(f"{name} is cubic and takes no c; got c = {c}")
        return a
    if c is not None and not (math.isfinite(c) and c > 0):
        raise InputError(f"the lattice constant of {name} is a length in Å above zero; got c = {c}")
    return a * prototype.c_over_a if c is None else c


def _species_per_sublattice(
    name: str, prototype: _Prototype, species: Sequence[str] | Sequence[Sequence[str]]
) -> list[tuple[str, ...]]:
    names = tuple(prototype.sublattices)
    if isinstance(species, str):
        raise InputError(f"species is a sequence of symbols, e.g. ('Cu', 'Au'); got {species!r}")
    flat = all(isinstance(entry, str) for entry in species)
    if flat and len(names) == 1:
        return [tuple(str(entry) for entry in species)]
    if flat or len(species) != len(names):
        example = ", ".join(f"({x!r}, {y!r})" for x, y in _EXAMPLES[: len(names)])
        raise InputError(
            f"{name} has {len(names)} sublattice(s) ({', '.join(names)}): give one sequence of "
            f"species for each, e.g. ({example}); got {tuple(species)!r}"
        )
    return [(entry,) if isinstance(entry, str) else tuple(entry) for entry in species]


_EXAMPLES = (("Ti", "Hf"), ("N", "X"), ("O", "X"))


def _species_per_site(
    symbols: list[str], species: Mapping[str, str | Sequence[str]] | Sequence[str]
) -> list[tuple[str, ...]]:
    from collections.abc import Mapping

    if not isinstance(species, Mapping):
        return [tuple(species)] * len(symbols)
    missing = sorted(set(symbols) - set(species))
    unused = sorted(set(species) - set(symbols))
    if missing or unused:
        raise InputError(
            f"species must name the elements of the structure ({', '.join(sorted(set(symbols)))}): "
            f"missing {missing}, not in the structure {unused}"
        )
    return [
        (entry,) if isinstance(entry, str) else tuple(entry)
        for entry in (species[symbol] for symbol in symbols)
    ]


def _ordered_species(allowed: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Return all symbols in order of appearance after checking each list of them."""
    from ase.data import atomic_numbers

    for symbols in allowed:
        unknown = [s for s in symbols if s not in atomic_numbers]
        if unknown or not symbols or len(set(symbols)) != len(symbols):
            raise InputError(
                f"allowed species {symbols!r}: need at least one, each once, each a chemical "
                f"symbol or 'X' for a vacancy" + (f"; unknown {unknown}" if unknown else "")
            )
    species = tuple(dict.fromkeys(s for symbols in allowed for s in symbols))
    if len(species) > MAX_SPECIES:
        raise InputError(f"{len(species)} species; at most {MAX_SPECIES} are possible")
    return species


def _build(
    cell: npt.NDArray[np.float64],
    basis: npt.NDArray[np.float64],
    symbols: list[tuple[str, ...]],
    *,
    conventional: npt.NDArray[np.float64],
    tolerance: float = SYMMETRY_TOLERANCE,
) -> ParentLattice:
    species = _ordered_species(symbols)
    allowed = np.array([[s in site for s in species] for site in symbols])
    _refuse_overlaps(cell, basis)
    cell, basis, allowed = _reduce_to_primitive(cell, basis, allowed, tolerance)
    rotations, translations = _symmetry(cell, basis, allowed, tolerance)
    return ParentLattice(
        cell=np.ascontiguousarray(cell),
        basis=_wrapped(basis),
        species=species,
        allowed=np.ascontiguousarray(allowed),
        rotations=rotations,
        translations=translations,
        conventional=np.rint(conventional @ np.linalg.inv(cell)).astype(np.int64),
    )


def _wrapped(fractional: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the coordinates in [0, 1), where 1 - 1e-9 counts as 0."""
    wrapped = fractional - np.floor(fractional + 1e-9)
    return np.ascontiguousarray(np.where(np.abs(wrapped) < 1e-9, 0.0, wrapped))


def _refuse_overlaps(cell: npt.NDArray[np.float64], basis: npt.NDArray[np.float64]) -> None:
    from ase.geometry import find_mic

    i, j = np.triu_indices(len(basis), k=1)
    if len(i) == 0:
        return
    _, distances = find_mic((basis[i] - basis[j]) @ cell, cell)
    worst = int(np.argmin(distances))
    if distances[worst] < OVERLAP_DISTANCE:
        raise InputError(
            f"sites {i[worst] + 1} and {j[worst] + 1} are {distances[worst]:.3f} Å apart, less "
            f"than {OVERLAP_DISTANCE} Å; leave one of them out"
        )


def _symmetry(
    cell: npt.NDArray[np.float64],
    basis: npt.NDArray[np.float64],
    allowed: npt.NDArray[np.bool_],
    tolerance: float,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    import spglib

    _, colours = np.unique(allowed, axis=0, return_inverse=True)
    symmetry = spglib.get_symmetry((cell, basis, colours.reshape(-1) + 1), symprec=tolerance)
    if symmetry is None:
        raise InputError(
            f"spglib finds no symmetry within {tolerance} Å; check the cell and the positions"
        )
    return (
        np.ascontiguousarray(symmetry["rotations"], dtype=np.int64),
        np.ascontiguousarray(symmetry["translations"], dtype=np.float64),
    )


def _reduce_to_primitive(
    cell: npt.NDArray[np.float64],
    basis: npt.NDArray[np.float64],
    allowed: npt.NDArray[np.bool_],
    tolerance: float,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return cell, basis and allowed species of the primitive cell in the same orientation."""
    rotations, translations = _symmetry(cell, basis, allowed, tolerance)
    pure = translations[(rotations == np.eye(3, dtype=int)).all(axis=(1, 2))]
    n_pure = len(pure)
    if n_pure == 1:
        return cell, basis, allowed
    # Every pure translation has an order that divides their number, so these are integers.
    generators = np.vstack([np.rint(pure * n_pure), np.eye(3) * n_pure]).astype(np.int64)
    from ase.geometry.minkowski_reduction import minkowski_reduce

    primitive, _ = minkowski_reduce(hermite_normal_form(generators) / n_pure @ cell)
    if np.linalg.det(primitive) * np.linalg.det(cell) < 0:
        primitive = -primitive
    fractional = _wrapped(basis @ cell @ np.linalg.inv(primitive))
    kept: list[int] = []
    for site in range(len(fractional)):
        difference = fractional[site] - fractional[kept]
        distance = np.linalg.norm((difference - np.rint(difference)) @ primitive, axis=1)
        if not ((distance < 4 * tolerance) & (allowed[kept] == allowed[site]).all(axis=1)).any():
            kept.append(site)
    if len(kept) * n_pure != len(basis):
        raise InputError(
            f"the structure is periodic with {n_pure} translations only within {tolerance} Å and "
            "cannot be reduced to a primitive cell; change the tolerance or clean the positions"
        )
    return primitive, fractional[kept], allowed[kept]
