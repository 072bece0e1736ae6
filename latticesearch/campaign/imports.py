"""Energies that this run has not computed: those of other runs, and own results in files.

They are taken in once and kept in the run (``known.db``), so that files and folders may go. Where
the sources are still there they are read again, and count as they are now.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from latticesearch.campaign.own_data import own_data
from latticesearch.campaign.reuse import reused_results
from latticesearch.campaign.sources import OWN_DATA, REUSED
from latticesearch.errors import InputError
from latticesearch.oracles import OracleResult
from latticesearch.storage import StoredResult

if TYPE_CHECKING:
    from pathlib import Path

    from latticesearch.campaign.own_data import OwnEnergy
    from latticesearch.campaign.settings import DataSettings, Settings
    from latticesearch.lattice import ParentLattice
    from latticesearch.oracles import Method
    from latticesearch.storage import RunDirectory

log = logging.getLogger(__name__)


def known_results(
    settings: Settings,
    parent: ParentLattice,
    method: Method,
    directory: RunDirectory | None = None,
) -> list[StoredResult]:
    """Return all energies that come from elsewhere, one for each key, in the order of the keys.

    Parameters
    ----------
    settings, parent, method
        Those of the run.
    directory
        The run, where there is one already: it keeps what it took in before.

    Raises
    ------
    InputError
        A source is missing and was never taken in, or cannot be used.
    """
    kept = [] if directory is None else directory.known.results()
    found: dict[str, StoredResult] = {}
    for path in settings.data.reuse:
        for one in _of_run(path, parent, method, kept):
            found.setdefault(one.key, one)
    for one in _own(settings.data, parent, kept):
        found.setdefault(one.key, one)
    return [found[key] for key in sorted(found)]


def _of_run(
    path: Path, parent: ParentLattice, method: Method, kept: list[StoredResult]
) -> list[StoredResult]:
    """Return the energies of another run, or those kept of it where it is gone."""
    source = f"{REUSED}: {path}"
    if path.exists():
        reused = reused_results(path, parent, method, source)
        log.info("%s", reused.summary(path))
        return list(reused.results)
    before = [one for one in kept if one.source == source]
    if not before:
        raise InputError(f"data.reuse: there is no run directory {path}")
    log.info("%s is gone; the %d energies taken from it are kept", path, len(before))
    return before


def _own(
    chosen: DataSettings, parent: ParentLattice, kept: list[StoredResult]
) -> list[StoredResult]:
    """Return the energies of the files that are named, or those kept of a folder that is gone."""
    if not chosen.files:
        return []
    there = [path for path in chosen.files if path.exists()]
    found: list[StoredResult] = []
    for path in chosen.files:
        if path not in there:
            found += _kept_of(path, kept)
    if there:
        data = own_data(there, parent, energy_key=chosen.energy_key, select=chosen.select)
        for line in data.summary_lines():
            log.info("%s", line)
        found += [_stored(entry) for entry in data.entries.values()]
    return found


def _kept_of(path: Path, kept: list[StoredResult]) -> list[StoredResult]:
    """Return what was taken in from a file or folder before.

    Raises
    ------
    InputError
        Nothing was.
    """
    source = f"{OWN_DATA}: {path}"
    before = [one for one in kept if one.source.startswith(source)]
    if not before:
        raise InputError(f"data.files: there is no file or folder {path}")
    log.info("%s is gone; the %d energies taken from it are kept", path, len(before))
    return before


def _stored(entry: OwnEnergy) -> StoredResult:
    """Return an own energy as the result of an oracle."""
    frame = entry.frame
    result = OracleResult(
        entry.key,
        "done",
        energy=frame.energy,
        forces=frame.forces,
        stress=frame.stress,
        atoms=frame.atoms,
        converged=True,
        kind=OWN_DATA,
    )
    return StoredResult(0, 0, "done", result, None, f"{OWN_DATA}: {frame.origin}")
