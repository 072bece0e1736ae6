"""Exhaustive search: the energy of every distinct labeling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration import enumerate_labelings
from latticesearch.lattice import Labelings
from latticesearch.search.polish import ENERGY_DECIMALS
from latticesearch.search.pool import CandidatePool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice, Supercell
    from latticesearch.parallel import Communicator
    from latticesearch.potential.protocol import LatticeModel

SOURCE = "exhaustive"


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
        for batch in enumerate_labelings(
            parent, min_index=index, max_index=index, composition=composition, comm=comm
        ):
            pool = pool.merge(_pool_of(potential, batch, pool))
    for supercell in supercells:
        for batch in enumerate_labelings(
            parent, supercell=supercell, superperiodic=True, composition=composition, comm=comm
        ):
            pool = pool.merge(_pool_of(potential, batch, pool))
    return pool


def _pool_of(potential: LatticeModel, batch: Labelings, known: CandidatePool) -> CandidatePool:
    """Return the pool of a batch of distinct labelings, without those that `known` would drop."""
    energies = potential.evaluator(batch.supercell).energies(batch.labels)
    kept = _worth_keeping(batch.counts, np.round(energies, ENERGY_DECIMALS), known)
    return CandidatePool.from_labelings(
        Labelings(batch.supercell, batch.labels[kept]),
        energies[kept],
        source=SOURCE,
        max_per_composition=known.max_per_composition,
        evaluations=len(batch),
    )


def _worth_keeping(
    counts: npt.NDArray[np.int64], energies: npt.NDArray[np.float64], known: CandidatePool
) -> npt.NDArray[np.intp]:
    """Return the rows that can be among the best; keys are made for these alone."""
    limit = known.max_per_composition
    kept = [np.zeros(0, dtype=np.intp)]
    kinds, kind_of_row = np.unique(counts, axis=0, return_inverse=True)
    for kind, count in enumerate(kinds):
        rows = np.flatnonzero(kind_of_row.ravel() == kind)
        highest = known.highest_kept(count)
        if len(rows) > limit:
            # Rows that tie with the last one stay: their keys decide.
            highest = min(highest, float(np.partition(energies[rows], limit - 1)[limit - 1]))
        kept.append(rows[energies[rows] <= highest])
    return np.sort(np.concatenate(kept))
