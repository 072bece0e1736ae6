"""The structures that compete: labelings of many supercells, each crystal once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice import Configuration, Labelings, ParentLattice
from latticesearch.lattice.parent import VACANCY
from latticesearch.parallel import SerialComm, block_range, gather_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from latticesearch.parallel import Communicator
    from latticesearch.potential import LatticeEvaluator, LatticeModel


@dataclass(eq=False)
class CandidateSet:
    """All candidates of a campaign, in the order they were found.

    Arrays have one row per candidate. Compositions are atomic fractions of the elements (the
    parent's species without the vacancy) and energies are per atom, so cells with vacancies
    compare with those without. A cell of vacancies alone is no candidate.
    """

    parent: ParentLattice
    batches: list[Labelings] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    _index: dict[str, int] = field(default_factory=dict, repr=False)
    _configurations: dict[int, Configuration] = field(default_factory=dict, repr=False)
    _compositions: npt.NDArray[np.float64] | None = field(default=None, repr=False)

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
        new_rows: list[int] = []
        new_keys: list[str] = []
        for row, (key, n_atoms) in enumerate(zip(batch.keys(), _n_atoms(batch), strict=True)):
            if key not in self._index and n_atoms > 0:
                self._index[key] = len(self.keys) + len(new_keys)
                new_rows.append(row)
                new_keys.append(key)
        if new_rows:
            self._compositions = None
            self.batches.append(Labelings(batch.supercell, batch.labels[new_rows]))
            self.keys += new_keys
            self.sources += [source] * len(new_keys)
            self.rounds += [round_] * len(new_keys)
        return len(new_keys)

    def index(self, key: str) -> int:
        """Return the position of the crystal `key`."""
        return self._index[key]

    def configuration(self, i: int) -> Configuration:
        """Return candidate `i` in its primitive canonical supercell (made once and kept)."""
        if i not in self._configurations:
            self._configurations[i] = Configuration.from_key(self.parent, self.keys[i])
        return self._configurations[i]

    @property
    def compositions(self) -> npt.NDArray[np.float64]:
        """Atomic fractions of the elements, (n, n_elements)."""
        if self._compositions is None:
            self._compositions = self._count_atoms()
        return self._compositions

    def _count_atoms(self) -> npt.NDArray[np.float64]:
        """Return the atomic fractions from the labels."""
        keep = [i for i, s in enumerate(self.parent.species) if s != VACANCY]
        counts = [batch.counts[:, keep] for batch in self.batches]
        table = np.concatenate(counts) if counts else np.zeros((0, len(keep)))
        result: npt.NDArray[np.float64] = table / table.sum(axis=1, keepdims=True)
        return result

    @property
    def sites_per_atom(self) -> npt.NDArray[np.float64]:
        """Lattice sites per atom, (n,): one without vacancies."""
        if not self.batches:
            return np.zeros(0)
        return np.concatenate([b.supercell.n_sites / _n_atoms(b) for b in self.batches])

    def energies(
        self, model: LatticeModel, comm: Communicator | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the energies under `model`, (n,), eV/atom; the work is split over the ranks."""
        per_site = self._evaluate(model, lambda e, labels: e.energies(labels), comm)
        return per_site * self.sites_per_atom

    def gradient_rows(
        self, model: LatticeModel, comm: Communicator | None = None
    ) -> npt.NDArray[np.float64]:
        """Return d(energy per site)/d(parameters), (n, n_parameters)."""
        return self._evaluate(model, lambda e, labels: e.gradient_rows(labels), comm)

    def subset(self, indices: Sequence[int]) -> list[tuple[Labelings, npt.NDArray[np.intp]]]:
        """Return candidates as batches, with the position in `indices` of each batch row."""
        starts = np.cumsum([0, *(len(b) for b in self.batches)])
        batch_of = np.searchsorted(starts, indices, side="right") - 1
        parts = []
        for number in np.unique(batch_of):
            positions = np.flatnonzero(batch_of == number)
            rows = np.asarray(indices)[positions] - starts[number]
            batch = self.batches[number]
            parts.append((Labelings(batch.supercell, batch.labels[rows]), positions))
        return parts

    def _evaluate(
        self,
        model: LatticeModel,
        function: Callable[[LatticeEvaluator, npt.NDArray[np.int8]], npt.NDArray[np.float64]],
        comm: Communicator | None,
    ) -> npt.NDArray[np.float64]:
        """Apply `function` to the labels of all candidates; one result row per candidate."""
        comm = comm or SerialComm()
        parts: list[tuple[int, npt.NDArray[np.float64]]] = []
        for number, batch in enumerate(self.batches):
            mine = block_range(len(batch), comm)
            if len(mine):
                labels = batch.labels[mine.start : mine.stop]
                parts.append((number, function(model.evaluator(batch.supercell), labels)))
        # Ranks arrive in order; a stable sort puts their blocks of one batch side by side.
        everything = sorted(gather_blocks(parts, comm), key=lambda part: part[0])
        return np.concatenate([values for _, values in everything])


def _n_atoms(batch: Labelings) -> npt.NDArray[np.intp]:
    """Return the number of atoms per labeling, (n,)."""
    species = batch.supercell.parent.species
    sites = np.full(len(batch), batch.supercell.n_sites)
    return sites - batch.counts[:, species.index(VACANCY)] if VACANCY in species else sites


def by_supercell(configurations: Sequence[Configuration]) -> list[Labelings]:
    """Group configurations into batches, one per supercell, in the order of first appearance."""
    groups: dict[tuple[int, ...], list[Configuration]] = {}
    for one in configurations:
        groups.setdefault(tuple(int(v) for v in one.supercell.hnf.ravel()), []).append(one)
    return [
        Labelings(group[0].supercell, np.array([c.labels for c in group], dtype=np.int8))
        for group in groups.values()
    ]
