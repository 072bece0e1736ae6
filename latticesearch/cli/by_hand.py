"""The verbs `ask` and `tell`: calculations that others do, by hand or by workflows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.cli.run import add_campaign

if TYPE_CHECKING:
    import argparse

    from latticesearch.campaign.asking import Asking
    from latticesearch.campaign.telling import Telling
    from latticesearch.parallel import Communicator


def add_verbs(verbs: Any) -> None:
    """Add the verbs to the command line."""
    parser = verbs.add_parser("ask", help="write folders of the structures to compute next")
    parser.set_defaults(function=ask)
    add_campaign(parser)
    parser.add_argument(
        "--number", metavar="N", type=int, default=10, help="structures (default %(default)s)"
    )
    parser.add_argument(
        "--folder", metavar="DIR", type=Path, help="where to write (default RUN/asked)"
    )
    parser.add_argument(
        "--again", action="store_true", help="also what was asked for and has not come back"
    )
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    parser = verbs.add_parser("tell", help="take the energies of calculations into a run")
    parser.set_defaults(function=tell)
    parser.add_argument("run", metavar="RUN", type=Path, help="run directory")
    parser.add_argument(
        "places", metavar="FOLDER", type=Path, nargs="*", help="folders of ask, or files of results"
    )
    parser.add_argument(
        "--give-up",
        metavar="FOLDER",
        type=Path,
        action="append",
        default=[],
        help="this structure cannot be computed; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="answer as JSON")


def ask(options: argparse.Namespace, comm: Communicator) -> int:
    """Write folders of the structures to compute next."""
    from latticesearch.parallel import on_root

    answer = on_root(comm, _ask, options)
    if comm.rank == 0:
        _print_asked(answer, as_json=options.json)
    return 0


def _ask(options: argparse.Namespace) -> Asking:
    from latticesearch.campaign.asking import ask as ask_run
    from latticesearch.campaign.run import Campaign
    from latticesearch.campaign.settings import read_settings
    from latticesearch.errors import InputError

    if options.number < 1:
        raise InputError(f"--number {options.number}: at least one structure has to be asked for")
    settings = read_settings(Path(options.config), options.overrides)
    config = Path(options.config)
    output = options.output or (config if config.is_dir() else None)
    path = Campaign(settings, None if output is None else Path(output)).path
    return ask_run(settings, path, options.number, options.folder, again=options.again)


def _print_asked(answer: Asking, *, as_json: bool) -> None:
    rows = [
        {"key": a.key, "formula": a.formula, "reason": a.reason, "folder": str(a.folder)}
        for a in answer.asked
    ]
    if as_json:
        text = json.dumps({"run": str(answer.run), "asked": rows, "out": list(answer.out)})
        sys.stdout.write(text + "\n")
        return
    for one in answer.asked:
        sys.stdout.write(f"{one.folder}  {one.reason}\n")
    number = f"{len(rows)} structure{'s' * (len(rows) != 1)}"
    before = f"; {len(answer.out)} asked for before and not told yet" if answer.out else ""
    sys.stdout.write(
        f"wrote {number}{before}\nonce computed: latticesearch tell {answer.run} FOLDER...\n"
    )


def tell(options: argparse.Namespace, comm: Communicator) -> int:
    """Take the energies of calculations into a run."""
    from latticesearch.parallel import on_root

    answer = on_root(comm, _tell, options)
    if comm.rank == 0:
        _print_told(answer, as_json=options.json)
    return 0


def _tell(options: argparse.Namespace) -> Telling:
    from latticesearch.campaign.telling import tell as tell_run
    from latticesearch.errors import InputError

    if not options.places and not options.give_up:
        raise InputError("tell: name the folders to read, e.g. RUN/asked/*")
    return tell_run(options.run, options.places, give_up=options.give_up)


def _print_told(answer: Telling, *, as_json: bool) -> None:
    from latticesearch.campaign.telling import lines_of

    if as_json:
        outcomes = [vars(one) for one in answer.outcomes]
        text = json.dumps({"run": str(answer.run), "outcomes": outcomes, "out": list(answer.out)})
        sys.stdout.write(text + "\n")
        return
    sys.stdout.writelines(f"{line}\n" for line in lines_of(answer))
    sys.stdout.write(f"to go on: latticesearch run {answer.run}\n")
