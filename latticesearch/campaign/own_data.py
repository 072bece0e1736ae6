"""Energies computed before, in files and other runs, as energies of decorations of the lattice.

They are taken on trust: nothing here can tell with which settings a file was computed. What gives a
wrong method away is that it contradicts what is known; hence contradictions are kept, not averaged
out.

Of several frames with one key the lowest energy counts. They differ because one is relaxed further,
or in another magnetic state, and in both cases the lowest is the state that competes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.campaign import factories
from latticesearch.campaign.damage import require_sound
from latticesearch.campaign.known import AGREEING, results_of_run, settings_of_run
from latticesearch.errors import InputError
from latticesearch.frames import (
    NOT_LAST,
    Frame,
    Reading,
    Refusal,
    Refusals,
    may_be_next_step,
    read_all,
)
from latticesearch.lattice import (
    Configuration,
    LatticeMatch,
    MappingFailure,
    ParentLattice,
    match_to_lattice,
    match_to_start,
)
from latticesearch.lattice.parent import VACANCY
from latticesearch.storage import RunDirectory, is_run_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ase import Atoms

    from latticesearch.storage import StoredResult

SAME_ENERGY = 1e-4
"""eV/atom: energies closer than this are one calculation written twice, to a few digits."""

LARGE_FORCE = 0.1
"""eV/Å: a structure with a larger force is said not to be relaxed."""

MAX_LINES = 5
"""Contradictions that are named."""

FOREIGN = "with elements that the campaign does not have"
NO_DECORATION = "no decoration of the lattice"
LEFT = "relaxed away from the decoration it began as"
FAILED = "failed in its run"
DUPLICATE = "duplicate"
CONTRADICTION = "contradicting duplicate"
HIGHER_STEP = "another step of the same relaxation"
LARGE = "with a force above the limit"
REPEATED = (DUPLICATE, CONTRADICTION, HIGHER_STEP, NOT_LAST)
"""Reasons why a frame does not count although its structure has an energy."""


@dataclass(frozen=True, eq=False)
class OwnEnergy:
    """The energy of one decoration of the lattice, and the frame it comes from.

    Parameters
    ----------
    key
        Canonical key.
    frame
        Relaxed structure, energy, forces, stress, origin, and the start structure if known.
    """

    key: str
    frame: Frame

    @property
    def energy(self) -> float:
        """Its energy, eV/atom."""
        return self.frame.energy_per_atom


@dataclass(frozen=True)
class Contradiction:
    """Two energies for one structure.

    Parameters
    ----------
    key
        Canonical key.
    formula
        Reduced formula.
    energies
        The one that counts and the other one, eV/atom.
    origins
        Where they come from.
    """

    key: str
    formula: str
    energies: tuple[float, float]
    origins: tuple[str, str]

    @property
    def difference(self) -> float:
        """How far apart they are, eV/atom."""
        return abs(self.energies[1] - self.energies[0])

    def __str__(self) -> str:
        (kept, other), (here, there) = self.energies, self.origins
        return (
            f"{self.formula} ({self.key}): {kept:.4f} eV/atom in {here}, "
            f"{other:.4f} eV/atom in {there}"
        )


@dataclass(eq=False)
class OwnData:
    """Energies of decorations of one lattice that need not be computed.

    Attributes
    ----------
    entries : dict
        By canonical key, in the order in which the keys were found.
    refusals : Refusals
        What was read and is not used, by reason.
    contradictions : list of Contradiction
        Structures with two energies further apart than `SAME_ENERGY`.
    n_frames : int
        All frames that were read.
    """

    entries: dict[str, OwnEnergy] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=Refusals)
    contradictions: list[Contradiction] = field(default_factory=list)
    n_frames: int = 0

    @property
    def energies(self) -> dict[str, float]:
        """Energies by key, eV/atom."""
        return {key: entry.energy for key, entry in self.entries.items()}

    @property
    def n_unusable(self) -> int:
        """Frames that were refused for themselves, not for another one of the same structure."""
        repeated = sum(self.refusals.counts.get(reason, 0) for reason in REPEATED)
        return len(self.refusals) - repeated

    def summary_lines(self) -> list[str]:
        """Return what was found and what was refused as sentences for a person."""
        structures, frames = _number(len(self.entries), "structure"), self.n_frames
        lines = [f"own data: {structures} of the lattice in {_number(frames, 'frame')}"]
        lines += [f"  not used: {line}" for line in self.refusals.lines()]
        n_moving = sum((_force(e.frame) or 0.0) > LARGE_FORCE for e in self.entries.values())
        if n_moving:
            lines.append(
                f"  {n_moving} of them with forces above {LARGE_FORCE} eV/Å: they are not relaxed"
            )
        return lines + contradiction_lines(
            self.contradictions, "structures have two energies; the lower one counts"
        )


def own_data(
    sources: Sequence[Path],
    parent: ParentLattice,
    *,
    energy_key: str | None = None,
    select: Mapping[str, object] | None = None,
    types: Sequence[str] | None = None,
    max_force: float | None = None,
) -> OwnData:
    """Read the energies of structures that are decorations of a lattice.

    Parameters
    ----------
    sources
        Files and folders as `latticesearch.frames.read_all` takes them, and run directories.
    parent
        The parent lattice.
    energy_key
        Name of the energy, eV per cell; default what the file's format calls the energy.
    select
        Only frames with these values; runs are taken whole.
    types
        Symbols of the types of ``.cfg`` files; default the lattice's species in their order.
    max_force
        Only frames in which no known force is larger, eV/Å: of a training set for molecular
        dynamics, that leaves the relaxed ones. Default all.

    Returns
    -------
    OwnData
        One energy per structure, and all that was refused.

    Raises
    ------
    InputError
        A source is not there, cannot be read at all, or holds nothing to read.
    """
    elements = tuple(s for s in parent.species if s != VACANCY)
    wanted = Reading(energy_key, dict(select or {}), tuple(types or elements))
    data = OwnData()
    relaxation: list[Frame] = []
    for item in _items(sources, wanted):
        data.n_frames += 1
        if isinstance(item, Refusal):
            data.refusals.add(item)
            continue
        # Steps that are refused for themselves belong to it, too.
        if relaxation and not may_be_next_step(relaxation[-1], item):
            relaxation.clear()
        relaxation.append(item)
        key, refusal = _key_of(item, parent, max_force)
        if key is None:
            assert refusal is not None
            data.refusals.add(refusal)
        else:
            _take(data, OwnEnergy(key, item), relaxation)
    return data


def disagreements(data: OwnData, energies: Mapping[str, float], origin: str) -> list[Contradiction]:
    """Return where own data contradict other energies by more than computing twice explains.

    Parameters
    ----------
    data
        Own data.
    energies
        Other energies of the same structures by key, eV/atom.
    origin
        Where these come from.

    Returns
    -------
    list of Contradiction
        The other energy comes first: it counts.
    """
    return [
        Contradiction(
            key, _formula(entry.frame.atoms), (energies[key], entry.energy), (origin, _at(entry))
        )
        for key, entry in data.entries.items()
        if key in energies and abs(energies[key] - entry.energy) > AGREEING
    ]


def _items(sources: Iterable[Path], wanted: Reading) -> Iterator[Frame | Refusal]:
    for source in map(Path, sources):
        if source.is_dir() and is_run_directory(source):
            yield from frames_of_run(source)
        else:
            yield from read_all([source], wanted)


def frames_of_run(path: Path) -> Iterator[Frame | Refusal]:
    """Read what the oracle of a run has answered, with the structures it was asked for."""
    directory = RunDirectory.read(path)
    try:
        lattice = factories.parent_lattice(settings_of_run(directory))
    except InputError:
        # A file that the old settings name may be gone; the relaxed structures are still here.
        lattice = None
    require_sound(directory)
    for stored in results_of_run(directory).values():
        yield _of_stored(stored, f"{path}#{stored.row}", lattice)


def _of_stored(stored: StoredResult, origin: str, lattice: ParentLattice | None) -> Frame | Refusal:
    """Return one result of a run as a frame, or why it is none."""
    result = stored.result
    if stored.status != "done" or result.energy is None or result.atoms is None:
        return Refusal(FAILED, origin, result.error or "")
    if not result.on_lattice:
        return Refusal(LEFT, origin, _formula(result.atoms))
    start = None if lattice is None else Configuration.from_key(lattice, stored.key).to_atoms()
    return Frame(result.atoms, result.energy, origin, result.forces, result.stress, start)


def _key_of(
    frame: Frame, parent: ParentLattice, max_force: float | None
) -> tuple[str | None, Refusal | None]:
    """Return the canonical key of a frame, or why it has none.

    Where relaxation kept the neighbours of the structure it began with, that one's key counts. A
    structure that is known to have begun as another decoration than the one it ended as belongs
    to neither: its energy is not that of the first, and the second was not what was relaxed.
    """
    foreign = sorted(set(frame.atoms.get_chemical_symbols()) - set(parent.species))
    if foreign:
        return None, Refusal(FOREIGN, frame.origin, ", ".join(foreign))
    force = _force(frame)
    if max_force is not None and force is not None and force > max_force:
        return None, Refusal(LARGE, frame.origin, f"{force:.2g} eV/Å")
    before = None if frame.start is None else match_to_lattice(frame.start, parent, explain=False)
    if isinstance(before, LatticeMatch):
        if isinstance(match_to_start(frame.atoms, before.configuration), LatticeMatch):
            return before.configuration.key, None
        start_key = before.configuration.key
    else:
        start_key = None
    match = match_to_lattice(frame.atoms, parent)
    if isinstance(match, MappingFailure):
        return None, Refusal(NO_DECORATION, frame.origin, str(match))
    key = match.configuration.key
    if start_key not in {None, key}:
        return None, Refusal(LEFT, frame.origin, f"{start_key} became {key}")
    return key, None


def _take(data: OwnData, entry: OwnEnergy, relaxation: Sequence[Frame]) -> None:
    """Take one more energy; of two for one key the lower one stays.

    Parameters
    ----------
    data
        Takes it.
    entry
        The energy.
    relaxation
        Frames that may be steps of one relaxation, its own the last.
    """
    known = data.entries.get(entry.key)
    if known is None:
        data.entries[entry.key] = entry
        return
    kept, other = (known, entry) if known.energy <= entry.energy else (entry, known)
    data.entries[entry.key] = kept
    origin = other.frame.origin
    if other.energy - kept.energy <= SAME_ENERGY:
        data.refusals.add(Refusal(DUPLICATE, origin, f"same as {kept.frame.origin}"))
    elif any(step is known.frame for step in relaxation):
        data.refusals.add(Refusal(HIGHER_STEP, origin, f"{kept.frame.origin} is lower"))
    else:
        energies = kept.energy, other.energy
        found = Contradiction(entry.key, _formula(other.frame.atoms), energies, (_at(kept), origin))
        data.contradictions.append(found)
        difference = f"{1000 * found.difference:.1f} meV/atom above {_at(kept)}"
        data.refusals.add(Refusal(CONTRADICTION, origin, difference))


def _force(frame: Frame) -> float | None:
    """Return the largest force on an atom, eV/Å; None where forces are unknown."""
    if frame.forces is None:
        return None
    return float(np.linalg.norm(frame.forces, axis=1).max(initial=0.0))


def _at(entry: OwnEnergy) -> str:
    return entry.frame.origin


def _formula(atoms: Atoms) -> str:
    return str(atoms.get_chemical_formula("metal", empirical=True))


def contradiction_lines(found: Sequence[Contradiction], what: str) -> list[str]:
    """Return one line per structure, its largest contradiction, the largest first."""
    if not found:
        return []
    largest: dict[str, Contradiction] = {}
    for one in sorted(found, key=lambda one: -one.difference):
        largest.setdefault(one.key, one)
    ordered = list(largest.values())
    lines = [f"  {len(ordered)} {what}:", *(f"    {one}" for one in ordered[:MAX_LINES])]
    return [*lines, "    ..."] if len(ordered) > MAX_LINES else lines


def _number(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
