"""The verb `status`: whether a run is alive, how far it is, and what failed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from latticesearch.parallel import Communicator
    from latticesearch.storage import RunDirectory

MOST = 8
"""Calculations under way that are listed."""
MAX_CONTRADICTIONS = 5
"""Structures with two energies that are shown."""

WATCH = 5.0
"""Seconds between two looks."""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("status", help="how far a run is, whether it lives, what failed")
    parser.set_defaults(function=status)
    parser.add_argument("run", metavar="RUN", type=Path, help="run directory")
    parser.add_argument("--failed", action="store_true", help="only what failed, and why")
    parser.add_argument(
        "--details",
        action="store_true",
        help="how the energies were computed, as a paragraph for a paper with its references",
    )
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=WATCH,
        help=f"look again every SECONDS (default {WATCH:g}) as long as the run runs",
    )
    parser.add_argument("--json", action="store_true", help="answer as JSON")


def status(options: argparse.Namespace, comm: Communicator) -> int:
    """Print how far a run is."""
    from latticesearch.parallel import on_root

    on_root(comm, _show, options)
    return 0


def _show(options: argparse.Namespace) -> None:
    """Print the status, again and again where that is asked for."""
    from latticesearch.results.status import RUNNING, run_status
    from latticesearch.storage import RunDirectory

    directory = RunDirectory.read(options.run)
    if options.details:
        _print_details(directory, as_json=options.json)
        return
    while True:
        answer = run_status(directory)
        state = answer["state"]
        if options.failed:
            answer = {name: answer[name] for name in ("path", "failures", "set_aside", "damage")}
        text = json.dumps(answer) if options.json else _text(answer, options.failed)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        if options.watch is None or state != RUNNING:
            return
        time.sleep(options.watch)


def _print_details(directory: RunDirectory, *, as_json: bool) -> None:
    """Print how the energies of a run were computed."""
    from latticesearch.results.details import details_of_run

    details = details_of_run(directory)
    text = details.text()
    if as_json:
        paragraph, references = " ".join(details.sentences), list(details.references)
        text = json.dumps({"details": paragraph, "references": references})
    sys.stdout.write(text + "\n")


def _text(answer: dict[str, Any], only_failed: bool) -> str:
    """Return the status, or what failed alone, as lines for a person."""
    lines = [] if only_failed else _progress_lines(answer)
    lines += [
        f"  {f['status']} {f['key']} (attempt {f['attempts']}): {f['error']}"
        for f in answer["failures"]
    ]
    lines += [f"  off the lattice {key}" for key in answer["set_aside"]]
    for one in answer["damage"]:
        lines += [f"damaged: {one['what']}", f"  {one['way_out']}"]
    if answer["set_aside"]:
        file = f"{answer['path']}/off_lattice.extxyz"
        lines.append(f'  (as competing phases: --set competing.files=["{file}"])')
    if answer["failures"]:
        lines.append(f"to try them again: latticesearch run {answer['path']} --retry-failed")
    elif only_failed:
        lines.append("nothing has failed")
    return "\n".join(lines)


def _progress_lines(answer: dict[str, Any]) -> list[str]:
    """Return how far the run is."""
    budget = "" if answer["budget"] is None else f" of {answer['budget']}"
    left = "" if answer["budget_left"] is None else f", {answer['budget_left']} left"
    spent = f"{answer['oracle_seconds']} s"
    lines = [
        f"{answer['path']}: {_state(answer)} after {answer['rounds']} rounds",
        f"oracle calculations: {answer['oracle_calls']}{budget}{left}; {spent} of calculation",
        "  "
        + ", ".join(f"{answer[s]} {s}" for s in ("done", "failed", "quarantined"))
        + f", {answer['off_lattice']} off the lattice",
    ]
    lines += _computing(answer["computing"])
    if answer["queue"]:
        lines.append("in the queue: " + ", ".join(f"{n} {k}" for k, n in answer["queue"].items()))
    if answer["stable"] is not None:
        so_far = "" if answer["finished"] else " so far"
        lines.append(f"stable{so_far}: {answer['stable']}{_error(answer)}{_missing(answer)}")
    if answer["next"]:
        from latticesearch.report.tables import next_line

        lines.append(next_line(answer["next"]))
    if answer["largest_moment"] is not None:
        lines.append(f"largest final moment of an atom: {answer['largest_moment']:.2f} µB")
    if answer["seconds_left"] is not None:
        lines.append(_time_left(answer))
    lines += [f"  {line}" for line in answer["surprising"]]
    lines += _elsewhere_lines(answer["elsewhere"])
    if answer["state"] in {"stale", "stopped in order"} and not answer["damage"]:
        lines.append(f"to go on: latticesearch run {answer['path']}")
    return lines


def _computing(now: dict[str, float]) -> list[str]:
    """Return what is computed here now, the longest first."""
    from latticesearch.progress import duration

    longest = sorted(now, key=lambda name: -now[name])
    lines = [f"  computing scratch/{name} for {duration(now[name])}" for name in longest[:MOST]]
    more = len(longest) - len(lines)
    return lines + ([f"  and {more} more"] if more else [])


def _elsewhere_lines(answer: dict[str, Any]) -> list[str]:
    """Return what the run knows without having computed it, source by source."""
    if not answer["sources"]:
        # Runs of before have noted it in words alone.
        return list(answer["lines"])
    lines = [f"from elsewhere: {answer['energies']} energies"]
    for source in answer["sources"]:
        line = f"  {source['kind']} {source['path']}: {source['energies']}"
        if source["gone"]:
            line += " (the source is gone, they are kept)"
        if source["refused"]:
            line += "; not used: " + ", ".join(f"{n} {why}" for why, n in source["refused"].items())
        lines.append(line)
    shown = answer["contradictions"][:MAX_CONTRADICTIONS]
    if more := len(answer["contradictions"]) - len(shown):
        shown.append(f"... and {more} more (--json)")
    return lines + [f"    {one}" for one in shown]


def _state(answer: dict[str, Any]) -> str:
    """Return what the run does, or why it does nothing."""
    more = {
        "running": f"{answer['writer']}; last sign of life {answer['last_event']}",
        "finished": answer["stop"],
        "stopped in order": answer["stopped"],
        "stale": f"nobody is writing to it; last sign of life {answer['last_event'] or 'unknown'}",
    }
    return f"{answer['state']} ({more[answer['state']]})"


def _error(answer: dict[str, Any]) -> str:
    error = answer["near_hull_error"]
    return "" if error is None else f", near-hull error {1000 * error:.2f} meV/atom"


def _missing(answer: dict[str, Any]) -> str:
    missing = answer["missing"]
    return "" if missing is None else f"; {100 * missing:.0f} % likely to miss something"


def _time_left(answer: dict[str, Any]) -> str:
    from latticesearch.progress import duration, rate

    seconds = answer["seconds_per_call"]
    return (
        f"time left if the whole budget is needed: {duration(answer['seconds_left'])} "
        f"({rate(1.0 / seconds if seconds > 0 else 0.0)})"
    )
