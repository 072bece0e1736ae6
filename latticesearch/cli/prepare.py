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
    from collections.abc import Sequence

    from latticesearch.campaign.settings import Settings
    from latticesearch.lattice import ParentLattice
    from latticesearch.oracles import Oracle, Trial
    from latticesearch.parallel import Communicator

TEMPLATE = Path(__file__).parent / "template.toml"
RECIPES = Path(__file__).parent / "recipes"
"""Campaign files for one source of energies, or one kind of problem, each."""

STRUCTURES: dict[str, tuple[str, ...]] = {"oxide": ("oxide.poscar",), "layer": ("layer.poscar",)}
"""The structure files that go with recipes."""

log = logging.getLogger(__name__)


def add_verbs(verbs: Any) -> None:
    """Add the verbs to the command line."""
    parser = verbs.add_parser("init", help="write a commented campaign file")
    parser.set_defaults(function=init)
    parser.add_argument("config", metavar="CONFIG", nargs="?", default="campaign.toml")
    parser.add_argument(
        "--recipe",
        choices=sorted(["emt", *(path.stem for path in RECIPES.glob("*.toml"))]),
        help="a short file for one source of energies, or kind of campaign",
    )
    for name, function, text in (
        ("check", check, "validate a campaign file, count candidates, estimate the cost"),
        ("count", count, "count the symmetry-distinct structures, size by size"),
    ):
        parser = verbs.add_parser(name, help=text)
        parser.set_defaults(function=function)
        add_campaign(parser)
        parser.add_argument("--json", action="store_true", help="answer as JSON")
        if name == "check":
            parser.add_argument(
                "--try", dest="try_out", action="store_true", help="compute one end member for real"
            )


def init(options: argparse.Namespace, comm: Communicator) -> int:
    """Write a campaign file with every section and what it means, or a short one."""
    from latticesearch.parallel import on_root

    path = Path(options.config)
    on_root(comm, _write_files, _files(path, options.recipe))
    if comm.rank == 0:
        sys.stdout.write(f"wrote {path}; edit it, then: latticesearch check {path}\n")
    return 0


def _files(path: Path, recipe: str | None) -> dict[Path, Path]:
    """Return the files to write, each with the one that it is a copy of."""
    # The file with all settings is one with effective medium theory.
    main = TEMPLATE if recipe in {None, "emt"} else RECIPES / f"{recipe}.toml"
    others = STRUCTURES.get(recipe or "", ())
    return {path: main, **{path.parent / name: RECIPES / name for name in others}}


def _write_files(files: dict[Path, Path]) -> None:
    """Copy files to names that are not taken.

    Raises
    ------
    InputError
        One is, or cannot be written.
    """
    for path in files:
        if path.exists():
            raise InputError(f"{path} exists already; choose another name: latticesearch init NAME")
    for path, source in files.items():
        try:
            path.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error


def check(options: argparse.Namespace, comm: Communicator) -> int:
    """Build everything a run would need, and say what it would do."""
    if comm.rank != 0:
        return 0
    from latticesearch.campaign import factories
    from latticesearch.campaign.settings import read_settings
    from latticesearch.campaign.space import candidate_space, require_searchable

    settings = read_settings(Path(options.config), options.overrides)
    if options.try_out and settings.oracle.is_by_hand:
        raise InputError(
            "check --try: nothing is computed here (oracle.by_hand, or kind = manual); leave it "
            f"out, or look at the inputs: latticesearch ask {options.config}"
        )
    parent = factories.parent_lattice(settings)
    start = factories.start_potential(settings, parent)
    space = candidate_space(settings, parent)
    require_searchable(space)
    source = factories.oracle(settings, parent, 1)
    factories.phases(settings, parent)
    for line in settings.without_effect():
        log.warning("%s", line)
    n_parameters = getattr(start, "n_parameters", None)
    answer = {
        "system": "-".join(parent.species),
        "sites_of_parent_cell": parent.n_basis,
        "symmetry_operations": parent.n_ops,
        "enumerated": space.n_held,
        "left_to_greedy_search": space.n_explored,
        "potential": settings.potential.model,
        **({} if n_parameters is None else {"potential_parameters": n_parameters}),
        "oracle": settings.oracle.kind,
        "oracle_calculations_at_most": settings.learning.budget,
    }
    failed = False
    if options.try_out:
        tried = _trial(source, settings, parent)
        answer |= tried
        failed = not tried["trial_converged"]
    source.close()
    _print(answer, as_json=options.json)
    return int(failed)


def _trial(source: Oracle, settings: Settings, parent: ParentLattice) -> dict[str, Any]:
    """Compute an end member; return how it went, and what that says of the campaign."""
    from latticesearch.campaign import factories
    from latticesearch.campaign.space import end_members
    from latticesearch.oracles import try_out

    ends = [one for one in end_members(parent).canonical() if one.n_atoms]
    first = ends[0]
    trial = try_out(source, factories.start_of(settings)(first))
    answer: dict[str, Any] = {
        "trial_structure": first.formula,
        "trial_starts": trial.starts,
        "trial_converged": trial.converged,
        "trial_seconds": round(trial.seconds, 2),
    }
    if trial.error:
        return {**answer, "trial_error": trial.error}
    assert trial.energy is not None
    answer["trial_energy_per_atom"] = trial.energy / first.n_atoms
    warnings = _trial_warnings(trial, answer["trial_energy_per_atom"], first.symbols, settings)
    # Larger cells cost more; how much, the oracle alone knows.
    hours = trial.seconds * settings.learning.budget / 3600
    answer["hours_of_the_budget_at_this_cost"] = round(hours, 3)
    return {**answer, **({"trial_warning": "; ".join(warnings)} if warnings else {})}


def _trial_warnings(
    trial: Trial, energy: float, symbols: Sequence[str], settings: Settings
) -> list[str]:
    """Return what a trial says against the settings."""
    from latticesearch.campaign.known import AGREEING

    found = []
    chosen = settings.oracle
    if chosen.kind not in {"recorded", "elk"} and chosen.relax_cell and not trial.has_stress:
        found.append("the calculator has no stress, which relax_cell = true needs")
    if chosen.kind != "recorded" and chosen.relax_ions and not trial.has_forces:
        found.append("the calculator has no forces, which relax_ions = true needs")
    given = chosen.references.get(symbols[0]) if len(symbols) == 1 else None
    if given is not None and abs(given - energy) > AGREEING:
        found.append(
            f"oracle.references gives {symbols[0]} {given:.4f} eV/atom, this is {energy:.4f}"
        )
    return found


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
