"""Files of structures: one function per format, all complete or not there."""

from __future__ import annotations

import io
import json
import re
import zlib
from typing import TYPE_CHECKING, Any, Final

from latticesearch.errors import InputError
from latticesearch.results.cells import in_cell
from latticesearch.storage import cif_bytes, write_cfg, write_text_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ase import Atoms

    from latticesearch.results.cells import Cell
    from latticesearch.results.entries import Entry

MAX_NAME: Final = 120
"""Characters of a file name; what is longer, the key of a large cell, ends in a checksum."""

ESPRESSO_SPACING: Final = 0.04
"""2π/Å between points in reciprocal space: dense enough for metals to begin with."""

TOGETHER: Final = {"extxyz": "structures.extxyz", "json": "entries.json"}
"""Formats that hold all structures in one file, and its name."""

TRAINING: Final = "training"
"""Name of the files of a training set, without ending."""


def write_entries(
    entries: Sequence[Entry],
    folder: Path,
    form: str,
    species: Sequence[str],
    cell: Cell | None = None,
) -> list[Path]:
    """Write structures in one of the `FORMATS`.

    Parameters
    ----------
    entries
        The structures.
    folder
        Where to; it is made with its parents. Other files there stay.
    form
        "cif", "poscar", "lammps" and "espresso" make a file per structure, "extxyz" and "json" one
        with all.
    species
        Elements in the order of the types in LAMMPS.
    cell
        "primitive" or "conventional"; default the cell that was computed, of CIF the conventional.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        They cannot be written, or a structure has no energy where the format needs one.
    """
    if form not in FORMATS:
        raise InputError(f"{form!r} is no format; known are {', '.join(FORMATS)}")
    if form in TOGETHER:
        texts = {TOGETHER[form]: _together(form, [in_cell(one, cell) for one in entries])}
    else:
        text, ending = _TEXTS[form], FORMATS[form]
        names = file_names(entries)
        texts = {
            name + ending: text(one, cell, species)
            for name, one in zip(names, entries, strict=True)
        }
    return _write(folder, texts)


def write_training_set(
    entries: Iterable[Entry], folder: Path, species: Sequence[str]
) -> list[Path]:
    """Write structures for the training of potentials, as MLIP's ``.cfg`` and extended XYZ.

    Parameters
    ----------
    entries
        The structures; what has no energy is left out.
    folder
        Where to; it is made with its parents.
    species
        Elements in the order of the types of ``.cfg``.

    Returns
    -------
    list of Path
        ``training.cfg`` and ``training.extxyz``.

    Raises
    ------
    InputError
        They cannot be written.
    """
    known = [one.to_ase() for one in entries if one.energy is not None]
    paths = _write(folder, {f"{TRAINING}.extxyz": _extxyz(known)})
    path = folder / f"{TRAINING}.cfg"
    write_cfg(path, known, species)
    return [path, *paths]


def file_names(entries: Sequence[Entry]) -> list[str]:
    """Return a name without ending for each structure, no two alike."""
    names: list[str] = []
    for one in entries:
        text = one.file or re.sub(r"[^\w.+-]+", "_", f"{one.name}_{one.key}")
        if len(text) > MAX_NAME or text in names:
            text = f"{text[: MAX_NAME - 9]}-{zlib.crc32(one.key.encode()):08x}"
        names.append(text)
    return names


def _write(folder: Path, texts: dict[str, str]) -> list[Path]:
    """Write texts by file name; return the paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_text_atomic(folder / name, text)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error
    return [folder / name for name in texts]


def _together(form: str, entries: Sequence[Entry]) -> str:
    if form == "extxyz":
        return _extxyz([one.to_ase() for one in entries])
    unknown = [one.key for one in entries if one.energy is None]
    if unknown:
        raise InputError(f"{unknown[0]} has no energy, which an entry of pymatgen needs")
    return json.dumps([one.computed_entry().as_dict() for one in entries], default=_plain)


def _plain(value: Any) -> Any:
    """Return numbers of numpy as numbers of Python."""
    return value.tolist()


def _extxyz(frames: Sequence[Atoms]) -> str:
    return _written(frames, format="extxyz")


def _written(atoms: Any, **options: Any) -> str:
    """Return what ASE writes; under MPI it would wait for the other ranks if it were asked to."""
    from ase.io import write

    buffer = io.StringIO()
    write(buffer, atoms, parallel=False, **options)
    return buffer.getvalue()


def _headed(entry: Entry, text: str) -> str:
    """Return a file whose first line, which is there for it, says what it holds."""
    return "\n".join([entry.comment, *text.split("\n")[1:]])


def _cif(entry: Entry, cell: Cell | None, species: Sequence[str]) -> str:  # noqa: ARG001
    if cell == "primitive":
        from pymatgen.io.cif import CifWriter

        # Without operations: with them it would be the conventional cell again.
        text = str(CifWriter(in_cell(entry, cell).to_pymatgen(), significant_figures=10))
    else:
        text = cif_bytes(entry.atoms).decode()
    return f"# {entry.comment}\n{text}"


def _poscar(entry: Entry, cell: Cell | None, species: Sequence[str]) -> str:  # noqa: ARG001
    shown = in_cell(entry, cell)
    return _headed(shown, _written(shown.atoms, format="vasp", sort=True, direct=True))


def _lammps(entry: Entry, cell: Cell | None, species: Sequence[str]) -> str:
    shown = in_cell(entry, cell)
    # The same types in every file, those of the run's potential.
    order = [*species, *sorted({*shown.atoms.symbols} - {*species})]
    options = {"masses": True, "atom_type_labels": True, "specorder": order}
    return _headed(shown, _written(shown.atoms, format="lammps-data", **options))


def _espresso(entry: Entry, cell: Cell | None, species: Sequence[str]) -> str:  # noqa: ARG001
    shown = in_cell(entry, cell)
    files = {symbol: f"{symbol}.UPF" for symbol in sorted({*shown.atoms.symbols})}
    control = {"calculation": "scf", "prefix": "structure"}
    options = {
        "pseudopotentials": files,
        "kspacing": ESPRESSO_SPACING,
        "input_data": {"control": control},
    }
    text = _written(shown.atoms, format="espresso-in", **options)
    hint = "ecutwfc, smearing and the names of the pseudopotentials are to be set"
    return f"! {shown.comment}\n! {hint}\n{text}"


_TEXTS: Final[dict[str, Callable[[Entry, Cell | None, Sequence[str]], str]]] = {
    "cif": _cif,
    "poscar": _poscar,
    "lammps": _lammps,
    "espresso": _espresso,
}

FORMATS: Final = {
    "cif": ".cif",
    "poscar": ".poscar",
    "extxyz": ".extxyz",
    "lammps": ".lammps",
    "espresso": ".pwi",
    "json": ".json",
}
"""Formats and the endings of their files."""
