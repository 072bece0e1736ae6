"""Search of all compositions of many supercells: exhaustive where small, greedy where not."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration import count_labelings, superlattices
from latticesearch.enumeration.composition import require_possible
from latticesearch.errors import InputError
from latticesearch.lattice import Labelings, Supercell
from latticesearch.parallel import SerialComm, collective_errors
from latticesearch.search.exhaustive import search_all
from latticesearch.search.greedy import greedy_search
from latticesearch.search.plan import (
    WorkItem,
    affordable,
    feasible_counts,
    in_random_order,
    n_distinct,
    share_of,
    widest_beam,
)
from latticesearch.search.polish import Allowance
from latticesearch.search.pool import CandidatePool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice
    from latticesearch.parallel import Communicator
    from latticesearch.potential.protocol import LatticeModel

    Composition = Mapping[str, float | tuple[float, float]] | None

log = logging.getLogger(__name__)

EXHAUSTIVE_LIMIT = 20_000
"""Labelings that are enumerated rather than searched when nothing else is asked for."""

EXHAUSTIVE_SHARE = 0.5
"""Largest part of a budget that enumeration may take when nothing else is asked for."""

SMALLEST_SHARE = 0.25
"""Part of an item's estimated cost below which the rest of a budget stays unspent."""

SOURCE = "greedy"


def search(  # noqa: PLR0913 - the one call users make; all but two are keywords with defaults
    potential: LatticeModel,
    parent: ParentLattice,
    *,
    max_sites: int | None = None,
    supercells: Sequence[Supercell | npt.ArrayLike] | None = None,
    composition: Mapping[str, float | tuple[float, float]] | None = None,
    beam_width: int = 8,
    max_per_composition: int = 16,
    budget: int | None = None,
    exhaustive_up_to: int | None = None,
    seed: int = 0,
    comm: Communicator | None = None,
) -> CandidatePool:
    """Search the lowest-energy structures of every composition.

    Cells up to a size are enumerated, each composition of the larger ones is searched by atom
    addition and swap descents. The result is the same for any number of ranks.

    Parameters
    ----------
    potential
        Model of the energies.
    parent
        Parent lattice.
    max_sites
        Largest cells: all superlattices with up to so many sites. Give this or `supercells`.
    supercells
        Supercells, or integer matrices (rows in units of the parent's lattice vectors).
    composition
        Fraction of all sites, or (lowest, highest) fraction, per element; others are free.
    beam_width
        Partial cells kept per level of the atom addition; narrower where the budget asks for it.
    max_per_composition
        Candidates kept of each composition.
    budget
        Most energy evaluations, of labelings, partial cells and swaps together; unlimited when
        not given. Where it does not suffice for all supercells and compositions, those searched
        are drawn at random, symmetric supercells first.
    exhaustive_up_to
        Cells with up to so many sites are enumerated. When not given, as many as hold 20 000
        labelings together and at most half of the budget.
    seed
        Seed of what is left to chance; another seed spends a tight budget elsewhere.
    comm
        Ranks that share the work; serial when not given.

    Returns
    -------
    CandidatePool
        The same on all ranks.

    Raises
    ------
    InputError
        Contradictory arguments, or a composition that no cell can have.
    """
    comm = comm or SerialComm()
    _check(max_sites, supercells, beam_width, max_per_composition, budget)
    limit = math.inf if budget is None else budget
    with collective_errors(comm):
        blocks = _blocks(parent, max_sites, supercells, composition)
        if not any(len(block.counts) for block in blocks):
            require_possible(parent, sorted({block.n_cells for block in blocks}), composition)
        small, large = _split(blocks, composition, exhaustive_up_to, limit)
        pool = search_all(
            potential,
            parent,
            indices=[block.n_cells for block in small if not block.is_given],
            supercells=[cell for block in small if block.is_given for cell in block.supercells],
            composition=composition,
            max_per_composition=max_per_composition,
            comm=comm,
        )
    pool = pool.reduce(comm)
    items = [
        WorkItem(cell, counts)
        for block in large
        for cell in block.supercells
        for counts in block.counts
    ]
    return _search_items(_Greedy(potential, beam_width, limit, seed), items, pool, comm)


def _check(
    max_sites: int | None,
    supercells: Sequence[Supercell | npt.ArrayLike] | None,
    beam_width: int,
    max_per_composition: int,
    budget: int | None,
) -> None:
    """Refuse arguments that cannot be meant."""
    if (max_sites is None) == (supercells is None):
        raise InputError("give either max_sites or supercells, and not both")
    for name, value in (
        ("beam_width", beam_width),
        ("max_per_composition", max_per_composition),
        ("budget", 1 if budget is None else budget),
    ):
        if value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1")


