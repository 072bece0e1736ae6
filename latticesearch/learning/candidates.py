"""The structures that compete: canonical labelings of many supercells, each crystal once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latticesearch.energies import atom_to_site, site_to_atom
from latticesearch.lattice import Configuration, Labelings, ParentLattice
from latticesearch.lattice.labelings import reduced_formula, written_keys
from latticesearch.lattice.parent import VACANCY
from latticesearch.parallel import SerialComm, block_range, collective_errors, gather_blocks
from latticesearch.potential import LabelledBatch, TrainingSet, evaluator_of, learning_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.parallel import Communicator
    from latticesearch.potential import Potential

    Floats = npt.NDArray[np.float64]
    Labels = npt.NDArray[np.int8]


class Members(NamedTuple):
    """The candidates of one canonical supercell: n labelings and where they stand in the set."""

    batch: Labelings
    """The canonical labels, (n, n_sites)."""
    positions: npt.NDArray[np.intp]
    """Indices of the candidates, (n,)."""


@dataclass(eq=False)
class CandidateSet:
    """All candidates of a campaign, in the order they were found.

    What enters is brought to its canonical labels in its canonical supercell once; keys are
    written from them and never parsed. Arrays have one row per candidate. Compositions are atomic
    fractions of the elements (the parent's species without the vacancy) and energies are per
    atom, so cells with vacancies compare with those without. A cell of vacancies alone is no
    candidate.

    Attributes
    ----------
    parent : ParentLattice
    cells : list of Members
        All candidates by canonical supercell, in the order these first appeared.
    keys, sources : list of str
        Canonical key, and what found it, of each candidate.
    rounds : list of int
        The round in which each was found.
    """

    parent: ParentLattice
    cells: list[Members] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    _index: dict[str, int] = field(default_factory=dict, repr=False)
    _cell_of: dict[bytes, int] = field(default_factory=dict, repr=False)
    _rows: list[tuple[int, int]] = field(default_factory=list, repr=False)
    """Per candidate its supercell's position in `cells`, and its row there."""

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: str) -> bool:
        return key in self._index

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols of the parent's species without the vacancy, (n_elements,)."""
        return tuple(s for s in self.parent.species if s != VACANCY)

    def add(self, batch: Labelings, source: str, round_: int = 0) -> int:
        """Append the labelings whose crystal is not here yet; return how many those were."""
        found: list[tuple[int, str, Supercell, Labels]] = []
        for members, canonical in batch.canonical_groups():
            keys, cell = written_keys(canonical), canonical.supercell
            rows = zip(members.tolist(), keys, canonical.labels, strict=True)
            found += [(member, key, cell, labels) for member, key, labels in rows]
        # Groups are of one supercell each; the batch's own order is what counts.
        found.sort(key=lambda one: one[0])
        has_atoms = batch.n_atoms > 0
        return self._append((one[1:] for one in found if has_atoms[one[0]]), source, round_)

    def add_configurations(
        self, configurations: Iterable[Configuration], source: str, round_: int = 0
    ) -> int:
        """Append what is not here yet; return how many. Canonical ones are taken as they are."""
        canonical = (one.canonical() for one in configurations)
        rows = ((one.key, one.supercell, one.labels) for one in canonical if one.n_atoms)
        return self._append(rows, source, round_)

    def _append(
        self, rows: Iterable[tuple[str, Supercell, Labels]], source: str, round_: int
    ) -> int:
        """Append the new ones of rows of key, canonical supercell and labels, (n_sites,)."""
        before = len(self.keys)
        new: dict[int, tuple[Supercell, list[Labels], list[int]]] = {}
        for key, supercell, labels in rows:
            if key in self._index:
                continue
            i = self._index[key] = len(self.keys)
            cell = self._cell_of.setdefault(supercell.hnf.tobytes(), len(self._cell_of))
            known = len(self.cells[cell].positions) if cell < len(self.cells) else 0
            _, stack, positions = new.setdefault(cell, (supercell, [], []))
            self._rows.append((cell, known + len(stack)))
            stack.append(labels)
            positions.append(i)
            self.keys.append(key)
        for cell, (supercell, stack, positions) in sorted(new.items()):
            self._grow(cell, Labelings(supercell, np.array(stack, dtype=np.int8)), positions)
        n = len(self.keys) - before
        self.sources += [source] * n
        self.rounds += [round_] * n
        return n

    def _grow(self, cell: int, batch: Labelings, positions: Sequence[int]) -> None:
        """Add labelings to those of a supercell, which may be the first of it."""
        where = np.array(positions, dtype=np.intp)
        if cell == len(self.cells):
            self.cells.append(Members(batch, where))
            return
        old = self.cells[cell]
        self.cells[cell] = Members(
            Labelings.concatenate([old.batch, batch]), np.concatenate([old.positions, where])
        )

    def index(self, key: str) -> int:
        """Return the position of the crystal `key`."""
        return self._index[key]

    def configuration(self, i: int) -> Configuration:
        """Return candidate `i` in its primitive canonical supercell."""
        cell, row = self._rows[i]
        batch = self.cells[cell].batch
        return Configuration(batch.supercell, batch.labels[row], is_canonical=True)

    def configurations(self) -> Iterator[Configuration]:
        """Yield all candidates in order."""
        return (self.configuration(i) for i in range(len(self)))

    @property
    def compositions(self) -> Floats:
        """Atomic fractions of the elements, (n, n_elements)."""
        parts = [(cell.batch.atomic_fractions, cell.positions) for cell in self.cells]
        return _in_order(parts, len(self), len(self.elements))

    def composition(self, i: int) -> Floats:
        """Return the atomic fractions of candidate `i`, (n_elements,)."""
        return self.configuration(i).atomic_fractions

    @property
    def n_sites(self) -> npt.NDArray[np.intp]:
        """Sites of the primitive cells, (n,)."""
        return self._numbers(lambda batch: batch.supercell.n_sites)

    @property
    def n_atoms(self) -> npt.NDArray[np.intp]:
        """Atoms of the primitive cells, (n,)."""
        return self._numbers(lambda batch: batch.n_atoms)

    @property
    def formulas(self) -> list[str]:
        """Reduced formula of each candidate."""
        counts = [list(map(tuple, cell.batch.counts.tolist())) for cell in self.cells]
        # A few hundred compositions have thousands of candidates.
        known = {
            row: reduced_formula(self.parent.species, row) for rows in counts for row in {*rows}
        }
        names = [[known[row] for row in rows] for rows in counts]
        return [names[cell][row] for cell, row in self._rows]

    @property
    def hnfs(self) -> list[list[int]]:
        """Nine entries, row by row, of the Hermite normal form of each canonical supercell."""
        forms = [cell.batch.supercell.hnf.ravel().tolist() for cell in self.cells]
        return [forms[cell] for cell, _ in self._rows]

    @property
    def labels(self) -> list[list[int]]:
        """Canonical labels of each candidate."""
        stacks = [cell.batch.labels.tolist() for cell in self.cells]
        return [stacks[cell][row] for cell, row in self._rows]

    def _numbers(self, of: Callable[[Labelings], Any]) -> npt.NDArray[np.intp]:
        """Return one number per candidate, (n,), given what gives them of a batch."""
        column = np.empty(len(self), dtype=np.intp)
        for batch, positions in self.cells:
            column[positions] = of(batch)
        return column

    def energies(self, model: Potential, comm: Communicator | None = None) -> Floats:
        """Return the energies under `model`, (n,), eV/atom; the work is split over the ranks."""
        return self.evaluate(
            lambda part: site_to_atom(
                evaluator_of(model, part.supercell).energies(part.labels), part
            ),
            comm,
        )

    def learning_rows(self, model: Potential, comm: Communicator | None = None) -> Floats:
        """Return the features, (n, m), that errors of `model` are taken as linear in.

        Its gradient rows, or the cluster functions of the lattice where it has none.
        """
        return self.evaluate(lambda part: learning_rows(model, part.supercell, part.labels), comm)

    def learning_rows_of(self, model: Potential, indices: npt.NDArray[np.intp]) -> Floats:
        """Return the same of some candidates, (m, n_features), on this rank alone."""
        parts = self.subset(indices.tolist())
        rows = [(learning_rows(model, b.supercell, b.labels), where) for b, where in parts]
        return _in_order(rows, len(indices), 0)

    def subset(self, indices: Sequence[int]) -> list[Members]:
        """Return some candidates by supercell, with their positions in `indices`."""
        wanted = np.array([self._rows[i] for i in indices], dtype=np.intp).reshape(-1, 2)
        parts = []
        for cell in np.unique(wanted[:, 0]).tolist():
            positions = np.flatnonzero(wanted[:, 0] == cell)
            batch = self.cells[cell].batch
            rows = batch.labels[wanted[positions, 1]]
            parts.append(Members(Labelings(batch.supercell, rows), positions))
        return parts

    def training_set(self, indices: Sequence[int], energies: Sequence[float]) -> TrainingSet:
        """Return some candidates with their energies, eV/atom, in the batches of `subset`."""
        given = np.asarray(energies, dtype=np.float64)
        parts = self.subset(indices)
        return TrainingSet(
            tuple(LabelledBatch(batch, atom_to_site(given[where], batch)) for batch, where in parts)
        )

    def evaluate(
        self, function: Callable[[Labelings], Floats], comm: Communicator | None = None
    ) -> Floats:
        """Return one result row per candidate, on all ranks, which share the work.

        Parameters
        ----------
        function
            Gives (m,) or (m, k) numbers of m labelings; a row must not depend on the others.
        comm
            The ranks that call this together.
        """
        comm = comm or SerialComm()
        parts: list[tuple[Floats, npt.NDArray[np.intp]]] = []
        # The model may be anybody's: where it fails on one rank, the others must not wait.
        with collective_errors(comm):
            for batch, positions in self.cells:
                mine = block_range(len(batch), comm)
                if len(mine):
                    rows = slice(mine.start, mine.stop)
                    part = Labelings(batch.supercell, batch.labels[rows])
                    parts.append((function(part), positions[rows]))
        return _in_order(gather_blocks(parts, comm), len(self))


def _in_order(parts: Sequence[tuple[Floats, npt.NDArray[np.intp]]], n: int, *width: int) -> Floats:
    """Return the rows of parts, each with the positions of its rows, as (n, ...) numbers."""
    shape = (n, *(parts[0][0].shape[1:] if parts else width))
    result = np.empty(shape)
    for values, positions in parts:
        result[positions] = values
    return result
