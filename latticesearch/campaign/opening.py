"""Opening a run directory: a new one, one to go on with, or one that has to change first.

What can be refused is refused before anything is written.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.campaign.damage import (
    KNOWN_ROWS,
    accepting_loss,
    examined,
    expected_known,
    expected_rows,
)
from latticesearch.campaign.imports import Elsewhere, known_results
from latticesearch.campaign.known import AGREEING, believed_energies, reference_energies
from latticesearch.campaign.levels import table_bytes
from latticesearch.campaign.method import method_of
from latticesearch.campaign.settings import RECORDED, parse_settings, with_input_files
from latticesearch.campaign.space import end_members
from latticesearch.campaign.stages import Stage, changes, next_round, require_same_method
from latticesearch.errors import DamagedError, InputError
from latticesearch.hull import corners
from latticesearch.lattice import VACANCY
from latticesearch.learning.loop import require_budget
from latticesearch.storage import RunDirectory, is_run_directory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from latticesearch.campaign.settings import Settings
    from latticesearch.lattice import ParentLattice
    from latticesearch.oracles import Method
    from latticesearch.storage import StoredResult

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpeningOptions:
    """What the caller of a run asks for beside its settings.

    Parameters
    ----------
    resume
        Refuse to begin anew.
    retry_failed
        Failures so far count no more.
    accept_loss
        Go on without results that a damaged or missing database held.
    """

    resume: bool = False
    retry_failed: bool = False
    accept_loss: bool = False


@dataclass(frozen=True, eq=False)
class Opened:
    """A run directory that is locked and ready.

    Parameters
    ----------
    directory
        The files.
    method
        How energies are computed.
    stage
        What is known from the start.
    rows
        All rows of oracle.db.
    known
        Energies that come from elsewhere, as in known.db.
    """

    directory: RunDirectory
    method: Method
    stage: Stage
    rows: Sequence[StoredResult]
    known: Sequence[StoredResult]


def open_run(
    path: Path,
    settings: Settings,
    parent: ParentLattice,
    environment: Mapping[str, Any],
    options: OpeningOptions,
) -> Opened:
    """Create the run directory, or open the one that is there and note what has changed.

    Parameters
    ----------
    path
        The folder.
    settings
        Checked settings, their paths absolute.
    parent
        The parent lattice.
    environment
        Versions and number of ranks, for settings.toml.
    options
        What else is asked for.

    Raises
    ------
    InputError
        `path` holds energies of another method, is damaged, or holds no run although one was
        to be resumed.
    """
    method = method_of(settings, parent)
    if not is_run_directory(path):
        if options.resume:
            raise InputError(f"{path} holds no run to resume; start it without --resume")
        return _begin(path, settings, parent, method, environment)
    directory = RunDirectory.open(path)
    try:
        return _go_on(directory, settings, parent, method, environment, options)
    except BaseException:
        directory.close()
        raise


def _begin(
    path: Path,
    settings: Settings,
    parent: ParentLattice,
    method: Method,
    environment: Mapping[str, Any],
) -> Opened:
    """Create a run directory, once nothing can be refused any more."""
    found = known_results(settings, parent, method)
    known = found.results
    _require_possible(settings, parent, known)
    directory = RunDirectory.create(path)
    stage = Stage(known_digest=_digest(known))
    if known:
        directory.replace_known(known)
    # What vouches for all that a stage begins with comes last.
    directory.write_settings(_record(settings, directory, stage, environment))
    directory.log_event("start", **environment)
    if found.lines:
        directory.log_event("known", **found.record())
    return Opened(directory, method, stage, (), known)


def _go_on(
    directory: RunDirectory,
    settings: Settings,
    parent: ParentLattice,
    method: Method,
    environment: Mapping[str, Any],
    options: OpeningOptions,
) -> Opened:
    """Compare what is there with what is wanted; begin a new stage where they differ."""
    events, old = directory.events(), _old_settings(directory)
    expected = expected_rows(events)
    rows, damage = examined(directory.store, expected)
    _require_method(rows, old, directory, parent, method)
    if damage and not options.accept_loss:
        raise DamagedError(damage, accepting_loss(directory.path))
    kept, damage_of_known = examined(directory.known, expected_known(events), KNOWN_ROWS)
    found = known_results(settings, parent, method, kept, rows, directory.path)
    known = found.results
    _require_sources(found, damage_of_known, directory, options)
    _require_possible(settings, parent, known, rows, retry_failed=options.retry_failed)
    # Nothing is refused from here on: now the run may change.
    if damage:
        rows = _salvage(directory, rows, expected)
    if damage_of_known:
        log.warning("%s; the sources are read again", damage_of_known)
        directory.keep_damaged(directory.known)
    before, digest = Stage.of(old), _digest(known)
    stage = before or Stage()
    record = _record(settings, directory, stage, environment)
    changed = [f"of {expected} results {len(rows)} are left"] if damage else []
    changed += _changes(old, record, options, rows, digest)
    if changed or (before is None and rows):
        stage = stage.following(len(rows), next_round(events), digest)
        if options.retry_failed:
            stage = replace(stage, forgiven_rows=len(rows))
    if known or directory.has_known:
        directory.replace_known(known)
    directory.write_settings({**record, "stage": stage.record()})
    directory.log_event("resume", **environment, stage=stage.number, changes=changed)
    if found.lines or expected_known(events):
        directory.log_event("known", **found.record())
    log.info("%s: going on, %d calculations done", directory.path, len(rows))
    for line in changed:
        log.info("changed: %s", line)
    return Opened(directory, method, stage, rows, known)


def _changes(
    old: Mapping[str, Any],
    record: Mapping[str, Any],
    options: OpeningOptions,
    rows: Sequence[StoredResult],
    digest: str,
) -> list[str]:
    """Return a line for everything that begins a new stage, a loss apart."""
    before = Stage.of(old)
    found = changes(old, record) if old else ["settings.toml was lost"]
    if options.retry_failed:
        found.append("failed structures are tried again")
    if before is not None and before.known_digest != digest:
        found.append("energies computed elsewhere")
    known_rows = (before or Stage()).known_rows
    if told := sum(bool(row.source) and row.row > known_rows for row in rows):
        found.append(f"{told} energies told")
    return found


def _require_sources(
    found: Elsewhere, damage: str, directory: RunDirectory, options: OpeningOptions
) -> None:
    """Refuse to make a damaged known.db anew where something can be read nowhere else.

    Raises
    ------
    DamagedError
        A source is gone.
    """
    gone = [source.path for source in found.sources if source.gone]
    if damage and gone and not options.accept_loss:
        raise DamagedError(
            damage,
            f"{gone[0]}, where some came from, is gone: bring it back, or go on with what can be "
            f"read: latticesearch run {directory.path} --accept-loss",
        )


def _record(
    settings: Settings, directory: RunDirectory, stage: Stage, environment: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what settings.toml keeps; input files become copies in the run, by relative path."""

    def kept(place: str, path: Path) -> Path:
        if place == "candidates.from_run" and path.is_dir():
            # The other run may go: what there is to choose from is kept here.
            name, data = f"{path.name}-candidates.csv", table_bytes(path)
            return directory.keep_bytes(name, data).relative_to(directory.path)
        if not path.is_file():
            return path
        return directory.keep_input(path).relative_to(directory.path)

    resolved = with_input_files(settings, kept).resolved()
    # Where a run lies is no setting of it: folders move.
    resolved["campaign"].pop("output", None)
    return {**resolved, "environment": dict(environment), "stage": stage.record()}


