"""Annealing of one composition of one supercell: the loop, its moves, and where it begins.

There is one loop. First a long walk from a random labeling, hot to cold. Then short cycles, which
begin where that is cheap and promising: at what an annealing under a surrogate finds, which costs
no energy; at the best of a small cell that tiles this one; at what atom addition gives.

Its moves are swaps asked one by one, all swaps of a site in turn where the model answers them
together, or, with guides, swaps that a surrogate has let through (delayed acceptance): what the
model answers teaches the surrogate. A surrogate that errs as much as energies vary lets nearly
everything through, so that at worst a guided walk is a plain one.

Its limit is a number of energies; a deadline ends it between two pieces of a walk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.energies import cell_to_site
from latticesearch.search import _walk_kernels as kernels
from latticesearch.search.addition import add_atoms
from latticesearch.search.partial import random_labeling
from latticesearch.search.tiling import tiles_of
from latticesearch.search.types import ENERGY_DECIMALS, SearchResult
from latticesearch.search.walk import FIRST, FREE_STEPS, LAST, SAMPLES, Guide, Walk

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.potential.clusters.surrogate import Surrogate
    from latticesearch.potential.protocol import Evaluator
    from latticesearch.search.guides import Guides
    from latticesearch.search.tiling import Tile
    from latticesearch.search.types import Budget, Task

    Labels = npt.NDArray[np.int8]
    EvaluatorOf = Callable[[Supercell], Evaluator]

MILD = 0.15
"""First temperature of a cycle that begins at a low labeling: hotter ones forget where they began.
"""

LONG = 0.7
"""Part of the energies for the long walk: without it narrow valleys are missed of potentials that
no cluster expansion describes; without the rest, what tiles the cell."""

FITS = 48
"""Fits of the surrogates during the long walk, and cycles after it."""

SHORTEST = 25
"""Energies below which a fit costs more than it teaches; a cycle gets three times as many."""

BRIEF = 25
"""Swaps per site of what must be brief: a visit to a small cell, which solves one of eight sites by
so many, and the touch under a surrogate of a labeling that is low already."""

BETWEEN = 100
"""Unguided swaps per site between two looks at the clock: some milliseconds."""

LEAST_SECONDS = 1e-3
"""Seconds of a cycle at least, where time is the limit: setting one up takes a third of that."""

MEASURABLE = 1e-4
"""Seconds below which a reading of the clock says nothing of a pace."""

LABELINGS = 3
"""Energies of labelings that a visit to a small cell asks for besides swaps."""


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
    visits: int = 1

    @property
    def wait(self) -> int:
        """By how much a visit makes it wait for the next."""
        return self.tile.cell.n_sites * self.visits**2


def anneal(
    task: Task,
    evaluator_of: EvaluatorOf,
    *,
    budget: Budget,
    rng: np.random.Generator,
    guides: Guides | None = None,
    guide_cycles: bool = True,
) -> SearchResult:
    """Search one composition of one supercell by annealing.

    Parameters
    ----------
    task
        The composition and the cell.
    evaluator_of
        Gives the energies of the cell and of those that tile it.
    budget
        Energies that may be asked for; finite.
    rng
        Source of all chance.
    guides
        Surrogates of the parent lattice, which learn; without them nothing is guided.
    guide_cycles
        Not only the long walk is guided.

    Returns
    -------
    SearchResult
        The lowest labeling of the long walk and of each cycle.
    """
    start = random_labeling(task.cell.allowed, task.counts, rng)
    state = rng.integers(2**63, size=1, dtype=np.uint64)
    walk = Walk(evaluator_of(task.cell), start, budget, state)
    found = [walk.here()]
    swaps, changes = walk.sample(int(min(SAMPLES, np.ceil((1.0 - LONG) / 4 * budget.left))))
    if len(changes):
        if guides is not None:
            guides.learn_swaps(task.cell, start, swaps, changes, wide=True)
        scale = max(
            float(np.abs(changes).mean()), kernels.SAME
        )  # where all swaps give an equal labeling
        of_cycles = guides if guide_cycles else None
        found += Annealing(task, evaluator_of, walk, guides, of_cycles, scale, rng).run()
    energies = cell_to_site(np.array([best.energy[0] for best in found]), task.cell.n_sites)
    return SearchResult.of(np.array([best.labels for best in found]), energies, budget.used)


def anneal_plainly(
    evaluator: Evaluator, start: Labels, budget: Budget, rng: np.random.Generator
) -> kernels.Best:
    """Return the lowest labeling of one long walk, unguided: what searches are compared with.

    Kirkpatrick, Gelatt & Vecchi, Science 220, 671 (1983).

    Parameters
    ----------
    evaluator
        Energies of the cell.
    start
        (n_sites,) labeling to begin with.
    budget
        Energies that may be asked for; finite.
    rng
        Source of all chance.
    """
    walk = Walk(evaluator, start, budget, rng.integers(2**63, size=1, dtype=np.uint64))
    _, changes = walk.sample(max(1, min(SAMPLES, int(budget.left) // 20)))
    best = walk.here()
    if len(changes):
        scale = max(float(np.abs(changes).mean()), kernels.SAME)
        cooling = kernels.Cooling(scale * FIRST, scale * LAST, 0.0, 1.0)
        n = int(budget.left)
        budget.used += int(kernels.anneal(walk.model, walk.rules, cooling, best, n, walk.state))
    return best


@dataclass(eq=False)
class Annealing:
    """The loop; see the module.

    Attributes
    ----------
    task : Task
    evaluator_of : callable
        Gives the energies of supercells.
    walk : Walk
        Through the labelings of the task's cell.
    guides : Guides or None
        Of the long walk.
    cycle_guides : Guides or None
        Of the cycles: the same, or none where a fit takes longer than a cycle.
    scale : float
        Mean size of a random swap, eV; temperatures are in units of it.
    rng : numpy.random.Generator
    found : list of Best
        The lowest labeling of each part of the loop.
    """

    task: Task
    evaluator_of: EvaluatorOf
    walk: Walk
    guides: Guides | None
    cycle_guides: Guides | None
    scale: float
    rng: np.random.Generator
    found: list[kernels.Best] = field(default_factory=list)

    def run(self) -> list[kernels.Best]:
        """Spend what is left of the budget; return what the parts found."""
        budget = self.walk.budget
        began, n = budget.clock(), int(LONG * budget.left)
        self._long_walk(n)
        least = 3 * SHORTEST
        if budget.deadline < math.inf:
            least = max(least, int(LEAST_SECONDS * n / max(budget.clock() - began, MEASURABLE)))
        n = max(int(budget.left) // FITS, least)
        if self.cycle_guides is not None:
            self._add_atoms(n)
        elif budget.deadline == math.inf:
            self._add_atoms(3 * SHORTEST)  # a mean field takes the time of many cheap swaps
        tilings = self._tilings()
        for number in range(2 * FITS):
            if budget.left <= LABELINGS:
                break
            if tilings and number % 3 and budget.left > n:
                self._visit_tiles(tilings, number, n)
            else:
                self.found.append(self._cycle(self.walk, number, n))
        return self.found

    def _long_walk(self, n: int) -> None:
        """Cool from where the walk stands with `n` energies."""
        best = self.walk.here()
        if self.guides is None:
            seconds = LONG * self.walk.budget.seconds_left
            self._cool(self.walk, (FIRST, LAST), n, best, seconds)
        else:
            self._cool_with_the_best_guide(self.guides, n, best)
        self.found.append(best)

    def _cool_with_the_best_guide(self, guides: Guides, n: int, best: kernels.Best) -> None:
        """Cool in pieces; the guide is the surrogate that erred least on the piece before.

        It counts as uncertain by that error. So many coefficients as the wide one has fit the
        first swaps whatever those are, so it begins as if it erred without limit.
        """
        walk, surrogates = self.walk, guides.every
        errors = [surrogate.model()[1] for surrogate in guides.surrogates]
        errors += [math.inf] * len(guides.wide)
        pieces, left = max(1, min(FITS, n // SHORTEST)), n
        for piece in range(pieces):
            asked = int(min(left // (pieces - piece), walk.budget.left))
            if asked < 1:
                break
            chosen = int(np.argmin(np.round(errors, 12)))
            models = [surrogate.model()[0] for surrogate in surrogates]
            cooling = self._cooling((FIRST, LAST), piece, pieces)
            log = walk.cool_guided(Guide(models[chosen], errors[chosen]), cooling, asked, best)
            left -= len(log.changes)
            if len(log.changes):
                errors = guides.learn_walk(log, models, wide=True)

    def _cool(
        self,
        walk: Walk,
        temperatures: tuple[float, float],
        n: int,
        best: kernels.Best,
        seconds: float = math.inf,
    ) -> None:
        """Cool without a guide, with so many energies or for so long, s, whichever ends first.

        It is the pace met so far that says what there is still time for: a walk that is stopped
        while it is hot has found nothing.
        """
        pieces, budget = 1, walk.budget
        if budget.deadline < math.inf:
            pieces = max(1, min(FITS, n // (BETWEEN * len(walk.rules.sites))))
        began, left, in_time = budget.clock(), float(n), math.inf
        for piece in range(pieces):
            if piece:
                spent = budget.clock() - began
                rate = (n - left) / max(spent, MEASURABLE)
                in_time = rate * min(seconds - spent, budget.seconds_left)
            asked = int(min(left, in_time, budget.left) / (pieces - piece))
            if asked < 1:
                break
            left -= walk.cool(self._cooling(temperatures, piece, pieces), asked, best)

    def _cooling(self, temperatures: tuple[float, float], piece: int, of: int) -> kernels.Cooling:
        """Return one of so many equal parts of a cooling."""
        first, last = (self.scale * t for t in temperatures)
        return kernels.Cooling(first, last, piece / of, (piece + 1) / of)

    def _cycle(self, walk: Walk, number: int, n: int, start: Labels | None = None) -> kernels.Best:
        """Anneal under a surrogate, then under the model; return the lowest labeling met.

        Parameters
        ----------
        walk
            Through the task's cell or through a small one.
        number
            Of the cycle: the surrogates take turns, but in the large cell it is the wide one.
        n
            Energies.
        start
            (n_sites,) low labeling to begin with, which is only touched up.
        """
        is_large = walk is self.walk
        is_low = start is not None or (self.cycle_guides is None and is_large)
        first = MILD if is_low else FIRST
        labels = self._lowest_of(walk) if start is None else start
        if self.cycle_guides is None:
            walk.restart(labels)
            best = walk.here()
            self._cool(walk, (first, LAST), n, best)
            return best
        model, error = self._turn(self.cycle_guides, number, is_large=is_large).model()
        steps = FREE_STEPS if start is None else BRIEF
        walk.restart(walk.anneal_free(labels, model, first, steps))
        best = walk.here()
        asked = int(min(n, walk.budget.left))
        if asked >= 1:
            cooling = self._cooling((first, LAST), 0, 1)
            log = walk.cool_guided(Guide(model, error), cooling, asked, best)
            self.cycle_guides.learn_walk(log, wide=is_large)
        return best

    def _lowest_of(self, walk: Walk) -> Labels:
        """Return where a cycle begins that was given no start, (n_sites,).

        A guided one begins where the walk stands.

        An unguided one begins at the lowest labeling of the cell, for want of a better place.
        """
        if self.cycle_guides is None and walk is self.walk:
            return min(self.found, key=_rank).labels
        return walk.labels.copy()

    @staticmethod
    def _turn(guides: Guides, number: int, *, is_large: bool) -> Surrogate:
        """Return the surrogate whose turn it is."""
        turns = guides.wide if is_large and guides.wide else guides.surrogates
        return turns[number % len(turns)]

    def _add_atoms(self, n: int) -> None:
        """Begin one cycle where atom addition ends; it may ask for about `n` energies."""
        evaluator, counts = self.walk.evaluator, self.task.counts
        if self.walk.budget.left <= LABELINGS:
            return
        part = self.walk.budget.part(min(n, self.walk.budget.left - LABELINGS))
        added = add_atoms(evaluator, counts, beam_width=1, budget=part, rng=self.rng)
        self.walk.budget.used += part.used
        self.found.append(self._cycle(self.walk, 0, n, added[0]))

    def _tilings(self) -> list[Tiling]:
        """Return the small cells that tile the task's, each searched once.

        The energy of the task's cell filled with it is its rank.
        """
        result = []
        for tile in tiles_of(self.task.cell, self.task.counts):
            if self.walk.budget.left < BRIEF * tile.cell.n_sites + 3 * SHORTEST:
                break
            evaluator = self.evaluator_of(tile.cell)
            start = random_labeling(tile.cell.allowed, tile.counts, self.rng)
            small = Walk(evaluator, start, self.walk.budget, self.walk.state)
            tiling = Tiling(tile, small, math.inf)
            if self.cycle_guides is not None:
                model = self._turn(self.cycle_guides, -1, is_large=False).model()[0]
                small.restart(small.anneal_free(start, model, FIRST, FREE_STEPS))
            lowest = small.here()
            if self.cycle_guides is None:
                self._cool(small, (FIRST, LAST), BRIEF * tile.cell.n_sites, lowest)
            if self._fill(tiling, lowest.labels) is not None:
                result.append(tiling)
        return result

    def _fill(self, tiling: Tiling, labels: Labels) -> kernels.Best | None:
        """Let the walk stand where the cell is tiled with `labels`, (n_sites of the tile,).

        Returns None where it cannot be tiled.
        """
        cell, counts = self.task.cell, self.task.counts
        filled = tiling.tile.fill(labels, counts, cell.allowed, self.rng)
        if filled is None:
            return None
        self.walk.restart(filled)
        best = self.walk.here()
        tiling.energy = min(tiling.energy, float(best.energy[0]))
        return best

    def _visit_tiles(self, tilings: list[Tiling], number: int, n: int) -> None:
        """Spend about `n` energies on small cells.

        The next is always the one of the best rank, but each visit makes it wait, and so does its
        size.
        """
        budget = self.walk.budget
        end = budget.used + n
        while budget.used < end and budget.left > LABELINGS:
            energies = [round(tiling.energy, ENERGY_DECIMALS) for tiling in tilings]
            ranks = np.argsort(np.argsort(energies, kind="stable"))
            waits = [(rank + 1) * t.wait for rank, t in zip(ranks, tilings, strict=True)]
            tiling = tilings[int(np.argmin(waits))]
            self._visit(tiling, number + tiling.visits, n)
            tiling.visits += 1

    def _visit(self, tiling: Tiling, number: int, n: int) -> None:
        """Search a small cell, tile, and touch up."""
        in_small = max(BRIEF * tiling.tile.cell.n_sites, n // 4 if self.cycle_guides is None else 0)
        lowest = self._cycle(
            tiling.walk, number, int(min(in_small, self.walk.budget.left - LABELINGS))
        )
        tiled = self._fill(tiling, lowest.labels)
        if tiled is None:
            return
        touched = self._cycle(self.walk, number, max(3 * SHORTEST, n // 4), tiled.labels)
        tiling.energy = min(tiling.energy, float(touched.energy[0]))
        self.found += [tiled, touched]


def _rank(best: kernels.Best) -> tuple[float, bytes]:
    """Return what orders labelings, lowest first."""
    return round(float(best.energy[0]), ENERGY_DECIMALS), best.labels.tobytes()
