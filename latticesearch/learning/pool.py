"""Candidates as what they are judged by: compositions, and rows of features in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from latticesearch.energies import sites_per_atom

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from latticesearch.lattice import Labelings
    from latticesearch.learning.candidates import CandidateSet
    from latticesearch.learning.correlations import Correlations

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


def pool_of(candidates: CandidateSet, functions: Correlations) -> RowPool:
    """Return all candidates of a campaign with their cluster functions."""
    n = len(candidates)
    kind = np.float32 if n > COMPACT else np.float64
    features = np.empty((n, 1 + len(functions.sizes)), dtype=kind)
    for batch, positions in candidates.cells:
        features[positions] = cluster_rows(functions, batch)
    return RowPool(candidates.compositions, features)
