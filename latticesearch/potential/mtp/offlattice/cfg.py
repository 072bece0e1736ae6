"""Read and write the ``.cfg`` files of MLIP: structures with energies, forces and stresses.

A file is a sequence of blocks ``BEGIN_CFG ... END_CFG``. Atoms have type numbers, no symbols, so
the order of the species has to be told. ``PlusStress`` is the stress times the volume with the
opposite of ASE's sign, eV.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Line = tuple[int, list[str]]

log = logging.getLogger(__name__)

_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
_CARTESIAN = ("cartes_x", "cartes_y", "cartes_z")
_DIRECT = ("direct_x", "direct_y", "direct_z")
_FORCES = ("fx", "fy", "fz")
_SITE_ENERGY = "site_en"
_SUPERCELL = ("Supercell", "SuperCell")
_OLD_STRESS = ("Stress:", "Virial:")
"""Words of old files whose sign or unit depended on the version; MLIP refuses the first one too."""


def read_cfg(path: str | Path, species: Sequence[str]) -> list[Atoms]:
    """Read all structures of a ``.cfg`` file of MLIP.

    Parameters
    ----------
    path
        The file.
    species
        Symbols in the order of the file's types.

    Returns
    -------
    list of Atoms
        Periodic along the lattice vectors that the file gives. What it says of energy (eV), forces
        (eV/Å), site energies and stress (eV/Å³, ASE's sign; only of structures with three lattice
        vectors) is attached as a calculator's results, its features (text) as ``info``, further
        columns as ``arrays``.

    Raises
    ------
    InputError
        The file cannot be read, a block is incomplete, or a type has no symbol in `species`.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_cfg(text, species, source=str(path))


def parse_cfg(text: str, species: Sequence[str], *, source: str = "cfg text") -> list[Atoms]:
    """Return the structures in the text of a ``.cfg`` file; see `read_cfg`."""
    symbols = tuple(species) if not isinstance(species, str) else ()
    if not symbols or len(set(symbols)) != len(symbols):
        raise InputError(
            f"{source}: atoms have type numbers, no symbols: give a tuple of distinct symbols in "
            "the order of the types, e.g. species=('Nb', 'Mo')"
        )
    return [_CfgBlock(source, lines).atoms(symbols) for lines in _blocks(text, source)]


def format_cfg(structures: Iterable[Atoms], species: Sequence[str]) -> str:
    """Return the text of a ``.cfg`` file.

    Numbers have as many digits as it takes to read the same doubles back, and no exponents, which
    some readers do not know. Written are types, positions and what a calculator knows of energy,
    forces, site energies and stress; text and numbers in ``info`` become features.

    Parameters
    ----------
    structures
        Structures, with results attached or not.
    species
        Symbols in the order of the file's types.

    Raises
    ------
    InputError
        A structure has a species that is not in `species`, or a number that is not finite.
    """
    symbols = tuple(species)
    lines = [
        line
        for number, atoms in enumerate(structures)
        for line in _format_block(atoms, symbols, f"structure {number}")
    ]
    return "\n".join(lines) + "\n" if lines else ""


def _blocks(text: str, source: str) -> Iterator[list[Line]]:
    """Yield the numbered words of the lines of each block, its first line included."""
    block: list[Line] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if (words[0] == "BEGIN_CFG") == bool(block):
            expected = "END_CFG" if block else "BEGIN_CFG"
            raise InputError(f"{source}, line {number}: expected {expected}, found '{words[0]}'")
        if words[0] == "END_CFG":
            yield block
            block = []
        else:
            block.append((number, words))
    if block:
        raise InputError(
            f"{source}: the structure that begins on line {block[0][0]} has no END_CFG"
        )


