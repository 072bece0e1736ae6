"""Names of crystal structures: Strukturbericht and AFLOW labels, Pearson symbols.

A structure is looked up in AFLOW's library of prototypes by its space group and the Wyckoff
positions of its elements; what is left of the library, mostly one entry, is compared in geometry by
pymatgen's StructureMatcher. pymatgen's own search of the library compares every entry, and builds
the library first: eight seconds where this takes milliseconds.

The library (``assets/prototypes.json``) comes from pymatgen; run this module to write it anew.
Mehl et al., Comput. Mater. Sci. 136, S1 (2017).
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import spglib
from ase import Atoms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SYMPREC: Final = 1e-2
"""Å; as for the CIF files."""

_FAMILIES: Final = ((2, "a"), (15, "m"), (74, "o"), (142, "t"), (194, "h"), (230, "c"))
"""Last space group of each crystal family, and its letter in Pearson symbols."""


class Prototype(NamedTuple):
    """A name that crystallographers know a structure by.

    Parameters
    ----------
    aflow
        AFLOW's label, e.g. "AB3_cP4_221_a_c".
    strukturbericht
        E.g. "L1_2"; empty where there is none.
    mineral
        Mineral or compound the type is named after; empty where there is none.
    """

    aflow: str
    strukturbericht: str = ""
    mineral: str = ""

    @property
    def name(self) -> str:
        """The shortest name: Strukturbericht, else AFLOW's label."""
        return self.strukturbericht or self.aflow


NOTHING: Final = Prototype("")


def pearson_symbol(dataset: Any) -> str:
    """Return the Pearson symbol of a data set of spglib, e.g. "cP4".

    Of rhombohedral structures the atoms of the primitive cell are counted, as AFLOW does.
    """
    family = next(letter for last, letter in _FAMILIES if dataset.number <= last)
    centring = dataset.international[0]
    n_atoms = len(dataset.std_types)
    if centring == "R":
        n_atoms //= 3
    return f"{family}{'C' if centring in 'ABCS' else centring}{n_atoms}"


def wyckoff_sequence(dataset: Any, numbers: Sequence[int]) -> str:
    """Return space group and Wyckoff letters, the elements unnamed, e.g. "221 a c".

    Parameters
    ----------
    dataset
        What spglib says about a structure.
    numbers
        (n_atoms,) its atomic numbers.
    """
    orbits: dict[int, list[str]] = {}
    for i, orbit in enumerate(dataset.crystallographic_orbits):
        if i == orbit:
            orbits.setdefault(int(numbers[i]), []).append(dataset.wyckoffs[i])
    return _sequence(dataset.number, orbits.values())


def _sequence(number: int, orbits: Iterable[Sequence[str]]) -> str:
    return " ".join([str(number), *sorted("".join(sorted(letters)) for letters in orbits)])


def prototype_of(atoms: Atoms) -> Prototype:
    """Return the prototype of a structure; empty where the library has none."""
    dataset = spglib.get_symmetry_dataset(
        (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=SYMPREC
    )
    if dataset is None:
        return NOTHING
    entries = _library().get(wyckoff_sequence(dataset, atoms.numbers), ())
    return next((_name(entry) for entry in entries if _matches(entry, atoms)), NOTHING)


def _matches(entry: Mapping[str, Any], atoms: Atoms) -> bool:
    """Tell whether a structure is that of an entry of the library but for size and elements."""
    from pymatgen.core import Lattice, Structure
    from pymatgen.core.structure_matcher import StructureMatcher

    mine = Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions())
    theirs = Structure(Lattice(entry["lattice"]), entry["species"], entry["positions"])
    return bool(StructureMatcher().fit_anonymous(mine, theirs))


def _name(entry: Mapping[str, Any]) -> Prototype:
    return Prototype(entry["aflow"], entry["strukturbericht"], entry["mineral"])


@functools.cache
def _library() -> dict[str, list[dict[str, Any]]]:
    """Return the entries of the library by each of their Wyckoff sequences."""
    text = resources.files("latticesearch.report").joinpath("assets/prototypes.json").read_text()
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in json.loads(text):
        for sequence in entry["sequences"]:
            found.setdefault(sequence, []).append(entry)
    return found


def library_of_pymatgen() -> list[dict[str, Any]]:
    """Return pymatgen's copy of AFLOW's library as this module reads it; takes ten seconds."""
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    entries = [_entry(row["snl"].structure, row["tags"]) for row in AFLOW_PROTOTYPE_LIBRARY]
    return [entry for entry in entries if entry["sequences"]]


def _entry(structure: Any, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return one entry of the library: names, Wyckoff sequences, geometry."""
    atoms = Atoms(
        [site.specie.symbol for site in structure],
        cell=structure.lattice.matrix,
        scaled_positions=structure.frac_coords,
        pbc=True,
    )
    return {
        **{key: _known(tags.get(key)) for key in Prototype._fields},
        "sequences": _all_sequences(atoms),
        "lattice": structure.lattice.matrix.round(5).tolist(),
        "species": atoms.get_chemical_symbols(),
        "positions": structure.frac_coords.round(5).tolist(),
    }


def _known(tag: str | None) -> str:
    return "" if tag in {None, "None"} else str(tag)


def _all_sequences(atoms: Atoms) -> list[str]:
    """Return the Wyckoff sequences of a structure for all choices of its origin and axes."""
    from pymatgen.analysis.prototypes import WYCKOFF_POSITION_RELAB_DICT

    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    dataset = spglib.get_symmetry_dataset(cell, symprec=SYMPREC)
    if dataset is None:
        return []
    number, *letters = wyckoff_sequence(dataset, atoms.numbers).split()
    tables = [str.maketrans(change) for change in WYCKOFF_POSITION_RELAB_DICT[number]]
    return sorted({_sequence(int(number), [e.translate(t) for e in letters]) for t in tables})


def write_library() -> None:
    """Write ``assets/prototypes.json``, one prototype per line."""
    from pathlib import Path

    lines = [json.dumps(entry, separators=(",", ":")) for entry in library_of_pymatgen()]
    target = Path(__file__).parent / "assets" / "prototypes.json"
    target.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    write_library()
