"""Search of all compositions of many supercells: what is enumerated and what is searched."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from latticesearch.enumeration import superlattices
from latticesearch.enumeration.restrictions import require_possible
from latticesearch.errors import InputError
from latticesearch.lattice import Supercell
from latticesearch.parallel import SerialComm, collective_errors
from latticesearch.progress import NoProgress
from latticesearch.search.exhaustive import search_all
from latticesearch.search.plan import Block, feasible_counts
from latticesearch.search.polish import Allowance
from latticesearch.search.portfolio import Job, run_items, run_portfolio
from latticesearch.search.proofs import certify_vertices
from latticesearch.search.strategies import POLISHES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice
    from latticesearch.parallel import Communicator
    from latticesearch.potential.protocol import LatticeModel
    from latticesearch.progress import Progress
    from latticesearch.search.pool import CandidatePool

    Composition = Mapping[str, float | tuple[float, float]] | None

EXHAUSTIVE_LIMIT = 20_000
"""Labelings that are enumerated rather than searched when nothing else is asked for."""

EXHAUSTIVE_SHARE = 0.2
"""Largest part of a budget that enumeration may take when nothing else is asked for. Measured on
the hulls of binaries to 12, ternaries to 9 and quaternaries to 8 sites."""


def search(  # noqa: PLR0913 - the one call users make; all but two are keywords with defaults
    potential: LatticeModel,
    parent: ParentLattice,
    *,
    max_sites: int | None = None,
    supercells: Sequence[Supercell | npt.ArrayLike] | None = None,
    composition: Mapping[str, float | tuple[float, float]] | None = None,
    mode: str = "portfolio",
    polish: str = "guided",
    beam_width: int = 8,
    max_per_composition: int = 16,
    shapes: int | None = None,
    budget: int | None = None,
    seconds: float | None = None,
    exhaustive_up_to: int | None = None,
    certify: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    comm: Communicator | None = None,
) -> CandidatePool:
    """Search the lowest-energy structures of every composition.

    The result is the same for any number of ranks, unless `seconds` ends it.

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
    mode
        "portfolio": small cells are enumerated; where that is too much but the labelings can be
        listed, surrogates rank them and the promising ones are evaluated; larger cells are
        annealed with the help of surrogates. "exhaustive": everything is enumerated. "target":
        atom addition at each composition. "sweep": atom addition through all compositions.
        "polish": random labelings, improved.
    polish
        How complete labelings are improved in the modes "target", "sweep" and "polish":
        "guided" annealing, "annealing", parallel "tempering", "recreate" (a cluster of sites is
        cleared and filled again), or "descent".
    beam_width
        Partial cells kept per level of an atom addition; narrower where the budget asks for it.
    max_per_composition
        Candidates kept of each composition.
    shapes
        Supercells per size among those that are not enumerated: a quarter of them the least
        skewed, the others those that can hold most of the structures that enumeration found on
        the hull; all when not given.
    budget
        Most energy evaluations, of labelings, partial cells, flips and swaps together. When
        neither this nor `seconds` is given, every part of the search ends by itself.
    seconds
        Wall time after which what was found is returned. Without a `budget` it is one of its
        own: larger cells are searched until then, in a way that suits the measured cost of a
        swap, and the result depends on how fast the machine is.
    exhaustive_up_to
        Cells with up to so many sites are enumerated. When not given, as many as hold 20 000
        labelings together and at most a fifth of the budget.
    certify
        Cells with up to so many sites, of all shapes, are searched by branch and bound for
        anything lower at the compositions of the vertices of the pool's hull. What is found
        enters the pool; `CandidatePool.proven_gaps` says what is proven. This comes after, and
        on top of, `budget` and `seconds`. Its cost grows as (species + 1) to the power of the
        sites that a site sees: two species on 16 sites take some 2 s and 0.4 GB per shape.
    seed
        Seed of what is left to chance.
    progress
        Receives how far the search is.
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
    _check(max_sites, supercells)
    _check_numbers(
        beam_width=beam_width,
        max_per_composition=max_per_composition,
        budget=budget,
        shapes=shapes,
        certify=certify,
    )
    if seconds is not None and not seconds > 0.0:
        raise InputError(f"seconds is {seconds:g}; it must be above zero")
    _check_names(mode, polish)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    allowance = Allowance(math.inf if budget is None else budget, deadline=deadline)
    with collective_errors(comm):
        blocks = _blocks(parent, max_sites, supercells, composition)
        if not any(len(block.counts) for block in blocks):
            require_possible(parent, sorted({block.n_cells for block in blocks}), composition)
        largest = math.inf if mode == "exhaustive" else exhaustive_up_to
        small, large = _split(blocks, composition, largest, allowance.limit)
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
    allowance.used = pool.evaluations
    job = Job(
        potential, parent, composition, polish, beam_width, max_per_composition, seed,
        comm, progress or NoProgress(),
    )  # fmt: skip
    stable = [] if shapes is None else pool.stable_cells
    chosen = [block.limited_to(shapes, stable) for block in large]
    if mode == "portfolio":
        pool = run_portfolio(job, small, chosen, allowance, pool)
    else:
        pool = run_items(job, mode, chosen, allowance, pool)
    if certify is None:
        return pool
    return certify_vertices(pool, potential, large, certify, comm, job.progress)


MODES = ("portfolio", "exhaustive", "target", "sweep", "polish")


def _check_names(mode: str, polish: str) -> None:
    """Refuse unknown modes."""
    for name, value, known in (("mode", mode, MODES), ("polish", polish, tuple(POLISHES))):
        if value not in known:
            raise InputError(f"{name} is {value!r}; it must be one of {', '.join(known)}")


def _check(max_sites: int | None, supercells: Sequence[Supercell | npt.ArrayLike] | None) -> None:
    """Refuse a search without, or with two kinds of, cells."""
    if (max_sites is None) == (supercells is None):
        raise InputError("give either max_sites or supercells, and not both")


def _check_numbers(**numbers: int | None) -> None:
    """Refuse numbers below 1."""
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1")


def _blocks(
    parent: ParentLattice,
    max_sites: int | None,
    supercells: Sequence[Supercell | npt.ArrayLike] | None,
    composition: Composition,
) -> list[Block]:
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
        Block(cells, feasible_counts(cells[0], composition), supercells is not None)
        for cells in groups
    ]


def _as_supercell(parent: ParentLattice, cell: Supercell | npt.ArrayLike) -> Supercell:
    # Supercells are shared per parent, and with them their evaluators.
    matrix = cell.hnf if isinstance(cell, Supercell) else cell
    return Supercell.from_matrix(parent, matrix)


def _split(
    blocks: list[Block], composition: Composition, exhaustive_up_to: float | None, budget: float
) -> tuple[list[Block], list[Block]]:
    """Return the blocks to enumerate and those to search."""
    limit = budget
    if exhaustive_up_to is None:
        limit = min(EXHAUSTIVE_LIMIT, EXHAUSTIVE_SHARE * budget)
    small: list[Block] = []
    large: list[Block] = []
    total: float = 0
    for block in blocks:
        if len(block.counts) == 0:
            continue
        is_small = exhaustive_up_to is None or block.n_sites <= exhaustive_up_to
        n = block.n_labelings(composition) if is_small else 0.0
        if is_small and total + n <= limit:
            total += n
            small.append(block)
        else:
            large.append(block)
    return small, large