@dataclass
class _CfgBlock:
    """One structure while it is read; `lines` are the numbered words of its lines."""

    source: str
    lines: list[Line]
    at: int = 1
    size: int | None = None
    lattice: list[Floats] = field(default_factory=list)
    columns: dict[str, Floats] = field(default_factory=dict)
    rows_start: int = 0
    energy: float | None = None
    virial: Floats | None = None
    features: dict[str, str] = field(default_factory=dict)

    def atoms(self, species: tuple[str, ...]) -> Atoms:
        """Return the structure."""
        while self.at < len(self.lines):
            self.section()
        if not self.columns:
            self.fail("has no AtomData", self.lines[0][0])
        types = self.columns.pop("type", np.zeros(self.size or 0))
        bad = np.flatnonzero((types != np.rint(types)) | (types < 0) | (types >= len(species)))
        if len(bad):
            self.fail(
                f"type {types[bad[0]]:g}, but there are {len(species)} species: "
                f"{', '.join(species)}",
                self.lines[self.rows_start + int(bad[0])][0],
            )
        atoms = Atoms(
            [species[int(number)] for number in types],
            cell=np.array([*self.lattice, *np.zeros((3 - len(self.lattice), 3))]),
            pbc=[axis < len(self.lattice) for axis in range(3)],
        )
        self.place(atoms)
        self.attach(atoms)
        return atoms

    def fail(self, reason: str, line: int | None = None) -> NoReturn:
        """Raise an error at a line, the current one by default."""
        if line is None:
            line = self.lines[min(self.at, len(self.lines) - 1)][0]
        raise InputError(f"{self.source}, line {line}: {reason}")

    def section(self) -> None:
        """Read one section and step behind it."""
        _, words = self.lines[self.at]
        self.at += 1
        if words[0] == "Size":
            self.read_size()
        elif words[0] in _SUPERCELL:
            self.read_lattice()
        elif words[0] == "AtomData:":
            self.read_atoms(words[1:])
        elif words[0] == "Energy":
            self.energy = float(self.numbers(1)[0])
        elif words[0] == "PlusStress:":
            self.read_stress(words[1:])
        elif words[0] == "Feature" and len(words) > 1:
            known, text = self.features.get(words[1]), " ".join(words[2:])
            self.features[words[1]] = text if known is None else f"{known}\n{text}"
        else:
            self.at -= 1
            hint = "; write it as PlusStress" if words[0] in _OLD_STRESS else ""
            self.fail(f"unknown entry '{words[0][:40]}'{hint}")

    def numbers(self, count: int) -> Floats:
        """Return the numbers of the next line, (count,)."""
        if self.at >= len(self.lines):
            self.fail(f"expected {count} numbers, found the end of the structure")
        words = self.lines[self.at][1]
        if len(words) != count:
            self.fail(f"expected {count} numbers, found '{' '.join(words)[:40]}'")
        try:
            values = np.array([_number(word) for word in words])
        except ValueError:
            self.fail(f"expected {count} numbers, found '{' '.join(words)[:40]}'")
        if not np.isfinite(values).all():
            self.fail(f"'{' '.join(words)[:40]}' is not finite")
        self.at += 1
        return values

    def read_size(self) -> None:
        size = float(self.numbers(1)[0])
        if size != round(size) or size < 1:
            self.fail(f"Size {size:g} is not a positive integer", self.lines[self.at - 1][0])
        self.size = int(size)

    def read_lattice(self) -> None:
        while self.at < len(self.lines) and _is_number(self.lines[self.at][1][0]):
            self.lattice.append(self.numbers(3))
        if not 1 <= len(self.lattice) <= 3:
            self.fail(f"1 to 3 lattice vectors expected, found {len(self.lattice)}")

    def read_atoms(self, names: list[str]) -> None:
        if self.size is None:
            self.fail("AtomData before Size", self.lines[self.at - 1][0])
        if len(set(names)) != len(names):
            self.fail("a column occurs twice", self.lines[self.at - 1][0])
        self.rows_start = self.at
        table = np.array([self.numbers(len(names)) for _ in range(self.size)])
        self.columns = dict(zip(names, table.T, strict=True))
        ids = self.columns.pop("id", np.arange(self.size) + 1)
        wrong = np.flatnonzero(ids != np.arange(self.size) + 1)
        if len(wrong):
            row = int(wrong[0])
            self.fail(
                f"id {ids[row]:g}, expected {row + 1}: atoms must be in order",
                self.lines[self.rows_start + row][0],
            )

    def read_stress(self, names: list[str]) -> None:
        if sorted(names) != sorted(_VOIGT):
            self.fail(
                f"PlusStress needs the columns {' '.join(_VOIGT)}", self.lines[self.at - 1][0]
            )
        values = dict(zip(names, self.numbers(6), strict=True))
        self.virial = np.array([values[name] for name in _VOIGT])

    def vectors(self, names: tuple[str, str, str]) -> Floats | None:
        """Return three columns together, (size, 3), if the file has them."""
        found = [name for name in names if name in self.columns]
        if not found:
            return None
        if len(found) < 3:
            self.fail(f"columns {', '.join(names)} belong together", self.lines[0][0])
        return np.stack([self.columns.pop(name) for name in names], axis=1)

    def place(self, atoms: Atoms) -> None:
        """Set the positions."""
        cartesian, direct = self.vectors(_CARTESIAN), self.vectors(_DIRECT)
        if (cartesian is None) == (direct is None):
            self.fail("AtomData needs either cartesian or direct positions", self.lines[0][0])
        if direct is None:
            atoms.positions = cartesian
        elif len(self.lattice) < 3:
            self.fail("direct positions need three lattice vectors", self.lines[0][0])
        else:
            atoms.positions = direct @ np.array(self.lattice)

    def attach(self, atoms: Atoms) -> None:
        """Attach results, features and further columns."""
        results: dict[str, Any] = {"forces": self.vectors(_FORCES)}
        results["energies"] = self.columns.pop(_SITE_ENERGY, None)
        results["energy"] = self.energy
        if self.virial is not None and atoms.pbc.all():
            results["stress"] = -self.virial / atoms.get_volume()
        known = {name: value for name, value in results.items() if value is not None}
        if known:
            atoms.calc = SinglePointCalculator(atoms, **known)
        atoms.info.update(self.features)
        for name, values in self.columns.items():
            atoms.set_array(name, values)


