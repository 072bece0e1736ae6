"""Plan of a search: which compositions of which supercells, in which order, at what cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration import count_bounds
from latticesearch.search.greedy import default_restarts
from latticesearch.search.partial import fits_sites

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.parallel import Communicator

SWEEPS_PER_DESCENT = 3
"""Swap sweeps a descent from a result of atom addition takes, for the estimate of the cost."""

DISTINCT_SHARE = 0.6
"""Part of the partial cells and swaps that is paid for: equivalent ones are evaluated once.
Measured on cells of 8 to 24 sites of 2 to 4 species: 0.15 to 0.5, single items up to 0.85."""


@dataclass(frozen=True, eq=False)
class WorkItem:
    """One composition of one supercell.

    Attributes
    ----------
    supercell
        The cell to decorate.
    counts
        (n_species,) sites that hold each species.
    """

    supercell: Supercell
    counts: npt.NDArray[np.int64]

    @property
    def seed_key(self) -> tuple[int, ...]:
        """Integers that name this item in random seeds."""
        return (*self.supercell.hnf.ravel().tolist(), *self.counts.tolist())

    def cost(self, beam_width: int) -> int:
        """Return an estimate, rather too high, of the evaluations of a greedy search."""
        n_choices = int(np.count_nonzero(self.counts))
        if n_choices == 1:
            return 1
        n_open = int(np.count_nonzero(self.supercell.allowed.sum(axis=1) > 1))
        n_pairs = (int(self.counts.sum()) ** 2 - int((self.counts**2).sum())) // 2
        addition = n_choices * (n_open + beam_width * n_open * (n_open - 1) // 2)
        n_descents = beam_width + default_restarts(beam_width)
        descents = n_descents * (1 + SWEEPS_PER_DESCENT * n_pairs)
        return int(np.ceil(DISTINCT_SHARE * (addition + descents)))


def feasible_counts(
    supercell: Supercell, composition: Mapping[str, float | tuple[float, float]] | None = None
) -> npt.NDArray[np.int64]:
    """Return all species counts, (n, n_species), that labelings of a supercell can have.

    Parameters
    ----------
    supercell
        The cell.
    composition
        Fraction of all sites, or (lowest, highest) fraction, per element; others are free.
    """
    n_sites = supercell.n_sites
    partial = np.zeros((1, 0), dtype=np.int64)
    for low, high in count_bounds(supercell.parent, supercell.n_cells, composition).tolist():
        grown = np.repeat(partial, max(high - low + 1, 0), axis=0)
        steps = np.tile(np.arange(low, high + 1, dtype=np.int64), len(partial))
        partial = np.column_stack([grown, steps])
        partial = partial[partial.sum(axis=1) <= n_sites]
    complete = partial[partial.sum(axis=1) == n_sites]
    is_open = np.ones((len(complete), n_sites), dtype=np.bool_)
    result: npt.NDArray[np.int64] = complete[fits_sites(complete, is_open, supercell.allowed)]
    return result


def n_distinct(supercell: Supercell) -> int:
    """Return the exact number of symmetry-distinct labelings of a supercell, all compositions.

    Burnside's lemma: the mean number of labelings that a permutation leaves unchanged; one
    label per cycle that all its sites allow.
    """
    total = 0
    for permutation in supercell.site_permutations:
        fixed, seen = 1, np.zeros(supercell.n_sites, dtype=np.bool_)
        for start in range(supercell.n_sites):
            if seen[start]:
                continue
            site, options = start, supercell.allowed[start]
            while not seen[site]:
                seen[site] = True
                options = options & supercell.allowed[site]
                site = int(permutation[site])
            fixed *= int(options.sum())
        total += fixed
    return total // len(supercell.site_permutations)


def in_random_order(items: Sequence[WorkItem], seed: int) -> list[WorkItem]:
    """Return the items in an order that prefers symmetric supercells but leaves none out.

    Weighted sampling without replacement (Efraimidis & Spirakis, Inf. Process. Lett. 97, 181
    (2006)): the weight is the number of point operations the supercell keeps, as ground states
    tend to be symmetric; the random number of an item follows from the seed and the item.
    """

    def sort_key(item: WorkItem) -> tuple[float, tuple[int, ...]]:
        draw = np.random.default_rng([seed, *item.seed_key]).random()
        return float(-np.log(draw) / len(item.supercell.point_operations)), item.seed_key

    return sorted(items, key=sort_key)


def widest_beam(items: Sequence[WorkItem], beam_width: int, budget: float) -> int:
    """Return the largest width up to `beam_width` at which all items fit the budget; 1 if none."""
    for width in range(beam_width, 1, -1):
        if sum(item.cost(width) for item in items) <= budget:
            return width
    return 1


def affordable(items: Sequence[WorkItem], beam_width: int, budget: float) -> list[WorkItem]:
    """Return the items, in the given order, whose costs fit the budget; at least one."""
    total = np.cumsum([item.cost(beam_width) for item in items])
    return list(items[: max(int(np.searchsorted(total, budget, side="right")), 1)])


def share_of(items: Sequence[WorkItem], beam_width: int, comm: Communicator) -> list[int]:
    """Return the indices of the items of this rank: one block of about equal cost.

    Items are taken supercell by supercell, so a rank needs the tables of few supercells.
    """
    order = sorted(range(len(items)), key=lambda i: items[i].seed_key)
    costs = np.array([items[i].cost(beam_width) for i in order], dtype=np.float64)
    middle = np.cumsum(costs) - costs / 2
    owner = (middle * comm.size / max(costs.sum(), 1.0)).astype(np.int64)
    return [i for i, rank in zip(order, owner, strict=True) if rank == comm.rank]
