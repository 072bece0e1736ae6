"""The verb `export`: structures of a run as files of other programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from latticesearch.parallel import Communicator
    from latticesearch.results import Entry

FORMATS = ("cif", "poscar", "extxyz", "lammps", "espresso", "json")
"""As in `latticesearch.results.FORMATS`, which takes longer to import than `--help` may."""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("export", help="write structures for other programs")
    parser.set_defaults(function=export)
    parser.add_argument(
        "run", metavar="RUN", type=Path, help="run directory; for a --key also a campaign file"
    )
    parser.add_argument("--format", choices=FORMATS, default="poscar", help="default %(default)s")
    parser.add_argument("--output", metavar="DIR", type=Path, help="folder (default RUN/FORMAT)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--within",
        metavar="MEV",
        type=float,
        help="all computed structures up to so many meV/atom above the hull (default: the stable)",
    )
    which.add_argument("--all", action="store_true", help="all computed structures")
    which.add_argument(
        "--key", action="append", default=[], metavar="KEY", help="this one; may be repeated"
    )
    which.add_argument(
        "--training",
        action="store_true",
        help="all computed structures as a training set: training.cfg (MLIP) and training.extxyz",
    )
    cell = parser.add_mutually_exclusive_group()
    for name in ("primitive", "conventional"):
        text = f"in the {name} cell of its symmetry (default: the cell that was computed)"
        cell.add_argument(f"--{name}", dest="cell", action="store_const", const=name, help=text)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--relaxed", dest="ideal", action="store_false", help="as computed (the default)"
    )
    form.add_argument("--ideal", action="store_true", help="on the sites of the parent lattice")
    parser.add_argument("--json", action="store_true", help="answer as JSON")


def export(options: argparse.Namespace, comm: Communicator) -> int:
    """Write the structures; one rank does it, and all know how it went."""
    from latticesearch.parallel import on_root

    answer = on_root(comm, _export, options)
    if comm.rank == 0:
        count = f"{answer['structures']} structure{'s' * (answer['structures'] != 1)}"
        text = f"wrote {count} to {answer['path']}"
        sys.stdout.write((json.dumps(answer) if options.json else text) + "\n")
    return 0


def _export(options: argparse.Namespace) -> dict[str, Any]:
    """Do the work of `export` on one rank; return what was written."""
    from latticesearch.results import write_entries, write_training_set

    entries, elements = _chosen(options)
    if not entries:
        raise InputError(f"{options.run}: no structure to write; see latticesearch hull")
    what = "training" if options.training else options.format
    base = options.run if options.run.is_dir() else Path()
    target = options.output or base / what
    if options.training:
        files = write_training_set(entries, target, elements)
    else:
        files = write_entries(entries, target, options.format, elements, options.cell)
    names = [file.name for file in files]
    return {"path": str(target), "structures": len(entries), "files": names}


def _chosen(options: argparse.Namespace) -> tuple[Sequence[Entry], Sequence[str]]:
    """Return the structures that are asked for, and the elements of their campaign."""
    from latticesearch.results import load

    if options.run.is_file():
        return _of_campaign(options)
    run = load(options.run)
    relaxed = not options.ideal
    if options.key:
        return run.selected(keys=options.key, relaxed=relaxed), run.elements
    within = 0.0 if options.within is None else options.within / 1000
    whole = options.all or options.training
    entries = run.selected(within=None if whole else within, relaxed=relaxed)
    if options.training:
        # Phases that compete are no structures that the potential is for.
        entries = [one for one in entries if one.key in set(run.candidates["key"])]
    return entries, run.elements


def _of_campaign(options: argparse.Namespace) -> tuple[Sequence[Entry], Sequence[str]]:
    """Return structures of a campaign that need not have run: keys say where the atoms are."""
    from latticesearch.campaign import factories
    from latticesearch.campaign.settings import read_settings
    from latticesearch.lattice import VACANCY
    from latticesearch.results.structures import Structures

    if not options.key:
        raise InputError(
            f"{options.run} is a campaign file: give its run directory, or structures with --key"
        )
    parent = factories.parent_lattice(read_settings(options.run, needs_oracle=False))
    structures = Structures(parent)
    elements = [symbol for symbol in parent.species if symbol != VACANCY]
    return [structures.entry(key) for key in options.key], elements
