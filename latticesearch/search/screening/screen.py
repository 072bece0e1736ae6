"""Screening: rank all labelings of enumerable cells by a surrogate, pay for the promising ones.

Enumeration costs no evaluation. After every round of true energies the surrogate is fitted anew,
until it promises nothing near the hull of what is known, nor below the best of any composition.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latticesearch.errors import InputError
from latticesearch.hull import Hull, hull_with
from latticesearch.lattice import Labelings
from latticesearch.parallel import collective_errors, gather_blocks, split
from latticesearch.potential.sites.descriptors import SiteTable
from latticesearch.potential.sites.kernel_ridge import RIDGES, SiteSurrogate
from latticesearch.search.enumerate import labelings_of
from latticesearch.search.guides import SCREEN_REACHES, Guides, taught_labelings
from latticesearch.search.screening.rankers import Expansion, Sites, best_shares

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice, Supercell
    from latticesearch.parallel import Communicator
    from latticesearch.search.blocks import Block
    from latticesearch.search.pool import CandidatePool
    from latticesearch.search.screening.rankers import Ranker
    from latticesearch.search.types import Budget, Problem

    Floats = npt.NDArray[np.float64]

log = logging.getLogger(__name__)

SOURCE = "screened"

CONFIDENCE = 2.5
"""Errors of the surrogate within which a prediction may still turn out to be on the hull; where
these find nothing more and there is budget left, 1.6 and 2.6 times as many."""

ROUNDS = 30
"""Rounds that share a budget, and energies per round at least: the more rounds, the better the
surrogate knows before it chooses, but a fit costs more than an energy."""

PER_COMPOSITION = 0.15
"""Largest part of a round for one composition."""

HIGH = 0.02
"""eV per site above the hull from which energies count less for the surrogates: they are needed
near it, and 20 meV is what alloys order by."""

MEMORY = 1_000_000_000
"""Bytes up to which rows are kept from round to round."""

LEAST_ERROR = 1e-6
"""eV per site: a surrogate that is exact need not be doubted more."""


class Pick(NamedTuple):
    """A labeling worth its energy; the order of the fields is the order of choice."""

    height: float
    """Predicted energy above the hull, or more than the margin for the best of a composition."""
    hnf: tuple[int, ...]
    labels: bytes


@dataclass(eq=False)
class Screen:
    """The labelings of one rank and the energies that all ranks know.

    Attributes
    ----------
    problem : Problem
    guides : Guides
        Expansions of the total energy; they learn.
    batches : list of Labelings
        This rank's share of what may be evaluated.
    is_known : list of (n,) bool
        Which of them have been.
    compositions, energies : lists of arrays
        Of everything evaluated, on all ranks the same: (n, n_species) and (n,), eV per site.
    errors : dict
        Root mean square error of each ranker on the last round, eV per site.
    rows : dict
        What the coefficients of each basis multiply, per batch.
    largest : int
        Sites of the largest cell with known energies.
    misses : dict
        Predictions of each ranker less the energies of the last round, eV per site.
    kinds : list of ((m, n_species), (n,))
        The compositions of each batch, and which of them each labeling has.
    sites : SiteSurrogate or None
        Learns the energies of sites, where the potential gives them.
    table : SiteTable or None
        The distinct sites of this rank's labelings, once they are asked for.
    rankers : list
        Everything that ranks labelings, fitted to all that is known; empty until asked for.
    """

    problem: Problem
    batches: list[Labelings] = field(default_factory=list)
    is_known: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    compositions: list[Floats] = field(default_factory=list)
    energies: list[Floats] = field(default_factory=list)
    errors: dict[int, float] = field(default_factory=dict)
    rows: dict[Any, list[npt.NDArray[Any]]] = field(default_factory=dict)
    largest: int = 1
    misses: dict[int, Floats] = field(default_factory=dict)
    kinds: list[tuple[Floats, npt.NDArray[np.intp]]] = field(default_factory=list)
    guides: Guides = field(init=False)
    sites: SiteSurrogate | None = None
    table: SiteTable | None = None
    rankers: list[Ranker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.guides = Guides.of(self.problem.parent, SCREEN_REACHES)

    def add(self, batches: Iterable[Labelings]) -> None:
        """Take labelings into the competition."""
        for batch in batches:
            self.batches.append(batch)
            self.is_known.append(np.zeros(len(batch), dtype=np.bool_))
            self.kinds.append(_kinds(batch.compositions))
        self.table = None

    def ask(self, batch: Labelings) -> Floats:
        """Return true energies of the sites, (n, n_sites), eV, or those per site, (n, 1)."""
        evaluator = self.problem.evaluator(batch.supercell)
        if not evaluator.has_site_energies:
            return evaluator.energies(batch.labels)[:, None]
        self.sites = self.sites or SiteSurrogate.of(self.problem.parent)
        return evaluator.site_energies(batch.labels)

    def learn(self, results: list[tuple[Labelings, Floats]]) -> None:
        """Take note of true energies, (n, ...) as `ask` gives them, in one order on all ranks.

        What lies high above the hull counts less: the surrogates are needed near it.
        """
        energies = [values.mean(axis=1) for _, values in results]
        heights = self._above_hull([batch.compositions for batch, _ in results], energies)
        weights = [1.0 / np.sqrt(1.0 + (part / HIGH) ** 2) for part in heights]
        for (batch, _), part, weight in zip(results, energies, weights, strict=True):
            self.compositions.append(batch.compositions)
            self.energies.append(part)
            self.largest = max(self.largest, batch.supercell.n_sites)
            self.guides.learn_energies(batch, part, weight)
        if self.sites is not None:
            self.sites.learn(results, weights)
        self.rankers.clear()

    def _ranked(self) -> list[Ranker]:
        """Return rankers that have learnt all that is known; each fit is one rank's work."""
        if not self.rankers:
            self.rankers += [Expansion(s, self.largest) for s in self.guides.surrogates]
            if (sites := self.sites) is not None:
                forms = split(len(RIDGES), lambda i: sites.fit(RIDGES[i]), self.problem.comm)
                self.rankers += [Sites(sites, *fit) for fit in zip(RIDGES, forms, strict=True)]
        return self.rankers

    def _part(self, ranker: Ranker) -> list[Floats]:
        """Return what one ranker predicts for every batch, (n,) each, eV per site."""
        if isinstance(ranker, Sites):
            if self.table is None:
                self.table = SiteTable.of(ranker.surrogate.basis, self.batches)
            return ranker.energies(self.table)
        return ranker.optimistic(self._rows(ranker))

    def _rows(self, ranker: Expansion) -> Iterator[tuple[Labelings, npt.NDArray[Any]]]:
        """Yield every batch with what a ranker keeps of it, (n, width); kept if that fits."""
        size = ranker.itemsize * ranker.width * sum(map(len, self.batches))
        kept = self.rows.setdefault(ranker.basis, [])
        others = sum(a.nbytes for key, rows in self.rows.items() for a in rows if rows is not kept)
        if not kept and others + size > MEMORY:
            self.rows = {ranker.basis: kept}
        for i, batch in enumerate(self.batches):
            if i < len(kept):
                yield batch, kept[i]
                continue
            rows = ranker.rows(batch)
            if size <= MEMORY:
                kept.append(rows)
            yield batch, rows

    def _best(self) -> tuple[list[tuple[float, Ranker]], float]:
        """Return the rankers to believe with their shares, and the error of their mean.

        They are the expansion and the fit of site energies that did best on the last round,
        shared so that the error of the mean would have been least there: their errors have
        little in common.
        """
        rankers = self._ranked()
        n = len(self.guides.surrogates)
        errors = np.array([self.errors.get(i, ranker.error) for i, ranker in enumerate(rankers)])
        errors = np.round(errors, 12)
        one = int(np.argmin(errors[:n]))
        pairs = [(1.0, rankers[one])]
        error = float(errors[one])
        if np.isfinite(errors[n:]).any():
            other = n + int(np.argmin(errors[n:]))
            share, error = best_shares(self.misses[one], self.misses[other])
            pairs = [(1.0 - share, rankers[one]), (share, rankers[other])]
        return [pair for pair in pairs if pair[0] > 0.0], max(error, LEAST_ERROR)

    def _predictions(self, chosen: list[tuple[float, Ranker]]) -> list[Floats]:
        """Return the mean of what rankers predict for every batch, (n,) each, eV per site.

        Expansions are optimistic.
        """
        parts = [self._part(ranker) for _, ranker in chosen]
        shares = [share for share, _ in chosen]
        return [
            np.sum([share * part for share, part in zip(shares, row, strict=True)], axis=0)
            for row in zip(*parts, strict=True)
        ]

    def choose(self, n: int, confidence: float = CONFIDENCE) -> list[Pick]:
        """Return at most `n` labelings to evaluate next, the same on all ranks.

        A labeling is promising if its prediction is within `confidence` errors of the hull or of
        the best of its composition.
        """
        chosen, error = self._best()
        predictions = self._predictions(chosen)
        margin, limit = confidence * error, max(2, int(PER_COMPOSITION * n))
        hull, lowest = self._references()
        references = hull, self._first_of_new(predictions) | lowest
        self._doubt(chosen, predictions, references, margin + 2.0 * CONFIDENCE * error)
        references = hull, self._first_of_new(predictions) | lowest
        mine = _Shortlist(limit)
        everything = zip(self.batches, self.kinds, self.is_known, predictions, strict=True)
        for batch, kinds, known, predicted in everything:
            heights = self._heights(kinds, predicted, references, margin)
            heights[known] = np.inf
            mine.add(batch, kinds, np.round(heights, 10))
        return _spread(sorted(gather_blocks(mine.picks(), self.problem.comm)), n, limit)

    def _doubt(
        self,
        chosen: list[tuple[float, Ranker]],
        predictions: list[Floats],
        references: tuple[Hull, dict[tuple[float, ...], float]],
        margin: float,
    ) -> None:
        """Lower the predictions within a margin by the standard errors of site energies.

        Predictions are (n,) per batch and changed in place; both are eV per site.
        """
        pairs = zip(self.kinds, predictions, strict=True)
        heights = [self._heights(kinds, part, references, margin) for kinds, part in pairs]
        rows = [np.flatnonzero(np.isfinite(part)) for part in heights]
        for share, ranker in chosen:
            if isinstance(ranker, Sites) and self.table is not None:
                doubts = ranker.doubts(self.table.part(rows), self.problem.comm)
                for predicted, mine, doubt in zip(predictions, rows, doubts, strict=True):
                    predicted[mine] -= share * doubt

    def _above_hull(self, compositions: list[Floats], energies: list[Floats]) -> list[Floats]:
        """Return heights above the hull of what is known, (n,), eV per site; 0 where unknown."""
        if self.energies:
            hull = self._references()[0]
            # An InputError: compositions outside the region of what is known.
            with suppress(InputError):
                pairs = zip(compositions, energies, strict=True)
                return [np.asarray(hull.energy_above_hull(x, e)) for x, e in pairs]
        return [np.zeros(len(part)) for part in energies]

    def _first_of_new(self, predictions: list[Floats]) -> dict[tuple[float, ...], float]:
        """Return the lowest prediction of each composition, eV per site, on all ranks the same.

        It stands for the best of compositions that have no energy yet.
        """
        mine: dict[tuple[float, ...], float] = {}
        for (kinds, kind), predicted in zip(self.kinds, predictions, strict=True):
            first = np.full(len(kinds), np.inf)
            np.minimum.at(first, kind, predicted)
            for row, energy in zip(kinds.tolist(), first.tolist(), strict=True):
                mine[tuple(row)] = min(energy, mine.get(tuple(row), np.inf))
        parts = self.problem.comm.allgather(mine)
        names = {name for part in parts for name in part}
        return {name: min(part.get(name, np.inf) for part in parts) for name in names}

    def _references(self) -> tuple[Hull, dict[tuple[float, ...], float]]:
        """Return the hull of what is known, and the lowest energy of each composition."""
        x, e = np.concatenate(self.compositions), np.concatenate(self.energies)
        lowest: dict[tuple[float, ...], float] = {}
        for row, energy in zip(np.round(x, 9).tolist(), e.tolist(), strict=True):
            lowest[tuple(row)] = min(energy, lowest.get(tuple(row), np.inf))
        return hull_with(x, e), lowest

    def _heights(
        self,
        kinds: tuple[Floats, npt.NDArray[np.intp]],
        predicted: Floats,
        references: tuple[Hull, dict[tuple[float, ...], float]],
        margin: float,
    ) -> Floats:
        """Return how promising the predictions are, (n,), eV per site; infinite where not.

        First come those near the hull, by height, then those near the best of their composition.
        """
        hull, lowest = references
        compositions, kind = kinds
        best = np.array([lowest[tuple(row)] for row in compositions.tolist()])
        own = np.maximum(predicted - best[kind], 0.0)
        heights = np.where(own < margin, margin + own, np.inf)
        try:
            above = predicted - hull.energy(compositions)[kind]
        except InputError:  # a composition outside the region of what is known
            return heights
        return np.where(above < margin, above, heights)

    def evaluate(self, picks: list[Pick]) -> list[tuple[Labelings, Floats]]:
        """Return batches of the picks with true energies, (n,), eV per site, and learn them."""
        groups: dict[tuple[int, ...], list[bytes]] = {}
        for pick in sorted(picks, key=lambda p: (p.hnf, p.labels)):
            groups.setdefault(pick.hnf, []).append(pick.labels)
        batches = [
            Labelings(_supercell(self.problem.parent, hnf), _rows(rows))
            for hnf, rows in groups.items()
        ]

        comm = self.problem.comm
        answers = split(len(batches), lambda i: self.ask(batches[i]), comm)
        result = list(zip(batches, answers, strict=True))
        self._judge(result)
        self.learn(result)
        self._mark(groups)
        return [(batch, values.mean(axis=1)) for batch, values in result]

    def _judge(self, result: list[tuple[Labelings, Floats]]) -> None:
        """Measure the surrogates on energies they have not learnt."""
        batches = [batch for batch, _ in result]
        table = None if self.sites is None else SiteTable.of(self.sites.basis, batches)
        truth = np.concatenate([values.mean(axis=1) for _, values in result])
        for i, ranker in enumerate(self._ranked()):
            if isinstance(ranker, Sites):
                assert table is not None
                parts = ranker.energies(table)
            else:
                parts = [ranker.energies(batch) for batch in batches]
            self.misses[i] = np.concatenate(parts) - truth
            self.errors[i] = float(np.sqrt(np.mean(self.misses[i] ** 2)))

    def _mark(self, groups: dict[tuple[int, ...], list[bytes]]) -> None:
        """Note which of this rank's labelings are known now."""
        names = {hnf: set(rows) for hnf, rows in groups.items()}
        for batch, known in zip(self.batches, self.is_known, strict=True):
            wanted = names.get(tuple(batch.supercell.hnf.ravel().tolist()))
            if wanted:
                width = np.dtype((np.void, batch.labels.shape[1]))
                rows = batch.labels.view(width).reshape(-1)
                chosen = np.frombuffer(b"".join(sorted(wanted)), dtype=width)
                known[np.isin(rows, chosen)] = True


