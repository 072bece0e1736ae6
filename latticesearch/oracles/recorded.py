"""A table of energies computed before, played back as an oracle.

With it a whole campaign can be judged in seconds against a hull that is already known.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.errors import InputError
from latticesearch.frames import UNREADABLE, Frame, Reading, Refusal, read_frames
from latticesearch.oracles.protocol import VACANCY, OracleJob, OracleResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ase import Atoms

    from latticesearch.lattice import ParentLattice

log = logging.getLogger(__name__)


class RecordedOracle:
    """Answer with recorded energies, found by the canonical key of the structure.

    Frames that are no decoration of the parent lattice are left out; of several frames with
    one key the lowest energy per atom counts. Nothing here is collective: under MPI one rank
    may load and ask alone.

    Parameters
    ----------
    path
        Extended XYZ (``.xyz``, ``.extxyz``, also with ``.gz``), an ASE database (``.db``), or
        another file that `latticesearch.frames.read_frames` reads.
    parent
        The parent lattice the keys refer to.
    select
        Only frames with these values among their ``info`` (of a database: key-value pairs).
    index
        Which of the selected frames, as a slice.

    Attributes
    ----------
    keys : tuple of str
        The keys in the table, in the order of the file.
    refusals : Counter of str
        How many frames were skipped for which reason: that of the file, or a `Mismatch`.
    interrupted : bool
        `interrupt` has been called.

    Raises
    ------
    InputError
        The file cannot be read, no frame is selected, or none of them is on the lattice.
    """

    kind = "recorded"

    def __init__(
        self,
        path: Path | str,
        parent: ParentLattice,
        *,
        select: Mapping[str, Any] | None = None,
        index: slice | None = None,
    ) -> None:
        self._path = Path(path)
        self.interrupted = False
        wanted = Reading(select=dict(select or {}), types=_elements(parent))
        frames = list(read_frames(self._path, wanted))[index or slice(None)]
        if not frames:
            values = ", ".join(f"{k} = {v}" for k, v in wanted.select.items())
            raise InputError(f"{path}: no frame has {values or 'been found'}")
        self._table: dict[str, Frame] = {}
        self.refusals: Counter[str] = Counter()
        for frame in frames:
            self._add(frame, parent)
        if not self._table:
            raise InputError(
                f"{path}: none of the {len(frames)} selected frames has an energy and is a "
                f"decoration of the parent lattice with {', '.join(parent.species)}: "
                f"{_counted(self.refusals)}"
            )
        self.keys = tuple(self._table)
        log.info(
            "%s: %d structures from %d frames, %d skipped%s",
            *(path, len(self.keys), len(frames), self.n_skipped),
            f": {_counted(self.refusals)}" if self.refusals else "",
        )

    @property
    def n_skipped(self) -> int:
        """Selected frames that have no energy or are not on the parent lattice."""
        return self.refusals.total()

    def _add(self, frame: Frame | Refusal, parent: ParentLattice) -> None:
        from latticesearch.lattice import MappingFailure, match_to_lattice

        if isinstance(frame, Refusal):
            if frame.reason == UNREADABLE:
                raise InputError(f"cannot read structures from {frame.origin}: {frame.detail}")
            self.refusals[frame.reason] += 1
            return
        match = match_to_lattice(frame.atoms, parent)
        if isinstance(match, MappingFailure):
            self.refusals[str(match.reason)] += 1
            return
        key = match.configuration.key
        known = self._table.get(key)
        if known is None or frame.energy_per_atom < known.energy_per_atom:
            self._table[key] = frame

    @property
    def energies(self) -> dict[str, float]:
        """The recorded energies by key, eV/atom."""
        return {key: frame.energy_per_atom for key, frame in self._table.items()}

    def check_species(self, symbols: Iterable[str]) -> None:
        """Raise if an element occurs nowhere in the table; vacancies are ignored.

        Raises
        ------
        InputError
            An element is missing.
        """
        known = {symbol for frame in self._table.values() for symbol in frame.atoms.symbols}
        missing = sorted(set(symbols) - known - {VACANCY})
        if missing:
            raise InputError(
                f"{self._path}: no structure on the lattice contains {', '.join(missing)}; "
                f"the table has {', '.join(sorted(known))}"
            )

    def run(self, jobs: Iterable[OracleJob]) -> Iterator[OracleResult]:
        """Yield the recorded result of each job, in order; a key that is not there has failed."""
        for job in itertools.takewhile(lambda _: not self.interrupted, jobs):
            frame = self._table.get(job.key)
            yield self._missing(job) if frame is None else self._recorded(job, frame)

    def interrupt(self) -> None:
        """Answer no more jobs."""
        self.interrupted = True

    def close(self) -> None:
        """Do nothing: the table is in memory."""

    def _missing(self, job: OracleJob) -> OracleResult:
        return OracleResult(
            key=job.key,
            status="failed",
            atoms=job.atoms.copy(),
            kind=self.kind,
            attempt=job.attempt,
            error=f"{job.key} is not in the table {self._path.name}",
            cause="structure",
        )

    def _recorded(self, job: OracleJob, frame: Frame) -> OracleResult:
        """Return the recorded energy for the cell of the job, which may be another one."""
        same_size = len(frame.atoms) == len(job.atoms)
        return OracleResult(
            key=job.key,
            status="done",
            energy=frame.energy_per_atom * len(job.atoms),
            forces=frame.forces if same_size else None,
            stress=frame.stress if same_size else None,
            atoms=frame.atoms.copy() if same_size else _at_volume_of(job.atoms, frame.atoms),
            converged=True,
            kind=self.kind,
            attempt=job.attempt,
        )


def _counted(refusals: Counter[str]) -> str:
    """Return the reasons in words, the most frequent first."""
    return ", ".join(f"{n} {reason}" for reason, n in refusals.most_common())


def _at_volume_of(atoms: Atoms, frame: Atoms) -> Atoms:
    """Return `atoms` scaled to the volume per atom of `frame`."""
    scaled = atoms.copy()
    scaled.info.clear()
    ratio = frame.get_volume() / len(frame) * len(atoms) / atoms.get_volume()
    scaled.set_cell(scaled.cell * ratio ** (1 / 3), scale_atoms=True)
    return scaled


def _elements(parent: ParentLattice) -> tuple[str, ...]:
    """Return the symbols of the parent's species without the vacancy."""
    return tuple(symbol for symbol in parent.species if symbol != VACANCY)
