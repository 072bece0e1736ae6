"""The run directory: where everything of a campaign lies, and how it gets there.

Only root makes a `RunDirectory`; nothing here is collective.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import logging
import tomllib
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import tomli_w
from ase.io import write as ase_write

from latticesearch.errors import DamagedError, InputError
from latticesearch.storage.atomic import (
    clean_up,
    replace_directory,
    sync_directory,
    write_bytes_atomic,
    write_text_atomic,
)
from latticesearch.storage.cif import cif_bytes
from latticesearch.storage.events import EventLog
from latticesearch.storage.lock import DirectoryLock
from latticesearch.storage.results import OracleStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms

    from latticesearch.storage.results import StoredResult

log = logging.getLogger(__name__)

SETTINGS = "settings.toml"
ORACLE = "oracle.db"
KNOWN = "known.db"
INPUTS = "inputs"
SCRATCH = "scratch"
OFF_LATTICE = "off_lattice.extxyz"
POTENTIAL = "potential"
MTP = "mtp"
"""What the names of files of potentials end with, unless they are of another kind."""
CANDIDATES = "candidates.parquet"
HULL = "hull.csv"
STABLE = "stable"
REPORT = "report.html"
FIGURES = "figures"
LOG = "log.jsonl"

COMPOSITIONS = "x_*"
"""Stands for one column x_El per element in the two lists below."""
CANDIDATE_COLUMNS = (
    *("key", "formula", COMPOSITIONS, "n_atoms", "hnf", "labels", "energy"),
    *("formation_energy", "energy_above_hull", "grade", "round", "source"),
)
HULL_COLUMNS = (
    *("formula", "n_atoms", "space_group", "formation_energy", "energy_above_hull"),
    *(COMPOSITIONS, "key", "cif"),
)


class RunDirectory:
    """The files of one campaign. Use `create`, `open` or `read` instead of the constructor.

    Parameters
    ----------
    path
        The folder.
    lock
        The lock that allows writing; None for readers.
    """

    def __init__(self, path: Path, lock: DirectoryLock | None) -> None:
        self.path = path
        self._lock = lock
        self.store = OracleStore(path / ORACLE)
        self.known = OracleStore(path / KNOWN)
        self._events = EventLog(path / LOG)
        if lock is not None:
            clean_up(path)
            self._events.repair()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Start a new run in `path`, which is made with its parents and locked.

        Raises
        ------
        InputError
            `path` already holds a run, is a file, cannot be written, or is in use.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = DirectoryLock(path)
        except OSError as error:
            raise InputError(f"cannot write to {path}: {error.strerror}") from error
        if is_run_directory(path):
            lock.release()
            raise InputError(
                f"{path} already holds a run; add --resume to go on with it, "
                "or choose another directory with --output"
            )
        sync_directory(path.parent)
        return cls(path, lock)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Go on with the run in `path`, which is locked.

        Raises
        ------
        InputError
            `path` holds no run, cannot be written, or is in use.
        """
        _check_is_run(path)
        try:
            lock = DirectoryLock(path)
        except OSError as error:
            raise InputError(f"cannot write to {path}: {error.strerror}") from error
        return cls(path, lock)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Look at the run in `path`, even while it is running.

        Raises
        ------
        InputError
            `path` holds no run.
        """
        _check_is_run(path)
        return cls(path, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write."""
        if self._lock is not None:
            self._lock.release()

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Write ``settings.toml``; values that TOML cannot hold (None) are an error."""
        write_text_atomic(self.path / SETTINGS, tomli_w.dumps(settings))

    def read_settings(self) -> dict[str, Any]:
        """Return what ``settings.toml`` holds.

        Raises
        ------
        DamagedError
            It is missing or cannot be read.
        """
        path = self.path / SETTINGS
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            what = getattr(error, "strerror", None) or error
            raise DamagedError(
                f"{path} cannot be read ({what})",
                "to go on with the settings of a campaign file: "
                f"latticesearch run CAMPAIGN --output {self.path}",
            ) from error

    def log_event(self, event: str, **fields: Any) -> None:
        """Append one event to ``log.jsonl``; see `EventLog.append`."""
        self._events.append(event, **fields)

    def events(self) -> list[dict[str, Any]]:
        """Return all events, oldest first."""
        return self._events.read()

    @property
    def scratch(self) -> Path:
        """The folder of calculations under way, and of failed ones."""
        return self.path / SCRATCH

    def keep_input(self, path: Path) -> Path:
        """Copy a file into the run, unless it is there already; return the copy's path.

        A copy keeps its name; where another content has it, a part of the content's digest is
        added, so that equal paths mean equal files.
        """
        return self.keep_bytes(path.name, path.read_bytes())

    def keep_bytes(self, name: str, data: bytes) -> Path:
        """Write the content of an input into the run; see `keep_input`."""
        folder = self.path / INPUTS
        copy = folder / name
        if copy.exists() and copy.read_bytes() != data:
            digest = hashlib.sha256(data).hexdigest()[:8]
            copy = folder / f"{copy.stem}-{digest}{copy.suffix}"
        if not copy.exists():
            folder.mkdir(exist_ok=True)
            write_bytes_atomic(copy, data)
        return copy

    def replace_known(self, results: Sequence[StoredResult]) -> None:
        """Make ``known.db`` hold exactly these results; readers see the old or the new file."""
        self.known = self._replace(KNOWN, results)

    def replace_results(self, results: Sequence[StoredResult]) -> None:
        """Make ``oracle.db`` hold exactly these results, as `replace_known` does."""
        self.store = self._replace(ORACLE, results)

    def _replace(self, name: str, results: Sequence[StoredResult]) -> OracleStore:
        """Write a database beside the one that is there, and put it in its place."""
        path, temporary = self.path / name, self.path / f".{name}.tmp"
        # SQLite takes a journal that lies beside a new file for that of this file.
        for old in (temporary, _journal_of(temporary), _journal_of(path)):
            old.unlink(missing_ok=True)
        OracleStore(temporary).append_known(results)
        temporary.replace(path)
        sync_directory(self.path)
        return OracleStore(path)

    @property
    def has_known(self) -> bool:
        """Whether energies from elsewhere were taken in."""
        return self.known.path.exists()

    def keep_damaged(self, store: OracleStore) -> Path | None:
        """Copy a database under a name that none has yet; return that, None where there is none."""
        path = store.path
        if not path.exists():
            return None
        numbers = itertools.count(1)
        names = (path.with_name(f"{path.name}.damaged-{n}") for n in numbers)
        copy = next(name for name in names if not name.exists())
        write_bytes_atomic(copy, path.read_bytes())
        if _journal_of(path).exists():
            write_bytes_atomic(_journal_of(copy), _journal_of(path).read_bytes())
        return copy

    def write_off_lattice(self, structures: Sequence[Atoms]) -> None:
        """Write the structures that left the parent lattice, each with its energy, or no file."""
        path = self.path / OFF_LATTICE
        if not structures:
            path.unlink(missing_ok=True)
            return
        buffer = io.StringIO()
        ase_write(buffer, structures, format="extxyz", parallel=False)
        write_text_atomic(path, buffer.getvalue())

    def potential_path(self, round_number: int | None = None, suffix: str = MTP) -> Path:
        """Return the file of the potential of a round, or of the current one."""
        number = "" if round_number is None else f"-{round_number:02d}"
        return self.path / f"{POTENTIAL}{number}.{suffix}"

    def write_potential(self, text: str, round_number: int, suffix: str = MTP) -> None:
        """Write the potential of a round, given as the text of its file, and make it current."""
        write_text_atomic(self.potential_path(round_number, suffix), text)
        write_text_atomic(self.potential_path(None, suffix), text)

    def read_potential(self, round_number: int | None = None, suffix: str = MTP) -> str | None:
        """Return the text of the potential of a round (or the current one), None if not there."""
        path = self.potential_path(round_number, suffix)
        return path.read_text(encoding="utf-8") if path.exists() else None

    def write_candidates(self, table: pd.DataFrame) -> None:
        """Write ``candidates.parquet``; columns as in `CANDIDATE_COLUMNS`, others follow."""
        buffer = io.BytesIO()
        _ordered(table, CANDIDATE_COLUMNS).to_parquet(buffer, index=False)
        write_bytes_atomic(self.path / CANDIDATES, buffer.getvalue())

    def read_candidates(self) -> pd.DataFrame | None:
        """Return ``candidates.parquet``, None if it is not there."""
        path = self.path / CANDIDATES
        return pd.read_parquet(path) if path.exists() else None

    def write_hull(self, table: pd.DataFrame, stable: Mapping[str, Atoms] | None) -> None:
        """Write ``hull.csv`` and ``stable/*.cif``.

        Parameters
        ----------
        table
            Columns as in `HULL_COLUMNS`, others follow.
        stable
            Structures by the names of their files in ``stable``; files of earlier rounds go.
            None where those that are there are still right.
        """
        if stable is not None:
            replace_directory(self.path / STABLE, {n: cif_bytes(a) for n, a in stable.items()})
        text = _ordered(table, HULL_COLUMNS).to_csv(index=False, lineterminator="\n")
        write_text_atomic(self.path / HULL, text)

    def read_hull(self) -> pd.DataFrame | None:
        """Return ``hull.csv``, None if it is not there."""
        path = self.path / HULL
        # "NaN" is sodium nitride, not a missing value.
        return pd.read_csv(path, keep_default_na=False, na_values=[""]) if path.exists() else None

    def write_report(self, html: str, figures: Mapping[str, bytes]) -> None:
        """Write ``report.html`` and the files of ``figures`` (name -> content)."""
        replace_directory(self.path / FIGURES, figures)
        write_text_atomic(self.path / REPORT, html)


def _journal_of(database: Path) -> Path:
    """Return where SQLite keeps what it would need to undo a write."""
    return database.with_name(f"{database.name}-journal")


def is_run_directory(path: Path) -> bool:
    """Return whether `path` is a folder with the settings or the results of a run."""
    return any((path / name).exists() for name in (SETTINGS, ORACLE))


def _check_is_run(path: Path) -> None:
    if not path.is_dir():
        raise InputError(f"there is no run directory {path}")
    if not is_run_directory(path):
        raise InputError(f"{path} holds no run (neither {SETTINGS} nor {ORACLE})")


def _ordered(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return `table` with its columns in the documented order.

    Raises
    ------
    ValueError
        A column is missing.
    """
    elements = [c for c in table.columns if c.startswith(COMPOSITIONS[:-1])]
    wanted: list[str] = []
    for name in columns:
        wanted += elements if name == COMPOSITIONS else [name]
    missing = [name for name in wanted if name not in table.columns]
    if missing or not elements:
        raise ValueError(f"columns missing: {', '.join(missing or [COMPOSITIONS])}")
    return table[wanted + [c for c in table.columns if c not in wanted]]