def _require_possible(
    settings: Settings,
    parent: ParentLattice,
    known: Sequence[StoredResult],
    rows: Sequence[StoredResult] = (),
    *,
    retry_failed: bool = False,
) -> None:
    """Refuse what cannot come to a formation energy, before anything is on disk.

    Parameters
    ----------
    settings, parent
        Those of the run.
    known
        Energies from elsewhere.
    rows
        What the run's oracle has answered; it counts where both are known.
    retry_failed
        What was given up is open again.

    Raises
    ------
    InputError
        The budget is smaller than the number of end members to compute, or a reference is not
        the energy of its end member.
    """
    given = reference_energies(settings, parent)
    _require_agreement(given, known, rows)
    # What was given up is not asked for again; the end of the run says that it has no energy.
    over = {row.key for row in rows if row.status == "done" or not retry_failed}
    settled = {one.key for one in known} | given.keys()
    settled |= {row.key for row in rows if row.status != "failed"} & over
    ends = [one for one in end_members(parent).canonical() if one.n_atoms]
    x = np.array([one.atomic_fractions for one in ends])
    # Of several end members of one composition, whose other sites are vacant, one will do.
    have = x[[one.key in settled for one in ends]]
    wanted = [c for c in corners(x) if not np.isclose(have, c).all(axis=1).any()]
    require_budget(settings.learning.budget, len(rows), len(wanted))


