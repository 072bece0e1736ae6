"""The one search: of campaigns, of the command line, and of Python."""

from __future__ import annotations

import math
import time
import warnings
from typing import TYPE_CHECKING, Any

from latticesearch.enumeration import require_possible
from latticesearch.errors import InputError
from latticesearch.parallel import SerialComm, collective_errors, one_thread
from latticesearch.progress import NoProgress
from latticesearch.search.blocks import blocks_of_cells, blocks_of_sizes, tasks_of
from latticesearch.search.enumerate import enumerate_all
from latticesearch.search.guides import Guides
from latticesearch.search.policy import METHODS, make_plan
from latticesearch.search.prove import certify_vertices
from latticesearch.search.screening.screen import screen_blocks
from latticesearch.search.types import Budget, Problem
from latticesearch.search.waves import Waves

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from latticesearch.hull import Hull
    from latticesearch.lattice import ParentLattice, Supercell
    from latticesearch.parallel import Communicator
    from latticesearch.potential.protocol import Potential
    from latticesearch.progress import Progress
    from latticesearch.search.blocks import Block
    from latticesearch.search.policy import Plan
    from latticesearch.search.pool import CandidatePool
    from latticesearch.stopping import StopRequest

OLD_MODES = {
    "portfolio": "auto",
    "exhaustive": "enumerate",
    "target": "addition",
    "sweep": "addition",
    "polish": "annealing",
}
"""Methods by the names they had as `mode`."""

DECIDED = ("polish", "beam_width", "exhaustive_up_to")
"""Keywords of old that the policy decides now."""


@one_thread()
def search(  # noqa: PLR0913 - the one call users make; all but two are keywords with defaults
    potential: Potential,
    parent: ParentLattice,
    *,
    max_sites: int | None = None,
    min_sites: int = 1,
    supercells: Sequence[Supercell | npt.ArrayLike] | None = None,
    composition: Mapping[str, float | tuple[float, float]] | None = None,
    method: str = "auto",
    budget: int | None = None,
    seconds: float | None = None,
    max_per_composition: int = 16,
    shapes: int | None = None,
    near: tuple[Hull, float] | None = None,
    certify: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    comm: Communicator | None = None,
    **old: Any,
) -> CandidatePool:
    """Search the lowest-energy structures of every composition.

    The result is the same for any number of ranks, unless `seconds` or `stop` ends it.

    Parameters
    ----------
    potential
        Model of the energies.
    parent
        Parent lattice.
    max_sites, min_sites
        All superlattices with so many sites. Give this or `supercells`.
    supercells
        Supercells, or integer matrices (rows in units of the parent's lattice vectors).
    composition
        Fraction of all sites, or (lowest, highest) fraction, per element; others are free.
    method
        "auto": `latticesearch.search.policy` decides for each size. "enumerate": everything is
        evaluated, however long it takes. "screening": surrogates rank all labelings and the
        promising ones are evaluated. "addition": atoms are added one by one at each composition.
        "annealing": guided annealing of each composition.
    budget
        Most energy evaluations, of labelings, partial cells, flips and swaps together. When
        neither this nor `seconds` is given, every part of the search ends by itself.
    seconds
        Wall time after which what was found is returned. Larger cells are searched in rounds
        that grow until then, and the result depends on how fast the machine is. Counting and
        listing the cells is not interrupted: all ternaries up to 24 sites take some three seconds.
    max_per_composition
        Candidates kept of each composition.
    shapes
        Supercells per size among those that are not enumerated: a quarter of them the least
        skewed, the others those that can hold most of the structures that enumeration found on
        the hull; all when not given.
    near
        A hull over atomic fractions, eV/atom, and a height: whatever is enumerated so close to
        this hull is kept as well.
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
    stop
        Once it is asked to stop, the search returns what it has found; cells that are enumerated
        are enumerated to the end.
    comm
        Ranks that share the work; serial when not given.
    **old
        Keywords of earlier versions: `mode` names a method; `polish`, `beam_width` and
        `exhaustive_up_to` are decided by the policy now. All give a FutureWarning.

    Returns
    -------
    CandidatePool
        The same on all ranks.

    Raises
    ------
    InputError
        Contradictory arguments, or a composition that no cell can have.
    """
    method = _method_of(method, old)
    if (max_sites is None) == (supercells is None):
        raise InputError("give either max_sites or supercells, and not both")
    _check_numbers(
        min_sites=min_sites, max_per_composition=max_per_composition, budget=budget,
        shapes=shapes, certify=certify,
    )  # fmt: skip
    if seconds is not None and not seconds > 0.0:
        raise InputError(f"seconds is {seconds:g}; it must be above zero")
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    limit = Budget(math.inf if budget is None else budget, deadline=deadline, stop=stop)
    problem = Problem(
        potential, parent, composition, max_per_composition, near, seed,
        comm or SerialComm(), progress or NoProgress(),
    )  # fmt: skip
    if supercells is None:
        assert max_sites is not None
        blocks = blocks_of_sizes(parent, min_sites, max_sites, composition)
    else:
        blocks = blocks_of_cells(parent, supercells, composition)
    pool, plan = carry_out(problem, _possible(problem, blocks), limit, method, shapes)
    if certify is None or stop:
        return pool
    return certify_vertices(problem, pool, plan.screened + plan.walked, certify)


