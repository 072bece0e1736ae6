"""Energies that this run has not computed: those of other runs, and own results in files.

They are taken in once and kept in the run (``known.db``), so that files and folders may go. Where
the sources are still there they are read again, and count as they are now.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.campaign.known import believed_energies
from latticesearch.campaign.own_data import (
    DUPLICATE,
    contradiction_lines,
    disagreements,
    own_data,
)
from latticesearch.campaign.reuse import reused_results
from latticesearch.campaign.sources import OWN_DATA, REUSED
from latticesearch.errors import DamagedError, InputError
from latticesearch.oracles import OracleResult
from latticesearch.storage import StoredResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latticesearch.campaign.own_data import OwnData, OwnEnergy
    from latticesearch.campaign.settings import DataSettings, Settings
    from latticesearch.lattice import ParentLattice
    from latticesearch.oracles import Method

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where energies came from, and what became of them.

    Parameters
    ----------
    kind
        "own data" or "reused".
    path
        File, folder or run.
    energies
        How many the run has taken in.
    refused
        How many it has not, by reason.
    gone
        It was there once; what was taken in then is kept.
    """

    kind: str
    path: str
    energies: int
    refused: Mapping[str, int] = field(default_factory=dict)
    gone: bool = False

    def record(self) -> dict[str, Any]:
        """Return it as the log keeps it."""
        return asdict(self)


@dataclass(eq=False)
class Elsewhere:
    """All energies that a run knows without having computed them.

    Attributes
    ----------
    by_key : dict
        One for each key.
    sources : list of Source
        In the order of the settings, runs first.
    lines : list of str
        What there is to say of it.
    contradictions : list of str
        Structures with two energies, both of them and where they are from.
    """

    by_key: dict[str, StoredResult] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)

    @property
    def results(self) -> list[StoredResult]:
        """All of them, in the order of the keys."""
        return [self.by_key[key] for key in sorted(self.by_key)]

    def record(self) -> dict[str, Any]:
        """Return it as the log keeps it: how many there are, from where, and what was said."""
        return {
            "energies": len(self.by_key),
            "sources": [source.record() for source in self.sources],
            "contradictions": self.contradictions,
            "lines": self.lines,
        }

    def add(
        self, kind: str, path: Path, results: Sequence[StoredResult], refused: Mapping[str, int]
    ) -> None:
        """Take the energies of a source that are not known from an earlier one."""
        counts, before = Counter(refused), len(self.by_key)
        for one in results:
            self.by_key.setdefault(one.key, one)
        taken = len(self.by_key) - before
        counts[DUPLICATE] += len(results) - taken
        self.sources.append(Source(kind, str(path), taken, dict(+counts)))

    def keep(self, kind: str, path: Path, results: Sequence[StoredResult]) -> None:
        """Take what was taken before from a source that is gone or damaged by now."""
        for one in results:
            self.by_key.setdefault(one.key, one)
        self.sources.append(Source(kind, str(path), len(results), gone=True))
        state = "damaged" if path.exists() else "gone"
        self.lines.append(f"{path} is {state}; the {len(results)} energies taken from it are kept")


def known_results(
    settings: Settings,
    parent: ParentLattice,
    method: Method,
    kept: Sequence[StoredResult] = (),
    computed: Sequence[StoredResult] = (),
    run: Path | None = None,
) -> Elsewhere:
    """Return all energies that come from elsewhere.

    Parameters
    ----------
    settings, parent, method
        Those of the run.
    kept
        What the run took in before.
    computed
        What its oracle has computed.
    run
        Its directory, where there is one already.

    Raises
    ------
    InputError
        A source is missing and was never taken in, or cannot be used.
    """
    found = Elsewhere()
    for path in dict.fromkeys(settings.data.reuse):
        if run is not None and path.resolve() == run.resolve():
            raise InputError(
                f"data.reuse: {path} is this run itself, which knows its own energies; leave it "
                "out, or begin a new run with --output"
            )
        _take_run(found, path, parent, method, kept, run)
    _take_files(found, settings.data, parent, kept, computed, run)
    for line in found.lines:
        log.info("%s", line)
    return found


