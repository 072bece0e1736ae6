"""Energies that come back from calculations done elsewhere, each judged by what was asked for."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.campaign import factories
from latticesearch.campaign.asking import still_out
from latticesearch.campaign.damage import require_sound
from latticesearch.campaign.known import settings_of_run
from latticesearch.campaign.method import method_of
from latticesearch.campaign.opening import require_method_of_run
from latticesearch.campaign.own_data import LARGE_FORCE, SAME_ENERGY
from latticesearch.campaign.sources import TOLD
from latticesearch.campaign.stages import next_round
from latticesearch.errors import InputError
from latticesearch.frames import Frame, read_all
from latticesearch.frames.types import NOT_CONVERGED, NOT_LAST, Reading
from latticesearch.lattice import Configuration, LatticeMatch, match_to_lattice, match_to_start
from latticesearch.lattice.parent import VACANCY
from latticesearch.oracles import OracleResult
from latticesearch.oracles.by_hand import JOB, PROVENANCE
from latticesearch.storage import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from latticesearch.campaign.settings import Settings
    from latticesearch.lattice import ParentLattice
    from latticesearch.oracles import Method

TAKEN = "told"
LEFT = "told, but relaxed away from the lattice"
NOTHING = "no output yet"
HALF = "not finished"
FOREIGN = "foreign"
DUPLICATE = "known already"
CHANGED = "another structure"
GIVEN_UP = "given up"

SAME_LENGTH = 1e-3
"""Relative difference of cell vectors that rounding in files does not explain."""


@dataclass(frozen=True)
class Told:
    """What became of one folder.

    Parameters
    ----------
    place
        The folder or file.
    verdict
        "told", "not finished", "foreign", "known already", "another structure", ...
    detail
        What is particular to it.
    key
        Canonical key of its structure; empty where it has none.
    energy
        eV/atom; None where there is none.
    """

    place: str
    verdict: str
    detail: str = ""
    key: str = ""
    energy: float | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.verdict}{f' ({self.detail})' if self.detail else ''}"


@dataclass(frozen=True)
class Telling:
    """What became of all folders.

    Parameters
    ----------
    run
        The run directory.
    outcomes
        One for each folder, or structure of a file.
    out
        Keys that were asked for and have not come back.
    """

    run: Path
    outcomes: tuple[Told, ...]
    out: tuple[str, ...]

    @property
    def counts(self) -> Counter[str]:
        """Number of outcomes of each kind."""
        return Counter(one.verdict for one in self.outcomes)


class _Refused(Exception):  # noqa: N818 - a verdict
    """A structure cannot be used: verdict and detail."""


@dataclass(frozen=True)
class _Place:
    """A folder that was asked for, or something else that may hold results."""

    path: Path
    job: Mapping[str, Any] = field(default_factory=dict)


def tell(run: Path, places: Sequence[Path], *, give_up: Sequence[Path] = ()) -> Telling:
    """Read calculations, and keep their energies in a run.

    Each energy is on the disk before the next folder is read.

    Parameters
    ----------
    run
        The run directory.
    places
        Folders that `latticesearch ask` has written, folders of such folders, or other folders and
        files with results.
    give_up
        Folders of structures that cannot be computed: nobody will ask for them again.

    Raises
    ------
    InputError
        The run is not there, in use, or of another method than its settings say; or a place is
        missing.
    """
    for place in (*places, *give_up):
        if not place.exists():
            raise InputError(f"there is no file or folder {place}")
    with RunDirectory.open(run) as directory:
        require_sound(directory)
        teller = _Teller(directory)
        outcomes = [teller.give_up(one) for place in give_up for one in _places(place)]
        for place in places:
            for one in _places(place):
                outcomes += teller.take(one)
        out = still_out(directory, set(teller.known))
        if outcomes:
            left = f"{len(out)} energies asked for" if out else "energies were told"
            directory.log_event("told", lines=[str(one) for one in outcomes])
            directory.log_event("stopped", reason=left, keys=out)
    return Telling(run, tuple(outcomes), tuple(out))


def _places(path: Path) -> list[_Place]:
    """Return the asked-for folders at any depth, or the path itself where there are none."""
    jobs = sorted(path.rglob(JOB)) if path.is_dir() else []
    found = [_Place(job.parent, content) for job in jobs if (content := _job(job)) is not None]
    return found or [_Place(path)]


def _job(path: Path) -> Mapping[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_ours = isinstance(content, dict) and isinstance(content.get("key"), str)
    return content if is_ours else None


class _Teller:
    """Judges results by the run they are told to, and stores them."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._settings: Settings = settings_of_run(directory)
        self._parent: ParentLattice = factories.parent_lattice(self._settings)
        self._method: Method = method_of(self._settings, self._parent)
        require_method_of_run(directory, self._parent, self._method)
        self._round = next_round(directory.events())
        self.known = {
            key: stored.result
            for key, stored in directory.store.by_key().items()
            if stored.status != "failed"
        }
        elements = tuple(s for s in self._parent.species if s != VACANCY)
        self._reading = Reading(types=elements)

    def take(self, place: _Place) -> list[Told]:
        """Return what became of the results in a place, once what is usable is stored."""
        if place.job.get("method", self._method.fingerprint) != self._method.fingerprint:
            campaign = place.job.get("campaign", "another campaign")
            return [Told(str(place.path), FOREIGN, f"asked for by {campaign}, by another method")]
        try:
            items = list(read_all([place.path], self._reading))
        except InputError as error:
            if not place.job:
                return [Told(str(place.path), NOTHING, str(error))]
            return [Told(str(place.path), NOTHING, key=place.job["key"])]
        frames = [one for one in items if isinstance(one, Frame)]
        refusals = [one for one in items if not isinstance(one, Frame) and one.reason != NOT_LAST]
        if place.job:
            if frames:
                best = min(frames, key=lambda frame: frame.energy_per_atom)
                return [self._judged(best, str(place.path), place.job)]
            reasons = "; ".join(f"{one.reason}: {one}" for one in refusals)
            return [Told(str(place.path), HALF, reasons, place.job["key"])]
        found = [
            Told(
                one.origin,
                HALF if one.reason == NOT_CONVERGED else FOREIGN,
                f"{one.reason} {one.detail}".strip(),
            )
            for one in refusals
        ]
        return found + [self._judged(frame, frame.origin, {}) for frame in frames]

    def give_up(self, place: _Place) -> Told:
        """Note that a structure cannot be computed."""
        key = place.job.get("key", "")
        if not key:
            return Told(str(place.path), FOREIGN, f"it has no {JOB}")
        if key in self.known:
            return Told(str(place.path), DUPLICATE, "it stays as it is", key)
        result = OracleResult(
            key,
            "failed",
            kind=self._kind,
            error="given up by hand",
            cause="structure",
            repeatable=False,
        )
        self._store(result, place.path, quarantine=True)
        return Told(str(place.path), GIVEN_UP, key=key)

    @property
    def _kind(self) -> str:
        return self._settings.oracle.calculator or self._settings.oracle.kind

    def _judged(self, frame: Frame, place: str, job: Mapping[str, Any]) -> Told:
        """Return what becomes of a frame; it is stored where it is of use."""
        energy = frame.energy_per_atom
        try:
            key, is_there = self._key_of(frame, job)
            self._check_relaxation(frame, key)
            self._check_new(key, energy)
        except _Refused as refused:
            verdict, detail = refused.args
            return Told(place, verdict, detail, job.get("key", ""), energy)
        formula = Configuration.from_key(self._parent, key).formula
        result = OracleResult(
            key,
            "done",
            energy=frame.energy,
            forces=frame.forces,
            stress=frame.stress,
            atoms=frame.atoms,
            converged=True,
            kind=self._kind,
            on_lattice=is_there,
        )
        provenance = self._provenance(frame)
        seconds = float(provenance.get("seconds", 0.0))
        self._store(replace(result, provenance=provenance, seconds=seconds), frame.origin)
        unasked = "" if job else "; not asked for in a folder"
        text = f"{formula} {energy:.5f} eV/atom{unasked}"
        return Told(place, TAKEN if is_there else LEFT, text, key, energy)

    def _provenance(self, frame: Frame) -> dict[str, Any]:
        """Return where an energy was read, and what a folder of ours says of how it came about."""
        from pathlib import Path

        found: dict[str, Any] = {"told": frame.origin}
        path = Path(frame.file).parent / PROVENANCE
        if path.is_file():
            found |= json.loads(path.read_text(encoding="utf-8"))
        return found

    def _store(self, result: OracleResult, origin: object, *, quarantine: bool = False) -> None:
        row = self._directory.store.append(
            result,
            self._round,
            quarantine=quarantine,
            method=self._method,
            source=f"{TOLD}: {origin}",
        )
        self._directory.log_event("result", row=row, key=result.key, status=result.status)
        self.known[result.key] = result

    def _key_of(self, frame: Frame, job: Mapping[str, Any]) -> tuple[str, bool]:
        """Return the key of a frame, and whether it still is that structure.

        Raises
        ------
        _Refused
            It is foreign, or another structure than the one that was asked for.
        """
        foreign = sorted(set(frame.atoms.get_chemical_symbols()) - set(self._parent.species))
        if foreign:
            raise _Refused(FOREIGN, f"it holds {', '.join(foreign)}")
        begun = self._match(frame.start) if frame.start is not None else None
        ended = self._match(frame.atoms)
        if not job:
            if begun not in {None, ended}:
                raise _Refused(
                    CHANGED, f"it began as {begun} and ended as {ended or 'no decoration'}"
                )
            if ended is None:
                raise _Refused(FOREIGN, "no decoration of the lattice")
            return ended, True
        asked = self._asked(job["key"])
        if isinstance(match_to_start(frame.atoms, asked), LatticeMatch) or ended == asked.key:
            if begun not in {None, asked.key}:
                raise _Refused(CHANGED, f"asked for was {asked.key}, it began as {begun}")
            return asked.key, True
        same_atoms = sorted(asked.to_atoms().symbols) == sorted(frame.atoms.symbols)
        if begun == asked.key or (begun is None and ended is None and same_atoms):
            return asked.key, False
        there = begun or ended or frame.atoms.get_chemical_formula("metal")
        raise _Refused(CHANGED, f"asked for was {asked.key}, it holds {there}")

    def _asked(self, key: str) -> Configuration:
        try:
            return Configuration.from_key(self._parent, key)
        except (InputError, ValueError, IndexError) as error:
            raise _Refused(FOREIGN, f"{key} is no structure of this campaign: {error}") from error

    def _match(self, atoms: Any) -> str | None:
        match = match_to_lattice(atoms, self._parent, explain=False)
        return match.configuration.key if isinstance(match, LatticeMatch) else None

    def _check_relaxation(self, frame: Frame, key: str) -> None:
        """Refuse what was relaxed although the method says not to, or not although it does.

        Raises
        ------
        _Refused
            With both values.
        """
        source = self._settings.oracle
        configuration = Configuration.from_key(self._parent, key)
        start = factories.start_of(self._settings)(configuration)
        volumes = [a.get_volume() / len(a) for a in (frame.atoms, start)]
        if not source.relax_cell and abs(volumes[0] / volumes[1] - 1) > 3 * SAME_LENGTH:
            text = f"{volumes[0]:.3f} instead of {volumes[1]:.3f} Å³/atom; relax_cell is false"
            raise _Refused(CHANGED, text)
        force = 0.0
        if frame.forces is not None:
            force = float(np.linalg.norm(frame.forces, axis=1).max(initial=0.0))
        if source.relax_ions and force > LARGE_FORCE:
            raise _Refused(HALF, f"not relaxed: a force of {force:.2g} eV/Å")

    def _check_new(self, key: str, energy: float) -> None:
        """Refuse a second energy of a structure.

        Raises
        ------
        _Refused
            It has one.
        """
        known = self.known.get(key)
        if known is None or known.energy is None or known.atoms is None:
            return
        before = known.energy / len(known.atoms)
        difference = 1000 * (energy - before)
        same = abs(energy - before) <= SAME_ENERGY
        text = (
            "the same energy"
            if same
            else f"this one is {difference:+.1f} meV/atom; it is not taken"
        )
        raise _Refused(DUPLICATE, text)


def lines_of(telling: Telling) -> Iterator[str]:
    """Yield what became of all, line by line, and the sum of it."""
    for one in telling.outcomes:
        yield str(one)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in telling.counts.items())
    yield f"{counts or 'nothing to tell'}; {len(telling.out)} asked for and not told yet"
