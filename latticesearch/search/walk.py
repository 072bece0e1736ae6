"""A walk through the labelings of one supercell, under the model or with a guide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latticesearch.potential.clusters import ClusterLatticeEvaluator
from latticesearch.search import _row_kernels as rows
from latticesearch.search import _walk_kernels as kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.potential.clusters import ClusterModel
    from latticesearch.potential.protocol import Evaluator
    from latticesearch.search.types import Budget

    Labels = npt.NDArray[np.int8]

FIRST, LAST = 0.4, 0.02
"""First and last temperature, in units of the mean size of a random swap: between the best of
those tried with 5000 and 25 000 energies on cells of 54 and 64 sites, (0.5, 0.02) and (0.3, 0.03);
(0.2, 0.02) was worse."""

FREE_STEPS = 1000
"""Swaps per site of an annealing that costs next to nothing: under a surrogate, at ten nanoseconds
each, or without a limit and without a guide."""

SAMPLES = 300
"""Random swaps that set the temperatures, and teach the surrogates before the first fit."""


class Guide(NamedTuple):
    """A surrogate at one time."""

    model: ClusterModel
    error: float
    """Of its changes of energy, root mean square, eV."""


class Walk:
    """A walk under the model: where it is, and what it has cost.

    Parameters
    ----------
    evaluator
        Energies of the cell.
    start
        (n_sites,) labeling to begin with.
    budget
        Pays for the walk.
    state
        (1,) of the compiled generator of random numbers.
    """

    def __init__(
        self, evaluator: Evaluator, start: Labels, budget: Budget, state: npt.NDArray[np.uint64]
    ) -> None:
        self.evaluator, self.budget, self.state = evaluator, budget, state
        allowed = np.ascontiguousarray(evaluator.supercell.allowed)
        open_sites = np.flatnonzero(allowed.sum(axis=1) > 1).astype(np.int64)
        self.rules = kernels.SwapRules(open_sites, allowed)
        self.restart(start)

    @property
    def labels(self) -> Labels:
        """Where it stands, (n_sites,)."""
        labels: Labels = self.model[1].labels
        return labels

    def here(self) -> kernels.Best:
        """Return a copy of where it stands, with the energy."""
        return kernels.Best(self.labels.copy(), self.model[1].energy.copy())

    def restart(self, labels: Labels) -> None:
        """Go on from another labeling, (n_sites,); its energy is one evaluation."""
        evaluator = self.evaluator
        self.model: tuple[Any, Any] = (evaluator.walk_tables, evaluator.walk_state(labels))
        self.budget.used += 1

    def sample(self, n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Ask about random swaps; return them, (n, 3), and the changes of energy, (n,) eV."""
        swaps = np.zeros((n, 3), dtype=np.int64)
        changes = kernels.sample_swaps(self.model, self.rules, swaps, self.state)
        self._book(len(changes))
        return swaps[: len(changes)], changes

    def cool(self, cooling: kernels.Cooling, n: int, best: kernels.Best) -> int:
        """Make about `n` moves of a cooling without a guide; return how many energies they took."""
        walk = rows.anneal_rows if self.evaluator.has_rows else kernels.anneal
        used = int(walk(self.model, self.rules, cooling, best, n, self.state))
        self._book(used)
        return used

    def cool_guided(
        self, guide: Guide, cooling: kernels.Cooling, n: int, best: kernels.Best
    ) -> Log:
        """Make up to `n` moves that a guide lets through; return what was asked."""
        swaps, changes = np.zeros((n, 3), dtype=np.int64), np.zeros(n)
        cell, start = self.evaluator.supercell, self.labels.copy()
        under = ClusterLatticeEvaluator(guide.model, cell)
        pair = (under.walk_tables, under.walk_state(start))
        log = rows.AskedSwaps(swaps, changes)
        asked = rows.anneal_guided(
            self.model, pair, self.rules, cooling, guide.error, best, log, self.state
        )
        self._book(asked)
        return Log(cell, start, swaps[:asked], changes[:asked])

    def descend(self, best: kernels.Best) -> None:
        """Carry out swaps that lower the energy until none does."""
        left = int(min(self.budget.left, np.iinfo(np.int64).max))
        self._book(int(kernels.descend(self.model, self.rules, best, left, self.state)))

    def _book(self, asked: int) -> None:
        """Pay for what a compiled walk asked for, unless the model failed there."""
        self.evaluator.raise_pending()
        self.budget.used += asked

    def anneal_free(self, labels: Labels, model: ClusterModel, first: float, steps: int) -> Labels:
        """Return the lowest labeling, (n_sites,), of an annealing under a surrogate.

        Parameters
        ----------
        labels
            (n_sites,) to begin with.
        model
            The surrogate.
        first
            First temperature, in units of the surrogate's own mean swap.
        steps
            Swaps per site.
        """
        guide = ClusterLatticeEvaluator(model, self.evaluator.supercell)
        state = guide.walk_state(labels)
        pair = (guide.walk_tables, state)
        best = kernels.Best(labels.copy(), state.energy.copy())
        swaps = np.zeros((SAMPLES, 3), dtype=np.int64)
        changes = kernels.sample_swaps(pair, self.rules, swaps, self.state)
        if len(changes):
            scale = max(float(np.abs(changes).mean()), kernels.SAME)
            cooling = kernels.Cooling(scale * first, scale * LAST, 0.0, 1.0)
            n = steps * len(self.rules.sites)
            rows.anneal_rows(pair, self.rules, cooling, best, n, self.state)
        return best.labels


class Log(NamedTuple):
    """Swaps asked about and their answers."""

    supercell: Supercell
    start: Labels
    """(n_sites,) before the first."""
    swaps: npt.NDArray[np.int64]
    """(n, 3): two sites, and 1 where the swap was carried out."""
    changes: npt.NDArray[np.float64]
    """(n,) changes of energy, eV."""
