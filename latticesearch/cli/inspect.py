"""Verbs on a run directory: `status`, `hull`, `export`, `predict`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import pandas as pd
    from ase import Atoms

    from latticesearch.parallel import Communicator
    from latticesearch.storage import RunDirectory

FORMATS = {"cif": "cif", "poscar": "vasp", "extxyz": "extxyz", "lammps": "lammps-data"}
"""Names of export formats and ASE's names for them."""


def add_verbs(verbs: Any) -> None:
    """Add the verbs to the command line."""
    _add_hull(verbs)
    for name, function, text in (
        ("status", status, "how far a run is, and what failed"),
        ("export", export, "write the stable structures in another format"),
        ("predict", predict, "energies and grades of any structures on the run's lattice"),
    ):
        parser = verbs.add_parser(name, help=text)
        parser.set_defaults(function=function)
        parser.add_argument("run", metavar="RUN", help="run directory")
        parser.add_argument("--json", action="store_true", help="answer as JSON")
        if name == "status":
            parser.add_argument(
                "--failed", action="store_true", help="only what failed, with the reasons"
            )
        if name == "export":
            parser.add_argument("--format", choices=sorted(FORMATS), default="poscar")
            parser.add_argument("--output", metavar="DIR", help="folder (default RUN/FORMAT)")
        if name == "predict":
            parser.add_argument("files", metavar="FILE", nargs="+", help="structure files")


def _add_hull(verbs: Any) -> None:
    """Add the verb `hull`."""
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


def status(options: argparse.Namespace, comm: Communicator) -> int:
    """Print counts of oracle calculations, the last round, and every failure."""
    if comm.rank == 0:
        answer = run_status(_directory(options))
        if options.failed:
            answer = {name: answer[name] for name in ("path", "failures", "set_aside")}
        text = json.dumps(answer) if options.json else _status_text(answer, options.failed)
        sys.stdout.write(text + "\n")
    return 0


def run_status(directory: RunDirectory) -> dict[str, Any]:
    """Return how far a run is, from its files alone."""
    rows = directory.store.results()
    known = directory.store.by_key()
    events = directory.events()
    rounds = [e for e in events if e["event"] == "round"]
    ends = [e for e in events if e["event"] == "end"]
    counts = {
        s: sum(r.status == s for r in known.values()) for s in ("done", "failed", "quarantined")
    }
    failures = [
        {"key": r.key, "status": r.status, "attempts": r.result.attempt, "error": r.result.error}
        for r in known.values()
        if r.status != "done"
    ]
    set_aside = [r.key for r in known.values() if r.status == "done" and not r.result.on_lattice]
    return {
        "path": str(directory.path),
        "finished": _is_finished(events),
        "stop": ends[-1]["stop"] if ends else "",
        "rounds": max((e["round"] for e in rounds), default=-1) + 1,
        "oracle_calls": len(rows),
        **counts,
        "off_lattice": len(set_aside),
        "oracle_seconds": round(sum(r.result.seconds for r in rows), 1),
        "failures": failures,
        "set_aside": set_aside,
        "surprising": sorted({e["what"] for e in events if e["event"] == "surprising"}),
        "stage": max((int(e.get("stage", 1)) for e in events), default=1),
        "stopped": _stopped(events),
    }


def _is_finished(events: Sequence[dict[str, Any]]) -> bool:
    """Tell whether the last thing that the run did was to come to its end."""
    what = [e["event"] for e in events if e["event"] in {"start", "resume", "stopped", "end"}]
    return bool(what) and what[-1] == "end"


def _stopped(events: Sequence[dict[str, Any]]) -> str:
    """Return why the run was stopped before its end; empty where it was not, or went on since."""
    what = [e for e in events if e["event"] in {"start", "resume", "stopped", "end"}]
    return str(what[-1]["reason"]) if what and what[-1]["event"] == "stopped" else ""


