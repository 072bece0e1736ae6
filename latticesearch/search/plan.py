"""Plan of a search: which compositions of which supercells, in which order, at what cost."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration import count_bounds, count_labelings
from latticesearch.search.greedy import default_restarts
from latticesearch.search.partial import fits_sites
from latticesearch.search.shapes import choose_shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Supercell

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

    @cached_property
    def _size(self) -> tuple[int, int, int]:
        """Species present, sites with a choice, pairs of unlike sites."""
        counts = self.counts.tolist()
        active = self.supercell.parent.is_active
        n_open = int(np.count_nonzero(active)) * self.supercell.n_cells
        n_pairs = (sum(counts) ** 2 - sum(n * n for n in counts)) // 2
        return sum(n > 0 for n in counts), n_open, n_pairs

    def cost(self, beam_width: int) -> int:
        """Return an estimate, rather too high, of the evaluations of a greedy search."""
        n_choices, n_open, n_pairs = self._size
        if n_choices == 1:
            return 1
        addition = n_choices * (n_open + beam_width * n_open * (n_open - 1) // 2)
        n_descents = beam_width + default_restarts(beam_width)
        descents = n_descents * (1 + SWEEPS_PER_DESCENT * n_pairs)
        return int(np.ceil(DISTINCT_SHARE * (addition + descents)))


@dataclass(frozen=True, eq=False)
class Block:
    """Supercells that are either all enumerated or all searched.

    All superlattices of one index, or one supercell that was asked for.
    """

    supercells: list[Supercell]
    counts: npt.NDArray[np.int64]
    is_given: bool

    @property
    def n_cells(self) -> int:
        """Primitive cells per supercell."""
        return self.supercells[0].n_cells

    @property
    def n_sites(self) -> int:
        """Sites per supercell."""
        return self.supercells[0].n_sites

    def n_labelings(
        self, composition: Mapping[str, float | tuple[float, float]] | None
    ) -> int | float:
        """Return how many labelings enumeration gives; for one supercell a bound from above."""
        if self.is_given:
            cell = self.supercells[0]
            # Every class has at most as many members as there are permutations.
            least = np.log(cell.allowed.sum(axis=1)).sum() - np.log(len(cell.site_permutations))
            return n_distinct(cell) if least < np.log(COUNTABLE) else math.inf
        parent = self.supercells[0].parent
        return int(count_labelings(parent, self.n_cells, composition=composition))

    def limited_to(self, shapes: int | None, stable: Iterable[Supercell]) -> Block:
        """Return the block with so many supercells at most, as `choose_shapes` picks them."""
        if shapes is None or len(self.supercells) <= shapes:
            return self
        chosen = choose_shapes(self.supercells, shapes, stable)
        return Block(chosen, self.counts, self.is_given)


COUNTABLE = 10**7
"""Labelings of one supercell beyond which nobody wants their exact number."""


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
    """Return the exact number of symmetry-distinct labelings of a supercell, all compositions."""
    return count_labelings(supercell.parent, supercell=supercell, superperiodic=True)


def in_random_order(items: Sequence[WorkItem], seed: int) -> list[WorkItem]:
    """Return the items in an order that prefers symmetric supercells but leaves none out.

    Weighted sampling without replacement (Efraimidis & Spirakis, Inf. Process. Lett. 97, 181
    (2006)): the weight is the number of point operations the supercell keeps, as ground states
    tend to be symmetric; the random numbers follow from the seed and the supercell.
    """
    cells = {item.supercell for item in items}
    streams = {cell: np.random.default_rng([seed, *cell.hnf.ravel().tolist()]) for cell in cells}
    ranks = [
        -math.log(streams[item.supercell].random()) / len(item.supercell.point_operations)
        for item in items
    ]
    return [items[i] for i in np.argsort(ranks, kind="stable")]


def widest_beam(items: Sequence[WorkItem], beam_width: int, budget: float) -> int:
    """Return the largest width up to `beam_width` at which all items fit the budget; 1 if none."""
    if not np.isfinite(budget):
        return beam_width
    # Costs grow with the width, so the first width that is too wide can be bisected.
    too_wide = bisect_right(
        range(1, beam_width + 1), budget, key=lambda width: sum(i.cost(width) for i in items)
    )
    return max(too_wide, 1)


def affordable(items: Sequence[WorkItem], beam_width: int, budget: float) -> list[WorkItem]:
    """Return the items, in the given order, whose costs fit the budget; at least one."""
    total = 0
    for n, item in enumerate(items):
        total += item.cost(beam_width)
        if total > budget:
            return list(items[: max(n, 1)])
    return list(items)
