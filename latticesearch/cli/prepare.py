"""Verbs before a run: `init`, `check`, `count`."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.cli.run import add_campaign
from latticesearch.errors import InputError

if TYPE_CHECKING:
    import argparse

    from latticesearch.parallel import Communicator

TEMPLATE = Path(__file__).parent / "template.toml"

log = logging.getLogger(__name__)


def add_verbs(verbs: Any) -> None:
    """Add the verbs to the command line."""
    parser = verbs.add_parser("init", help="write a commented campaign file")
    parser.set_defaults(function=init)
    parser.add_argument("config", metavar="CONFIG", nargs="?", default="campaign.toml")
    for name, function, text in (
        ("check", check, "validate a campaign file, count candidates, estimate the cost"),
        ("count", count, "count the symmetry-distinct structures, size by size"),
    ):
        parser = verbs.add_parser(name, help=text)
        parser.set_defaults(function=function)
        add_campaign(parser)
        parser.add_argument("--json", action="store_true", help="answer as JSON")


def init(options: argparse.Namespace, comm: Communicator) -> int:
    """Write a campaign file with every section and what it means."""
    path = Path(options.config)
    if path.exists():
        raise InputError(f"{path} exists already; choose another name: latticesearch init NAME")
    if comm.rank == 0:
        path.write_text(TEMPLATE.read_text(encoding="utf-8"), encoding="utf-8")
        sys.stdout.write(f"wrote {path}; edit it, then: latticesearch check {path}\n")
    return 0


def check(options: argparse.Namespace, comm: Communicator) -> int:
    """Build everything a run would need, and say what it would do."""
    if comm.rank != 0:
        return 0
    from latticesearch.campaign import factories
    from latticesearch.campaign.settings import read_settings
    from latticesearch.campaign.space import candidate_space, require_searchable

    settings = read_settings(Path(options.config), options.overrides)
    parent = factories.parent_lattice(settings)
    start = factories.start_potential(settings, parent)
    space = candidate_space(settings, parent)
    require_searchable(space)
    factories.oracle(settings, parent, 1).close()
    for line in settings.without_effect():
        log.warning("%s", line)
    n_parameters = getattr(start, "n_parameters", None)
    answer = {
        "system": "-".join(parent.species),
        "sites_of_parent_cell": parent.n_basis,
        "symmetry_operations": parent.n_ops,
        "enumerated": space.n_held,
        "left_to_greedy_search": space.n_explored,
        "potential": settings.potential.kind,
        **({} if n_parameters is None else {"potential_parameters": n_parameters}),
        "oracle": settings.oracle.kind,
        "oracle_calculations_at_most": settings.learning.budget,
    }
    _print(answer, as_json=options.json)
    return 0


def count(options: argparse.Namespace, comm: Communicator) -> int:
    """Print the exact number of structures of each size; nothing is enumerated."""
    if comm.rank != 0:
        return 0
    from latticesearch.campaign import factories
    from latticesearch.campaign.settings import read_settings
    from latticesearch.campaign.space import candidate_space

    settings = read_settings(Path(options.config), options.overrides, needs_oracle=False)
    parent = factories.parent_lattice(settings)
    counts = candidate_space(settings, parent).sizes
    answer = {f"{n * parent.n_basis} sites": counts[n] for n in sorted(counts)}
    _print({**answer, "total": sum(counts.values())}, as_json=options.json)
    return 0


def _print(answer: dict[str, Any], *, as_json: bool) -> None:
    """Print names and values, one pair per line, or one JSON object."""
    if as_json:
        sys.stdout.write(json.dumps(answer) + "\n")
        return
    width = max(len(name) for name in answer)
    for name, value in answer.items():
        sys.stdout.write(f"{name.replace('_', ' '):{width}}  {value}\n")
