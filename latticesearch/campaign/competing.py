"""Phases that compete with the decorations of the lattice without being any of them.

They are part of the hull, of decompositions and of "stable", never of training. Most have the
structure of none of the candidates, some have no structure at all: a formula and an energy are
enough.

The hull lies over the composition that the campaign's points and the phases span together. Where
the lattice fixes a composition (nitrides, oxides) phases outside its own region may still take
part in decompositions inside: metals and nitrogen against a nitride. They do so only where they
surround it; a phase on one side alone takes no part, as nothing is known that could make up the
balance.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latticesearch.campaign.sources import COMPETING
from latticesearch.errors import InputError
from latticesearch.frames import Reading, Refusal, Refusals, is_ase_database, read_all
from latticesearch.hull import FormationZero, hull_with, joined
from latticesearch.lattice.labelings import reduced_formula

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.frames import Frame
    from latticesearch.hull import Hull

    Floats = npt.NDArray[np.float64]

ZeroKind = Literal["end members", "elements"]

ZERO_TEXTS: Mapping[ZeroKind, str] = {
    "end members": "relative to the end members on the lattice",
    "elements": "relative to the most stable elements",
}
"""What stands behind "formation energy" on axes and in captions."""

FOREIGN = "with elements that the campaign does not have"
NO_FORMULA = "with a formula that cannot be read"
NO_ENERGY = "without an energy"
NO_ENTRY = "that are no entries of pymatgen"

COLUMNS = ("formula", "energy", "name")
"""Of a table of phases; the energy is in eV/atom, and a name may be missing."""


@dataclass(frozen=True, eq=False)
class Phase:
    """A competing phase.

    Parameters
    ----------
    name
        What it is called, e.g. the name of its file.
    formula
        Reduced formula, the elements in the campaign's order.
    composition
        (n_elements,) atomic fractions of the campaign's elements.
    energy
        eV/atom.
    atoms
        Its structure; None where only the formula is known.
    origin
        Where it comes from.
    """

    name: str
    formula: str
    composition: Floats
    energy: float
    atoms: Atoms | None
    origin: str


@dataclass(eq=False)
class CompetingPhases:
    """All competing phases of a campaign.

    Attributes
    ----------
    elements : tuple of str
        The campaign's, in the order of the compositions.
    phases : list of Phase
        In the order in which they were given.
    refusals : Refusals
        What was read and is not used, by reason.
    notes : list of str
        What else there is to say.
    """

    elements: tuple[str, ...]
    phases: list[Phase] = field(default_factory=list)
    refusals: Refusals = field(default_factory=Refusals)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.phases)

    @property
    def compositions(self) -> Floats:
        """Atomic fractions of the elements, (n, n_elements)."""
        rows = [phase.composition for phase in self.phases]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.elements))

    @property
    def keys(self) -> list[str]:
        """What stands for the canonical keys of phases, which have none: their names."""
        seen: Counter[str] = Counter()
        keys = []
        for phase in self.phases:
            seen[phase.name] += 1
            number = f" ({seen[phase.name]})" if seen[phase.name] > 1 else ""
            keys.append(f"{COMPETING}: {phase.name}{number}")
        return keys

    @property
    def energies(self) -> Floats:
        """(n,) eV/atom."""
        return np.array([phase.energy for phase in self.phases], dtype=np.float64)

    @property
    def points(self) -> tuple[Floats, Floats] | None:
        """Compositions, (n, n_elements), and energies, (n,) eV/atom; None without phases."""
        return (self.compositions, self.energies) if self.phases else None

    def summary_lines(self) -> list[str]:
        """Return what was found and what was refused as sentences for a person."""
        count = f"{len(self)} phase" if len(self) == 1 else f"{len(self)} phases"
        formulas = Counter(phase.formula for phase in self.phases)
        names = ", ".join(f if n == 1 else f"{f} ({n})" for f, n in formulas.items())
        lines = [f"competing phases: {count}: {names}" if names else f"competing phases: {count}"]
        lines += [f"  not used: {line}" for line in self.refusals.lines()]
        return lines + [f"  {note}" for note in self.notes]


def competing_phases(
    elements: Sequence[str],
    files: Iterable[Path] = (),
    rows: Iterable[Mapping[str, Any]] = (),
    *,
    energy_key: str | None = None,
    select: Mapping[str, object] | None = None,
    types: Sequence[str] | None = None,
) -> CompetingPhases:
    """Read competing phases.

    Parameters
    ----------
    elements
        The campaign's, without vacancies.
    files
        Structure files and folders as `latticesearch.frames.read_all` takes them; tables
        (``.csv``) with the columns formula, energy (eV/atom) and, if wanted, name; entries of
        pymatgen (``.json``). Entries count without their corrections: the campaign's own energies
        have none.
    rows
        Phases given as mappings with the keys formula, energy (eV/atom) and, if wanted, name.
    energy_key
        Name of the energy, eV per cell, in structure files.
    select
        Only frames of structure files with these values.
    types
        Symbols of the types of ``.cfg`` files; default `elements`.

    Returns
    -------
    CompetingPhases
        Phases of these elements, and all that was refused.

    Raises
    ------
    InputError
        A file is not there or cannot be read at all, or a row lacks formula or energy.
    """
    wanted = Reading(energy_key, dict(select or {}), tuple(types or elements))
    result = CompetingPhases(tuple(elements))
    for file in map(Path, files):
        if file.suffix == ".csv":
            _add_rows(result, _table_rows(file), str(file))
        elif file.suffix == ".json" and not is_ase_database(file):
            _add_entries(result, file)
        else:
            for item in read_all([file], wanted):
                _add_frame(result, item)
    _add_rows(result, rows, "competing phase")
    return result


def hull_with_phases(
    compositions: npt.ArrayLike, energies: npt.ArrayLike, phases: CompetingPhases | None
) -> Hull:
    """Return the hull of a campaign's structures and competing phases.

    Parameters
    ----------
    compositions
        (n, n_elements) atomic fractions of the campaign's structures.
    energies
        (n,) eV/atom.
    phases
        Over the same elements.

    Returns
    -------
    Hull
        Of the structures and, behind them, the phases: point ``n + i`` is phase i. Its own
        formation energies refer to the lowest points at the corners; `formation_zero` gives others.
    """
    return hull_with(compositions, energies, phases.points if phases else None)


def formation_zero(
    kind: ZeroKind,
    compositions: npt.ArrayLike,
    energies: npt.ArrayLike,
    phases: CompetingPhases | None,
    elements: Sequence[str],
) -> FormationZero:
    """Return what formation energies are counted from.

    Parameters
    ----------
    kind
        "end members": the end members on the lattice, whatever phases there are; phases outside
        the region that they span have no formation energy. "elements": the lowest of all
        structures and phases of each element.
    compositions
        (n, n_elements) atomic fractions of the campaign's structures.
    energies
        (n,) eV/atom.
    phases
        Over the same elements.
    elements
        Their symbols.

    Raises
    ------
    InputError
        "elements", but of one of them no pure structure or phase is known.
    """
    if kind == "end members":
        return FormationZero.of_end_members(compositions, energies)
    x, e = joined(compositions, energies, phases.points if phases else None)
    return FormationZero.of_elements(x, e, elements)


def _add_frame(result: CompetingPhases, item: Frame | Refusal) -> None:
    """Take a structure with its energy."""
    if isinstance(item, Refusal):
        result.refusals.add(item)
        return
    name = str(item.info.get("name") or _name_of(Path(item.file)))
    counts = Counter(item.atoms.get_chemical_symbols())
    _add(result, name, counts, item.energy_per_atom, item.atoms, item.origin)


def _name_of(file: Path) -> str:
    """Return the name of a file, or that of its folder where all files have the same name."""
    stem = file.name.partition(".")[0]
    return file.resolve().parent.name if stem.lower() in {"vasprun", "outcar"} else stem


def _add(
    result: CompetingPhases,
    name: str,
    amounts: Mapping[str, float],
    energy: float,
    atoms: Atoms | None,
    origin: str,
) -> None:
    """Take a phase of some amounts of elements; eV/atom."""
    foreign = sorted(symbol for symbol in amounts if symbol not in result.elements)
    if foreign:
        result.refusals.add(Refusal(FOREIGN, origin, f"{name}: {', '.join(foreign)}"))
        return
    x = np.array([amounts.get(symbol, 0.0) for symbol in result.elements], dtype=np.float64)
    formula = _formula(result.elements, x)
    result.phases.append(Phase(name or formula, formula, x / x.sum(), energy, atoms, origin))


def _formula(elements: Sequence[str], amounts: Floats) -> str:
    """Return the reduced formula; fractions stay as they are written."""
    whole = np.rint(amounts)
    if np.allclose(amounts, whole, atol=1e-6):
        return reduced_formula(tuple(elements), [int(n) for n in whole])
    pairs = zip(elements, amounts.tolist(), strict=True)
    return "".join(f"{symbol}{amount:g}" for symbol, amount in pairs if amount)


def _table_rows(path: Path) -> list[dict[str, str]]:
    """Read a table of phases.

    Raises
    ------
    InputError
        It cannot be read, or a column is missing.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is no table of text"
        raise InputError(f"cannot read the table {path}: {reason}") from error
    there = [name.strip().lower() for name in rows[0] if name] if rows else []
    if not {"formula", "energy"} <= {*there}:
        raise InputError(
            f"{path}: a table of phases has a first line formula,energy or formula,energy,name and "
            f"energies in eV/atom; here it is {','.join(there) or 'empty'}"
        )
    return [{k.strip().lower(): (v or "").strip() for k, v in row.items() if k} for row in rows]


