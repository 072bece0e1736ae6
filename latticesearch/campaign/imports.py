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
from latticesearch.errors import DamagedError, InputError
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

LEAVE_OUT = (
    ", and nothing that was taken from it is kept here (known.db); bring it back, or leave it out "
    "of the settings"
)
"""How an error about a source that is gone ends."""


def known_results(
    settings: Settings,
    parent: ParentLattice,
    method: Method,
    said: list[str],
    directory: RunDirectory | None = None,
) -> list[StoredResult]:
    """Return all energies that come from elsewhere, one for each key, in the order of the keys.

    Parameters
    ----------
    settings, parent, method
        Those of the run.
    said
        Gets what there is to say of it, line by line; the log says it, too.
    directory
        The run, where there is one already: it keeps what it took in before.

    Raises
    ------
    InputError
        A source is missing and was never taken in, or cannot be used.
    """
    kept = _kept(directory)
    found: dict[str, StoredResult] = {}
    for path in settings.data.reuse:
        if directory is not None and path.resolve() == directory.path.resolve():
            raise InputError(
                f"data.reuse: {path} is this run itself, which knows its own energies; leave it "
                "out, or begin a new run with --output"
            )
        for one in _of_run(path, parent, method, kept, said):
            found.setdefault(one.key, one)
    for one in _own(settings.data, parent, kept, said):
        found.setdefault(one.key, one)
    for line in said:
        log.info("%s", line)
    return [found[key] for key in sorted(found)]


def _kept(directory: RunDirectory | None) -> list[StoredResult]:
    """Return what the run took in before; nothing where its file is damaged, which is said."""
    if directory is None:
        return []
    try:
        return directory.known.results()
    except DamagedError as error:
        log.warning("%s: the sources are read again", error)
        directory.forget_known()
        return []


def _of_run(
    path: Path,
    parent: ParentLattice,
    method: Method,
    kept: list[StoredResult],
    said: list[str],
) -> list[StoredResult]:
    """Return the energies of another run, or those kept of it where it is gone."""
    source = f"{REUSED}: {path}"
    if path.exists():
        reused = reused_results(path, parent, method, source)
        said.append(reused.summary(path))
        return list(reused.results)
    before = [one for one in kept if one.source == source]
    if not before:
        raise InputError(f"data.reuse: there is no run directory {path}{LEAVE_OUT}")
    said.append(f"{path} is gone; the {len(before)} energies taken from it are kept")
    return before


def _own(
    chosen: DataSettings, parent: ParentLattice, kept: list[StoredResult], said: list[str]
) -> list[StoredResult]:
    """Return the energies of the files that are named, or those kept of a folder that is gone."""
    if not chosen.files:
        return []
    there = [path for path in chosen.files if path.exists()]
    found: list[StoredResult] = []
    for path in chosen.files:
        if path not in there:
            found += _kept_of(path, kept, said)
    if there:
        data = own_data(there, parent, energy_key=chosen.energy_key, select=chosen.select)
        said += data.summary_lines()
        found += [_stored(entry) for entry in data.entries.values()]
    return found


def _kept_of(path: Path, kept: list[StoredResult], said: list[str]) -> list[StoredResult]:
    """Return what was taken in from a file or folder before.

    Raises
    ------
    InputError
        Nothing was.
    """
    source = f"{OWN_DATA}: {path}"
    before = [one for one in kept if one.source.startswith(source)]
    if not before:
        raise InputError(f"data.files: there is no file or folder {path}{LEAVE_OUT}")
    said.append(f"{path} is gone; the {len(before)} energies taken from it are kept")
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
