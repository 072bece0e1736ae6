"""The verb `train`: a potential from a run's results or from structure files."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.campaign.settings import parse_settings, read_settings
from latticesearch.cli.run import add_overrides
from latticesearch.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from latticesearch.campaign.known import KnownEnergies
    from latticesearch.campaign.settings import Settings
    from latticesearch.lattice import ParentLattice
    from latticesearch.parallel import Communicator
    from latticesearch.potential import FitReport, MtpBasis, MtpPotential
    from latticesearch.storage import RunDirectory

POTENTIAL = "potential.mtp"

FOLDS = 5

OPTIONS = (
    ("--level", int, "L", "level of the potential (default as in the campaign)"),
    ("--cutoff", float, "ANGSTROM", "cutoff (default as in the campaign)"),
    ("--folds", int, "K", f"folds of the cross-validation, 0 for none (default {FOLDS})"),
    ("--seed", int, "N", "of starts and folds (default as in the campaign)"),
    ("--near-hull", float, "EV", "weight energies by exp(-height above the hull / EV)"),
    ("--initial", Path, "FILE", "potential to start from and to stay near to"),
    ("--output", Path, "FILE", f"the potential (default RUN/{POTENTIAL} or ./{POTENTIAL})"),
)


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    text = "train a potential on a run's results or on structure files"
    parser = verbs.add_parser("train", help=text)
    parser.set_defaults(function=train)
    parser.add_argument("source", metavar="RUN_OR_CONFIG", help="run directory or campaign file")
    parser.add_argument(
        "--data",
        metavar="FILE",
        type=Path,
        nargs="+",
        default=[],
        help="structure files with energies (default: the run's results, or the campaign's table)",
    )
    add_overrides(parser)
    for flag, kind, metavar, meaning in OPTIONS:
        parser.add_argument(flag, type=kind, metavar=metavar, help=meaning)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def train(options: argparse.Namespace, comm: Communicator) -> int:
    """Train, write the potential, print how well it fits."""
    from latticesearch.campaign import factories
    from latticesearch.campaign.known import training_set
    from latticesearch.parallel import kept_on_root, on_root
    from latticesearch.potential import fit, near_hull_weights, read_mtp

    run = kept_on_root(comm, _run_directory, options)
    try:
        settings = on_root(comm, _settings, options, run)
        parent = factories.parent_lattice(settings)
        known = on_root(comm, _known_energies, options, settings, run)
        training = training_set(known, parent)
        basis = _basis(options, settings, parent)
        near = options.near_hull
        potential, report = fit(
            basis,
            training,
            weights=None if near is None else near_hull_weights(training, width=near),
            initial=options.initial and read_mtp(options.initial, basis.species),
            seed=settings.campaign.seed if options.seed is None else options.seed,
            folds=min(FOLDS, len(training)) if options.folds is None else options.folds,
            comm=comm,
        )
        path = on_root(comm, _write, options, potential)
    finally:
        if run is not None:
            run.close()
    if comm.rank == 0:
        answer = {"potential": str(path), "level": basis.level, "n_skipped": known.n_skipped}
        text = _json(answer, report) if options.json else "\n".join(_lines(answer, report))
        sys.stdout.write(text + "\n")
    return 0


def _run_directory(options: argparse.Namespace) -> RunDirectory | None:
    """Open the run that the source is, None if it is a campaign file."""
    from latticesearch.storage import RunDirectory

    path = Path(options.source)
    if not path.is_dir():
        return None
    if options.overrides:
        raise InputError("--set changes a campaign file; a run keeps its settings")
    # Only what is written into the run needs its lock.
    return RunDirectory.read(path) if options.output else RunDirectory.open(path)


def _settings(options: argparse.Namespace, run: RunDirectory | None) -> Settings:
    """Return the settings of the run or of the campaign file."""
    if run is None:
        return read_settings(Path(options.source), options.overrides)
    record = {k: v for k, v in run.read_settings().items() if k != "environment"}
    return parse_settings(record, base=run.path)


def _known_energies(
    options: argparse.Namespace, settings: Settings, run: RunDirectory | None
) -> KnownEnergies:
    """Return the energies to train on."""
    from latticesearch.campaign import factories
    from latticesearch.campaign.known import energies_of_files, energies_of_run, with_references

    parent = factories.parent_lattice(settings)
    table = settings.oracle
    if options.data:
        known = energies_of_files(options.data, parent)
    elif run is not None:
        known = energies_of_run(run)
    elif table.kind == "recorded" and table.file is not None:
        known = energies_of_files([table.file], parent, table.select)
    else:
        raise InputError(
            f"{options.source} is a campaign that has computed nothing: give its run directory, or "
            "structure files with --data"
        )
    return with_references(known, settings, parent)


def _basis(options: argparse.Namespace, settings: Settings, parent: ParentLattice) -> MtpBasis:
    """Return the campaign's basis with what the command line changes."""
    from latticesearch.campaign import factories

    given = {"level": options.level, "cutoff": options.cutoff}
    potential = settings.potential.model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    return factories.mtp_basis(settings.model_copy(update={"potential": potential}), parent)


def _write(options: argparse.Namespace, potential: MtpPotential) -> Path:
    """Write the potential, complete or not at all; return where to."""
    from latticesearch.storage import write_mtp

    source = Path(options.source)
    path = options.output or (source if source.is_dir() else Path()) / POTENTIAL
    if path.is_dir():
        raise InputError(f"{path} is a folder; give --output the name of a file")
    try:
        write_mtp(path, potential)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return Path(path)


def _json(answer: dict[str, Any], report: FitReport) -> str:
    return json.dumps({**answer, **asdict(report)})


def _lines(answer: dict[str, Any], report: FitReport) -> Iterator[str]:
    """Yield the report as lines for a person."""
    skipped = f" ({answer['n_skipped']} results left out)" if answer["n_skipped"] else ""
    yield (
        f"level {answer['level']}: {report.n_data} energies{skipped}, {report.n_parameters} "
        f"coefficients, {report.effective_parameters:.0f} of them determined by the data; "
        f"{report.seconds:.1f} s"
    )
    validated = report.cross_validated_rmse
    yield ""
    yield f"{'meV per site':28}{'energies':>9}{'fitted':>9}{'left out':>9}{'folds':>9}"
    everything = ("all", report.n_data, report.energy_rmse, report.left_out_rmse, validated)
    groups = [
        (group.name, group.n, group.rmse, group.left_out_rmse, group.cross_validated_rmse)
        for group in (*report.by_pair, *report.by_height)
    ]
    for name, n, fitted, left_out, folds in (everything, *groups):
        last = "" if folds is None else f"{folds:9.2f}"
        yield f"{name:28}{n:9}{fitted:9.2f}{left_out:9.2f}{last}"
    if report.force_rmse is not None:
        yield f"forces: {1e3 * report.force_rmse:.1f} meV/Å"
    yield from (f"note: {line}" for line in report.warnings)
    yield f"wrote {answer['potential']}"
