"""The verb `train`: a potential from a run's results or from structure files."""

from __future__ import annotations

import inspect
import json
import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.cli.run import add_overrides
from latticesearch.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from latticesearch.campaign.known import KnownEnergies
    from latticesearch.campaign.settings import Settings
    from latticesearch.lattice import ParentLattice
    from latticesearch.parallel import Communicator
    from latticesearch.potential import Potential, TrainingSet
    from latticesearch.storage import RunDirectory

log = logging.getLogger(__name__)

FOLDS = 5

POTENTIAL = "potential"
TRAINED = "trained"
"""Names of files, without ending: the potential of a run, and one that was trained beside it."""

OPTIONS = (
    ("--level", int, "L", "level of a moment tensor potential (default as in the campaign)"),
    ("--cutoff", float, "ANGSTROM", "its cutoff (default as in the campaign)"),
    ("--folds", int, "K", f"folds of the cross-validation, 0 for none (default {FOLDS})"),
    ("--seed", int, "N", "of starts and folds (default as in the campaign)"),
    ("--near-hull", float, "EV", "weight energies by exp(-height above the hull / EV)"),
    ("--initial", Path, "FILE", "potential to start from and to stay near to"),
    ("--output", Path, "FILE", "the potential (default trained.mtp in RUN, potential.mtp here)"),
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
    parser.add_argument(
        "--replace", action="store_true", help="make it the run's own potential: potential.mtp"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def train(options: argparse.Namespace, comm: Communicator) -> int:
    """Train, write the potential, print how well it fits."""
    from latticesearch.campaign import factories
    from latticesearch.campaign.known import training_set
    from latticesearch.campaign.settings import MTP
    from latticesearch.parallel import kept_on_root, on_root

    run = kept_on_root(comm, _run_directory, options)
    try:
        settings = on_root(comm, _settings, options, run)
        parent = factories.parent_lattice(settings)
        start = factories.start_potential(settings, parent)
        known = on_root(comm, _known_energies, options, settings, run)
        training = _weighted(training_set(known, parent), options.near_hull)
        potential, report = _fit(options, settings, start, training, comm)
        path = on_root(comm, _write, options, settings, potential)
    finally:
        if run is not None:
            run.close()
    if comm.rank == 0:
        chosen = settings.potential
        form = {"level": chosen.level} if chosen.model == MTP else {"kind": chosen.model}
        answer = {"potential": str(path), **form, "n_skipped": known.n_skipped}
        figures = {"n_data": len(training), **asdict(report)}
        text = json.dumps({**answer, **figures}) if options.json else _text({**answer, **figures})
        sys.stdout.write(text + "\n")
    return 0


def _weighted(training: TrainingSet, width: float | None) -> TrainingSet:
    """Return the training set with weights that fall off above its hull, within `width`, eV."""
    import numpy as np

    from latticesearch.potential import TrainingSet, near_hull_weights

    if width is None:
        return training
    weights = near_hull_weights(training, width=width)
    starts = np.cumsum([0, *(len(part.batch) for part in training.labelings)])
    return TrainingSet(
        tuple(
            replace(part, weights=weights[first:last])
            for part, first, last in zip(training.labelings, starts, starts[1:], strict=False)
        )
    )


def _fit(
    options: argparse.Namespace,
    settings: Settings,
    start: Potential,
    training: TrainingSet,
    comm: Communicator,
) -> tuple[Potential, Any]:
    """Fit any kind of potential, which may be able to validate itself and to use many ranks.

    Raises
    ------
    InputError
        Potentials of this kind are fixed.
    """
    from latticesearch.potential import fit_potential

    fit = getattr(start, "fit", None)
    if fit is None:
        raise InputError(
            f"potentials of the kind {settings.potential.kind} have no fit: there is nothing to "
            "train"
        )
    folds = min(FOLDS, len(training)) if options.folds is None else options.folds
    seed = settings.campaign.seed if options.seed is None else options.seed
    takes = inspect.signature(fit).parameters
    if "folds" in takes and "comm" in takes:
        result: tuple[Potential, Any] = fit(training, seed=seed, folds=folds, comm=comm)
        return result
    return fit_potential(start, training, seed=seed)


def _run_directory(options: argparse.Namespace) -> RunDirectory | None:
    """Open the run that the source is, None if it is a campaign file."""
    from latticesearch.storage import RunDirectory

    path = Path(options.source)
    if options.replace and (options.output or not path.is_dir()):
        raise InputError("--replace is for the potential of a run: give RUN, and no --output")
    if not path.is_dir():
        return None
    if options.overrides:
        raise InputError("--set changes a campaign file; a run keeps its settings")
    # Only what changes the run needs its lock.
    return RunDirectory.open(path) if options.replace else RunDirectory.read(path)


def _settings(options: argparse.Namespace, run: RunDirectory | None) -> Settings:
    """Return the settings of the run or of the campaign file, with what the options change."""
    from latticesearch.campaign.known import settings_of_run
    from latticesearch.campaign.settings import MTP, read_settings

    source = Path(options.source)
    settings = settings_of_run(run) if run else read_settings(source, options.overrides)
    given = {"level": options.level, "cutoff": options.cutoff, "file": options.initial}
    given = {name: value for name, value in given.items() if value is not None}
    if settings.potential.model != MTP and given:
        raise InputError(
            f"--{'initial' if 'file' in given else next(iter(given))} is for moment tensor "
            f"potentials; this campaign's are of the kind {settings.potential.kind}"
        )
    update = {"file": None, **given}
    potential = settings.potential.model_copy(update=update)
    return settings.model_copy(update={"potential": potential})


def _known_energies(
    options: argparse.Namespace, settings: Settings, run: RunDirectory | None
) -> KnownEnergies:
    """Return the energies to train on."""
    from latticesearch.campaign import factories
    from latticesearch.campaign.damage import require_sound
    from latticesearch.campaign.known import energies_of_run, with_references

    parent = factories.parent_lattice(settings)
    table = settings.oracle
    if options.data:
        known = _energies_of_files(options.data, parent)
    elif run is not None:
        require_sound(run)
        known = energies_of_run(run)
    elif table.kind == "recorded" and table.file is not None:
        known = _energies_of_files([table.file], parent, table.select)
    else:
        raise InputError(
            f"{options.source} is a campaign that has computed nothing: give its run directory, or "
            "structure files with --data"
        )
    return with_references(known, settings, parent)


def _energies_of_files(
    files: Sequence[Path], parent: ParentLattice, select: Mapping[str, Any] | None = None
) -> KnownEnergies:
    """Return the energies in files and folders; the log says what could not be used."""
    from latticesearch.campaign.known import KnownEnergies
    from latticesearch.campaign.own_data import own_data

    data = own_data(files, parent, select=select)
    for line in data.summary_lines():
        log.info("%s", line)
    return KnownEnergies(data.energies, data.n_unusable)


def _write(options: argparse.Namespace, settings: Settings, potential: Any) -> Path:
    """Write the potential, complete or not at all; return where to.

    Raises
    ------
    InputError
        It cannot be written.
    """
    from latticesearch.campaign.factories import potential_kind
    from latticesearch.storage import write_text_atomic

    source, suffix = Path(options.source), potential_kind(settings).suffix
    name = TRAINED if source.is_dir() and not options.replace else POTENTIAL
    path = options.output or (source if source.is_dir() else Path()) / f"{name}.{suffix}"
    if path.is_dir():
        raise InputError(f"{path} is a folder; give --output the name of a file")
    if not hasattr(potential, "text"):
        raise InputError(
            f"potentials of the kind {settings.potential.kind} have no text(): there is nothing "
            "to write"
        )
    if path.exists() and not options.output and not options.replace and not source.is_dir():
        raise InputError(f"{path} exists already: name another file with --output")
    try:
        write_text_atomic(path, potential.text())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return path


def _text(answer: dict[str, Any]) -> str:
    """Return what the fit tells as lines for a person; kinds tell more or less."""
    return "\n".join([_first_line(answer), "", *_table(answer), *_last_lines(answer)])


def _first_line(answer: dict[str, Any]) -> str:
    name = f"level {answer['level']}" if "level" in answer else answer["kind"]
    skipped = f" ({answer['n_skipped']} results left out)" if answer["n_skipped"] else ""
    line = f"{name}: {answer['n_data']} energies{skipped}"
    if "n_parameters" in answer:
        line += f", {answer['n_parameters']} coefficients"
    if "effective_parameters" in answer:
        line += f", {answer['effective_parameters']:.0f} of them determined by the data"
    return line + (f"; {answer['seconds']:.1f} s" if "seconds" in answer else "")


def _table(answer: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of errors, meV per site."""
    yield f"{'meV per site':28}{'energies':>9}{'fitted':>9}{'left out':>9}{'folds':>9}"
    everything = {
        "name": "all",
        "n": answer["n_data"],
        "rmse": answer["energy_rmse"],
        "left_out_rmse": answer["left_out_rmse"],
        "cross_validated_rmse": answer.get("cross_validated_rmse"),
    }
    for group in (everything, *answer.get("by_pair", ()), *answer.get("by_height", ())):
        folds = group["cross_validated_rmse"]
        last = "" if folds is None else f"{folds:9.2f}"
        yield (
            f"{group['name']:28}{group['n']:9}{group['rmse']:9.2f}{group['left_out_rmse']:9.2f}"
            f"{last}"
        )


def _last_lines(answer: dict[str, Any]) -> Iterator[str]:
    if answer.get("force_rmse") is not None:
        yield f"forces: {1e3 * answer['force_rmse']:.1f} meV/Å"
    yield from (f"note: {line}" for line in answer.get("warnings", ()))
    yield f"wrote {answer['potential']}"
