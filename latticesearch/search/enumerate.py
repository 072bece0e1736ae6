"""Exhaustive search: the energy of every distinct labeling."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.enumeration import enumerate_labelings
from latticesearch.lattice import Labelings
from latticesearch.lattice.parent import VACANCY
from latticesearch.parallel import collective_errors
from latticesearch.search._keeping_kernels import keep_lowest
from latticesearch.search._walk_kernels import SAME
from latticesearch.search.pool import CandidatePool
from latticesearch.search.types import ENERGY_DECIMALS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from latticesearch.hull import Hull
    from latticesearch.lattice import ParentLattice, Supercell
    from latticesearch.parallel import Communicator
    from latticesearch.search.blocks import Block
    from latticesearch.search.types import Problem

log = logging.getLogger(__name__)

SOURCE = "exhaustive"

BATCH_SIZE = 50_000
"""Labelings evaluated at once: enough that only compiled loops count."""


MOST_NEAR = 5000
"""Labelings near a hull that are kept beyond the lowest of each composition; where more are so
close, energies say nothing about which of them matter, and the lowest stand for all."""


def enumerate_all(problem: Problem, blocks: list[Block]) -> CandidatePool:
    """Return this rank's share of the pool of all distinct labelings.

    Parameters
    ----------
    problem
        What is searched, by whom; `CandidatePool.reduce` brings the pools of ranks together.
    blocks
        All primitive labelings of the superlattices of a size, or all of a given supercell, those
        with smaller periods included.
    """
    pool = CandidatePool.empty(problem.parent, problem.keep)
    for block in blocks:
        with collective_errors(problem.comm):
            lowest, n = _lowest_of(problem, pool, block)
            pool = pool.with_batches(lowest.survivors(), source=SOURCE, evaluations=n)
        near = lowest.near_hull(problem.comm)
        pool = pool.with_batches(near, source=SOURCE, evaluations=0, is_near=True)
    return pool


def labelings_of(
    problem: Problem, block: Block, comm: Communicator | None = None
) -> Iterator[Labelings]:
    """Yield the labelings of a block, or a rank's share of them."""
    arguments: dict[str, Any] = {"composition": problem.composition, "comm": comm}
    arguments["batch_size"] = BATCH_SIZE
    if not block.is_given and not block.is_limited:
        n = block.n_cells
        yield from enumerate_labelings(problem.parent, min_index=n, max_index=n, **arguments)
        return
    for cell in block.supercells:
        yield from enumerate_labelings(
            problem.parent, supercell=cell, superperiodic=block.is_given, **arguments
        )


def _lowest_of(problem: Problem, pool: CandidatePool, block: Block) -> tuple[_Lowest, int]:
    """Return what is worth keeping of this rank's share of a block, and how many there were.

    Keys are made later, and only for what is kept.
    """
    lowest = _Lowest(pool, block.n_sites, problem.near)
    n, failed = 0, None
    for batch in labelings_of(problem, block, problem.comm):
        n += len(batch)
        try:
            if failed is None:
                energies = problem.evaluator(batch.supercell).energies(batch.labels)
                lowest.add(batch, energies)
        except Exception as error:
            # The ranks meet where labelings end: one that left before would let the others wait.
            if problem.comm.size == 1:
                raise
            failed = error
    if failed is not None:
        raise failed
    return lowest, n


class _Lowest:
    """The lowest energies of each composition of cells with one number of sites."""

    def __init__(self, known: CandidatePool, n_sites: int, near: tuple[Hull, float] | None) -> None:
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
        self.near = _highest(known.parent, counts[order], near)
        self.kept: list[tuple[Supercell, npt.NDArray[np.int8], npt.NDArray[np.float64]]] = []
        self.close: list[tuple[Labelings, npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []

    def add(self, batch: Labelings, energies: npt.NDArray[np.float64]) -> None:
        """Keep the rows of a batch that may be among the lowest; `energies`, (n,), eV per site."""
        rows = keep_lowest(batch.labels, energies, self.weights, self.codes, self.heaps)
        if self.near is not None:
            below = self.near[self._places(batch.labels)] - energies
            close = np.flatnonzero(below > 0.0)
            if len(close):
                labelings = Labelings(batch.supercell, batch.labels[close])
                depths = np.round(below[close], ENERGY_DECIMALS)
                self.close.append((labelings, energies[close], depths))
        if not np.isfinite(energies).all():
            rows = np.arange(len(batch))  # the pool refuses them with a clear message
        if len(rows):
            self.kept.append((batch.supercell, batch.labels[rows], energies[rows]))

    def survivors(self) -> list[tuple[Labelings, npt.NDArray[np.float64]]]:
        """Return what is among the lowest of all, ties included; energies (n,), eV per site."""
        result = []
        for supercell, labels, energies in self.kept:
            stay = ~(energies > self.heaps[self._places(labels), 0] + SAME)
            if stay.any():
                result.append((Labelings(supercell, labels[stay]), energies[stay]))
        return result

    def near_hull(self, comm: Communicator) -> list[tuple[Labelings, npt.NDArray[np.float64]]]:
        """Return what is near the hull that was asked about, with energies, (n,), eV per site.

        All ranks together keep `MOST_NEAR`, ties included, however many they are.
        """
        depths = np.sort(np.concatenate([np.zeros(0), *(part for _, _, part in self.close)]))
        nearest = np.concatenate(comm.allgather(depths[-MOST_NEAR:]))
        n, least = sum(comm.allgather(len(depths))), -np.inf
        if n > MOST_NEAR:
            least = np.partition(nearest, -MOST_NEAR)[-MOST_NEAR]
            if comm.rank == 0:
                message = "%d structures of one size are near the hull: the nearest %d are kept"
                log.warning(message, n, MOST_NEAR)
        return [
            (Labelings(batch.supercell, batch.labels[part >= least]), energies[part >= least])
            for batch, energies, part in self.close
        ]

    def _places(self, labels: npt.NDArray[np.int8]) -> npt.NDArray[np.intp]:
        """Return which composition, (n,), each of the labels, (n, n_sites), has."""
        codes = self.weights[labels].sum(axis=1)
        return np.asarray(np.searchsorted(self.codes, codes), dtype=np.intp)


def _highest(
    parent: ParentLattice, counts: npt.NDArray[np.int64], near: tuple[Hull, float] | None
) -> npt.NDArray[np.float64] | None:
    """Return the energy below which each composition, (n, n_species), is near a hull, eV per site.

    None where no hull was given; minus infinity without atoms or outside the hull.
    """
    if near is None:
        return None
    hull, height = near
    atoms = counts[:, [i for i, s in enumerate(parent.species) if s != VACANCY]]
    n_atoms = atoms.sum(axis=1)
    result = np.full(len(counts), -np.inf)
    rows = n_atoms > 0
    x = atoms[rows] / n_atoms[rows, None]
    result[rows] = (hull.energy(x) + height) * n_atoms[rows] / counts[rows].sum(axis=1)
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