class _Shortlist:
    """The most promising labelings of each composition on one rank, ties included."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.heights: dict[bytes, list[Floats]] = {}
        self.rows: dict[bytes, list[tuple[Labelings, npt.NDArray[np.intp]]]] = {}

    def add(
        self, batch: Labelings, kinds: tuple[Floats, npt.NDArray[np.intp]], heights: Floats
    ) -> None:
        """Take the finite heights, (n,), of a batch of some compositions into account."""
        rows = np.flatnonzero(np.isfinite(heights))
        compositions, kind = kinds
        for i in np.unique(kind[rows]).tolist():
            mine, name = rows[kind[rows] == i], compositions[i].tobytes()
            self.heights.setdefault(name, []).append(heights[mine])
            self.rows.setdefault(name, []).append((batch, mine))

    def picks(self) -> list[Pick]:
        """Return everything that can be among the `limit` first of its composition."""
        found = []
        for name, parts in self.heights.items():
            every = np.concatenate(parts)
            highest = np.sort(every)[min(self.limit, len(every)) - 1]
            for heights, (batch, rows) in zip(parts, self.rows[name], strict=True):
                hnf = tuple(batch.supercell.hnf.ravel().tolist())
                found += [
                    Pick(float(heights[k]), hnf, batch.labels[rows[k]].tobytes())
                    for k in np.flatnonzero(heights <= highest).tolist()
                ]
        return found


def _spread(picks: list[Pick], n: int, limit: int) -> list[Pick]:
    """Return the first `n`, but at most `limit` of one composition."""
    taken: dict[tuple[float, ...], int] = {}
    chosen = []
    for pick in picks:
        labels = np.frombuffer(pick.labels, dtype=np.int8)
        name = tuple(np.round(np.bincount(labels, minlength=26) / len(labels), 9).tolist())
        if taken.get(name, 0) < limit:
            taken[name] = taken.get(name, 0) + 1
            chosen.append(pick)
        if len(chosen) == n:
            break
    return chosen


def _kinds(compositions: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return the distinct rows, and which of them each row is, (n,)."""
    kinds, kind = np.unique(np.round(compositions, 9), axis=0, return_inverse=True)
    return kinds, kind.reshape(-1)


