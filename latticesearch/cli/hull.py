"""The verb `hull`: the stable structures of one run, or of several lattices jointly."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.errors import InputError

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from latticesearch.parallel import Communicator
    from latticesearch.storage import RunDirectory

log = logging.getLogger(__name__)


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    text = (
        "print the stable and nearly stable structures of one run, or of several lattices jointly"
    )
    parser = verbs.add_parser("hull", help=text)
    parser.set_defaults(function=hull)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run directory")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="where the tables of a joint hull are written"
    )
    parser.add_argument(
        "--competing",
        metavar="FILE",
        nargs="+",
        type=Path,
        default=[],
        help="further phases of the joint hull: structure files, tables, entries of pymatgen",
    )
    parser.add_argument("--json", action="store_true", help="answer as JSON")


def hull(options: argparse.Namespace, comm: Communicator) -> int:
    """Print hull.csv of a run as a table, or make the joint hull of several."""
    from latticesearch.parallel import on_root

    text = on_root(comm, _answer, options)
    if comm.rank == 0:
        sys.stdout.write(text + "\n")
    return 0


def _answer(options: argparse.Namespace) -> str:
    """Return what is to be printed."""
    from latticesearch.report import hull_table

    table, notes = _joint_hull(options) if options.output else _hull_of_run(options)
    if options.json:
        for note in notes if not options.output else []:
            log.warning("%s", note)
        return str(table.to_json(orient="records", double_precision=15))
    return "\n".join([hull_table(table), *([""] if notes else []), *notes])


def _hull_of_run(options: argparse.Namespace) -> tuple[pd.DataFrame, list[str]]:
    """Return hull.csv of a run, and whether it may still change."""
    from latticesearch.results.status import provisional
    from latticesearch.storage import RunDirectory

    if len(options.runs) > 1 or options.competing:
        raise InputError("the joint hull of several runs needs a place: add --output DIR")
    run = RunDirectory.read(options.runs[0])
    table = run.read_hull()
    if table is None:
        raise InputError(
            f"{options.runs[0]} has no hull yet; see latticesearch status {options.runs[0]}"
        )
    return table, [*_zero_note(run), *filter(None, [provisional(run)])]


def _zero_note(run: RunDirectory) -> list[str]:
    """Return what the formation energies of a run are relative to, unless it is the end members."""
    from latticesearch.campaign.competing import ZERO_TEXTS
    from latticesearch.campaign.known import settings_of_run

    try:
        zero = settings_of_run(run).competing.formation_energy
    except InputError:
        return []
    return [] if zero == "end members" else [f"formation energies {ZERO_TEXTS[zero]}"]


def _joint_hull(options: argparse.Namespace) -> tuple[pd.DataFrame, list[str]]:
    """Write the joint hull of several runs; return its table, and what is to be said of it."""
    from latticesearch.campaign.competing import competing_phases
    from latticesearch.campaign.joint import LatticeRun, elements_of, joint_hull, write_joint_hull

    runs = [LatticeRun.read(path) for path in options.runs]
    phases = competing_phases(elements_of(runs), options.competing)
    joint = joint_hull(runs, phases)
    write_joint_hull(joint, runs, options.output)
    said = phases.summary_lines() if options.competing else []
    return joint.hull, [*said, *joint.notes, f"results: {options.output}"]
