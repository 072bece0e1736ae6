"""A walk through the labelings of one composition of one supercell, and where it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.search.annealing import _kernels as kernels
from latticesearch.search.annealing import _partner_kernels as partners
from latticesearch.search.greedy import SearchResult
from latticesearch.search.partial import UNDECIDED, complete_at_random, fill_forced
from latticesearch.search.polish import ENERGY_DECIMALS, Allowance

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from latticesearch.potential.protocol import LatticeEvaluator

    Labels = npt.NDArray[np.int8]
    Model = tuple[Any, Any]


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

    def here(self) -> kernels.Best:
        """Return a copy of where it stands, with the energy."""
        return kernels.Best(self.labels.copy(), self.model[1].energy.copy())

    def restart(self, labels: Labels) -> None:
        """Go on from another labeling; its energy is one evaluation."""
        self.model = (self.evaluator.walk_tables, self.evaluator.walk_state(labels))
        self.allowance.used += 1
        kernels.keep_best(self.model[1], self.best)

    def cool(self, temperatures: tuple[float, float], n: int, best: kernels.Best) -> int:
        """Anneal with about `n` swaps between two temperatures, eV; return how many these were."""
        anneal = partners.anneal_rows if self.evaluator.has_rows else kernels.anneal
        cooling = kernels.Cooling(*temperatures, 0.0, 1.0)
        used = int(anneal(self.model, self.rules, cooling, best, n, self.rng))
        self.allowance.used += used
        return used

    def sample(self, n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Ask about random swaps; return them, (n, 3), and the changes of energy, eV."""
        swaps = np.zeros((n, 3), dtype=np.int64)
        changes = kernels.sample_swaps(self.model, self.rules, swaps, self.rng)
        self.allowance.used += len(changes)
        return swaps[: len(changes)], changes


def result_of(found: Sequence[kernels.Best], allowance: Allowance) -> SearchResult:
    """Return the different labelings, lowest first."""
    labels = np.array([best.labels for best in found])
    energies = np.array([best.energy[0] for best in found]) / labels.shape[1]
    return _lowest_first(labels, energies, allowance.used)


def joined(results: Sequence[SearchResult], evaluations: int) -> SearchResult:
    """Return the different labelings of several results, lowest first."""
    labels = np.concatenate([result.labels for result in results])
    energies = np.concatenate([result.energies for result in results])
    return _lowest_first(labels, energies, evaluations)


def _lowest_first(
    labels: Labels, energies: npt.NDArray[np.float64], evaluations: int
) -> SearchResult:
    """Return the different of n labelings, (n, n_sites), with energies, (n,), eV per site."""
    _, first = np.unique(labels, axis=0, return_index=True)
    order = first[np.argsort(np.round(energies[first], ENERGY_DECIMALS), kind="stable")]
    return SearchResult(labels[order], energies[order], evaluations)
