"""``oracle.db``: every oracle calculation, durable before the next one starts.

An ASE database (SQLite), so ``ase db`` and every tool that reads one can look inside. Three
defaults of ASE are changed: its lock file, which a killed run would leave behind for ever (the
lock of the run directory does that work), its collective calls under MPI, and its tables, which
come into being one by one: here every write is one transaction, the first one too.

Every row says by which method its energy was computed: a readable record, and its fingerprint; and
where it is known how it came about (``data["provenance"]``).
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

from latticesearch.errors import DamagedError
from latticesearch.oracles import Method, OracleResult
from latticesearch.storage.atomic import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

QUICK_CHECK_HEADLINE = "*** in database main ***"

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
    method
        How it was computed; None in rows of version 0.1, which do not say it.
    source
        Where an energy comes from that this run has not computed, such as a file; else empty.
    """

    row: int
    round_number: int
    status: Status
    result: OracleResult
    method: Method | None = None
    source: str = ""

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

    def append(
        self,
        result: OracleResult,
        round_number: int,
        *,
        quarantine: bool = False,
        method: Method | None = None,
        source: str = "",
    ) -> int:
        """Write one result; it is on the disk when this returns.

        Parameters
        ----------
        result
            The oracle's answer, good or bad.
        round_number
            Round of the campaign that asked for it.
        quarantine
            This failure is final: the structure is not to be tried again.
        method
            How it was computed.
        source
            Where the energy comes from, if not from this run's oracle.

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
        status = "quarantined" if quarantine else result.status
        pairs, data = _described(result, round_number, status, method)
        if source:
            data["source"] = source
        with self._connected(write=True) as database:
            if result.status == "done" and self._rows(key=result.key, status="done"):
                raise ValueError(f"{result.key} already has a result in {self._path}")
            row = int(database.write(_with_results(result), pairs, data=data))
        if is_new:
            sync_directory(self._path.parent)
        return row

    def append_known(self, known: Iterable[StoredResult]) -> None:
        """Write results that other programs or runs have computed, all in one transaction."""
        with self._connected(write=True) as database:
            for one in known:
                pairs, data = _described(one.result, one.round_number, one.status, one.method)
                # A file name may look like a number, which ASE refuses in its key-value pairs.
                data["source"] = one.source
                database.write(_with_results(one.result), pairs, data=data)
        sync_directory(self._path.parent)

    def results(self) -> list[StoredResult]:
        """Return all results, oldest first."""
        if not self._has_tables():
            return []
        with self._connected():
            return [_from_row(row) for row in self._rows()]

    def by_key(self) -> dict[str, StoredResult]:
        """Return what is known of every key; see `latest_by_key`."""
        return latest_by_key(self.results())

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def check(self) -> None:
        """Look whether the database is whole: a damaged page may lie where no query has looked yet.

        Raises
        ------
        DamagedError
            It is not.
        """
        if not self._has_tables():
            return
        with self._connected() as database:
            (answer,) = database.connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise self._damaged(answer)

    def readable_results(self, n_rows: int) -> list[StoredResult]:
        """Return what can still be read of a damaged database that had `n_rows` rows."""
        found: list[StoredResult] = []
        if not self._has_tables():
            return found
        for number in range(1, n_rows + 1):
            unreadable = (DamagedError, sqlite3.Error, KeyError, ValueError)
            with contextlib.suppress(*unreadable), self._connected():
                found.append(_from_row(self._database.get(id=number)))
        return found

    def _has_tables(self) -> bool:
        """Tell whether there is anything to read; to look inside would make the tables."""
        return self._path.exists() and self._path.stat().st_size > 0

    def _rows(self, **selection: str) -> list[Any]:
        return list(self._database.select(sort="id", **selection))

    @contextlib.contextmanager
    def _connected(self, *, write: bool = False) -> Iterator[Any]:
        """Keep one connection open for several calls; commit once, at the end."""
        try:
            with self._database as database:
                # EXTRA also syncs the folder after the journal is gone: without it a power cut
                # right after the commit can bring the old state back.
                database.connection.execute("PRAGMA synchronous=EXTRA")
                if write:
                    # Left alone, the statements that make ASE's tables commit one by one, and a
                    # kill between two of them leaves a database that nobody can open.
                    database.connection.execute("BEGIN IMMEDIATE")
                yield database
        except sqlite3.DatabaseError as error:
            # Its subclasses mean something else, such as a full disk.
            if type(error) is not sqlite3.DatabaseError:
                raise
            raise self._damaged(error) from error

    def _damaged(self, reason: object) -> DamagedError:
        way_out = f"what to do: latticesearch status {self._path.parent}"
        # Of several lines the first is a headline.
        words = " ".join(str(reason).removeprefix(QUICK_CHECK_HEADLINE).split())
        return DamagedError(f"{self._path} is damaged ({words})", way_out)


def latest_by_key(results: Iterable[StoredResult]) -> dict[str, StoredResult]:
    """Return what is known of every key: the result that is done, else the last failure.

    Parameters
    ----------
    results
        Rows, oldest first.
    """
    known: dict[str, StoredResult] = {}
    for stored in results:
        if stored.key not in known or known[stored.key].status != "done":
            known[stored.key] = stored
    return known


def _described(
    result: OracleResult, round_number: int, status: str, method: Method | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the key-value pairs and the data of a row."""
    pairs = {
        "key": result.key,
        "status": status,
        "attempt": int(result.attempt),
        "round": int(round_number),
        "kind": result.kind,
        "seconds": float(result.seconds),
        "converged": bool(result.converged),
        "on_lattice": bool(result.on_lattice),
    }
    # An error may look like a number, which ASE refuses in its key-value pairs.
    data: dict[str, Any] = {"error": result.error} if result.error else {}
    if not result.repeatable:
        data["final"] = True
    if result.provenance:
        data["provenance"] = dict(result.provenance)
    if method is not None:
        pairs["method"] = method.fingerprint
        data["method"] = method.record
    return pairs, data


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
        provenance=row.data.get("provenance"),
        repeatable=not row.data.get("final", False),
    )
    record = row.data.get("method")
    method = None if record is None else Method(record)
    source = str(row.data.get("source", ""))
    return StoredResult(int(row.id), int(row.round), status, result, method, source)
