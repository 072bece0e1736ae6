"""The parts of a search: enumeration, screening and guided annealing under one budget."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration import enumerate_labelings
from latticesearch.errors import InputError
from latticesearch.hull import Hull
from latticesearch.lattice import Labelings
from latticesearch.parallel import deal_out
from latticesearch.search.annealing.timed import timed_search
from latticesearch.search.greedy import SearchResult, greedy_search
from latticesearch.search.plan import WorkItem, affordable, in_random_order, widest_beam
from latticesearch.search.polish import Allowance
from latticesearch.search.pool import CandidatePool
from latticesearch.search.screening.screen import Screen, first_picks, screen_all
from latticesearch.search.strategies import default_evaluations, polish_random
from latticesearch.search.surrogate import SCREEN_REACHES, Guides
from latticesearch.search.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from latticesearch.lattice import ParentLattice, Supercell
    from latticesearch.parallel import Communicator
    from latticesearch.potential.protocol import LatticeModel
    from latticesearch.progress import Progress
    from latticesearch.search.plan import Block

    Task = tuple[WorkItem, Allowance]

log = logging.getLogger(__name__)

LISTED = 300_000
"""Labelings that are ranked by surrogates one by one; more are searched."""

TAUGHT = 3000
"""Enumerated labelings that surrogates learn before they rank others."""

SMALLEST_SHARE = 0.25
"""Part of an item's estimated cost below which the rest of a budget stays unspent."""

FIRST_LOOK = 0.5
"""Part of a budget for a first look at many compositions and supercells; the rest goes to those
that turned out near the hull."""

CLOSE = 0.25
"""Part of the items looked at that is searched once more."""

SHORTEST_LOOK = 0.02
"""Seconds of a first look at least where a search has a time."""

LEAST_LOOK = 0.2
"""Evaluations of a first look at least, in units of `default_evaluations`."""


@dataclass(frozen=True, eq=False)
class Job:
    """What all parts of a search need."""

    potential: LatticeModel
    parent: ParentLattice
    composition: Mapping[str, float | tuple[float, float]] | None
    polish: str
    beam_width: int
    max_per_composition: int
    seed: int
    comm: Communicator
    progress: Progress

    def pool_of(self, cell: Supercell, result: SearchResult, source: str) -> CandidatePool:
        """Return the pool of what one piece of work found."""
        return CandidatePool.from_labelings(
            Labelings(cell, result.labels),
            result.energies,
            source=source,
            max_per_composition=self.max_per_composition,
            evaluations=result.evaluations,
            spent=1 if source == "screened" else result.evaluations,
        )

    def run(self, tasks: list[Task], work: Callable[[Task], SearchResult]) -> list[SearchResult]:
        """Return the results of all tasks on all ranks; whoever is free takes the next."""
        self.progress.start("searching", len(tasks))

        def one(i: int) -> SearchResult:
            self.progress.advance(i)
            return work(tasks[i])

        results = deal_out(len(tasks), one, self.comm)
        self.progress.finish()
        return results

    def rng_of(self, item: WorkItem, wave: int = 0) -> np.random.Generator:
        """Return the random numbers of an item, the same on every rank."""
        return np.random.default_rng([self.seed, *item.seed_key, *([wave] if wave else [])])


def run_portfolio(
    job: Job, small: list[Block], large: list[Block], allowance: Allowance, pool: CandidatePool
) -> CandidatePool:
    """Go on from a pool of enumerated cells: screen what can be listed, anneal what cannot."""
    listed, rest = _split_listed(large, job)
    if listed:
        guides = Guides.of(job.parent, SCREEN_REACHES)
        pool = _screened(job, small, listed, guides, allowance, pool)
    items = [
        WorkItem(cell, counts)
        for block in rest
        for cell in block.supercells
        for counts in block.counts
    ]
    return _annealed(job, items, small, allowance, pool) if items else pool


def _split_listed(large: list[Block], job: Job) -> tuple[list[Block], list[Block]]:
    """Return the blocks whose labelings are ranked one by one, and the others."""
    total: float = 0
    listed: list[Block] = []
    rest: list[Block] = []
    for block in large:
        if len(block.counts):
            n = block.n_labelings(job.composition)
            (listed if total + n <= LISTED else rest).append(block)
            total += n if total + n <= LISTED else 0
    return listed, rest


def _labelings(job: Job, block: Block, comm: Communicator | None) -> Iterator[Labelings]:
    """Yield all labelings of a block, or this rank's share."""
    for cell in block.supercells:
        yield from enumerate_labelings(
            job.parent,
            supercell=cell,
            superperiodic=block.is_given,
            composition=job.composition,
            comm=comm,
        )


def _teach(job: Job, small: list[Block], guides: Guides, screen: Screen | None) -> None:
    """Teach surrogates the enumerated labelings, smallest cells first; they are paid for."""
    taught = 0
    for block in small:
        for batch in _labelings(job, block, None):
            if taught + len(batch) > TAUGHT:
                return
            taught += len(batch)
            evaluator = job.potential.evaluator(batch.supercell)
            if screen is None:
                guides.learn_energies(batch, evaluator.energies(batch.labels))
            else:
                screen.learn([(batch, evaluator.site_energies(batch.labels))], guides)


