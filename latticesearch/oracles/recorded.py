"""A table of energies computed before, played back as an oracle.

With it a whole campaign can be judged in seconds against a hull that is already known.
"""

from __future__ import annotations

import gzip
import io
import itertools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from latticesearch.errors import InputError
from latticesearch.oracles.protocol import VACANCY, OracleJob, OracleResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ase import Atoms

    from latticesearch.lattice import ParentLattice

log = logging.getLogger(__name__)


class RecordedOracle:
    """Answer with recorded energies, found by the canonical key of the structure.

    Frames that are no decoration of the parent lattice are left out; of several frames with
    one key the lowest energy per atom counts. Nothing here is collective: under MPI one rank
    may load and ask alone.

    Parameters
    ----------
    path
        Extended XYZ (``.xyz``, ``.extxyz``, also with ``.gz``), an ASE database (``.db``), or
        any other file of several structures that ASE reads.
    parent
        The parent lattice the keys refer to.
    select
        Only frames with these values among their ``info`` (of a database: key-value pairs).
    index
        Which of the selected frames, as a slice.

    Attributes
    ----------
    keys : tuple of str
        The keys in the table, in the order of the file.
    n_skipped : int
        Selected frames that have no energy or are not on the parent lattice.

    Raises
    ------
    InputError
        The file cannot be read, no frame is selected, or none of them is on the lattice.
    """

    kind = "recorded"

    def __init__(
        self,
        path: Path | str,
        parent: ParentLattice,
        *,
        select: Mapping[str, Any] | None = None,
        index: slice | None = None,
    ) -> None:
        self._path = Path(path)
        frames = _read_frames(self._path, dict(select or {}))[index or slice(None)]
        if not frames:
            wanted = ", ".join(f"{k} = {v}" for k, v in (select or {}).items())
            raise InputError(f"{path}: no frame has {wanted or 'been found'}")
        self._table: dict[str, Atoms] = {}
        self.n_skipped = 0
        for frame in frames:
            self._add(frame, parent)
        if not self._table:
            raise InputError(
                f"{path}: none of the {len(frames)} selected frames has an energy and is a "
                f"decoration of the parent lattice with {', '.join(parent.species)}"
            )
        self.keys = tuple(self._table)
        log.info(
            "%s: %d structures from %d frames, %d skipped",
            *(path, len(self.keys), len(frames), self.n_skipped),
        )

    def _add(self, frame: Atoms, parent: ParentLattice) -> None:
        from latticesearch.lattice import map_to_lattice

        match = map_to_lattice(frame, parent) if _has_energy(frame) else None
        if match is None:
            self.n_skipped += 1
            return
        key = match.configuration.key
        known = self._table.get(key)
        if known is None or _energy_per_atom(frame) < _energy_per_atom(known):
            self._table[key] = frame

    @property
    def energies(self) -> dict[str, float]:
        """The recorded energies by key, eV/atom."""
        return {key: _energy_per_atom(frame) for key, frame in self._table.items()}

    def check_species(self, symbols: Iterable[str]) -> None:
        """Raise if an element occurs nowhere in the table; vacancies are ignored.

        Raises
        ------
        InputError
            An element is missing.
        """
        known = {symbol for frame in self._table.values() for symbol in frame.symbols}
        missing = sorted(set(symbols) - known - {VACANCY})
        if missing:
            raise InputError(
                f"{self._path}: no structure on the lattice contains {', '.join(missing)}; "
                f"the table has {', '.join(sorted(known))}"
            )

    def run(self, jobs: Iterable[OracleJob]) -> Iterator[OracleResult]:
        """Yield the recorded result of each job, in order; a key that is not there has failed."""
        for job in jobs:
            frame = self._table.get(job.key)
            yield self._missing(job) if frame is None else self._recorded(job, frame)

    def close(self) -> None:
        """Do nothing: the table is in memory."""

    def _missing(self, job: OracleJob) -> OracleResult:
        return OracleResult(
            key=job.key,
            status="failed",
            atoms=job.atoms.copy(),
            kind=self.kind,
            attempt=job.attempt,
            error=f"{job.key} is not in the table {self._path.name}",
        )

    def _recorded(self, job: OracleJob, frame: Atoms) -> OracleResult:
        """Return the recorded energy for the cell of the job, which may be another one."""
        same_size = len(frame) == len(job.atoms)
        atoms = frame.copy() if same_size else _at_volume_of(job.atoms, frame)
        results = frame.calc.results if same_size else {}
        return OracleResult(
            key=job.key,
            status="done",
            energy=_energy_per_atom(frame) * len(job.atoms),
            forces=results.get("forces"),
            stress=results.get("stress"),
            atoms=_without_labels(atoms),
            converged=True,
            kind=self.kind,
            attempt=job.attempt,
        )


