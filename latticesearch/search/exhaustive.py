"""Exhaustive search: the energy of every distinct labeling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration import enumerate_labelings
from latticesearch.lattice import Labelings
from latticesearch.search._keeping_kernels import keep_lowest
from latticesearch.search.annealing._kernels import SAME
from latticesearch.search.pool import CandidatePool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice, Supercell
    from latticesearch.parallel import Communicator
    from latticesearch.potential.protocol import LatticeModel

SOURCE = "exhaustive"

BATCH_SIZE = 50_000
"""Labelings evaluated at once: enough that only compiled loops count."""


def search_all(
    potential: LatticeModel,
    parent: ParentLattice,
    *,
    indices: Iterable[int] = (),
    supercells: Iterable[Supercell] = (),
    composition: Mapping[str, float | tuple[float, float]] | None = None,
    max_per_composition: int = 16,
    comm: Communicator,
) -> CandidatePool:
    """Return this rank's share of the pool of all distinct labelings.

    Parameters
    ----------
    potential
        Model of the energies.
    parent
        Parent lattice.
    indices
        Numbers of primitive cells: all primitive labelings of all superlattices of these.
    supercells
        Supercells of which all labelings are taken, those with smaller periods included.
    composition
        Limits of the composition, as `enumerate_labelings` takes them.
    max_per_composition
        Candidates kept of each composition.
    comm
        Ranks that share the work; `CandidatePool.reduce` brings their pools together.
    """
    pool = CandidatePool.empty(parent, max_per_composition)
    for index in indices:
        batches = enumerate_labelings(
            parent,
            min_index=index,
            max_index=index,
            composition=composition,
            comm=comm,
            batch_size=BATCH_SIZE,
        )
        pool = _with_lowest(pool, potential, batches)
    for supercell in supercells:
        batches = enumerate_labelings(
            parent,
            supercell=supercell,
            superperiodic=True,
            composition=composition,
            comm=comm,
            batch_size=BATCH_SIZE,
        )
        pool = _with_lowest(pool, potential, batches)
    return pool


def _with_lowest(
    pool: CandidatePool, potential: LatticeModel, batches: Iterable[Labelings]
) -> CandidatePool:
    """Return the pool with batches of one number of sites; keys are made only for what it keeps."""
    lowest: _Lowest | None = None
    n = 0
    for batch in batches:
        lowest = lowest or _Lowest(pool, batch.supercell.n_sites)
        lowest.add(batch, potential.evaluator(batch.supercell).energies(batch.labels))
        n += len(batch)
    survivors = lowest.survivors() if lowest else []
    return pool.with_batches(survivors, source=SOURCE, evaluations=n)


class _Lowest:
    """The lowest energies of each composition of cells with one number of sites."""

    def __init__(self, known: CandidatePool, n_sites: int) -> None:
        n_species = known.parent.n_species
        self.weights = (n_sites + 1) ** np.arange(n_species, dtype=np.int64)
        counts = _compositions(n_sites, n_species)
        codes = counts @ self.weights
        order = np.argsort(codes)
        self.codes = codes[order]
        self.heaps = np.full((len(codes), known.max_per_composition), np.inf)
        # What is known of smaller cells of the same composition already shuts out most.
        limits = np.array([known.highest_kept(row) for row in counts[order].tolist()])
        self.heaps[np.isfinite(limits)] = limits[np.isfinite(limits), None]
        self.kept: list[tuple[Supercell, npt.NDArray[np.int8], npt.NDArray[np.float64]]] = []

    def add(self, batch: Labelings, energies: npt.NDArray[np.float64]) -> None:
        """Keep the rows of a batch that may be among the lowest."""
        rows = keep_lowest(batch.labels, energies, self.weights, self.codes, self.heaps)
        if not np.isfinite(energies).all():
            rows = np.arange(len(batch))  # the pool refuses them with a clear message
        if len(rows):
            self.kept.append((batch.supercell, batch.labels[rows], energies[rows]))

    def survivors(self) -> list[tuple[Labelings, npt.NDArray[np.float64]]]:
        """Return what is among the lowest of all, ties included."""
        result = []
        for supercell, labels, energies in self.kept:
            where = np.searchsorted(self.codes, self.weights[labels].sum(axis=1))
            stay = ~(energies > self.heaps[where, 0] + SAME)
            if stay.any():
                result.append((Labelings(supercell, labels[stay]), energies[stay]))
        return result


def _compositions(n_sites: int, n_species: int) -> npt.NDArray[np.int64]:
    """Return all ways, (n, n_species), to share sites among species."""
    rows = np.zeros((1, 0), dtype=np.int64)
    for _ in range(n_species - 1):
        grown = np.repeat(rows, n_sites + 1, axis=0)
        steps = np.tile(np.arange(n_sites + 1, dtype=np.int64), len(rows))
        rows = np.column_stack([grown, steps])
        rows = rows[rows.sum(axis=1) <= n_sites]
    return np.column_stack([rows, n_sites - rows.sum(axis=1)])
