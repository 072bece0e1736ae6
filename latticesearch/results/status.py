"""How far a run is, from its files alone."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from latticesearch.campaign.damage import damages, examined, expected_rows
from latticesearch.campaign.known import settings_of_run
from latticesearch.errors import InputError
from latticesearch.oracles.scratch import under_way
from latticesearch.storage import latest_by_key, writer_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latticesearch.storage import RunDirectory, StoredResult

    Events = Sequence[dict[str, Any]]

RUNNING: Final = "running"
FINISHED: Final = "finished"
STOPPED: Final = "stopped in order"
STALE: Final = "stale"
"""Neither finished nor stopped, but nobody is writing: the process was killed."""

TURNING_POINTS: Final = frozenset({"start", "resume", "stopped", "end"})


def state_of(directory: RunDirectory) -> str:
    """Return "running", "finished", "stopped in order" or "stale"."""
    if writer_of(directory.path) is not None:
        return RUNNING
    last = _last_turn(directory.events())
    return {"end": FINISHED, "stopped": STOPPED}.get(str(last.get("event")), STALE)


def run_status(directory: RunDirectory) -> dict[str, Any]:
    """Return how far a run is.

    Returns
    -------
    dict
        path; state, writer (who is writing; empty if nobody), finished, stop, stopped (reason);
        end ("converged", "budget", "model" or "complete"; empty before), missing (how likely it is
        that the hull misses something by more than the tolerance; None before it is known),
        distance (expected to the true hull, eV/atom), next (what would come next where it ended:
        key, formula, worth in eV/atom);
        rounds, stage; oracle_calls, budget, budget_left (None where the settings are not there);
        done, failed, quarantined, off_lattice; stable (None before there is a hull);
        near_hull_error (eV/atom, None before it is known); oracle_seconds; seconds_per_call (wall
        time of the run), seconds_left (if the whole budget is used; None where the run does not
        run, or has computed too little to tell), last_event (UTC); failures, set_aside (keys),
        largest_moment (Bohr magnetons, of any atom; None where none is known), surprising (lines);
        computing (seconds since a worker here began, by the folder in scratch);
        queue (numbers of calculations that are waiting, running, done, lost; empty where none is
        in a queue); elsewhere (what comes from own data and other runs, by source, and what could
        not be used, by reason); damage (file, what, way_out).
    """
    # In this order: what the log tells of is in the database.
    events = directory.events()
    rows, _ = examined(directory.store, expected_rows(events))
    known = latest_by_key(rows)
    last, rounds = _last_turn(events), [e for e in events if e["event"] == "round"]
    statuses = [stored.status for stored in known.values()]
    counts = {s: statuses.count(s) for s in ("done", "failed", "quarantined")}
    state, left = state_of(directory), _budget_left(directory, len(rows))
    pace = _pace(events)
    end = last if last.get("event") == "end" else {}
    judged: dict[str, Any] = next((e for e in reversed(rounds) if e.get("missing") is not None), {})
    errors = [e["near_hull_error"] for e in rounds if e.get("near_hull_error") is not None]
    aside = [k for k, r in known.items() if r.status == "done" and not r.result.on_lattice]
    return {
        "path": str(directory.path),
        "state": state,
        "writer": writer_of(directory.path) or "",
        "finished": state == FINISHED,
        "stop": end.get("stop", ""),
        "end": end.get("end", ""),
        "missing": judged.get("missing"),
        "distance": judged.get("distance"),
        "next": end.get("next", []),
        "stopped": str(last["reason"]) if state == STOPPED else "",
        "rounds": max((e["round"] for e in rounds), default=-1) + 1,
        "stage": max((int(e.get("stage", 1)) for e in events), default=1),
        "oracle_calls": len(rows),
        "budget": None if left is None else left + len(rows),
        "budget_left": left,
        **counts,
        "off_lattice": len(aside),
        "stable": _n_stable(directory),
        "near_hull_error": errors[-1] if errors else None,
        "oracle_seconds": round(sum(r.result.seconds for r in rows), 1),
        "seconds_per_call": pace,
        "seconds_left": None if pace is None or left is None or state != RUNNING else left * pace,
        "last_event": events[-1]["time"] if events else "",
        "failures": _failures(known),
        "set_aside": aside,
        "largest_moment": _largest_moment(rows),
        "surprising": sorted({e["what"] for e in events if e["event"] == "surprising"}),
        "computing": {name: round(s, 1) for name, s in under_way(directory.scratch).items()},
        "elsewhere": _elsewhere(directory, events),
        "damage": [asdict(one) for one in damages(directory)],
        "queue": _in_the_queue(directory),
    }


def _in_the_queue(directory: RunDirectory) -> dict[str, int]:
    """Return what is in the queue of a cluster, as the queue says or else the files do."""
    from latticesearch.oracles.queue import Slurm, in_the_queue

    if not in_the_queue(directory.scratch):
        return {}
    try:
        return in_the_queue(directory.scratch, Slurm())
    except InputError:
        return in_the_queue(directory.scratch)


def provisional(directory: RunDirectory) -> str:
    """Return in a line why the hull of a run is not its last word; empty where it is."""
    status = run_status(directory)
    if status["damage"]:
        first = status["damage"][0]
        return f"damaged: {first['what']}; {first['way_out']}"
    if status["finished"]:
        return ""
    budget = "" if status["budget"] is None else f" of {status['budget']}"
    return (
        f"provisional: the run is {status['state']} after {status['rounds']} rounds, with "
        f"{status['oracle_calls']}{budget} calculations done"
    )


def _last_turn(events: Events) -> dict[str, Any]:
    """Return the last event at which the run began or ended."""
    return next((e for e in reversed(events) if e["event"] in TURNING_POINTS), {})


def _failures(known: Mapping[str, StoredResult]) -> list[dict[str, Any]]:
    return [
        {"key": r.key, "status": r.status, "attempts": r.result.attempt, "error": r.result.error}
        for r in known.values()
        if r.status != "done"
    ]


def _elsewhere(directory: RunDirectory, events: Events) -> dict[str, Any]:
    """Return what the run has not computed, as the log tells of it since the run began last.

    Returns
    -------
    dict
        energies (how many); sources (kind, path, energies, refused by reason, gone);
        contradictions (structures with two energies); lines (all of it in words).
    """
    said = [e for e in events if e["event"] in {"known", "start", "resume"}]
    if not said or said[-1]["event"] != "known":
        return {"energies": 0, "sources": [], "contradictions": [], "lines": []}
    last = said[-1]
    rows, _ = examined(directory.known, 0)
    found = {name: last.get(name, []) for name in ("sources", "contradictions", "lines")}
    return {"energies": len(rows), **found}


def _largest_moment(rows: Sequence[StoredResult]) -> float | None:
    known = (stored.result.provenance or {} for stored in rows)
    return max((abs(m) for one in known for m in one.get("moments", [])), default=None)


def _budget_left(directory: RunDirectory, used: int) -> int | None:
    """Return how many calculations may still be paid, None where no settings say it."""
    try:
        return max(0, settings_of_run(directory).learning.budget - used)
    except (InputError, OSError):
        return None


def _n_stable(directory: RunDirectory) -> int | None:
    hull = directory.read_hull()
    if hull is None:
        return None
    return int((hull["stable"] if "stable" in hull else hull["cif"].fillna("") != "").sum())


def _pace(events: Events) -> float | None:
    """Return the wall seconds per calculation since the run began or went on, None if unknown."""
    begin = next((i for i in reversed(range(len(events))) if _begins(events[i])), None)
    if begin is None:
        return None
    results = [e for e in events[begin:] if e["event"] == "result"]
    if not results:
        return None
    first, last = (dt.datetime.fromisoformat(e["time"]) for e in (events[begin], results[-1]))
    return (last - first).total_seconds() / len(results)


def _begins(event: dict[str, Any]) -> bool:
    return event["event"] in {"start", "resume"}
