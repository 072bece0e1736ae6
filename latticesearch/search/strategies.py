"""Ways to search one supercell: where labelings come from, and how they are improved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.search.annealing import _kernels as kernels
from latticesearch.search.annealing.guided import guided_search
from latticesearch.search.annealing.walks import Walk, joined, random_start, random_state
from latticesearch.search.greedy import SearchResult
from latticesearch.search.polish import Allowance
from latticesearch.search.surrogate import Guides

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.potential.protocol import LatticeEvaluator
    from latticesearch.search.annealing.guided import EvaluatorOf

    Labels = npt.NDArray[np.int8]

FIRST, LAST = 0.4, 0.02
"""First and last temperature of annealing, in units of the mean size of a random swap: between the
best of those tried at 5000 and 25 000 evaluations on cells of 54 and 64 sites, (0.5, 0.02) and
(0.3, 0.03); (0.2, 0.02) was worse."""

REPLICAS = 6
"""Temperatures of parallel tempering, geometric between the same two."""


def anneal(walk: Walk, n: int) -> int:
    """Metropolis swaps while cooling."""
    _, changes = walk.sample(max(1, min(200, n // 20)))
    if not len(changes):
        return 0
    scale = float(np.abs(changes).mean())
    cooling = kernels.Cooling(scale * FIRST, scale * LAST, 0.0, 1.0)
    left = n - len(changes)
    used = kernels.anneal(walk.model, walk.rules, cooling, walk.best, left, walk.rng)
    walk.allowance.take(used)
    return len(changes) + int(used)


def temper(walk: Walk, n: int) -> int:
    """Parallel tempering."""
    _, changes = walk.sample(max(1, min(200, n // 20)))
    if not len(changes) or n < REPLICAS:
        return len(changes)
    temperatures = np.geomspace(LAST, FIRST, REPLICAS) * float(np.abs(changes).mean())
    tables, _ = walk.model
    states = tuple(walk.evaluator.walk_state(walk.labels) for _ in range(REPLICAS))
    left = n - len(changes)
    used = kernels.temper(tables, states, walk.rules, temperatures, walk.best, left, walk.rng)
    walk.allowance.take(used)
    return len(changes) + int(used)


def descend(walk: Walk, n: int) -> int:
    """Carry out swaps that lower the energy until there are none."""
    used = int(kernels.descend(walk.model, walk.rules, walk.best, n, walk.rng))
    walk.allowance.take(used)
    return used


def improve(
    start: Labels,
    evaluator: LatticeEvaluator,
    polish: Callable[[Walk, int], int],
    allowance: Allowance,
    seed: int,
) -> SearchResult:
    """Return the best labeling a polish finds from a start."""
    rng = np.random.default_rng(seed)
    walk = Walk(evaluator, start, allowance, random_state(rng))
    polish(walk, int(allowance.left))
    energy = walk.best.energy / len(start)
    return SearchResult(walk.best.labels[None], energy, allowance.used)


def default_evaluations(supercell: Supercell) -> int:
    """Return the evaluations of one supercell and composition when there is no budget."""
    return 100 * max(int(np.count_nonzero(supercell.allowed.sum(axis=1) > 1)), 1)


def polish_random(
    evaluator: LatticeEvaluator,
    counts: npt.NDArray[np.int64],
    name: str,
    allowance: Allowance,
    rng: np.random.Generator,
    *,
    guides: Guides | None = None,
    evaluator_of: EvaluatorOf | None = None,
) -> SearchResult:
    """Search one composition from random labelings.

    Parameters
    ----------
    evaluator
        Energies of the cell.
    counts
        (n_species,) atoms of each species in the cell.
    name
        One of `POLISHES`.
    allowance
        Evaluations that may be used; `default_evaluations` when unlimited.
    rng
        Source of all chance.
    guides
        Surrogates for "guided"; new ones when not given.
    evaluator_of
        Gives "guided" the energies of small cells that tile this one.
    """
    if not np.isfinite(allowance.limit):
        limit = allowance.used + default_evaluations(evaluator.supercell)
        allowance = Allowance(limit, allowance.used, allowance.deadline)
    polish = POLISHES[name]
    if polish is None:
        guides = guides or Guides.of_large_cells(evaluator.supercell.parent)
        return guided_search(
            evaluator,
            counts,
            guides=guides,
            allowance=allowance,
            rng=rng,
            evaluator_of=evaluator_of,
        )
    found: list[SearchResult] = []
    while allowance.left >= 1:
        start = random_start(evaluator, counts, rng)
        before = allowance.used
        found.append(improve(start, evaluator, polish, allowance, int(rng.integers(2**62))))
        if allowance.used <= before + 1:
            break
    return joined(found, allowance.used)


POLISHES: dict[str, Callable[[Walk, int], int] | None] = {
    "guided": None,
    "annealing": anneal,
    "tempering": temper,
    "descent": descend,
}
"""Ways to improve a labeling: each spends up to n evaluations and returns how many they were; the
walk knows its best. Guided annealing starts from its surrogate's own labelings."""
