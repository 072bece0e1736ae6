"""Annealing guided by surrogates that learn on the way.

One cycle: fit the surrogate to all changes of energy paid for so far; anneal under it, which costs
no evaluation; go on from there under the true model with swaps that the surrogate proposes
(delayed acceptance), which teaches it what it gets wrong among low energies. The surrogates take
turns.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latticesearch.search import _kernels as kernels
from latticesearch.search.greedy import SearchResult
from latticesearch.search.partial import UNDECIDED, complete_at_random, fill_forced
from latticesearch.search.polish import ENERGY_DECIMALS, Allowance

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.clusters import ClusterModel
    from latticesearch.potential.protocol import LatticeEvaluator
    from latticesearch.search.surrogate import Guides

    Labels = npt.NDArray[np.int8]
    Model = tuple[Any, Any]


@dataclass(frozen=True)
class Tuning:
    """Settings, in units of the mean size of a random swap where they are temperatures.

    Measured on fitted, random and frustrated models of 54, 64 and 128 sites and four species at
    5000 and 25 000 evaluations: fewer cycles or fewer free steps lose more.

    Attributes
    ----------
    sample
        Part of the evaluations for random swaps at the beginning, which teach the surrogate.
    cycles
        Cycles that share the evaluations.
    lessons
        Fits per cycle.
    free_steps
        Swaps under the surrogate at the beginning of each cycle, per site.
    free_first, free_last
        Temperatures of these.
    first, last
        Temperatures of the swaps under the model.
    """

    sample: float = 0.05
    cycles: int = 30
    lessons: int = 3
    free_steps: int = 250
    free_first: float = 0.5
    free_last: float = 0.02
    first: float = 0.4
    last: float = 0.02


TUNING = Tuning()

SAMPLES = (60, 400)
"""Fewest and most random swaps at the beginning."""

FREE_SAMPLES = 300
"""Swaps under the surrogate that set its temperatures."""

SHORTEST = 25
"""Evaluations below which a lesson is not worth a fit."""

LEARNT = 1500
"""Swaps of one lesson that the surrogates learn at most; by then they know the neighbourhood."""


class Lap(NamedTuple):
    """What one cycle came to."""

    best: kernels.Best
    """The lowest labeling under the true model."""
    free_seconds: float
    """Wall time under the surrogate, s."""


def random_start(
    evaluator: LatticeEvaluator, counts: npt.NDArray[np.int64], rng: np.random.Generator
) -> Labels:
    """Return a random labeling, (n_sites,), with these counts."""
    allowed = evaluator.supercell.allowed
    empty = np.full((1, len(allowed)), UNDECIDED, dtype=np.int8)
    if allowed.all():
        return rng.permutation(np.repeat(np.arange(len(counts), dtype=np.int8), counts))
    return complete_at_random(fill_forced(empty, counts, allowed)[0], counts, allowed, rng)


def rules_of(evaluator: LatticeEvaluator) -> kernels.Rules:
    """Return which swaps the supercell allows."""
    allowed = np.ascontiguousarray(evaluator.supercell.allowed)
    return kernels.Rules(np.flatnonzero(allowed.sum(axis=1) > 1).astype(np.int64), allowed)


def random_state(rng: np.random.Generator) -> npt.NDArray[np.uint64]:
    """Return the state of a compiled generator, (1,)."""
    return rng.integers(2**63, size=1, dtype=np.uint64)


class Walk:
    """A walk under the true model: where it is, its best labeling, what it has cost."""

    def __init__(
        self, evaluator: LatticeEvaluator, start: Labels, allowance: Allowance, seed: Any
    ) -> None:
        self.evaluator, self.allowance, self.rng = evaluator, allowance, seed
        self.rules = rules_of(evaluator)
        self.model: Model = (evaluator.walk_tables, evaluator.walk_state(start))
        allowance.used += 1
        self.best = kernels.Best(start.copy(), self.model[1].energy.copy())

    @property
    def labels(self) -> Labels:
        """Where it stands, (n_sites,)."""
        labels: Labels = self.model[1].labels
        return labels

    def restart(self, labels: Labels) -> None:
        """Go on from another labeling; its energy is one evaluation."""
        self.model = (self.evaluator.walk_tables, self.evaluator.walk_state(labels))
        self.allowance.used += 1
        kernels.keep_best(self.model[1], self.best)

    def sample(self, n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Ask about random swaps; return them, (n, 3), and the changes of energy, eV."""
        swaps = np.zeros((n, 3), dtype=np.int64)
        changes = kernels.sample_swaps(self.model, self.rules, swaps, self.rng)
        self.allowance.used += len(changes)
        return swaps[: len(changes)], changes


