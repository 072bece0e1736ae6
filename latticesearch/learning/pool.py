"""Candidates as what they are judged by: compositions, and rows of features in blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from latticesearch.energies import sites_per_atom
from latticesearch.parallel import SerialComm, block_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from latticesearch.lattice import Labelings
    from latticesearch.learning.candidates import CandidateSet
    from latticesearch.learning.correlations import Correlations
    from latticesearch.parallel import Communicator

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

BLOCK = 4096
"""Candidates whose rows are held in double precision at once: some megabytes."""

COMPACT = 200_000
"""Candidates above which kept rows are single precision: 1e-7 of an energy is 1e-5 meV/atom."""


class Pool(Protocol):
    """Candidates of one rank; indices count all candidates."""

    @property
    def compositions(self) -> Floats:
        """Atomic fractions of all candidates, (n, k)."""

    def rows(self, indices: Indices) -> Floats:
        """Return the features of some candidates, (m, r), per atom."""

    def blocks(self) -> Iterator[tuple[Indices, Floats]]:
        """Yield the indices, (m,), and features, (m, r), of all candidates, block by block."""


@dataclass(frozen=True, eq=False)
class RowPool:
    """Candidates whose features are at hand.

    Attributes
    ----------
    compositions : (n, k) float
    features : (n, r) float
    """

    compositions: Floats
    features: npt.NDArray[Any]

    def rows(self, indices: Indices) -> Floats:
        """Return the features of some candidates, (m, r)."""
        return np.asarray(self.features[indices], dtype=np.float64)

    def blocks(self) -> Iterator[tuple[Indices, Floats]]:
        """Yield indices and features, block by block."""
        for start in range(0, len(self.features), BLOCK):
            indices = np.arange(start, min(start + BLOCK, len(self.features)))
            yield indices, self.rows(indices)


def cluster_rows(functions: Correlations, batch: Labelings) -> Floats:
    """Return the features of labelings, (n, 1 + n_functions), per atom: a constant in front.

    Energies per atom are linear in them, with vacancies too: the constant is one per site.
    """
    sums = functions.rows(batch.supercell, batch.labels)
    rows = np.column_stack([np.ones(len(sums)), sums])
    return rows * np.reshape(sites_per_atom(batch), (-1, 1))


@dataclass(eq=False)
class SharedPool:
    """The candidates of a campaign; every rank keeps the rows of those that it has worked out.

    Attributes
    ----------
    candidates : CandidateSet
        May grow; `grow` takes the new ones in.
    functions : Correlations
        Cluster functions.
    comm : Communicator
        Ranks that share the work.
    """

    candidates: CandidateSet
    functions: Correlations
    comm: Communicator = field(default_factory=SerialComm)
    compositions: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    _parts: list[tuple[Indices, npt.NDArray[Any]]] = field(default_factory=list, repr=False)
    _asked: dict[int, Floats] = field(default_factory=dict, repr=False)

    def grow(self) -> bool:
        """Take in what the candidates have grown by; return whether that was anything."""
        before, now = len(self.compositions), len(self.candidates)
        if now == before:
            return False
        self.compositions = self.candidates.compositions
        mine = block_range(now - before, self.comm)
        kind = np.float32 if now > COMPACT else np.float64
        for start in range(before + mine.start, before + mine.stop, BLOCK):
            indices = np.arange(start, min(start + BLOCK, before + mine.stop))
            self._parts.append((indices, self._rows(indices).astype(kind)))
        return True

    def rows(self, indices: Indices) -> Floats:
        """Return the features of some candidates, (m, r); what was asked for once is kept."""
        new = np.array([i for i in np.unique(indices).tolist() if i not in self._asked], dtype=int)
        self._asked.update(zip(new.tolist(), self._rows(new), strict=True))
        width = 1 + len(self.functions.sizes)
        return np.array([self._asked[i] for i in indices.tolist()]).reshape(-1, width)

    def blocks(self) -> Iterator[tuple[Indices, Floats]]:
        """Yield indices, (m,), and features, (m, r), of this rank's candidates."""
        for indices, rows in self._parts:
            yield indices, rows.astype(np.float64)

    def _rows(self, indices: Indices) -> Floats:
        """Work out the features of candidates, (m, r)."""
        rows = np.empty((len(indices), 1 + len(self.functions.sizes)))
        for batch, where in self.candidates.subset(indices.tolist()):
            rows[where] = cluster_rows(self.functions, batch)
        return rows


def pool_of(
    candidates: CandidateSet, functions: Correlations, comm: Communicator | None = None
) -> SharedPool:
    """Return all candidates of a campaign with their cluster functions."""
    pool = SharedPool(candidates, functions, comm or SerialComm())
    pool.grow()
    return pool