def _number(word: str) -> float:
    """Return a number; MLIP writes columns like ``is_ghost`` as true and false."""
    return float({"true": "1", "false": "0"}.get(word.lower(), word))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _format_block(atoms: Atoms, species: tuple[str, ...], name: str) -> list[str]:
    """Return the lines of one structure."""
    results = {} if atoms.calc is None else atoms.calc.results
    symbols = atoms.get_chemical_symbols()
    unknown = sorted(set(symbols) - set(species))
    if unknown:
        raise InputError(
            f"{name} contains {', '.join(unknown)}, the types are {', '.join(species)}: add it to "
            "the species"
        )
    types = [species.index(symbol) for symbol in symbols]
    forces, energies = results.get("forces"), results.get("energies")
    tables = [np.asarray(atoms.positions)]
    names = list(_CARTESIAN)
    if forces is not None:
        tables.append(np.asarray(forces))
        names += _FORCES
    if energies is not None:
        tables.append(np.reshape(energies, (-1, 1)))
        names.append(_SITE_ENERGY)
    table = np.concatenate(tables, axis=1)
    lines = ["BEGIN_CFG", " Size", f"    {len(atoms)}"]
    vectors = atoms.cell.array[np.asarray(atoms.pbc)]
    if len(vectors):
        lines += [" Supercell", *(f"    {_row(vector, name)}" for vector in vectors)]
    lines.append(f" AtomData:  id type {' '.join(names)}")
    rows = enumerate(zip(types, table, strict=True), start=1)
    lines += [f"    {i} {kind} {_row(row, name)}" for i, (kind, row) in rows]
    if results.get("energy") is not None:
        lines += [" Energy", f"    {_row([results['energy']], name)}"]
    if results.get("stress") is not None and atoms.pbc.all():
        virial = -np.asarray(results["stress"]) * atoms.get_volume()
        lines += [f" PlusStress:  {'  '.join(_VOIGT)}", f"    {_row(virial, name)}"]
    return [*lines, *_features(atoms, name), "END_CFG", ""]


def _features(atoms: Atoms, name: str) -> Iterator[str]:
    """Yield the lines of the entries of ``info`` that are text or numbers."""
    for key, value in atoms.info.items():
        if isinstance(value, str | int | float | np.number) and not any(map(str.isspace, key)):
            yield from (f" Feature   {key}\t{line}" for line in str(value).splitlines() or [""])
        else:
            log.warning("%s: info entry %r is not text or a number and is left out", name, key)


def _row(numbers: Sequence[float] | Floats, name: str) -> str:
    """Return numbers, (n,), in the shortest form that gives back the same, without exponents."""
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"{name} has a number that is not finite: {list(map(float, numbers))}")
    return "  ".join(np.format_float_positional(number, trim="0") for number in numbers)