@dataclass(frozen=True, eq=False)
class _Block:
    """Supercells that are either all enumerated or all searched.

    All superlattices of one index, or one supercell that was asked for.
    """

    supercells: list[Supercell]
    counts: npt.NDArray[np.int64]
    is_given: bool

    @property
    def n_cells(self) -> int:
        return self.supercells[0].n_cells

    @property
    def n_sites(self) -> int:
        return self.supercells[0].n_sites

    def n_labelings(self, composition: Composition) -> int:
        """Return how many labelings enumeration gives; for one supercell a bound from above."""
        if self.is_given:
            return n_distinct(self.supercells[0])
        parent = self.supercells[0].parent
        return int(count_labelings(parent, self.n_cells, composition=composition))


def _blocks(
    parent: ParentLattice,
    max_sites: int | None,
    supercells: Sequence[Supercell | npt.ArrayLike] | None,
    composition: Composition,
) -> list[_Block]:
    """Return the cells of a search, smallest first."""
    if supercells is not None:
        cells = {
            cell.hnf.tobytes(): cell for cell in (_as_supercell(parent, s) for s in supercells)
        }
        groups = [[cells[name]] for name in sorted(cells, key=lambda n: (cells[n].n_sites, n))]
    else:
        largest = (max_sites or 0) // parent.n_basis
        groups = [
            [Supercell.from_matrix(parent, hnf) for hnf in superlattices(parent, index)]
            for index in range(1, largest + 1)
        ]
    if not groups:
        raise InputError(
            f"nothing to search: max_sites is {max_sites}, the primitive cell has {parent.n_basis} "
            "sites"
            if supercells is None
            else "nothing to search: supercells is empty"
        )
    return [
        _Block(cells, feasible_counts(cells[0], composition), supercells is not None)
        for cells in groups
    ]


def _as_supercell(parent: ParentLattice, cell: Supercell | npt.ArrayLike) -> Supercell:
    # Supercells are shared per parent, and with them their evaluators.
    matrix = cell.hnf if isinstance(cell, Supercell) else cell
    return Supercell.from_matrix(parent, matrix)


def _split(
    blocks: list[_Block], composition: Composition, exhaustive_up_to: int | None, budget: float
) -> tuple[list[_Block], list[_Block]]:
    """Return the blocks to enumerate and those to search."""
    limit = budget
    if exhaustive_up_to is None:
        limit = min(EXHAUSTIVE_LIMIT, EXHAUSTIVE_SHARE * budget)
    small, large, total = [], [], 0
    for block in blocks:
        if len(block.counts) == 0:
            continue
        is_small = exhaustive_up_to is None or block.n_sites <= exhaustive_up_to
        n = block.n_labelings(composition) if is_small else 0
        if is_small and total + n <= limit:
            total += n
            small.append(block)
        else:
            large.append(block)
    return small, large


def _search_items(
    greedy: _Greedy, items: list[WorkItem], pool: CandidatePool, comm: Communicator
) -> CandidatePool:
    """Merge the results of greedy searches into the pool, wave after wave while budget is left.

    The cost of an item is known only afterwards, so what one wave leaves over pays for the next.
    """
    left = greedy.budget - pool.evaluations
    width = widest_beam(items, greedy.beam_width, left)
    waiting = in_random_order(items, greedy.seed) if math.isfinite(left) else items
    done = 0
    while waiting and left >= 1:
        wave = affordable(waiting, width, left)
        if done and left < SMALLEST_SHARE * wave[0].cost(width):
            break
        allowances = _allowances(wave, width, left)
        mine = CandidatePool.empty(pool.parent, pool.max_per_composition)
        with collective_errors(comm):
            for i in share_of(wave, width, comm):
                mine = mine.merge(greedy.pool_of(wave[i], Allowance(allowances[i]), width, mine))
        pool = pool.merge(mine.reduce(comm))
        left = greedy.budget - pool.evaluations
        waiting = waiting[len(wave) :]
        done += len(wave)
    log.debug(
        "%d of %d compositions of supercells searched with beams of %d, %d energy evaluations",
        done,
        len(items),
        width,
        pool.evaluations,
    )
    return pool


def _allowances(wave: list[WorkItem], width: int, budget: float) -> list[float]:
    """Split a budget over the items in proportion to their estimated costs."""
    if not math.isfinite(budget):
        return [math.inf] * len(wave)
    costs = [item.cost(width) for item in wave]
    return [float(int(budget) * cost // sum(costs)) for cost in costs]


@dataclass(frozen=True, eq=False)
class _Greedy:
    """How one composition of one supercell is searched."""

    potential: LatticeModel
    beam_width: int
    budget: float
    seed: int

    def pool_of(
        self, item: WorkItem, allowance: Allowance, width: int, known: CandidatePool
    ) -> CandidatePool:
        """Return the pool of one item."""
        result = greedy_search(
            self.potential.evaluator(item.supercell),
            item.counts,
            beam_width=width,
            max_results=known.max_per_composition,
            allowance=allowance,
            rng=np.random.default_rng([self.seed, *item.seed_key]),
        )
        return CandidatePool.from_labelings(
            Labelings(item.supercell, result.labels),
            result.energies,
            source=SOURCE,
            max_per_composition=known.max_per_composition,
            evaluations=result.evaluations,
        )