def carry_out(
    problem: Problem,
    blocks: list[Block],
    budget: Budget,
    method: str = "auto",
    shapes: int | None = None,
) -> tuple[CandidatePool, Plan]:
    """Make a plan and carry it out; return what was found, and the plan."""
    with collective_errors(problem.comm):
        plan = make_plan(problem, blocks, budget, method)
        if method == "enumerate":
            _check_enumerable(problem, plan, budget)
        pool = enumerate_all(problem, plan.enumerated)
    pool = pool.reduce(problem.comm)
    budget.used = pool.evaluations
    if plan.screened:
        chosen = _limited(plan.screened, shapes, pool)
        pool = screen_blocks(problem, plan.enumerated, chosen, budget, pool)
    if plan.walked:
        chosen = _limited(plan.walked, shapes, pool)
        guides = None
        if plan.is_guided and method != "addition":
            make = Guides.of_large_cells if plan.is_wide else Guides.of
            guides = make(problem.parent)
            with collective_errors(problem.comm):
                guides.learn_blocks(problem, plan.enumerated)
        pool = Waves(problem, plan, guides, budget, pool).run(tasks_of(chosen))
    return pool, plan


def _check_enumerable(problem: Problem, plan: Plan, budget: Budget) -> None:
    """Refuse to enumerate more than there are energies for."""
    n = sum(block.n_labelings(problem.composition) for block in plan.enumerated)
    if n > budget.limit:
        raise InputError(
            f'method="enumerate" needs the energies of {n:g} labelings, but budget is '
            f'{budget.limit:g}: allow as many, take smaller cells, or leave method at "auto"'
        )


def _limited(blocks: list[Block], shapes: int | None, pool: CandidatePool) -> list[Block]:
    """Return blocks with so many supercells at most, some chosen by what the pool finds stable."""
    if shapes is None:
        return blocks
    return [block.limited_to(shapes, pool.stable_cells) for block in blocks]


def _possible(problem: Problem, blocks: list[Block]) -> list[Block]:
    """Return the blocks that can have the composition; one at least can."""
    possible = [block for block in blocks if len(block.counts)]
    if not possible:
        sizes = sorted({block.n_cells for block in blocks})
        require_possible(problem.parent, sizes, problem.composition)
    return possible


def _method_of(method: str, old: Mapping[str, Any]) -> str:
    """Return the method that is asked for, also by the keywords of earlier versions."""
    for name, value in old.items():
        if name == "mode":
            if value not in OLD_MODES:
                raise InputError(f"mode is {value!r}; it must be one of {', '.join(OLD_MODES)}")
            if method != "auto":
                raise InputError(f"mode={value!r} is the old name of a method: leave it out")
            method = OLD_MODES[value]
            message = f'mode="{value}" is called method="{method}" now'
        elif name in DECIDED:
            message = f"{name} is decided by the search itself now; leave it out"
        else:
            raise TypeError(f"search() got an unexpected keyword argument {name!r}")
        warnings.warn(message, FutureWarning, stacklevel=4)
    if method not in METHODS:
        raise InputError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
    return method


def _check_numbers(**numbers: int | None) -> None:
    """Refuse numbers below 1."""
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1")