def _take_run(
    found: Elsewhere,
    path: Path,
    parent: ParentLattice,
    method: Method,
    kept: Sequence[StoredResult],
    run: Path | None,
) -> None:
    """Take the energies of another run, or those kept of it where it is gone."""
    source = f"{REUSED}: {path}"
    before = [one for one in kept if one.source == source]
    if not path.exists():
        if not before:
            way_out = _way_out("reuse", run)
            raise InputError(f"data.reuse: there is no run directory {path}{way_out}")
        found.keep(REUSED, path, before)
        return
    try:
        reused = reused_results(path, parent, method, source)
    except DamagedError as error:
        if not before:
            raise
        found.lines.append(str(error))
        found.keep(REUSED, path, before)
        return
    found.lines.append(reused.summary(path))
    found.add(REUSED, path, reused.results, reused.refused)


def _take_files(
    found: Elsewhere,
    chosen: DataSettings,
    parent: ParentLattice,
    kept: Sequence[StoredResult],
    computed: Sequence[StoredResult],
    run: Path | None,
) -> None:
    """Take the energies of the files that are named, or those kept of one that is gone."""
    named = list(dict.fromkeys(chosen.files))
    there = [path for path in named if path.exists()]
    for path in named:
        if path in there:
            continue
        before = [one for one in kept if _is_of(path, one.source)]
        if not before:
            raise InputError(
                f"data.files: there is no file or folder {path}{_way_out('files', run)}"
            )
        found.keep(OWN_DATA, path, before)
    if not there:
        return
    data = own_data(there, parent, energy_key=chosen.energy_key, select=chosen.select)
    found.lines += data.summary_lines()
    found.contradictions += map(str, data.contradictions)
    _compare(found, data, computed)
    for path, entries, refused in _by_file(data, there):
        found.add(OWN_DATA, path, [_stored(entry) for entry in entries], refused)


def _compare(found: Elsewhere, data: OwnData, computed: Sequence[StoredResult]) -> None:
    """Say where own data contradict energies of the run's method, which count then."""
    energies = believed_energies([*found.by_key.values(), *computed])
    against = disagreements(data, energies, "the run or one that it reuses")
    found.contradictions += map(str, against)
    found.lines += contradiction_lines(
        against, "of them contradict energies of this run's method, which count"
    )


def _by_file(
    data: OwnData, sources: Sequence[Path]
) -> list[tuple[Path, list[OwnEnergy], Counter[str]]]:
    """Return entries and refusals of each source: a file, or a folder with everything in it."""
    refused = {path: Counter[str]() for path in sources}
    entries: dict[Path, list[OwnEnergy]] = {path: [] for path in sources}
    for reason, refusals in data.refusals.by_reason.items():
        for one in refusals:
            refused[_source_of(one.origin, sources)][reason] += 1
    for entry in data.entries.values():
        entries[_source_of(entry.frame.origin, sources)].append(entry)
    return [(path, entries[path], refused[path]) for path in sources]


def _source_of(origin: str, sources: Sequence[Path]) -> Path:
    """Return the source that a file and a position in it belong to; of several the innermost."""
    of = [path for path in sources if _is_of(path, f"{OWN_DATA}: {origin}")]
    return max(of, key=lambda path: len(path.parts))


def _is_of(path: Path, source: str) -> bool:
    """Tell whether what a row names as its source lies in a file or folder."""
    file = Path(source.removeprefix(f"{OWN_DATA}: ").rpartition("#")[0])
    return source.startswith(OWN_DATA) and (file == path or path in file.parents)


def _way_out(name: str, run: Path | None) -> str:
    """Return how an error about a source that is gone ends."""
    if run is None:
        return "; bring it back, or leave it out of the settings"
    return (
        ", and nothing that was taken from it is kept here (known.db); bring it back, or leave it "
        f"out: latticesearch run {run} --set 'data.{name}=[]' (in the brackets what is still there)"
    )


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