def _screened(
    job: Job,
    small: list[Block],
    listed: list[Block],
    guides: Guides,
    allowance: Allowance,
    pool: CandidatePool,
) -> CandidatePool:
    """Return the pool with the promising labelings of listed blocks."""
    screen = Screen(job.parent)
    for block in listed:
        screen.add(_labelings(job, block, job.comm))
    _teach(job, small, guides, screen)
    found = []
    if not screen.energies:
        picks = first_picks(screen, allowance, job.seed, job.comm)
        found += screen.evaluate(picks, job.potential, guides, job.comm)
        allowance.take(len(picks))
    found += screen_all(screen, job.potential, guides, allowance, job.comm)
    for batch, energies in found:
        result = SearchResult(batch.labels, energies, len(batch))
        pool = pool.merge(job.pool_of(batch.supercell, result, "screened"))
    return pool


def _annealed(
    job: Job, items: list[WorkItem], small: list[Block], allowance: Allowance, pool: CandidatePool
) -> CandidatePool:
    """Return the pool with what guided annealing finds: a first look, then where it pays."""
    guides = Guides.of_large_cells(job.parent)
    _teach(job, small, guides, None)
    if math.isfinite(allowance.deadline) and not math.isfinite(allowance.limit):
        return _for_the_time(job, items, guides, allowance, pool)
    looked = _first_look(job, items, allowance)
    results = job.run(looked, lambda task: _guided(job, task, guides, 0))
    pool = _merge(job, looked, results, allowance, pool)
    if not math.isfinite(allowance.limit) or len(items) == 1:
        return pool
    _learn(guides, looked, results)
    chosen = _close_to_hull(looked, results, pool)
    share = int(min(job.comm.allgather(allowance.left))) // len(chosen)
    again = [(item, Allowance(share, 0, allowance.deadline)) for item in chosen if share >= 1]
    results = job.run(again, lambda task: _guided(job, task, guides, 1))
    return _merge(job, again, results, allowance, pool)


def _learn(guides: Guides, tasks: list[Task], results: list[SearchResult]) -> None:
    """Teach surrogates what items were found to hold."""
    for (item, _), result in zip(tasks, results, strict=True):
        guides.learn_energies(Labelings(item.supercell, result.labels), result.energies)


def _for_the_time(
    job: Job, items: list[WorkItem], guides: Guides, allowance: Allowance, pool: CandidatePool
) -> CandidatePool:
    """Return the pool with what a search of items finds until the deadline."""
    # All ranks must cut the list at the same place.
    left = min(job.comm.allgather(allowance.deadline - time.monotonic()))
    if len(items) > 1:
        n = max(int(FIRST_LOOK * left * job.comm.size / SHORTEST_LOOK), 1)
        looked = in_random_order(items, job.seed)[:n]
        tasks, results = _timed(job, looked, guides, FIRST_LOOK * left, 0)
        pool = _merge(job, tasks, results, allowance, pool)
        _learn(guides, tasks, results)
        items = _close_to_hull(tasks, results, pool)
        left = min(job.comm.allgather(allowance.deadline - time.monotonic()))
    tasks, results = _timed(job, items, guides, left, 1)
    return _merge(job, tasks, results, allowance, pool)


