"""Which method for which cell: the one page that decides how a search goes about its work.

Small cells are enumerated with all energies, which proves what is lowest. Where energies are dear
or counted, labelings that can still be listed are screened: surrogates rank them, and only the
promising ones are paid for. Everything larger is annealed composition by composition, guided by
surrogates where that pays; atom addition and small cells that tile give annealings their starts.

What decides is the exact number of labelings, the limit, and the cost of an energy. It is measured
only where it matters: where the limit is a time, whose result depends on the machine anyhow, and
under models without compiled walks, whose energies are dear beyond doubt or cheap beyond doubt. So
the same search gives the same result whatever else the machine does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.parallel import on_root
from latticesearch.search.partial import random_labeling
from latticesearch.search.types import Budget
from latticesearch.search.walk import FREE_STEPS, SAMPLES, Walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from latticesearch.search.blocks import Block
    from latticesearch.search.types import Problem, Task

METHODS = ("auto", "enumerate", "screening", "addition", "annealing")

ENUMERABLE = 10**7
"""Labelings that are enumerated without a limit: some seconds under a compiled potential, and
less than annealing takes that visits all of their compositions."""

ENUMERATION_SHARE = 0.2
"""Part of a limit that enumeration may take. Measured on the hulls of binaries to 12, ternaries to
9 and quaternaries to 8 sites: a third leaves too little for what is not enumerated."""

DEAR = 5e-4
"""Seconds per energy from which screening costs less than it saves: its fits and predictions take
1 to 34 s where enumeration takes 0.1 to 0.6 s at a microsecond per energy."""

TAUGHT = 3000
"""Enumerated labelings that surrogates learn before they rank others."""

LISTED = 300_000
"""Labelings that surrogates rank one by one; their rows take a gigabyte."""

GUIDED_FROM, WIDE_FROM = 1.5e-6, 20e-6
"""Seconds per swap from which a guide, and a wide one, pay where time is the limit: besides the
model a guided swap takes 2.5 microseconds under short pairs and triplets, 40 with a wide surrogate,
and saves nine of ten swaps."""

PER_SITE = 100
"""Guided energies per site of a cell without a limit: at 5000 energies of 54 sites guided walks end
where plain ones do with more than ten times as many."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Which blocks are searched how.

    Attributes
    ----------
    enumerated, screened, walked : list of Block
        Walks go through `walked` by annealing or, where `method` says so, by atom addition.
    method : str
    is_guided : bool
        Surrogates guide the annealings.
    seconds_per_swap : float
        Of the smallest cell of `walked`, where time is the limit; else 0.
    """

    enumerated: list[Block]
    screened: list[Block]
    walked: list[Block]
    method: str
    is_guided: bool
    seconds_per_swap: float = 0.0

    @property
    def is_wide(self) -> bool:
        """One of the surrogates is wide."""
        return self.seconds_per_swap == 0.0 or self.seconds_per_swap > WIDE_FROM

    def default_energies(self, task: Task) -> int:
        """Return the energies for a task when there is no limit."""
        return max(task.n_open, 1) * (PER_SITE if self.is_guided else FREE_STEPS)


def make_plan(problem: Problem, blocks: list[Block], budget: Budget, method: str) -> Plan:
    """Decide how each block is searched.

    Parameters
    ----------
    problem
        What is searched.
    blocks
        Supercells by size, smallest first, each with a composition at least.
    budget
        The limit.
    method
        One of `METHODS`; all but "auto" leave nothing to decide.
    """
    is_counted, is_timed = math.isfinite(budget.limit), math.isfinite(budget.deadline)
    if method in ("auto", "screening"):
        plan = _by_size(problem, blocks, budget, is_screened=method == "screening")
    else:
        plan = {"enumerate" if method == "enumerate" else "walk": blocks}
    walked = plan.get("walk", [])
    is_clocked = is_timed and not is_counted
    swap = _seconds_per_swap(problem, walked, budget) if walked and is_clocked else 0.0
    is_guided = is_counted or swap > GUIDED_FROM
    if walked and not (is_counted or is_timed):
        is_guided = not problem.evaluator(walked[0].supercells[0]).is_compiled
    enumerated, screened = plan.get("enumerate", []), plan.get("screening", [])
    return Plan(enumerated, screened, walked, method, is_guided, swap)


def _by_size(
    problem: Problem, blocks: list[Block], budget: Budget, *, is_screened: bool
) -> dict[str, list[Block]]:
    """Return the blocks to enumerate, to screen and to walk through, by their numbers of labelings.

    `is_screened` says that screening is asked for, whatever energies cost.
    """
    is_counted, is_timed = math.isfinite(budget.limit), math.isfinite(budget.deadline)
    # Where energies are counted, none goes to a measurement.
    cost = 0.0 if is_counted else seconds_per_energy(problem, blocks, budget)
    limit: float = TAUGHT if cost > DEAR or is_screened else ENUMERABLE
    if is_counted:
        limit = ENUMERATION_SHARE * budget.limit
    elif is_timed:
        seconds = max(budget.seconds_left, 0.0) * problem.comm.size
        limit = min(limit, problem.comm.bcast(ENUMERATION_SHARE * seconds / max(cost, 1e-9)))
    limits = {"enumerate": limit}
    if is_counted or cost > DEAR or is_screened:
        limits["screening"] = LISTED
    plan: dict[str, list[Block]] = {}
    for block in blocks:
        n = block.n_labelings(problem.composition)
        kind = next((kind for kind, left in limits.items() if n <= left), "walk")
        plan.setdefault(kind, []).append(block)
        if kind in limits:
            limits[kind] -= n
    return plan


def seconds_per_energy(problem: Problem, blocks: list[Block], budget: Budget) -> float:
    """Return what one of many energies of the largest cell costs, s; 0 where it need not be known.

    The same on all ranks.
    """
    evaluator = problem.evaluator(blocks[-1].supercells[0])
    if evaluator.is_compiled and budget.deadline == math.inf:
        return 0.0

    def measure() -> float:
        rng = np.random.default_rng(0)
        cell, counts = evaluator.supercell, blocks[-1].counts[0]
        rows = np.array([random_labeling(cell.allowed, counts, rng) for _ in range(8)])
        return _seconds(lambda: evaluator.energies(rows), budget) / len(rows)

    return on_root(problem.comm, measure)


def _seconds_per_swap(problem: Problem, blocks: list[Block], budget: Budget) -> float:
    """Return what a swap of the smallest cell costs, s, the same on all ranks."""
    evaluator = problem.evaluator(blocks[0].supercells[0])

    def measure() -> float:
        rng = np.random.default_rng(0)
        start = random_labeling(evaluator.supercell.allowed, blocks[0].counts[-1], rng)
        walk = Walk(evaluator, start, Budget(), rng.integers(2**63, size=1, dtype=np.uint64))
        n = SAMPLES if evaluator.is_compiled else 1
        return _seconds(lambda: walk.sample(n), budget) / n

    return on_root(problem.comm, measure)


def _seconds(function: Callable[[], object], budget: Budget) -> float:
    """Return the time of a second call, s: the first loads what is compiled."""
    function()
    began = budget.clock()
    function()
    return max(budget.clock() - began, 1e-9)