def _add_rows(result: CompetingPhases, rows: Iterable[Mapping[str, Any]], origin: str) -> None:
    """Take rows of a table.

    Raises
    ------
    InputError
        A row has no formula or no energy.
    """
    for number, row in enumerate(rows, start=1):
        here = f"{origin}#{number}"
        missing = [key for key in COLUMNS[:2] if key not in row]
        if missing:
            raise InputError(
                f"{here}: {missing[0]} is missing; write "
                '{ formula = "Ni3Al", energy = -5.71, name = "L1_2" } with the energy in eV/atom'
            )
        amounts, energy = _amounts(str(row["formula"])), _energy(row["energy"])
        name = str(row.get("name") or row["formula"])
        if amounts is None:
            result.refusals.add(Refusal(NO_FORMULA, here, repr(row["formula"])))
        elif energy is None:
            result.refusals.add(Refusal(NO_ENERGY, here, f"{name}: {row['energy']!r}"))
        else:
            _add(result, name, amounts, energy, None, here)


def _amounts(formula: str) -> dict[str, float] | None:
    """Return the amounts of the elements of a formula, None if it is none."""
    from pymatgen.core import Composition

    try:
        amounts = Composition(formula).get_el_amt_dict()
    except (ValueError, KeyError):
        return None
    return {symbol: float(n) for symbol, n in amounts.items() if n > 0} or None