def _status_text(answer: dict[str, Any], only_failed: bool) -> str:
    """Return the status, or what failed alone, as lines for a person."""
    lines = [] if only_failed else _progress_lines(answer)
    lines += [
        f"  {f['status']} {f['key']} (attempt {f['attempts']}): {f['error']}"
        for f in answer["failures"]
    ]
    lines += [f"  off the lattice {key}" for key in answer["set_aside"]]
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
    state = f"finished ({answer['stop']})" if answer["finished"] else "not finished"
    if answer["stopped"]:
        state = f"stopped in order ({answer['stopped']})"
    return [
        f"{answer['path']}: {state} after {answer['rounds']} rounds",
        f"oracle calculations: {answer['oracle_calls']} in {answer['oracle_seconds']} s",
        "  "
        + ", ".join(f"{answer[s]} {s}" for s in ("done", "failed", "quarantined"))
        + f", {answer['off_lattice']} off the lattice",
        *(f"  {line}" for line in answer["surprising"]),
        *([] if answer["finished"] else [f"to go on: latticesearch run {answer['path']}"]),
    ]


def hull(options: argparse.Namespace, comm: Communicator) -> int:
    """Print hull.csv of a run as a table, or make the joint hull of several."""
    if comm.rank == 0:
        from latticesearch.report import hull_table

        table, notes = _joint_hull(options) if options.output else (_hull_of_run(options), [])
        if options.json:
            text = table.to_json(orient="records", double_precision=15)
        else:
            text = "\n".join([hull_table(table), *([""] if notes else []), *notes])
        sys.stdout.write(text + "\n")
    return 0


def _hull_of_run(options: argparse.Namespace) -> pd.DataFrame:
    """Return hull.csv of a run."""
    from latticesearch.storage import RunDirectory

    if len(options.runs) > 1 or options.competing:
        raise InputError("the joint hull of several runs needs a place: add --output DIR")
    table = RunDirectory.read(options.runs[0]).read_hull()
    if table is None:
        raise InputError(
            f"{options.runs[0]} has no hull yet; see latticesearch status {options.runs[0]}"
        )
    return table


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


def export(options: argparse.Namespace, comm: Communicator) -> int:
    """Write every stable structure as one file of another format."""
    if comm.rank == 0:
        _export(options)
    return 0


def _export(options: argparse.Namespace) -> None:
    """Do the work of `export` on one rank."""
    from ase.io import read, write

    source = _directory(options).path
    target = Path(options.output) if options.output else source / options.format
    files = sorted((source / "stable").glob("*.cif"))
    if not files:
        raise InputError(f"{source} has no stable structures yet; see latticesearch status")
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        path = target / f"{file.stem}.{options.format}"
        write(path, read(file), format=FORMATS[options.format], parallel=False)
    sys.stdout.write(f"wrote {len(files)} structures to {target}\n")


def predict(options: argparse.Namespace, comm: Communicator) -> int:
    """Print what the run's potential says of structures."""
    if comm.rank == 0:
        from latticesearch.campaign.prediction import predict as predict_frames

        directory = _directory(options)
        frames = [frame for name in options.files for frame in _read_frames(Path(name))]
        table = predict_frames(directory, frames)
        if options.json:
            text = table.to_json(orient="records", double_precision=15)
        else:
            text = table.to_string(index=False, float_format=lambda value: f"{value:.4f}")
            if len(table) < len(frames):
                text += f"\n{len(frames) - len(table)} structures are not on the parent lattice"
        sys.stdout.write(text + "\n")
    return 0


def _read_frames(path: Path) -> list[Atoms]:
    """Return the structures of a file."""
    from ase.io import read

    try:
        frames: list[Atoms] = read(path, index=":", parallel=False)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"cannot read a structure from {path}: {reason}") from error
    return frames


def _directory(options: argparse.Namespace) -> RunDirectory:
    """Open the run directory for reading."""
    from latticesearch.storage import RunDirectory

    return RunDirectory.read(Path(options.run))
