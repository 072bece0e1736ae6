"""Waves of walks: a first look at every composition of every cell, then where it pays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.hull import hull_with
from latticesearch.lattice import Labelings
from latticesearch.search.addition import search_by_addition
from latticesearch.search.annealing import anneal
from latticesearch.search.blocks import in_random_order
from latticesearch.search.pool import ratio_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from latticesearch.search.guides import Guides
    from latticesearch.search.policy import Plan
    from latticesearch.search.pool import CandidatePool
    from latticesearch.search.types import Budget, Problem, SearchResult, Task

FIRST_LOOK = 0.5
"""Part of a limit for a first look at many compositions and supercells; the rest goes to those
that turned out near the hull."""

CLOSE = 0.25
"""Part of the tasks looked at that is searched once more."""

LEAST_LOOK = 0.25
"""Part of the energies without a limit that a look takes at least: with fewer it says little, so
fewer tasks are looked at."""


@dataclass(eq=False)
class Waves:
    """The walks of a search.

    Attributes
    ----------
    problem : Problem
    plan : Plan
    guides : Guides or None
        What annealings begin with; each learns on its own, so that none waits for another.
    budget : Budget
        Of the whole search.
    pool : CandidatePool
        What is known.
    """

    problem: Problem
    plan: Plan
    guides: Guides | None
    budget: Budget
    pool: CandidatePool

    def run(self, tasks: list[Task]) -> CandidatePool:
        """Search tasks until the limit, or once where there is none; return the pool."""
        # Where there is one labeling one energy tells all; cells of all shapes have the same one.
        single = {ratio_of(task.counts): task for task in reversed(tasks) if not task.has_choice}
        first = [task for ratio, task in single.items() if ratio not in self.pool.entries]
        first = first[: int(min(len(first), self._energies_left()))]
        if first:
            self._wave(first, [1] * len(first), 0)
        tasks = [task for task in tasks if task.has_choice]
        if not tasks:
            return self.pool
        if math.isfinite(self.budget.limit):
            self._run_counted(tasks)
        elif math.isfinite(self.budget.deadline):
            self._run_timed(tasks)
        else:
            self._wave(tasks, [self.plan.default_energies(task) for task in tasks], 1)
        return self.pool

    def _run_counted(self, tasks: list[Task]) -> None:
        """Look at all tasks with a part of the energies, then at the close ones with the rest."""
        looked_at, energies = self._first_look(tasks)
        if not looked_at:
            return
        close = self._wave(looked_at, energies, 1)
        share = int(self._energies_left()) // len(close)
        if len(tasks) > 1 and share >= 1:
            self._wave(close, [share] * len(close), 2)

    def _energies_left(self) -> float:
        """Return the energies left, the same on all ranks."""
        return min(self.problem.comm.allgather(self.budget.left))

    def _first_look(self, tasks: list[Task]) -> tuple[list[Task], list[int]]:
        """Return the tasks that are searched first, with the energies each may ask for."""
        left = int(self._energies_left())
        if left < 1 or len(tasks) == 1:
            return (tasks, [left]) if left >= 1 else ([], [])
        full = {task: self.plan.default_energies(task) for task in tasks}
        share = FIRST_LOOK * left / sum(full.values())
        if share < LEAST_LOOK:
            tasks, share = in_random_order(tasks, self.problem.seed), LEAST_LOOK
        energies = np.array([max(int(share * full[task]), 1) for task in tasks])
        n = int(np.searchsorted(np.cumsum(energies), FIRST_LOOK * left, side="right"))
        n = max(n, 1)
        return tasks[:n], np.minimum(energies[:n], left).tolist()

    def _run_timed(self, tasks: list[Task]) -> None:
        """Search in rounds that grow, of tasks ever closer to the hull, until the deadline."""
        ranks, growth, number = self.problem.comm.size, 1, 1
        tasks = in_random_order(tasks, self.problem.seed)
        rate = ranks / self.plan.seconds_per_swap
        # One round at least: who gives too short a time gets a labeling all the same.
        while (left := self._seconds_left()) > 0.0 or number == 1:
            # Where there are fewer tasks than ranks, several search one with other random numbers.
            copies = -(-ranks // len(tasks))
            energies = growth * np.array([self.plan.default_energies(task) for task in tasks])
            if copies * energies.sum() > left * rate / 2:
                # No time for a longer round after this one: it gets all that is left.
                energies = energies * left * rate / (copies * energies.sum())
            else:
                growth *= 2
            began, used = self.budget.clock(), self.budget.used
            end = began + (left if len(tasks) == 1 else FIRST_LOOK * left)
            tasks = self._wave(tasks, np.maximum(energies, 1).tolist(), number, end, copies)
            rate = (self.budget.used - used) / max(self.budget.clock() - began, 1e-9)
            rate = self.problem.comm.bcast(rate)
            number += 1

    def _seconds_left(self) -> float:
        """Return the time left, s, the same on all ranks."""
        return min(self.problem.comm.allgather(self.budget.seconds_left))

    def _wave(
        self,
        tasks: list[Task],
        energies: list[int],
        number: int,
        end: float = math.inf,
        copies: int = 1,
    ) -> list[Task]:
        """Search each task with so many energies; return those close to the hull.

        Nothing begins after `end`, s, but the first task of a rank, and nothing at all when the
        search is to stop.
        """
        everything = [(task, n) for task, n in zip(tasks, energies, strict=True)] * copies
        done = 0

        def work(i: int) -> SearchResult | None:
            nonlocal done
            if self.budget.stop or (done and self.budget.clock() > end):
                return None
            done += 1
            task, n = everything[i]
            return self._search(task, n, (number, i // len(tasks)))

        results = self.problem.deal_out("searching", len(everything), work)
        found = [(t, r) for (t, _), r in zip(everything, results, strict=True) if r is not None]
        for task, result in found:
            self.budget.used += result.evaluations
            if self.guides is not None:
                batch = Labelings(task.cell, result.labels)
                self.guides.learn_energies(batch, result.energies)
        self.pool = self.pool.with_results(found, self.source)
        return self._close(found) if found else tasks

    @property
    def source(self) -> str:
        """What candidates are said to come from."""
        if self.plan.method == "addition":
            return "greedy"
        return "annealing" if self.guides is None else "guided"

    def _search(self, task: Task, n: int, seeds: tuple[int, int]) -> SearchResult:
        """Search one task with so many energies."""
        budget, rng = self.budget.part(n), task.rng(self.problem.seed, *seeds)
        if self.plan.method == "addition":
            evaluator = self.problem.evaluator(task.cell)
            return search_by_addition(evaluator, task.counts, budget=budget, rng=rng)
        guides = None if self.guides is None else self.guides.copy()
        ask, wide = self.problem.evaluator, self.plan.is_wide
        return anneal(task, ask, budget=budget, rng=rng, guides=guides, guide_cycles=wide)

    def _close(self, found: Iterable[tuple[Task, SearchResult]]) -> list[Task]:
        """Return the tasks whose best is nearest to the hull of the pool."""
        lowest: dict[Task, float] = {}
        for task, result in found:
            lowest[task] = min(float(result.energies[0]), lowest.get(task, math.inf))
        tasks = list(lowest)
        heights = self._heights(tasks, np.array([lowest[task] for task in tasks]))
        order = np.argsort(np.round(heights, 9), kind="stable")
        return [tasks[i] for i in order[: max(1, math.ceil(CLOSE * len(order)))]]

    def _heights(
        self, tasks: list[Task], energies: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Return energies, (n,) eV per site, above the hull of the pool; 0 outside of it."""
        x = np.array([task.counts / task.counts.sum() for task in tasks])
        hull = hull_with(self.pool.compositions, self.pool.per_site)
        try:
            return np.asarray(hull.energy_above_hull(x, energies))
        except InputError:
            return np.zeros(len(tasks))
