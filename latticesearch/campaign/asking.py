"""Folders for calculations that others do: one structure each, ready to be computed."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ase.io import write

from latticesearch.campaign import factories
from latticesearch.campaign.answers import Answers
from latticesearch.campaign.damage import require_sound
from latticesearch.campaign.known import reference_energies
from latticesearch.campaign.method import method_of
from latticesearch.campaign.opening import (
    Opened,
    OpeningOptions,
    open_run,
    require_method_of_run,
)
from latticesearch.campaign.run import versions
from latticesearch.campaign.space import (
    EXPLORED,
    SAMPLED,
    add_known,
    candidate_set,
    candidate_space,
    sample,
)
from latticesearch.campaign.stages import Stage
from latticesearch.campaign.upcoming import Progress, Upcoming, next_calculations
from latticesearch.errors import InputError
from latticesearch.lattice import Configuration
from latticesearch.oracles import OracleJob
from latticesearch.oracles.by_hand import JOB, RESULT
from latticesearch.oracles.presets import PRESETS
from latticesearch.oracles.presets.kpoints import start_grid
from latticesearch.oracles.presets.magnetism import orders
from latticesearch.oracles.scratch import folder_of
from latticesearch.progress import NoProgress
from latticesearch.storage import RunDirectory, cif_bytes, is_run_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ase import Atoms

    from latticesearch.campaign.settings import Settings
    from latticesearch.lattice import ParentLattice
    from latticesearch.learning import CandidateSet
    from latticesearch.oracles.presets import Wanted

log = logging.getLogger(__name__)

ASKED = "asked"
"""Folder in a run where structures are written, unless another is named."""


@dataclass(frozen=True)
class Asked:
    """A structure that was handed out.

    Parameters
    ----------
    key, formula, reason
        Which one, and why.
    folder
        Where its files are.
    """

    key: str
    formula: str
    reason: str
    folder: Path


@dataclass(frozen=True)
class Asking:
    """What came of asking.

    Parameters
    ----------
    run
        The run directory.
    asked
        What was handed out now.
    out
        Keys that were handed out before and have not come back.
    """

    run: Path
    asked: tuple[Asked, ...]
    out: tuple[str, ...]


def ask(
    settings: Settings, path: Path, number: int, folder: Path | None = None, *, again: bool = False
) -> Asking:
    """Write folders for the structures that a campaign would compute next.

    Parameters
    ----------
    settings
        Those of the campaign, their paths absolute.
    path
        The run directory; it is made where there is none.
    number
        Structures at most.
    folder
        Where to; default a folder in the run.
    again
        What was asked for and has not come back may be asked for once more.

    Raises
    ------
    InputError
        The run is of another method, is in use, or nothing is left to compute.
    """
    parent = factories.parent_lattice(settings)
    opened = _opened(settings, path, parent)
    try:
        return _Asker(settings, parent, opened, folder or path / ASKED).ask(number, again=again)
    finally:
        opened.directory.close()


def _opened(settings: Settings, path: Path, parent: ParentLattice) -> Opened:
    """Return the run, locked: as it is, without a new stage; or a new one."""
    if not is_run_directory(path):
        environment = {"ranks": 1, **versions()}
        # What has to be refused is refused before there is a run.
        factories.oracle(settings, parent, 1).close()
        return open_run(path, settings, parent, environment, OpeningOptions())
    directory = RunDirectory.open(path)
    try:
        require_sound(directory)
        method = method_of(settings, parent)
        require_method_of_run(directory, parent, method)
        stage = Stage.of(directory.read_settings()) or Stage()
        rows, known = directory.store.results(), directory.known.results()
    except BaseException:
        directory.close()
        raise
    return Opened(directory, method, stage, rows, known)


def still_out(directory: RunDirectory, settled: set[str]) -> list[str]:
    """Return the keys that were handed out and have not come back, oldest first."""
    found: dict[str, None] = {}
    for event in directory.events():
        if event["event"] == "asked":
            found |= dict.fromkeys(event["keys"])
    return [key for key in found if key not in settled]


class _Asker:
    """Chooses structures and writes their folders."""

    def __init__(
        self, settings: Settings, parent: ParentLattice, opened: Opened, folder: Path
    ) -> None:
        self._settings, self._parent, self._opened = settings, parent, opened
        self._folder = folder
        self._computing = factories.computing_oracle(settings)
        oracle = factories.oracle(settings, parent, 1)
        rules = factories.answer_rules(settings, reference_energies(settings, parent))
        self._candidates = _candidates(settings, parent, opened)
        self._answers = Answers(oracle, opened, self._candidates, rules, NoProgress())

    def ask(self, number: int, *, again: bool) -> Asking:
        """Do what `ask` says."""
        directory = self._opened.directory
        energies = self._answers.energies()
        closed = self._answers.closed() - energies.keys()
        out = still_out(directory, {*energies, *closed})
        pending = [] if again else [key for key in out if key in self._candidates]
        chosen = self._chosen(Progress(energies, closed, pending), number)
        if not chosen and not pending:
            raise InputError(f"{directory.path}: nothing is left to compute")
        asked = tuple(self._write(one) for one in chosen)
        if asked:
            keys = [one.key for one in asked]
            directory.log_event("asked", keys=keys, folder=str(self._folder))
            n = len({*keys, *out})
            directory.log_event("stopped", reason=f"{n} energies asked for", keys=keys)
        now = {one.key for one in asked}
        return Asking(directory.path, asked, tuple(key for key in out if key not in now))

    def _chosen(self, progress: Progress, number: int) -> list[Upcoming]:
        """Return first what the run itself waits for, then what is worth most."""
        taken = {*progress.energies, *progress.closed, *progress.pending}
        waits = [k for k in _awaited(self._opened.directory) if k not in taken]
        first = [Upcoming(key, "the run waits for it") for key in waits if key in self._candidates]
        first = first[:number]
        pending = [*progress.pending, *(one.key for one in first)]
        rest = next_calculations(
            self._candidates,
            Progress(progress.energies, progress.closed, pending),
            number - len(first),
            tolerance=self._settings.learning.tolerance,
            seed=self._settings.campaign.seed,
        )
        return first + rest

    def _write(self, one: Upcoming) -> Asked:
        """Write the folder of a structure; job.json, which vouches for the others, comes last."""
        configuration = Configuration.from_key(self._parent, one.key)
        atoms = factories.start_of(self._settings)(configuration)
        folder = self._folder / f"{configuration.formula}-{folder_of(self._folder, one.key).name}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files = self._files(folder, one.key, atoms)
            for name, text in files.items():
                (folder / name).write_bytes(text)
        except OSError as error:
            raise InputError(f"cannot write to {folder}: {error.strerror}") from error
        return Asked(one.key, configuration.formula, one.reason, folder)

    def _files(self, folder: Path, key: str, atoms: Atoms) -> dict[str, bytes]:
        """Write the inputs of a code, and return the texts of all other files."""
        inputs = _write_inputs(self._settings, folder, atoms)
        message = None
        if self._computing is not None:
            message = self._computing.message(OracleJob(key, atoms))
        job = {
            "key": key,
            "campaign": self._settings.campaign.name,
            "method": self._opened.method.fingerprint,
            "message": message,
        }
        readme = _readme(self._settings, key, inputs, can_compute=message is not None)
        texts = {"POSCAR": _poscar(atoms)} if not (folder / "POSCAR").exists() else {}
        return {
            **texts,
            "structure.cif": cif_bytes(atoms),
            "README": readme.encode(),
            JOB: json.dumps(job, indent=1).encode(),
        }


def _candidates(settings: Settings, parent: ParentLattice, opened: Opened) -> CandidateSet:
    """Return the structures that compete, those that the run has found by search among them."""
    space = candidate_space(settings, parent)
    candidates = candidate_set(space)
    known = [(row.key, "earlier") for row in opened.rows]
    known += [(one.key, one.source.partition(":")[0]) for one in opened.known]
    add_known(candidates, known)
    table = opened.directory.read_candidates()
    if table is None:
        # Where nothing has been searched yet, a sample stands for the larger cells.
        for batch in sample(space, SAMPLED, settings.campaign.seed) if space.n_explored else []:
            candidates.add(batch, EXPLORED)
        return candidates
    keys = [key for key in table["key"] if key not in candidates]
    candidates.add_configurations((Configuration.from_key(parent, key) for key in keys), "earlier")
    return candidates


def _awaited(directory: RunDirectory) -> Sequence[str]:
    """Return what the run said last that it waits for, unless something has come since."""
    for event in reversed(directory.events()):
        if event["event"] == "stopped" and "oracle_calls" in event:
            return tuple(event.get("keys", ()))
        if event["event"] in {"result", "start", "resume"}:
            return ()
    return ()


def _poscar(atoms: Atoms) -> bytes:
    buffer = io.StringIO()
    write(buffer, atoms, format="vasp", direct=True, sort=True, parallel=False)
    return buffer.getvalue().encode()


def _write_inputs(settings: Settings, folder: Path, atoms: Atoms) -> list[str]:
    """Write the inputs of the campaign's code; return the names of what was written.

    Where several magnetic orders are to be tried each has a folder of its own.
    """
    source = settings.oracle
    if source.kind not in PRESETS or not PRESETS[source.kind].is_costly:
        return []
    told = factories.wanted(source)
    starts = orders(atoms, told)
    names: list[str] = []
    for order, moments in starts.items():
        place = folder if len(starts) == 1 else folder / order.replace(" ", "-")
        place.mkdir(exist_ok=True)
        start = atoms.copy()
        if moments is not None:
            start.set_initial_magnetic_moments(PRESETS[source.kind].start_moments(moments))
        with contextlib.chdir(place):
            written = PRESETS[source.kind].write_inputs(told, _inputs(settings, told, start), start)
        names += written if place == folder else [f"{place.name}/{name}" for name in written]
    return names


def _inputs(settings: Settings, told: Wanted, atoms: Atoms) -> Mapping[str, Any]:
    """Return what the code is told: to relax, where it can do that as the method says."""
    source, preset = settings.oracle, PRESETS[settings.oracle.kind]
    inputs = preset.inputs(told, atoms, start_grid(atoms, told), 1)
    if not (source.relax_cell or source.relax_ions):
        return inputs
    relaxed = preset.relaxing(
        inputs,
        cell=source.relax_cell,
        ions=source.relax_ions,
        fmax=source.fmax,
        max_steps=source.max_steps,
    )
    return inputs if relaxed is None else relaxed


def _readme(settings: Settings, key: str, inputs: Sequence[str], *, can_compute: bool) -> str:
    """Return what is to be done with a folder."""
    return "\n".join([*_readme_lines(settings, key, inputs, can_compute), ""])


def _readme_lines(
    settings: Settings, key: str, inputs: Sequence[str], can_compute: bool
) -> Iterator[str]:
    source = settings.oracle
    yield f"{key}, asked for by the campaign {settings.campaign.name}"
    yield ""
    relaxed = [
        name for name, on in (("cell", source.relax_cell), ("ions", source.relax_ions)) if on
    ]
    what = f"relax {' and '.join(relaxed)}, forces below {source.fmax} eV/Å"
    yield f"Wanted: the total energy ({what if relaxed else 'of this very structure, unrelaxed'})."
    yield "Compute every structure of the campaign in the same way."
    yield "POSCAR and structure.cif hold the structure."
    if inputs:
        yield f"Inputs of {source.kind}: {', '.join(inputs)}."
        yield from _about_relaxing(settings)
    if can_compute:
        yield ""
        yield "On a machine with latticesearch and the calculator this computes it:"
        yield f"    python -m latticesearch.oracles.by_hand FOLDER    (writes {RESULT})"
    yield ""
    yield "Leave the output here (vasprun.xml, OUTCAR, an output of pw.x that ends in .out, or"
    yield "extended XYZ with the energy), beside job.json; then: latticesearch tell RUN FOLDER"


def _about_relaxing(settings: Settings) -> Iterator[str]:
    """Yield what the inputs of a code leave to do."""
    source = settings.oracle
    if not (source.relax_cell or source.relax_ions):
        return
    preset = PRESETS[source.kind]
    if (
        preset.relaxing(
            {"input_data": {"control": {}}},
            cell=source.relax_cell,
            ions=source.relax_ions,
            fmax=source.fmax,
            max_steps=source.max_steps,
        )
        is None
    ):
        yield "They are of a single point: the relaxation is left to you, or to the command below."
    elif source.relax_cell:
        yield "The basis is that of the start: compute the relaxed structure once more, from"
        yield "scratch, and hand in that output alone (of several in a folder the lowest counts)."
