"""``oracle.db``: every oracle calculation, durable before the next one starts.

An ASE database (SQLite), so ``ase db`` and every tool that reads one can look inside. Two
defaults of ASE are changed: its lock file, which a killed run would leave behind for ever (the
lock of the run directory does that work), and its collective calls under MPI.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from latticesearch.errors import InputError
from latticesearch.oracles import OracleResult
from latticesearch.storage.atomic import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

Status = Literal["done", "failed", "quarantined"]


@dataclass(frozen=True, eq=False)
class StoredResult:
    """One row of the database.

    Parameters
    ----------
    row
        Number of the row.
    round_number
        Round of the campaign that asked for it.
    status
        "done", "failed", or "quarantined": failed, and not to be tried again.
    result
        The oracle's answer.
    """

    row: int
    round_number: int
    status: Status
    result: OracleResult

    @property
    def key(self) -> str:
        """Canonical key of the structure."""
        return self.result.key


class OracleStore:
    """The database of one run; only one process writes it, and no call is collective.

    Parameters
    ----------
    path
        The file; it is created by the first result.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = connect(path, type="db", serial=True, use_lock_file=False)

    def append(self, result: OracleResult, round_number: int, *, quarantine: bool = False) -> int:
        """Write one result; it is on the disk when this returns.

        Parameters
        ----------
        result
            The oracle's answer, good or bad.
        round_number
            Round of the campaign that asked for it.
        quarantine
            This failure is final: the structure is not to be tried again.

        Returns
        -------
        int
            Number of the row.

        Raises
        ------
        ValueError
            The key already has a result that is done.
        """
        is_new = not self._path.exists()
        pairs = {
            "key": result.key,
            "status": "quarantined" if quarantine else result.status,
            "attempt": int(result.attempt),
            "round": int(round_number),
            "kind": result.kind,
            "seconds": float(result.seconds),
            "converged": bool(result.converged),
            "on_lattice": bool(result.on_lattice),
        }
        # An error may look like a number, which ASE refuses in its key-value pairs.
        data = {"error": result.error} if result.error else {}
        with self._connected() as database:
            if result.status == "done" and self._rows(key=result.key, status="done"):
                raise ValueError(f"{result.key} already has a result in {self._path}")
            row = int(database.write(_with_results(result), pairs, data=data))
        if is_new:
            sync_directory(self._path.parent)
        return row

    def results(self) -> list[StoredResult]:
        """Return all results, oldest first."""
        if not self._path.exists():
            return []
        with self._connected():
            return [_from_row(row) for row in self._rows()]

    def by_key(self) -> dict[str, StoredResult]:
        """Return what is known of every key: the result that is done, else the last failure."""
        known: dict[str, StoredResult] = {}
        for stored in self.results():
            if stored.key not in known or known[stored.key].status != "done":
                known[stored.key] = stored
        return known

    def _rows(self, **selection: str) -> list[Any]:
        return list(self._database.select(sort="id", **selection))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """Keep one connection open for several calls; commit once, at the end."""
        try:
            with self._database as database:
                # EXTRA also syncs the folder after the journal is gone: without it a power cut
                # right after the commit can bring the old state back.
                database.connection.execute("PRAGMA synchronous=EXTRA")
                yield database
        except sqlite3.DatabaseError as error:
            # Its subclasses mean something else, such as a full disk.
            if type(error) is not sqlite3.DatabaseError:
                raise
            raise InputError(f"{self._path}: {error}; it is damaged or no ASE database") from error


def _with_results(result: OracleResult) -> Atoms:
    """Return the structure with its energy, forces and stress attached."""
    atoms = Atoms() if result.atoms is None else result.atoms.copy()
    if result.energy is not None:
        known = {
            name: value
            for name, value in (("forces", result.forces), ("stress", result.stress))
            if value is not None
        }
        atoms.calc = SinglePointCalculator(atoms, energy=result.energy, **known)
    return atoms


def _from_row(row: Any) -> StoredResult:
    status: Status = row.status
    atoms = row.toatoms()
    atoms.calc = None
    result = OracleResult(
        key=row.key,
        status="done" if status == "done" else "failed",
        energy=row.get("energy"),
        forces=row.get("forces"),
        stress=row.get("stress"),
        atoms=atoms if len(atoms) else None,
        converged=bool(row.converged),
        seconds=float(row.seconds),
        kind=row.kind,
        attempt=int(row.attempt),
        error=row.data.get("error"),
        on_lattice=bool(row.on_lattice),
    )
    return StoredResult(int(row.id), int(row.round), status, result)