def _supercell(parent: ParentLattice, hnf: tuple[int, ...]) -> Supercell:
    from latticesearch.lattice import Supercell

    return Supercell.from_matrix(parent, np.array(hnf).reshape(3, 3))


def _rows(rows: list[bytes]) -> npt.NDArray[np.int8]:
    """Return labels, (n, n_sites), from their bytes."""
    return np.frombuffer(b"".join(rows), dtype=np.int8).reshape(len(rows), -1)


def first_picks(screen: Screen, budget: Budget, seed: int, comm: Communicator) -> list[Pick]:
    """Return what to evaluate when nothing is known: pure labelings, and random ones.

    A labeling's place in the random order depends on the labeling and the seed alone, so the
    choice is the same for any number of ranks.
    """
    widest = max((batch.labels.shape[1] for batch in screen.batches), default=0)
    random_weights = np.random.default_rng(seed).integers(2**63, size=widest, dtype=np.uint64)
    mine = []
    for batch in screen.batches:
        weights = random_weights[: batch.labels.shape[1]]
        codes = ((batch.labels.astype(np.uint64) + np.uint64(1)) * weights).sum(axis=1)
        codes = (codes ^ (codes >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        places = codes.astype(np.float64) / 2.0**64
        places[(batch.labels == batch.labels[:, :1]).all(axis=1)] = -1.0
        name = tuple(batch.supercell.hnf.ravel().tolist())
        rows = np.argsort(places, kind="stable")[: 2 * (2 * ROUNDS)]
        mine += [Pick(float(places[r]), name, batch.labels[r].tobytes()) for r in rows]
    picks = sorted(gather_blocks(sorted(mine)[: 2 * (2 * ROUNDS)], comm))
    left = min(comm.allgather(budget.left))
    n_pure = sum(pick.height < 0.0 for pick in picks)
    return picks[: int(min(n_pure + (2 * ROUNDS), left, len(picks)))]


def screen_blocks(
    problem: Problem, known: list[Block], listed: list[Block], budget: Budget, pool: CandidatePool
) -> CandidatePool:
    """Return the pool with the promising labelings of blocks.

    Parameters
    ----------
    problem
        What is searched, by whom.
    known
        Blocks whose energies are paid for: the surrogates learn from them.
    listed
        Blocks whose labelings are ranked.
    budget
        Energies that may be asked for.
    pool
        What is known.
    """
    screen = Screen(problem)
    for block in listed:
        screen.add(labelings_of(problem, block, problem.comm))
    with collective_errors(problem.comm):
        for batch in taught_labelings(problem, known):
            screen.learn([(batch, screen.ask(batch))])
    found = []
    if not screen.energies:
        picks = first_picks(screen, budget, problem.seed, problem.comm)
        found += screen.evaluate(picks)
        budget.take(len(picks))
    found += _rounds(screen, budget)
    return pool.with_batches(found, source=SOURCE, evaluations=sum(len(b) for b, _ in found))


def _rounds(screen: Screen, budget: Budget) -> list[tuple[Labelings, Floats]]:
    """Evaluate round after round what the surrogates promise, until that is nothing.

    Returns everything evaluated, with energies, (n,), eV per site; the same on all ranks.
    """
    comm, found = screen.problem.comm, []
    n_labelings = sum(comm.allgather(sum(map(len, screen.batches))))
    per_round = max(ROUNDS, int(min(budget.limit - budget.used, n_labelings)) // ROUNDS)
    confidence = CONFIDENCE
    while (left := min(comm.allgather(budget.left))) >= 1:
        picks = screen.choose(int(min(per_round, left)), confidence)
        if picks:
            found += screen.evaluate(picks)
            budget.take(len(picks))
        elif not np.isfinite(budget.limit) or confidence > 2 * CONFIDENCE:
            break
        else:
            confidence *= 1.6  # what is left of a budget goes to what is less likely
    log.debug("screening: %d energies, errors %s eV per site", budget.used, screen.errors)
    return found
