"""Annealing guided by surrogates that learn on the way.

First one long walk: what the surrogate proposes the true model accepts or not (delayed acceptance),
and what it answers teaches the surrogate. A surrogate that errs as much as energies vary lets
nearly everything through, so that at worst this is an annealing. Of several surrogates the one that
erred least of late guides; first short ones, later one with triplets that reach far. Then many
short cycles. Some begin where an annealing under the surrogate ends, which costs no evaluation. The
others begin from the best of a small cell that tiles this one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.search.annealing import _kernels as kernels
from latticesearch.search.annealing import _partner_kernels as partners
from latticesearch.search.annealing.tiling import tiles_of
from latticesearch.search.annealing.walks import Walk, random_start, random_state, result_of
from latticesearch.search.polish import ENERGY_DECIMALS, Allowance

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.potential.clusters import ClusterModel
    from latticesearch.potential.protocol import LatticeEvaluator
    from latticesearch.search.annealing.tiling import Tile
    from latticesearch.search.greedy import SearchResult
    from latticesearch.search.surrogate import Guides

    Labels = npt.NDArray[np.int8]
    EvaluatorOf = Callable[[Supercell], LatticeEvaluator]


@dataclass(frozen=True)
class Tuning:
    """Settings, in units of the mean size of a random swap where they are temperatures.

    Measured on fitted, random and frustrated models of 54, 64 and 128 sites and four species at
    5000 and 25 000 evaluations. Without the long walk the search misses narrow valleys of
    potentials that no cluster expansion describes; without small cells it ends several times as far
    above the lowest energy known.

    Attributes
    ----------
    sample
        Part of the evaluations for random swaps at the beginning, which teach the surrogate.
    long, long_most
        Part of the rest for the long walk, and the most where that is less than `LONG` evaluations.
    pieces
        Fits of the surrogates during it.
    cycles
        Cycles that share what is left then.
    untiled
        One cycle of so many begins with the surrogate, the others go to small cells.
    lessons
        Fits per cycle.
    free_steps
        Swaps under the surrogate at the beginning of a cycle, per site.
    free_first, free_last
        Temperatures of these.
    first, last
        Temperatures of the swaps under the model.
    small
        Evaluations in a small cell, per site of it.
    touch
        Evaluations after tiling with it.
    wait
        Factor by which a visit lowers the rank of a small cell.
    touch_steps, touch_first
        Swaps per site under the surrogate after tiling, and first temperature under both.
    """

    sample: float = 0.05
    long: float = 0.7
    long_most: float = 0.9
    pieces: int = 48
    cycles: int = 30
    untiled: int = 3
    lessons: int = 3
    free_steps: int = 1000
    free_first: float = 0.3
    free_last: float = 0.02
    first: float = 0.4
    last: float = 0.02
    small: int = 20
    touch: int = 75
    wait: int = 4
    touch_steps: int = 30
    touch_first: float = 0.15

    @property
    def touch_up(self) -> Tuning:
        """The settings of a cycle that begins with a tiled cell: cold and short."""
        return replace(
            self, free_steps=self.touch_steps, free_first=self.touch_first, first=self.touch_first
        )


TUNING = Tuning()

LONG = 4500
"""Evaluations below which the long walk comes to little, and gets a larger part of them."""

SAMPLES = (60, 400)
"""Fewest and most random swaps at the beginning."""

FREE_SAMPLES = 300
"""Swaps under the surrogate that set its temperatures."""

SHORTEST = 25
"""Evaluations below which a lesson is not worth a fit."""

LABELINGS = 3
"""Labelings whose energies a tiled cycle asks for besides its swaps."""

LEARNT = 1500
"""Swaps of one lesson that the surrogates learn at most; by then they know the neighbourhood."""


class Guide(NamedTuple):
    """A surrogate at one time."""

    model: ClusterModel
    error: float
    """Of its changes of energy, root mean square, eV."""


@dataclass(eq=False)
class Tiling:
    """A small cell that tiles the one searched, and the walk through its labelings.

    Attributes
    ----------
    tile : Tile
    walk : Walk
        Through the labelings of the small cell.
    energy : float
        Lowest energy of the large cell met when tiled with it, eV.
    visits : int
        How often it was searched.
    """

    tile: Tile
    walk: Walk
    energy: float
    visits: int = 0


def guided_search(
    evaluator: LatticeEvaluator,
    counts: npt.NDArray[np.int64],
    *,
    guides: Guides,
    allowance: Allowance,
    rng: np.random.Generator,
    evaluator_of: EvaluatorOf | None = None,
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
    evaluator_of
        Gives the energies of the small cells that tile this one; without it none are used.
    tuning
        Settings.

    Returns
    -------
    SearchResult
        The lowest labeling of the long walk and of each cycle.
    """
    seed = random_state(rng)
    walk = Walk(evaluator, random_start(evaluator, counts, rng), allowance, seed)
    start = walk.here()
    n_samples = int(np.clip(tuning.sample * allowance.left, *SAMPLES))
    swaps, changes = walk.sample(int(min(n_samples, allowance.left // 2)))
    if len(changes) == 0:
        return result_of([start], allowance)
    guides.learn_swaps(evaluator.supercell, start.labels, swaps, changes, wide=True)
    search = GuidedAnnealing(walk, guides, float(np.abs(changes).mean()), tuning, rng)
    n = max(tuning.long * allowance.left, min(tuning.long_most * allowance.left, LONG))
    found = [search.long_walk(int(n))]
    tilings = search.tilings(counts, evaluator_of) if evaluator_of is not None else []
    per_cycle = int(max(allowance.left // tuning.cycles, tuning.lessons * SHORTEST))
    for cycle in range(2 * tuning.cycles):
        if allowance.left <= 1:
            break
        n = min(per_cycle, int(allowance.left))
        if tilings and cycle % tuning.untiled and search.can_tile():
            found += search.tiled_cycles(tilings, counts, cycle, n)
        else:
            found.append(search.cycle(walk, cycle, n))
    return result_of(found, allowance)


@dataclass(eq=False)
class GuidedAnnealing:
    """The parts of a guided search of one composition of one supercell.

    Attributes
    ----------
    walk : Walk
        Through the labelings of the supercell.
    guides : Guides
        Surrogates; they learn.
    scale : float
        Mean size of a random swap, eV; temperatures are in units of it.
    tuning : Tuning
    rng : numpy.random.Generator
    """

    walk: Walk
    guides: Guides
    scale: float
    tuning: Tuning
    rng: np.random.Generator

    def long_walk(self, n: int) -> kernels.Best:
        """Anneal from where the walk stands with `n` evaluations; return the lowest labeling.

        The guide is always the surrogate that erred least on the swaps asked about last, and
        counts as uncertain by that error.
        """
        walk, surrogates = self.walk, self.guides.every
        best = walk.here()
        pieces = max(1, min(self.tuning.pieces, n // SHORTEST))
        errors = [surrogate.model()[1] for surrogate in self.guides.surrogates]
        # So many coefficients fit the first swaps whatever those are.
        errors += [math.inf] * len(self.guides.wide)
        left = n
        for piece in range(pieces):
            chosen = int(np.argmin(np.round(errors, 12)))
            models = [surrogate.model()[0] for surrogate in surrogates]
            asked = int(min(left // (pieces - piece), walk.allowance.left))
            if asked < 1:
                continue
            guide = Guide(models[chosen], errors[chosen])
            log = self._walk_on(walk, guide, asked, self._cooling(self.tuning, piece, pieces), best)
            left -= len(log.changes)
            if len(log.changes):
                errors = log.learn(self.guides, models, wide=True)
        return self._note(walk, best)

    def cycle(self, walk: Walk, number: int, n: int, start: Labels | None = None) -> kernels.Best:
        """Anneal under a surrogate, then under the model; return the lowest labeling met.

        Parameters
        ----------
        walk
            Through the supercell or through a small one.
        number
            Of the cycle: the surrogates take turns, but in the supercell it is the wide one.
        n
            Evaluations.
        start
            (n_sites,) tiled labeling to begin with, which is only touched up.
        """
        tuning = self.tuning if start is None else self.tuning.touch_up
        is_large = walk is self.walk
        turns = self.guides.wide if is_large and self.guides.wide else self.guides.surrogates
        surrogate = turns[number % len(turns)]
        guide = Guide(*surrogate.model())
        labels = walk.labels if start is None else start
        walk.restart(anneal_free(walk, labels, guide.model, tuning))
        best = walk.here()
        for lesson in range(tuning.lessons):
            if lesson:
                guide = Guide(*surrogate.model())
            asked = int(min(max(n // tuning.lessons, 1), walk.allowance.left))
            if asked < 1:
                break
            cooling = self._cooling(tuning, lesson, tuning.lessons)
            log = self._walk_on(walk, guide, asked, cooling, best)
            log.learn(self.guides, wide=is_large)
        return self._note(walk, best)

    def tilings(self, counts: npt.NDArray[np.int64], evaluator_of: EvaluatorOf) -> list[Tiling]:
        """Return the small cells that tile the supercell.

        Each is annealed under the surrogate and tiled; the true energy of that is their rank.
        """
        cell, allowance = self.walk.evaluator.supercell, self.walk.allowance
        model = self.guides.surrogates[-1].model()[0]
        result = []
        for tile in tiles_of(cell, counts):
            if not self.can_tile():
                break
            evaluator = evaluator_of(tile.cell)
            start = random_start(evaluator, tile.counts, self.rng)
            small = Walk(evaluator, start, allowance, self.walk.rng)
            small.restart(anneal_free(small, start, model, self.tuning))
            filled = tile.fill(small.labels, counts, cell.allowed, self.rng)
            if filled is None:
                continue
            self.walk.restart(anneal_free(self.walk, filled, model, self.tuning.touch_up))
            result.append(Tiling(tile, small, float(self.walk.model[1].energy[0])))
        return result

    def can_tile(self) -> bool:
        """Tell whether the evaluations left are worth another small cell."""
        return self.walk.allowance.left > LABELINGS + self.tuning.lessons * SHORTEST

    def tiled_cycles(
        self, tilings: list[Tiling], counts: npt.NDArray[np.int64], number: int, n: int
    ) -> list[kernels.Best]:
        """Spend about `n` evaluations on small cells; return the lowest labelings of the whole.

        The next is always the one of the best rank, but each visit makes it wait, and so does its
        size.
        """
        found: list[kernels.Best] = []
        end = self.walk.allowance.used + n
        while self.walk.allowance.used < end and self.can_tile():
            energies = [round(tiling.energy, ENERGY_DECIMALS) for tiling in tilings]
            ranks = np.argsort(np.argsort(energies, kind="stable"))
            waits = [
                (int(rank) + 1) * self.tuning.wait**tiling.visits * tiling.tile.cell.n_sites
                for rank, tiling in zip(ranks, tilings, strict=True)
            ]
            tiling = tilings[int(np.argmin(waits))]
            found += self._tiled(tiling, counts, number + tiling.visits)
            tiling.visits += 1
        return found

    def _tiled(
        self, tiling: Tiling, counts: npt.NDArray[np.int64], number: int
    ) -> list[kernels.Best]:
        """Search a small cell, tile, and touch up; return what that gave."""
        left = int(self.walk.allowance.left) - LABELINGS
        in_small = min(self.tuning.small * tiling.tile.cell.n_sites, left)
        lowest = self.cycle(tiling.walk, number, in_small)
        allowed = self.walk.evaluator.supercell.allowed
        filled = tiling.tile.fill(lowest.labels, counts, allowed, self.rng)
        if filled is None:
            return []
        self.walk.restart(filled)
        tiled = self.walk.here()
        touched = self.cycle(self.walk, number, self.tuning.touch, filled)
        tiling.energy = min(tiling.energy, float(tiled.energy[0]), float(touched.energy[0]))
        return [tiled, touched]

    def _walk_on(
        self, walk: Walk, guide: Guide, n: int, cooling: kernels.Cooling, best: kernels.Best
    ) -> Log:
        """Make one part of a guided annealing; return what was asked."""
        swaps, changes = np.zeros((n, 3), dtype=np.int64), np.zeros(n)
        start = walk.labels.copy()
        evaluator = guide.model.evaluator(walk.evaluator.supercell)
        asked = partners.anneal_guided(
            walk.model,
            (evaluator.walk_tables, evaluator.walk_state(start)),
            walk.rules,
            cooling,
            guide.error,
            best,
            partners.Log(swaps, changes),
            walk.rng,
        )
        walk.allowance.used += asked
        return Log(walk.evaluator.supercell, start, swaps[:asked], changes[:asked])

    def _cooling(self, tuning: Tuning, part: int, parts: int) -> kernels.Cooling:
        """Return one of so many equal parts of the cooling under the model."""
        first, last = self.scale * tuning.first, self.scale * tuning.last
        return kernels.Cooling(first, last, part / parts, (part + 1) / parts)

    @staticmethod
    def _note(walk: Walk, best: kernels.Best) -> kernels.Best:
        """Let the walk know its best."""
        if best.energy[0] < walk.best.energy[0]:
            walk.best = best
        return best


class Log(NamedTuple):
    """Swaps asked about and their answers."""

    supercell: Supercell
    start: Labels
    """(n_sites,) before the first."""
    swaps: npt.NDArray[np.int64]
    """(n, 3): two sites, and 1 where the swap was carried out."""
    changes: npt.NDArray[np.float64]
    """(n,) changes of energy, eV."""

    def learn(
        self, guides: Guides, models: list[ClusterModel] | None = None, *, wide: bool = False
    ) -> list[float]:
        """Teach surrogates; return how far models of theirs had been off, root mean square, eV."""
        n = min(len(self.changes), LEARNT)
        return guides.learn_swaps(
            self.supercell, self.start, self.swaps[:n], self.changes[:n], models, wide=wide
        )


def anneal_free(walk: Walk, labels: Labels, model: ClusterModel, tuning: Tuning) -> Labels:
    """Return the lowest labeling of an annealing under a surrogate, (n_sites,).

    Parameters
    ----------
    walk
        Whose cell and random numbers are used.
    labels
        (n_sites,) to begin with.
    model
        The surrogate.
    tuning
        Settings.
    """
    guide = model.evaluator(walk.evaluator.supercell)
    state = guide.walk_state(labels)
    pair = (guide.walk_tables, state)
    best = kernels.Best(labels.copy(), state.energy.copy())
    swaps = np.zeros((FREE_SAMPLES, 3), dtype=np.int64)
    changes = kernels.sample_swaps(pair, walk.rules, swaps, walk.rng)
    if len(changes) == 0:
        return best.labels
    scale = max(float(np.abs(changes).mean()), 1e-12)
    cooling = kernels.Cooling(scale * tuning.free_first, scale * tuning.free_last, 0.0, 1.0)
    n = tuning.free_steps * len(walk.rules.sites)
    partners.anneal_rows(pair, walk.rules, cooling, best, n, walk.rng)
    return best.labels