def _timed(
    job: Job, items: list[WorkItem], guides: Guides, seconds: float, wave: int
) -> tuple[list[Task], list[SearchResult]]:
    """Search items for equal parts of a time.

    Where there are fewer items than ranks, several ranks search one, with other random numbers.
    """
    n = max(len(items), job.comm.size)
    end = time.monotonic() + seconds
    share = seconds * job.comm.size / n
    tasks = [(items[i % len(items)], Allowance()) for i in range(n)]
    job.progress.start("searching", n)

    def one(i: int) -> SearchResult:
        job.progress.advance(i)
        item, allowance = tasks[i]
        allowance.deadline = min(end, time.monotonic() + share)
        evaluator = job.potential.evaluator(item.supercell)
        rng = job.rng_of(item, 2 * (i // len(items)) + wave)
        mine = guides.copy()
        return timed_search(
            evaluator,
            item.counts,
            guides=mine,
            allowance=allowance,
            rng=rng,
            evaluator_of=job.potential.evaluator,
        )

    results = deal_out(n, one, job.comm)
    job.progress.finish()
    return tasks, results


def _guided(job: Job, task: Task, guides: Guides, wave: int) -> SearchResult:
    """Search one item; it learns on its own, so that no item waits for another."""
    item, allowance = task
    evaluator = job.potential.evaluator(item.supercell)
    rng = job.rng_of(item, wave)
    return polish_random(
        evaluator,
        item.counts,
        "guided",
        allowance,
        rng,
        guides=guides.copy(),
        evaluator_of=job.potential.evaluator,
    )


def _first_look(job: Job, items: list[WorkItem], allowance: Allowance) -> list[Task]:
    """Return the items that are searched first, with what each may cost."""
    full = [default_evaluations(item.supercell) for item in items]
    if not math.isfinite(allowance.limit):
        return [(i, Allowance(n, 0, allowance.deadline)) for i, n in zip(items, full, strict=True)]
    left = min(job.comm.allgather(allowance.left))
    if len(items) == 1:
        return [(items[0], Allowance(int(left), 0, allowance.deadline))] if left >= 1 else []
    cost = dict(zip((item.seed_key for item in items), full, strict=True))
    share = FIRST_LOOK * left / sum(full)
    if share < LEAST_LOOK:
        items, share = in_random_order(items, job.seed), LEAST_LOOK
    tasks: list[Task] = []
    total = 0
    for item in items:
        n = max(int(share * cost[item.seed_key]), 1)
        if total + n > left * FIRST_LOOK and tasks:
            break
        n = min(n, int(left) - total)
        if n < 1:
            break
        tasks.append((item, Allowance(n, 0, allowance.deadline)))
        total += n
    return tasks


def _close_to_hull(
    looked: list[Task], results: list[SearchResult], pool: CandidatePool
) -> list[WorkItem]:
    """Return the items nearest to the hull."""
    heights = _heights(looked, results, pool)
    order = np.argsort(np.round(heights, 9), kind="stable")
    chosen = order[: max(1, math.ceil(CLOSE * len(order)))]
    return [looked[i][0] for i in chosen]


def _heights(looked: list[Task], results: list[SearchResult], pool: CandidatePool) -> list[float]:
    """Return how far the best of each item is above the hull of the pool, eV per site."""
    best = np.array([result.energies[0] for result in results])
    x = np.array([item.counts / item.counts.sum() for item, _ in looked])
    known_x = [candidate.configuration.composition for candidate in pool.candidates]
    known_e = [candidate.energy for candidate in pool.candidates]
    try:
        hull = Hull(np.array(known_x), known_e)
        return list(hull.energy_above_hull(x, best))
    except InputError:  # no end members within the limits of composition
        return [0.0] * len(looked)


def _merge(
    job: Job,
    tasks: list[Task],
    results: list[SearchResult],
    allowance: Allowance,
    pool: CandidatePool,
    source: str = "guided",
) -> CandidatePool:
    """Return the pool with the results of tasks; book what they cost."""
    for (item, _), result in zip(tasks, results, strict=True):
        allowance.used += result.evaluations
        pool = pool.merge(job.pool_of(item.supercell, result, source))
    return pool


def run_items(
    job: Job, mode: str, blocks: list[Block], allowance: Allowance, pool: CandidatePool
) -> CandidatePool:
    """Go on from a pool of enumerated cells with one method for every composition and supercell.

    The cost of an item is known only afterwards, so what one wave leaves over pays for the next.
    """
    items = [
        WorkItem(cell, counts)
        for block in blocks
        for cell in block.supercells
        for counts in (block.counts if mode != "sweep" else block.counts[:1])
    ]
    width = widest_beam(items, job.beam_width, allowance.left)
    waiting = in_random_order(items, job.seed) if math.isfinite(allowance.limit) else items
    source = {"target": "greedy", "polish": job.polish}.get(mode, mode)
    done = 0
    while waiting and (left := min(job.comm.allgather(allowance.left))) >= 1:
        wave = affordable(waiting, width, left)
        if done and left < SMALLEST_SHARE * wave[0].cost(width):
            break
        shares = _shares(wave, width, left)
        tasks = [
            (item, Allowance(share, 0, allowance.deadline))
            for item, share in zip(wave, shares, strict=True)
            if share >= 1
        ]
        results = job.run(tasks, lambda task: _one(job, mode, task, width))
        pool = _merge(job, tasks, results, allowance, pool, source)
        waiting = waiting[len(wave) :]
        done += len(wave)
    log.debug("%d of %d items, %d energies", done, len(items), pool.evaluations)
    return pool


def _shares(wave: list[WorkItem], width: int, budget: float) -> list[float]:
    """Split a budget over the items in proportion to their estimated costs."""
    if not math.isfinite(budget):
        return [math.inf] * len(wave)
    costs = [item.cost(width) for item in wave]
    return [float(int(budget) * cost // sum(costs)) for cost in costs]


def _one(job: Job, mode: str, task: Task, width: int) -> SearchResult:
    """Search one item by one method."""
    item, allowance = task
    evaluator = job.potential.evaluator(item.supercell)
    rng = job.rng_of(item)
    if mode == "sweep":
        return sweep(evaluator, beam_width=width, allowance=allowance)
    if mode == "polish":
        evaluator_of = job.potential.evaluator
        return polish_random(
            evaluator, item.counts, job.polish, allowance, rng, evaluator_of=evaluator_of
        )
    return greedy_search(
        evaluator,
        item.counts,
        beam_width=width,
        max_results=job.max_per_composition,
        allowance=allowance,
        rng=rng,
    )
