"""The supercells of a search, by size, and the compositions they can have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration import count_bounds, count_labelings, superlattices
from latticesearch.errors import InputError
from latticesearch.lattice import Supercell
from latticesearch.lattice.skewness import choose_shapes
from latticesearch.search.partial import fits_sites, has_choice
from latticesearch.search.types import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice

    Composition = Mapping[str, float | tuple[float, float]] | None


@dataclass(frozen=True, eq=False)
class Block:
    """Supercells that are searched by one method.

    All superlattices of one index, or one supercell that was asked for.
    """

    supercells: list[Supercell]
    counts: npt.NDArray[np.int64]
    is_given: bool
    is_limited: bool = False
    """Not all superlattices of the index are here."""

    @property
    def n_cells(self) -> int:
        """Primitive cells per supercell."""
        return self.supercells[0].n_cells

    @property
    def n_sites(self) -> int:
        """Sites per supercell."""
        return self.supercells[0].n_sites

    def n_labelings(self, composition: Composition) -> int | float:
        """Return how many labelings enumeration gives; for one supercell a bound from above."""
        if self.is_given:
            cell = self.supercells[0]
            # Every class has at most as many members as there are permutations.
            least = np.log(cell.allowed.sum(axis=1)).sum() - np.log(len(cell.site_permutations))
            return n_distinct(cell) if least < np.log(COUNTABLE) else math.inf
        parent = self.supercells[0].parent
        if composition is None:
            return _number_of_labelings(parent, self.n_cells)
        return int(count_labelings(parent, self.n_cells, composition=composition))

    def limited_to(self, shapes: int | None, stable: Iterable[Supercell]) -> Block:
        """Return the block with so many supercells at most, as `choose_shapes` picks them."""
        if shapes is None or len(self.supercells) <= shapes:
            return self
        chosen = choose_shapes(self.supercells, shapes, stable)
        return Block(chosen, self.counts, self.is_given, is_limited=True)


def blocks_of_sizes(
    parent: ParentLattice, min_sites: int, max_sites: int, composition: Composition
) -> list[Block]:
    """Return all superlattices with so many sites, a block per size, smallest first.

    Raises
    ------
    InputError
        There are none.
    """
    sizes = range(-(-min_sites // parent.n_basis), max_sites // parent.n_basis + 1)
    if not sizes:
        raise InputError(
            f"nothing to search: cells of {min_sites} to {max_sites} sites, and the primitive cell "
            f"has {parent.n_basis}"
        )
    groups = (
        [Supercell.from_matrix(parent, hnf) for hnf in superlattices(parent, index)]
        for index in sizes
    )
    return [
        Block(cells, feasible_counts(cells[0], composition), is_given=False) for cells in groups
    ]


def blocks_of_cells(
    parent: ParentLattice,
    supercells: Sequence[Supercell | npt.ArrayLike],
    composition: Composition,
) -> list[Block]:
    """Return the given supercells, a block each, smallest first.

    Raises
    ------
    InputError
        There are none.
    """
    # Supercells are shared per parent, and with them their evaluators.
    matrices = (s.hnf if isinstance(s, Supercell) else s for s in supercells)
    cells = {
        cell.hnf.tobytes(): cell for cell in (Supercell.from_matrix(parent, m) for m in matrices)
    }
    if not cells:
        raise InputError("nothing to search: supercells is empty")
    ordered = sorted(cells.values(), key=lambda cell: (cell.n_sites, cell.hnf.tobytes()))
    return [Block([cell], feasible_counts(cell, composition), is_given=True) for cell in ordered]


@lru_cache(maxsize=256)  # counting takes a third of the time of enumerating with energies
def _number_of_labelings(parent: ParentLattice, n_cells: int) -> int:
    """Return how many labelings all superlattices of an index have."""
    return int(count_labelings(parent, n_cells))


COUNTABLE = 10**7
"""Labelings of one supercell beyond which nobody wants their exact number."""


def feasible_counts(supercell: Supercell, composition: Composition = None) -> npt.NDArray[np.int64]:
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


def tasks_of(blocks: Iterable[Block]) -> list[Task]:
    """Return every composition of every supercell."""
    tasks: list[Task] = []
    for block in blocks:
        # Supercells of one size have the same sites: what a composition leaves open is theirs all.
        allowed = block.supercells[0].allowed
        pairs = [(counts, has_choice(counts, allowed)) for counts in block.counts]
        tasks += [Task(cell, *pair) for cell in block.supercells for pair in pairs]
    return tasks


def in_random_order(tasks: Sequence[Task], seed: int) -> list[Task]:
    """Return the tasks in an order that prefers symmetric supercells but leaves none out.

    Weighted sampling without replacement (Efraimidis & Spirakis, Inf. Process. Lett. 97, 181
    (2006)): the weight is the number of point operations the supercell keeps, as ground states
    tend to be symmetric; the random numbers follow from the seed and the supercell.
    """
    cells = {task.cell for task in tasks}
    streams = {cell: np.random.default_rng([seed, *cell.hnf.ravel().tolist()]) for cell in cells}
    ranks = [
        -math.log(streams[task.cell].random()) / len(task.cell.point_operations) for task in tasks
    ]
    return [tasks[i] for i in np.argsort(ranks, kind="stable")]