def _at_volume_of(atoms: Atoms, frame: Atoms) -> Atoms:
    """Return `atoms` scaled to the volume per atom of `frame`."""
    scaled = atoms.copy()
    ratio = frame.get_volume() / len(frame) * len(atoms) / atoms.get_volume()
    scaled.set_cell(scaled.cell * ratio ** (1 / 3), scale_atoms=True)
    return scaled


def _without_labels(atoms: Atoms) -> Atoms:
    atoms.info.clear()
    return atoms


def _has_energy(frame: Atoms) -> bool:
    return frame.calc is not None and np.isfinite(frame.calc.results.get("energy", np.nan))


def _energy_per_atom(frame: Atoms) -> float:
    return float(frame.calc.results["energy"]) / len(frame)


def _read_frames(path: Path, select: dict[str, Any]) -> list[Atoms]:
    """Return the frames of a file that have the selected values."""
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith((".xyz", ".extxyz")):
            return _read_extxyz(path, select)
        if name.endswith(".db"):
            return _read_database(path, select)
        from ase.io import iread

        # parallel=False: each rank reads by itself, which is not collective.
        frames = iread(path, index=":", parallel=False)
        return [frame for frame in frames if _matches(frame.info, select)]
    except InputError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise InputError(f"cannot read structures from {path}: {reason}") from error


def _matches(info: Mapping[str, Any], select: Mapping[str, Any]) -> bool:
    """Return whether all selected values are there; numbers and their texts count as equal."""
    return all(k in info and (info[k] == v or str(info[k]) == str(v)) for k, v in select.items())


def _may_match(comment: str, select: Mapping[str, Any]) -> bool:
    """Return False if `comment` surely lacks a selected value; cheaper than parsing it."""
    return all(k in comment and (not isinstance(v, str) or v in comment) for k, v in select.items())


def _read_extxyz(path: Path, select: dict[str, Any]) -> list[Atoms]:
    """Parse only the selected frames: most of the time goes into parsing."""
    from ase.io.extxyz import key_val_str_to_dict, read_xyz

    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        chosen = [
            lines
            for lines in _split_extxyz(file)
            if _may_match(lines[1], select)
            and (not select or _matches(key_val_str_to_dict(lines[1]), select))
        ]
    text = io.StringIO("".join(line for lines in chosen for line in lines))
    return list(read_xyz(text, index=slice(None))) if chosen else []


def _split_extxyz(file: TextIO) -> Iterator[list[str]]:
    """Yield the lines of each frame: number of atoms, comment, atoms."""
    for first in file:
        if not first.strip():
            continue
        lines = [first, *itertools.islice(file, int(first) + 1)]
        if len(lines) < int(first) + 2:
            raise InputError(f"{file.name}: the last frame is incomplete")
        yield lines


def _read_database(path: Path, select: dict[str, Any]) -> list[Atoms]:
    from ase.db import connect

    if not path.is_file():
        raise FileNotFoundError(2, "No such file or directory")
    with connect(path, type="db", serial=True, use_lock_file=False) as database:
        rows = [row for row in database.select(sort="id") if _matches(row.key_value_pairs, select)]
        return [row.toatoms() for row in rows]