def guided_search(
    evaluator: LatticeEvaluator,
    counts: npt.NDArray[np.int64],
    *,
    guides: Guides,
    allowance: Allowance,
    rng: np.random.Generator,
    tuning: Tuning = TUNING,
) -> SearchResult:
    """Search one composition of one supercell by guided annealing.

    Parameters
    ----------
    evaluator
        Energies of the cell.
    counts
        (n_species,) atoms of each species in the cell.
    guides
        Surrogates of the parent lattice; they learn.
    allowance
        Evaluations that may be used; finite.
    rng
        Source of all chance.
    tuning
        Settings.

    Returns
    -------
    SearchResult
        The lowest labeling of each cycle.
    """
    seed = random_state(rng)
    start = random_start(evaluator, counts, rng)
    walk = Walk(evaluator, start, allowance, seed)
    n_samples = int(np.clip(tuning.sample * allowance.left, *SAMPLES))
    swaps, changes = walk.sample(int(min(n_samples, allowance.left // 2)))
    if len(changes) == 0:
        energies = walk.best.energy / len(start)
        return SearchResult(start[None], energies.copy(), allowance.used)
    scale = float(np.abs(changes).mean())
    guides.learn_swaps(evaluator.supercell, start, swaps, changes)
    found = []
    cycle = 0
    per_cycle = int(max(allowance.left // tuning.cycles, tuning.lessons * SHORTEST))
    while allowance.left > 1 and cycle < 2 * tuning.cycles:
        n = min(per_cycle, int(allowance.left))
        best = guided_cycle(walk, guides, cycle, n, scale, tuning).best
        found.append((best.energy[0], best.labels))
        cycle += 1
    return result_of(found, allowance)


def result_of(found: list[tuple[float, Labels]], allowance: Allowance) -> SearchResult:
    """Return the different labelings, lowest first."""
    distinct = {labels.tobytes(): (energy, labels) for energy, labels in found}
    rows = sorted(
        distinct.values(), key=lambda row: (round(row[0], ENERGY_DECIMALS), row[1].tolist())
    )
    labels = np.array([row[1] for row in rows])
    energies = np.array([row[0] for row in rows]) / labels.shape[1]
    return SearchResult(labels, energies, allowance.used)


def guided_cycle(
    walk: Walk, guides: Guides, cycle: int, n_evaluations: int, scale: float, tuning: Tuning
) -> Lap:
    """Anneal under a surrogate, then under the model; return the lowest labeling of the cycle."""
    began = time.monotonic()
    surrogate = guides.surrogates[cycle % len(guides.surrogates)]
    model, error = surrogate.model()
    walk.restart(_anneal_free(walk, model, tuning))
    free_seconds = time.monotonic() - began
    best = kernels.Best(walk.labels.copy(), walk.model[1].energy.copy())
    per_lesson = max(n_evaluations // tuning.lessons, 1)
    for lesson in range(tuning.lessons):
        if lesson:
            model, error = surrogate.model()
        n = int(min(per_lesson, walk.allowance.left))
        if n < 1:
            break
        swaps, changes = np.zeros((n, 3), dtype=np.int64), np.zeros(n)
        start = walk.labels.copy()
        guide = model.evaluator(walk.evaluator.supercell)
        cooling = kernels.Cooling(
            scale * tuning.first,
            scale * tuning.last,
            lesson / tuning.lessons,
            (lesson + 1) / tuning.lessons,
        )
        asked = kernels.anneal_guided(
            walk.model,
            (guide.walk_tables, guide.walk_state(start)),
            walk.rules,
            cooling,
            error,
            best,
            (swaps, changes),
            walk.rng,
        )
        walk.allowance.used += asked
        learnt = min(asked, LEARNT)
        guides.learn_swaps(walk.evaluator.supercell, start, swaps[:learnt], changes[:learnt])
    if best.energy[0] < walk.best.energy[0]:
        walk.best = best
    return Lap(best, free_seconds)


def _anneal_free(walk: Walk, model: ClusterModel, tuning: Tuning) -> Labels:
    """Return the lowest labeling of an annealing under a surrogate, (n_sites,)."""
    guide = model.evaluator(walk.evaluator.supercell)
    state = guide.walk_state(walk.labels)
    pair = (guide.walk_tables, state)
    best = kernels.Best(walk.labels.copy(), state.energy.copy())
    swaps = np.zeros((FREE_SAMPLES, 3), dtype=np.int64)
    changes = kernels.sample_swaps(pair, walk.rules, swaps, walk.rng)
    scale = max(float(np.abs(changes).mean()), 1e-12)
    cooling = kernels.Cooling(scale * tuning.free_first, scale * tuning.free_last, 0.0, 1.0)
    n = tuning.free_steps * len(walk.rules.sites)
    kernels.anneal(pair, walk.rules, cooling, best, n, walk.rng)
    return best.labels