def _energy(value: object) -> float | None:
    try:
        energy = float(str(value))
    except ValueError:
        return None
    return energy if math.isfinite(energy) else None


def _add_entries(result: CompetingPhases, path: Path) -> None:
    """Take entries of pymatgen.

    Raises
    ------
    InputError
        The file cannot be read, or is no list of entries.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or f"it is no JSON ({error})"
        raise InputError(f"cannot read {path}: {reason}") from error
    entries = content.get("entries") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise InputError(
            f"{path}: expected a list of pymatgen's ComputedEntry or ComputedStructureEntry as "
            "dictionaries, or an ASE database"
        )
    corrections = [
        correction
        for number, entry in enumerate(entries)
        if (correction := _add_entry(result, entry, f"{path}#{number}"))
    ]
    if corrections:
        result.notes.append(
            f"{path}: {len(corrections)} entries carry corrections of up to "
            f"{max(map(abs, corrections)):.3f} eV/atom; they are left out, as the campaign's own "
            "energies have none"
        )


def _add_entry(result: CompetingPhases, data: Any, origin: str) -> float:
    """Take one entry; return its correction, eV/atom."""
    from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

    try:
        kind = ComputedStructureEntry if "structure" in data else ComputedEntry
        entry = kind.from_dict(data)
        n_atoms = float(entry.composition.num_atoms)
        energy = float(entry.uncorrected_energy) / n_atoms
        amounts = {s: float(n) for s, n in entry.composition.get_el_amt_dict().items() if n > 0}
    except Exception as error:  # noqa: BLE001 - whatever pymatgen makes of other dictionaries
        result.refusals.add(Refusal(NO_ENTRY, origin, f"{type(error).__name__}: {error}"))
        return 0.0
    if not math.isfinite(energy):
        result.refusals.add(Refusal(NO_ENERGY, origin, str(entry.composition.reduced_formula)))
        return 0.0
    name = str(entry.entry_id or entry.composition.reduced_formula)
    _add(result, name, amounts, energy, _atoms_of(entry), origin)
    return float(entry.correction) / n_atoms


def _atoms_of(entry: Any) -> Atoms | None:
    """Return the structure of an entry; None where it has none, or a disordered one."""
    from ase import Atoms

    structure = getattr(entry, "structure", None)
    if structure is None or not structure.is_ordered:
        return None
    return Atoms(
        [site.specie.symbol for site in structure],
        cell=structure.lattice.matrix,
        scaled_positions=structure.frac_coords,
        pbc=True,
    )