def _require_agreement(
    given: Mapping[str, float], known: Sequence[StoredResult], rows: Sequence[StoredResult]
) -> None:
    """Refuse the energy of another phase as that of an end member.

    Parameters
    ----------
    given
        References, eV/atom by key.
    known, rows
        As in `_require_possible`.

    Raises
    ------
    InputError
        A reference and a known energy differ by more than computing twice explains.
    """
    origins = {one.key: one.source or "computed on this lattice" for one in (*known, *rows)}
    for key, energy in believed_energies((*known, *rows)).items():
        if key not in given or abs(given[key] - energy) <= AGREEING:
            continue
        atoms = next(one.result.atoms for one in (*rows, *known) if one.key == key)
        assert atoms is not None
        symbol = atoms.symbols[0]
        raise InputError(
            f"oracle.references gives {symbol} {given[key]:.4f} eV/atom, but it is {energy:.4f} "
            f"({origins[key]}): references are energies on the parent lattice; leave it out, and "
            f'write another phase of {symbol} as [competing] phases = [{{formula = "{symbol}", '
            f"energy = {given[key]:.4f}}}]"
        )


def _old_settings(directory: RunDirectory) -> dict[str, Any]:
    """Return the settings of the run so far; nothing where the file is lost or damaged.

    What defines an energy stands in every row of the database, so a run can do without.
    """
    try:
        return directory.read_settings()
    except DamagedError as error:
        log.warning("%s", error)
        return {}


def _salvage(
    directory: RunDirectory, readable: Sequence[StoredResult], expected: int
) -> list[StoredResult]:
    """Put what is readable of a damaged database in its place, and keep a copy; return that."""
    copy = directory.keep_damaged(directory.store)
    directory.replace_results(readable)
    directory.log_event("loss", kept=len(readable), expected=expected, aside=str(copy or ""))
    kept = f"; what was there is kept in {copy}" if copy else ""
    log.warning("%d of %d results could be read%s", len(readable), expected, kept)
    return directory.store.results()


def _require_method(
    rows: Sequence[StoredResult],
    old: Mapping[str, Any],
    directory: RunDirectory,
    parent: ParentLattice,
    method: Method,
) -> None:
    """Refuse rows of another method; that of rows of version 0.1 follows from the settings.

    Raises
    ------
    InputError
        Names the first difference.
    """
    found = {row.method.fingerprint: row.method for row in rows if row.method is not None}
    if old and any(row.method is None for row in rows):
        first = _method_of_record(old, directory, parent)
        found[first.fingerprint] = first
    for one in found.values():
        require_same_method(one, method, str(directory.path))


def require_method_of_run(directory: RunDirectory, parent: ParentLattice, method: Method) -> None:
    """Refuse a method by which the energies of a run were not computed.

    Raises
    ------
    InputError
        Names the first difference.
    """
    rows, old = directory.store.results(), _old_settings(directory)
    _require_method(rows, old, directory, parent, method)
    if not rows and old:
        require_same_method(_method_of_record(old, directory, parent), method, str(directory.path))


def _method_of_record(
    old: Mapping[str, Any], directory: RunDirectory, parent: ParentLattice
) -> Method:
    """Return the method of a settings.toml of version 0.1.

    Its paths may lead nowhere by now; a file of the lattice that is gone is taken for the one that
    the campaign names today, whose sites hold the same keys or none.
    """
    from latticesearch.campaign import factories

    record = {k: v for k, v in old.items() if k not in RECORDED}
    lattice = dict(record["lattice"])
    file = lattice.get("file")
    if file is not None and not (directory.path / file).exists():
        settings = parse_settings({**record, "lattice": _any_lattice(parent)}, base=directory.path)
        return method_of(settings, parent)
    settings = parse_settings(record, base=directory.path)
    return method_of(settings, factories.parent_lattice(settings))


def _any_lattice(parent: ParentLattice) -> dict[str, Any]:
    """Return a lattice that settings accept, where the real one is given otherwise."""
    return {"prototype": "sc", "a": 1.0, "species": [s for s in parent.species if s != VACANCY]}


def _digest(known: Sequence[StoredResult]) -> str:
    """Return a fingerprint of energies computed elsewhere; empty without any.

    Of their sources it takes the kind alone: files and folders may move.
    """
    if not known:
        return ""
    rows = sorted((one.key, one.result.energy, one.source.partition(":")[0]) for one in known)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
