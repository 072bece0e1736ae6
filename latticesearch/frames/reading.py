"""Which files there are, and who reads them."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from latticesearch.errors import InputError
from latticesearch.frames import collections, outputs
from latticesearch.frames.types import UNREADABLE, Reading, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from latticesearch.frames.collections import Reader
    from latticesearch.frames.types import Frame

ESPRESSO_MARK = "Program PWSCF"
ESPRESSO_ENDINGS = (".out", ".pwo", ".log")
HEAD = 10_000
"""Characters in which the mark of a program must appear; its banner comes first."""

RESULTS = "oracle.db"
"""A folder with this file is a run directory; what else is in there was made from it."""

_VASPRUN = re.compile(r"vasprun.*\.xml.*|.*\.vasprun\.xml.*")
_OUTCAR = re.compile(r"OUTCAR.*|.*\.OUTCAR.*")


def read_frames(path: Path, wanted: Reading | None = None) -> Iterator[Frame | Refusal]:
    """Read the structures of one file that have energies.

    Parameters
    ----------
    path
        Extended XYZ (also with ``.gz``), an ASE database (``.db``, ``.json``) or trajectory, MLIP's
        ``.cfg``: every structure counts. ``vasprun.xml``, ``OUTCAR``, an output of ``pw.x``, or
        any other file that ASE reads: the last step counts.
    wanted
        What is read.

    Yields
    ------
    Frame or Refusal
        In the order of the file; nothing of frames that are not selected.

    Raises
    ------
    InputError
        The file cannot be read, from here on.
    """
    try:
        yield from (_reader(path) or outputs.read_output)(path, wanted or Reading())
    except InputError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise InputError(f"cannot read structures from {path}: {reason}") from error


def read_all(paths: Iterable[Path], wanted: Reading | None = None) -> Iterator[Frame | Refusal]:
    """Read the structures of files and folders, going on where a file is bad.

    Parameters
    ----------
    paths
        Files as in `read_frames`, and folders with such files at any depth.
    wanted
        What is read.

    Raises
    ------
    InputError
        A file that is named cannot be read at all, or a folder has nothing to read.
    """
    for path in paths:
        for file in _files_of(path):
            n_read = 0
            try:
                for item in read_frames(file, wanted):
                    n_read += 1
                    yield item
            except InputError as error:
                if file == path and not n_read:
                    raise
                yield Refusal(UNREADABLE, f"{file}#{n_read}", str(error))


def _reader(path: Path) -> Reader | None:
    """Return what reads a file whose kind is known by its name or first lines, else None."""
    name = path.name.removesuffix(".gz")
    if name.endswith((".xyz", ".extxyz")):
        return collections.read_extxyz
    if name.endswith(".db") or collections.is_ase_database(path):
        return collections.read_database
    if name.endswith(".cfg"):
        return collections.read_mlip
    if name.endswith(".traj"):
        return collections.read_trajectory
    return _output_reader(path)


def _output_reader(path: Path) -> Reader | None:
    """Return what reads the output of a program of which convergence can be told, else None."""
    if _VASPRUN.fullmatch(path.name):
        return partial(outputs.read_output, form="vasp-xml", complaint=outputs.vasprun_complaint)
    if _OUTCAR.fullmatch(path.name):
        return partial(outputs.read_output, form="vasp-out", complaint=outputs.outcar_complaint)
    if path.name.removesuffix(".gz").endswith(ESPRESSO_ENDINGS) and _is_espresso(path):
        return partial(
            outputs.read_output, form="espresso-out", complaint=outputs.espresso_complaint
        )
    return None


def _is_espresso(path: Path) -> bool:
    with collections.open_text(path) as file:
        return ESPRESSO_MARK in file.read(HEAD)


def _files_of(path: Path) -> list[Path]:
    """Return the file itself, or the readable files of a folder in a fixed order.

    Raises
    ------
    InputError
        There is no such file or folder, or nothing to read in it.
    """
    if not path.exists():
        raise InputError(f"there is no file or folder {path}")
    if not path.is_dir():
        return [path]
    files = list(_files_below(path))
    if not files:
        raise InputError(
            f"{path} holds no file of structures with energies (extxyz, ASE database, cfg, "
            "vasprun.xml, OUTCAR, output of pw.x)"
        )
    return files


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield the files that can be read in a folder and those in it."""
    if (folder / RESULTS).is_file():
        yield folder / RESULTS
        return
    entries = sorted(folder.iterdir())
    files = [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    has_vasprun = any(_VASPRUN.fullmatch(file.name) for file in files)
    for file in files:
        # Both are of the same calculation; the XML file has more digits.
        if has_vasprun and _OUTCAR.fullmatch(file.name):
            continue
        if _reader(file) is not None:
            yield file
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _files_below(entry)
