"""Files of many structures that have nothing to do with each other: each of them counts."""

from __future__ import annotations

import gzip
import io
import itertools
import json
from typing import TYPE_CHECKING, Any, TextIO

from latticesearch.errors import InputError
from latticesearch.frames.types import UNREADABLE, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from latticesearch.frames.types import Frame, Reading

    Reader = Callable[[Path, Reading], Iterator[Frame | Refusal]]


def open_text(path: Path) -> TextIO:
    """Open a text file, which may be compressed."""
    opener: Any = gzip.open if path.name.endswith(".gz") else open
    file: TextIO = opener(path, "rt", encoding="utf-8", errors="replace")
    return file


def read_extxyz(path: Path, wanted: Reading) -> Iterator[Frame | Refusal]:
    """Read extended XYZ; only what is selected is parsed, which takes most of the time."""
    from ase.io.extxyz import key_val_str_to_dict, read_xyz

    with open_text(path) as file:
        for index, lines in enumerate(_split_extxyz(file)):
            if not _may_match(lines[1], wanted):
                continue
            if wanted.select and not wanted.selects(key_val_str_to_dict(lines[1])):
                continue
            origin = f"{path}#{index}"
            try:
                (atoms,) = read_xyz(io.StringIO("".join(lines)), index=slice(None))
            except Exception as error:  # noqa: BLE001 - whatever ASE makes of a bad line
                yield Refusal(UNREADABLE, origin, f"{type(error).__name__}: {error}")
            else:
                yield wanted.judge(atoms, origin)


def _split_extxyz(file: TextIO) -> Iterator[list[str]]:
    """Yield the lines of each frame: number of atoms, comment, atoms."""
    for first in file:
        if not first.strip():
            continue
        lines = [first, *itertools.islice(file, int(first) + 1)]
        if len(lines) < int(first) + 2:
            raise InputError(f"{file.name}: the last frame is incomplete")
        yield lines


def _may_match(comment: str, wanted: Reading) -> bool:
    """Return False if `comment` surely lacks a selected value; cheaper than parsing it."""
    return all(
        k in comment and (not isinstance(v, str) or v in comment) for k, v in wanted.select.items()
    )


def read_database(path: Path, wanted: Reading) -> Iterator[Frame | Refusal]:
    """Read an ASE database, SQLite or JSON."""
    from ase.db import connect

    if not path.is_file():
        raise FileNotFoundError(2, "No such file or directory")
    kind = "json" if path.suffix == ".json" else "db"
    with connect(path, type=kind, serial=True, use_lock_file=False) as database:
        for row in database.select(sort="id"):
            if not wanted.selects(row.key_value_pairs):
                continue
            atoms = row.toatoms()
            atoms.info = {**row.data, **row.key_value_pairs}
            yield wanted.judge(atoms, f"{path}#{row.id}")


def is_ase_database(path: Path) -> bool:
    """Return whether a file is a database of ASE in JSON and not something else."""
    if path.suffix != ".json" or not path.is_file():
        return False
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(content, dict) and {"ids", "nextid"} <= set(content)


def read_mlip(path: Path, wanted: Reading) -> Iterator[Frame | Refusal]:
    """Read a ``.cfg`` file of MLIP."""
    from latticesearch.potential.mtp.offlattice.cfg import read_cfg

    for index, atoms in enumerate(read_cfg(path, wanted.types)):
        if wanted.selects(atoms.info):
            yield wanted.judge(atoms, f"{path}#{index}")


def read_trajectory(path: Path, wanted: Reading) -> Iterator[Frame | Refusal]:
    """Read an ASE trajectory."""
    from ase.io import iread

    frames = iread(path, index=":", parallel=False, do_not_split_by_at_sign=True)
    for index, atoms in enumerate(frames):
        if wanted.selects(atoms.info):
            yield wanted.judge(atoms, f"{path}#{index}")
