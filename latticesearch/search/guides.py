"""Cluster expansions that learn from every energy a search pays for, and then cost nothing.

A swap under a cluster expansion costs a look-up, an energy of a potential many times that. What
the expansion gets wrong the search finds out where it matters, among low energies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice.neighbours import nearest_distance
from latticesearch.potential.clusters import ClusterBasis, ClusterModel
from latticesearch.potential.clusters.lattice import feature_evaluator
from latticesearch.potential.clusters.nested import rows_of
from latticesearch.potential.clusters.surrogate import Surrogate
from latticesearch.search.enumerate import labelings_of
from latticesearch.search.policy import TAUGHT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Labelings, ParentLattice, Supercell
    from latticesearch.search.blocks import Block
    from latticesearch.search.types import Problem
    from latticesearch.search.walk import Log

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

SCREEN_REACHES = ((2.05, 1.25), (2.6, 2.05))
"""The same for screening, where thousands of energies can teach hundreds of coefficients."""

REACHES = ((2.05, 0.0), (2.05, 1.25))
"""Longest pairs and triplets of the expansions, in nearest-neighbour distances. Measured on
quaternary cells of 54 and 64 sites: two in turn find what each alone misses."""

WIDE_REACHES = ((2.05, 2.05), (2.05, 1.65))
"""The first of these that has not too many coefficients describes the neighbourhood of low
energies where many bodies act together: half the error after a thousand swaps."""

WIDEST = 400
"""Coefficients of a wide expansion at most: thousands of swaps teach so many."""


@dataclass(eq=False)
class Guides:
    """The surrogates of one parent lattice.

    Attributes
    ----------
    surrogates : list of Surrogate
        Take turns.
    wide : list of Surrogate
        One with many coefficients, or none; it learns from walks through large cells only.
    """

    surrogates: list[Surrogate] = field(default_factory=list)
    wide: list[Surrogate] = field(default_factory=list)

    @classmethod
    def of(cls, parent: ParentLattice, reaches: Sequence[tuple[float, float]] = REACHES) -> Guides:
        """Return surrogates that know nothing; those of one parent share their bases."""
        return cls([Surrogate.of(_basis_of(parent, reach)) for reach in reaches])

    @classmethod
    def of_large_cells(cls, parent: ParentLattice) -> Guides:
        """Return surrogates for walks through large cells, with a wide one."""
        guides = cls.of(parent)
        bases = (_basis_of(parent, reach) for reach in WIDE_REACHES)
        narrow = [basis for basis in bases if basis.n_parameters <= WIDEST][:1]
        return cls(guides.surrogates, [Surrogate.of(basis, 0) for basis in narrow])

    def copy(self) -> Guides:
        """Return guides that can learn on their own."""
        return Guides([s.copy() for s in self.surrogates], [s.copy() for s in self.wide])

    @property
    def every(self) -> list[Surrogate]:
        """Those that take turns, then the wide one."""
        return self.surrogates + self.wide

    def learn_energies(
        self, batch: Labelings, energies: Floats, weights: Floats | float = 1.0
    ) -> None:
        """Learn energies of labelings, (n,), eV per site, with weights; larger cells count more."""
        factors = math.sqrt(batch.supercell.n_sites) * np.broadcast_to(weights, len(energies))
        rows = rows_of(
            [surrogate.basis for surrogate in self.surrogates],
            lambda basis: feature_evaluator(basis, batch.supercell).gradient_rows(batch.labels),
        )
        for surrogate, mine in zip(self.surrogates, rows, strict=True):
            surrogate.learn_energies(mine, energies, factors)

    def learn_blocks(self, problem: Problem, blocks: list[Block]) -> None:
        """Learn energies of enumerated labelings, smallest cells first; they are paid for."""
        for batch in taught_labelings(problem, blocks):
            energies = problem.evaluator(batch.supercell).energies(batch.labels)
            self.learn_energies(batch, energies)

    def learn_walk(
        self, log: Log, models: Sequence[ClusterModel] | None = None, *, wide: bool = False
    ) -> list[float]:
        """Learn what a walk asked; see `learn_swaps`."""
        swaps, changes = log.swaps[:TAUGHT], log.changes[:TAUGHT]
        return self.learn_swaps(log.supercell, log.start, swaps, changes, models, wide=wide)

    def learn_swaps(
        self,
        supercell: Supercell,
        start: npt.NDArray[np.int8],
        swaps: npt.NDArray[np.int64],
        changes: Floats,
        models: Sequence[ClusterModel] | None = None,
        *,
        wide: bool = False,
    ) -> list[float]:
        """Learn changes of energy, (n,), eV, along a walk of swaps, (n, 3), from `start`.

        The wide surrogate learns only where that is said. Returns the root mean square error of
        each of `models`, one per surrogate, on them, eV; zeros without models.
        """
        learners = self.every if wide else self.surrogates
        rows = rows_of(
            [surrogate.basis for surrogate in learners],
            lambda basis: feature_evaluator(basis, supercell).swap_gradient_rows(start, swaps),
        )
        kept: Sequence[ClusterModel | None] = models or [None] * len(rows)
        return [
            surrogate.learn_changes(mine, changes, model)
            for surrogate, mine, model in zip(learners, rows, kept, strict=True)
        ]


@lru_cache(maxsize=64)  # five reaches; a dozen parent lattices at a time is more than anybody has
def _basis_of(parent: ParentLattice, reach: tuple[float, float]) -> ClusterBasis:
    """Return the basis of a reach, longest pair and triplet; made once per parent lattice."""
    length = nearest_distance(parent)
    return ClusterBasis.of(parent, reach[0] * length, reach[1] * length)


def taught_labelings(problem: Problem, blocks: list[Block]) -> Iterator[Labelings]:
    """Yield enumerated labelings, smallest cells first, as many as surrogates are taught."""
    taught = 0
    for block in blocks:
        for batch in labelings_of(problem, block):
            taught += len(batch)
            if taught > TAUGHT:
                return
            yield batch
