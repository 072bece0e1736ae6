"""Whether the files of a run still hold what its log says they must.

The log has a line for every result, so a database that was lost, emptied or cut short is noticed,
and not taken for that of a run that has computed little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latticesearch.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latticesearch.storage import OracleStore, RunDirectory, StoredResult

    Events = Sequence[Mapping[str, Any]]


KNOWN_ROWS = "energies from elsewhere"
"""What the rows of known.db are called."""


@dataclass(frozen=True)
class Damage:
    """What is wrong with a file of a run.

    Parameters
    ----------
    file
        Its name in the run directory.
    what
        What is wrong with it.
    way_out
        What to do, with the command to type.
    """

    file: str
    what: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.what}: {self.way_out}"


def damages(directory: RunDirectory) -> list[Damage]:
    """Return what is wrong with settings.toml, oracle.db and known.db; the run may be under way."""
    # In this order: what the log tells of is in the databases.
    run, events = directory.path, directory.events()
    found = []
    try:
        directory.read_settings()
    except DamagedError as error:
        found.append(Damage("settings.toml", error.what, error.way_out))
    _, what = examined(directory.store, expected_rows(events))
    if what:
        found.append(Damage("oracle.db", what, accepting_loss(run)))
    _, what = examined(directory.known, expected_known(events), KNOWN_ROWS)
    if what:
        again = f"latticesearch run {run} reads them again from where they came"
        found.append(Damage("known.db", what, again))
    return found


def require_sound(directory: RunDirectory) -> None:
    """Refuse to take the energies of a run of which some are lost for all that it has.

    Raises
    ------
    DamagedError
        oracle.db or known.db holds less than the log knows of.
    """
    for one in damages(directory):
        if one.file != "settings.toml":
            raise DamagedError(one.what, one.way_out)


def accepting_loss(run: object) -> str:
    """Return what can be done about a damaged oracle.db."""
    return (
        "put a good copy in its place, or go on with what can be read of it: "
        f"latticesearch run {run} --accept-loss"
    )


def examined(
    store: OracleStore, expected: int, noun: str = "results"
) -> tuple[list[StoredResult], str]:
    """Return what can be read of a database, and what is wrong with it.

    Parameters
    ----------
    store
        The database, which need not exist.
    expected
        Number of rows that there must be at least.
    noun
        What the rows are called.

    Returns
    -------
    rows
        All rows; of a damaged database those that can still be read.
    what
        One sentence without a full stop; empty where all is well.
    """
    known_of = f"of the {expected} {noun} that the log knows of"
    try:
        store.check()
        rows = store.results()
    except DamagedError as error:
        rows = store.readable_results(max(expected, 1))
        return rows, f"{error.what}, {len(rows)} {known_of} can be read"
    return rows, "" if len(rows) >= expected else f"{store.path} holds {len(rows)} {known_of}"


def expected_rows(events: Events) -> int:
    """Return how many rows oracle.db must have, from what the log says since the last loss."""
    n = 0
    for event in events:
        if event.get("event") == "loss":
            n = int(event["kept"])
        n = max(n, int(event.get("row", 0)))
        if event.get("event") == "round" and "stage" not in event:
            # Version 0.1 wrote no line per result.
            n = max(n, int(event.get("oracle_calls", 0)))
    return n


def expected_known(events: Events) -> int:
    """Return how many rows known.db must have; 0 where the log does not say."""
    known = [event for event in events if event.get("event") == "known"]
    return int(known[-1].get("energies", 0)) if known else 0
