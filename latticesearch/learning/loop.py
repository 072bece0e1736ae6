"""The active-learning loop: what is known, what that says, what to ask the oracle; until an end.

The loop knows neither files nor settings. It asks three functions: one trains a potential, one
adds candidates, one answers with true energies. All ranks run it in step; what is decided is
decided on root and sent to all, so ranks never disagree.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from latticesearch.energies import sites_per_atom
from latticesearch.errors import InputError
from latticesearch.hull import Hull, hull_change, hull_with
from latticesearch.learning.adviser import Adviser, Known
from latticesearch.learning.choices import DILUTE, END_MEMBER, Choice, end_members
from latticesearch.learning.cluster_energies import ClusterEnergies
from latticesearch.learning.ending import BUDGET
from latticesearch.learning.pool import SharedPool, pool_of
from latticesearch.learning.priors import cluster_priors, default_features
from latticesearch.learning.selection import training_grades
from latticesearch.parallel import SerialComm, on_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from latticesearch.learning.candidates import CandidateSet
    from latticesearch.learning.ending import End
    from latticesearch.parallel import Communicator
    from latticesearch.potential import Potential

    Floats = npt.NDArray[np.float64]
    Points = tuple[Floats, Floats]

log = logging.getLogger(__name__)

NEXT = 10
"""Calculations that an end names because they would come next."""

ROUNDS = "the allowed rounds are"


@dataclass(frozen=True)
class LearningOptions:
    """Limits and tolerances of the loop.

    Parameters
    ----------
    budget
        Oracle calculations, failed attempts included.
    per_round
        Structures per round.
    tolerance
        Distance of hulls that matters, eV/atom.
    max_rounds
        Rounds at most; default as many as the budget takes.
    chooses_model
        The search goes by the better one of potential and posterior, by left-out errors; else by
        the potential as soon as there is one.
    seed
        Of the potentials that may be the true one, which the search looks at as well.
    """

    budget: int = 150
    per_round: int = 4
    tolerance: float = 0.001
    max_rounds: int | None = None
    chooses_model: bool = True
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Forecast:
    """What was thought of all candidates when a round chose; arrays are (n,).

    Parameters
    ----------
    predicted
        Energies of the potential, eV/atom; NaN where there is none yet.
    expected, spreads
        Energies of the posterior and their standard deviations, eV/atom.
    stable
        Probability to be a vertex of the true hull; NaN of what failed.
    grades
        Extrapolation grades; NaN without a potential, and of what no calculation could be worth.
    errors
        Left-out errors of potential and posterior, eV/atom, root mean square; NaN where unknown.
    """

    predicted: Floats
    expected: Floats
    spreads: Floats
    stable: Floats
    grades: Floats
    errors: tuple[float, float]

    @property
    def best(self) -> Floats:
        """Energies of the better one of the two, (n,), eV/atom."""
        return self.predicted if _is_potential_better(self.errors) else self.expected


@dataclass(frozen=True, eq=False)
class Round:
    """What happened in one round; round 0 asks for the end members.

    Parameters
    ----------
    number
        Counted from 0.
    choices
        The structures asked for, with the reasons.
    calculations
        Oracle calculations so far.
    vertices
        Keys of the stable structures, by the oracle's energies.
    hull_change
        Largest distance between the hulls before and after this round, eV/atom.
    near_hull_error
        Root mean square error of the predictions this round checked, eV/atom; NaN where none was
        checked.
    missing
        How likely it was, when the round chose, that the hull misses something by more than the
        tolerance; NaN in round 0.
    distance
        Expected largest distance to the true hull at the same time, eV/atom.
    forecast
        What was thought of all candidates; None in round 0.
    end
        Why the loop ended with this round; None while it goes on.
    following
        What would have been asked next where it ended.
    """

    number: int
    choices: tuple[Choice, ...]
    calculations: int
    vertices: tuple[str, ...]
    hull_change: float
    near_hull_error: float = float("nan")
    missing: float = float("nan")
    distance: float = float("nan")
    forecast: Forecast | None = None
    end: End | None = None
    following: tuple[Choice, ...] = ()

    @property
    def stop(self) -> str:
        """Why the loop ended with this round, for people; empty while it goes on."""
        return "" if self.end is None else self.end.message


@dataclass(frozen=True)
class Answer:
    """The oracle's answer to a list of structures.

    Parameters
    ----------
    energies
        eV/atom, in the order asked; NaN where every attempt failed.
    calculations
        Oracle calculations spent on them, failed attempts included.
    """

    energies: Sequence[float]
    calculations: int


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained potential.

    Parameters
    ----------
    model
        The potential.
    left_out
        Its estimated error on each training structure had that been left out, in the order of
        training, eV per site.
    """

    model: Potential
    left_out: Floats


@dataclass(frozen=True, eq=False)
class Beginning:
    """What is known before the loop begins.

    Parameters
    ----------
    energies
        eV/atom of candidates by index: part of training and hull from the start.
    closed
        Candidates that are never asked, known ones included.
    calculations
        Oracle calculations that count already.
    first_round
        Number of the first round.
    competing
        Compositions, (p, n_elements), and energies, (p,) eV/atom, of phases that are no
        candidates: part of the hull, never of training.
    """

    energies: Mapping[int, float] = field(default_factory=dict)
    closed: frozenset[int] = frozenset()
    calculations: int = 0
    first_round: int = 0
    competing: Points | None = None


class Steps(Protocol):
    """What the loop needs from its caller; all ranks call all of it."""

    @property
    def explores(self) -> bool:
        """Whether there are structures that only a search can find."""

    def train(
        self, number: int, indices: Sequence[int], energies: Sequence[float]
    ) -> Fitted | None:
        """Return the potential of round `number`, fitted to candidates and energies, eV/atom.

        None where that is too little to fit anything to.
        """

    def explore(
        self, number: int, model: Potential | None, draw: ClusterEnergies, hull: Hull
    ) -> None:
        """Add the candidates that searches find.

        Parameters
        ----------
        number
            Of the round.
        model
            The best that is known of the energies; None where nothing but end members is known.
        draw
            Energies that may be the true ones as well as those expected.
        hull
            Of the best that is known of all candidates, eV/atom.
        """

    def label(self, number: int, choices: Sequence[Choice], limit: int) -> Answer:
        """Return the true energies of the chosen candidates, with `limit` calculations at most."""


@dataclass(eq=False)
class _Progress:
    """The loop's memory; arrays grow with the candidates."""

    pool: SharedPool
    options: LearningOptions
    competing: Points | None = None
    true: Floats = field(default_factory=lambda: np.zeros(0))
    closed: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    calculations: int = 0
    near_hull_error: float = float("nan")
    vertices: tuple[str, ...] = ()
    hull: Hull | None = None

    @classmethod
    def start(cls, pool: SharedPool, options: LearningOptions, known: Beginning) -> _Progress:
        """Begin with what is known."""
        progress = cls(pool, options, known.competing, calculations=known.calculations)
        progress.grow()
        for i, energy in known.energies.items():
            progress.true[i] = energy
        progress.closed[[*known.closed, *known.energies]] = True
        return progress

    @property
    def candidates(self) -> CandidateSet:
        """The structures that compete."""
        return self.pool.candidates

    @property
    def left(self) -> int:
        """Oracle calculations that may still be spent."""
        return max(0, self.options.budget - self.calculations)

    def grow(self) -> bool:
        """Make room for candidates found since; return whether there are any."""
        self.pool.grow()
        new = len(self.candidates) - len(self.true)
        self.true = np.concatenate([self.true, np.full(new, np.nan)])
        self.closed = np.concatenate([self.closed, np.zeros(new, dtype=bool)])
        return new > 0

    def adviser(self, second: tuple[Floats, float] | None = None) -> Adviser:
        """Return who says what the energies so far mean; `second` is as in `Adviser`."""
        indices = self.training()
        given_up = np.flatnonzero(self.closed & ~np.isfinite(self.true))
        known = Known(indices, self.true[indices], closed=given_up, competing=self.competing)
        priors = partial(cluster_priors, self.pool.functions)
        tolerance, comm = self.options.tolerance, self.pool.comm
        return Adviser(self.pool, known, priors, tolerance, second=second, comm=comm)

    def label(self, steps: Steps, number: int, choices: Sequence[Choice]) -> None:
        """Ask the oracle, within the budget, and take in what it says."""
        if not choices:
            return
        answer = steps.label(number, choices, self.left)
        indices = [c.index for c in choices]
        self.true[indices] = answer.energies
        self.closed[indices] = True
        self.calculations += answer.calculations

    def training(self) -> npt.NDArray[np.intp]:
        """Return the candidates whose energies are known, (m,)."""
        return np.flatnonzero(np.isfinite(self.true))

    def update_hull(self) -> float:
        """Recompute the hull of the oracle energies; return by how much it moved, eV/atom."""
        usable = self.training()
        x, energies = self.pool.compositions[usable], self.true[usable]
        hull = hull_with(x, energies, self.competing)
        change = float("nan") if self.hull is None else hull_change(self.hull, hull)
        self.hull = hull
        stable = usable[hull.vertices[hull.vertices < len(usable)]]
        self.vertices = tuple(sorted(self.candidates.keys[i] for i in stable.tolist()))
        return change

    def expected_hull(self, predicted: Floats) -> Hull:
        """Return the hull of true energies, and of predicted ones, (n,), where there are none."""
        best = np.where(np.isfinite(self.true), self.true, predicted)
        usable = np.flatnonzero(np.isfinite(best) & (np.isfinite(self.true) | ~self.closed))
        return hull_with(self.pool.compositions[usable], best[usable], self.competing)


def learn(
    candidates: CandidateSet,
    steps: Steps,
    options: LearningOptions,
    comm: Communicator | None = None,
    known: Beginning | None = None,
) -> Iterator[Round]:
    """Run the loop; yield every round when its oracle energies are in.

    Parameters
    ----------
    candidates
        The structures that compete; the loop's exploration may add to them.
    steps
        Training, exploration and the oracle.
    options
        Limits and tolerances.
    comm
        The ranks that call this together.
    known
        What is known already; default nothing.

    Raises
    ------
    InputError
        The budget does not reach for the end members that have to be computed.
    """
    known = known or Beginning()
    pool = pool_of(candidates, default_features(candidates.parent), comm or SerialComm())
    progress = _Progress.start(pool, options, known)
    yield _first_round(progress, steps, known.first_round)
    end, n = None, 0
    while end is None:
        n += 1
        is_last = options.max_rounds is not None and n > options.max_rounds
        outcome = _next_round(progress, steps, known.first_round + n, is_last=is_last)
        end = outcome.end
        yield outcome


def _first_round(progress: _Progress, steps: Steps, number: int) -> Round:
    """Compute the end members: without them there is no formation energy."""
    candidates = progress.candidates
    order = np.argsort(candidates.n_sites, kind="stable")
    is_known = np.isfinite(progress.true)
    rows = end_members(progress.pool.compositions[order], is_known[order])
    wanted = [int(order[row]) for row in rows]
    choices = [Choice(i, 0.0, END_MEMBER) for i in wanted if not progress.closed[i]]
    require_budget(progress.options.budget, progress.calculations, len(choices))
    progress.label(steps, number, choices)
    _require_end_members(progress, wanted)
    change = progress.update_hull()
    return Round(number, tuple(choices), progress.calculations, progress.vertices, change)


def require_budget(budget: int, spent: int, n_ends: int) -> None:
    """Refuse, before anything is paid for, a budget without any formation energy.

    Parameters
    ----------
    budget, spent
        Oracle calculations in all, and those that have been made.
    n_ends
        End members to compute.

    Raises
    ------
    InputError
        What is left is less.
    """
    if n_ends > max(0, budget - spent):
        before = f", {spent} of them spent" if spent else ""
        raise InputError(
            f"learning.budget = {budget} calculations{before}; {n_ends} end members have to "
            f"be computed first; set it to at least {spent + n_ends}"
        )


def _require_end_members(progress: _Progress, wanted: Sequence[int]) -> None:
    """Without the energy of every end member there is no formation energy and no hull.

    Raises
    ------
    RuntimeError
        The oracle failed on one, or left it without an energy.
    """
    missing = [i for i in wanted if not np.isfinite(progress.true[i])]
    if missing:
        names = ", ".join(progress.candidates.configuration(i).formula for i in missing)
        message = (
            f"the oracle gave no energy for the end member {names}; "
            "without it there is no formation energy (latticesearch status RUN --failed says why, "
            "latticesearch run RUN --retry-failed tries again)"
        )
        raise RuntimeError(message)


def _next_round(progress: _Progress, steps: Steps, number: int, *, is_last: bool) -> Round:
    """Fit, search, choose, and label what was chosen.

    The last round labels nothing: potential, predictions and tables then follow from all that was
    paid for.
    """
    training = progress.training()
    fitted = steps.train(number, training.tolist(), progress.true[training].tolist())
    adviser = progress.adviser()
    errors = _errors(progress, adviser, fitted, training)
    if steps.explores:
        _explore(progress, steps, number, adviser, fitted, errors)
        progress.grow()
    predicted = _predicted(progress, fitted)
    adviser = progress.adviser(_second(predicted, errors))
    expected, spreads = adviser.predict_all()
    # The survey of the candidates is made by all ranks; what follows, by root.
    _ = adviser.worth
    limits = (0, ROUNDS) if is_last else (progress.left, BUDGET)
    decision = on_root(progress.pool.comm, _decide, progress, adviser, fitted, limits)
    forecast = Forecast(predicted, expected, spreads, decision.stable, decision.grades, errors)
    progress.label(steps, number, decision.choices)
    change = _close_round(progress, decision.choices, forecast.best) if decision.choices else 0.0
    return Round(
        number,
        tuple(decision.choices),
        progress.calculations,
        progress.vertices,
        change,
        progress.near_hull_error,
        decision.missing,
        decision.distance,
        forecast,
        decision.end,
        tuple(decision.following),
    )


def _errors(
    progress: _Progress, adviser: Adviser, fitted: Fitted | None, training: npt.NDArray[np.intp]
) -> tuple[float, float]:
    """Return the left-out errors of potential and posterior, eV/atom, on the same structures."""
    others = ~adviser.is_end
    if not others.any():
        return float("nan"), float("nan")
    own = _rms(adviser.posterior.left_out.errors)
    if fitted is None:
        return float("nan"), own
    per_atom = np.empty(len(training))
    for batch, where in progress.candidates.subset(training.tolist()):
        per_atom[where] = fitted.left_out[where] * sites_per_atom(batch)
    return _rms(per_atom[others]), own


def _second(predicted: Floats, errors: tuple[float, float]) -> tuple[Floats, float] | None:
    """Return the opinion of a potential, which counts by its left-out error; None without one."""
    squares = np.square(errors)
    return (predicted, float(squares[1] / squares.sum())) if squares.sum() > 0.0 else None


def _rms(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _is_potential_better(errors: tuple[float, float]) -> bool:
    """Return which left-out error is smaller; one that is not known is larger than any."""
    potential, posterior = errors
    return np.isfinite(potential) and not potential > posterior


def _predicted(progress: _Progress, fitted: Fitted | None) -> Floats:
    """Return the potential's energies of all candidates, (n,), eV/atom; NaN without one."""
    if fitted is None:
        return np.full(len(progress.candidates), np.nan)
    return progress.candidates.energies(fitted.model, progress.pool.comm)


def _explore(
    progress: _Progress,
    steps: Steps,
    number: int,
    adviser: Adviser,
    fitted: Fitted | None,
    errors: tuple[float, float],
) -> None:
    """Let searches look for candidates where not all structures are enumerated.

    They go by the best that is known of the energies, and by one draw of what they may be: it
    finds what would be stable if the truth were not what is expected, from the first round on.
    """
    comm, posterior = progress.pool.comm, adviser.posterior
    rng = np.random.default_rng([progress.options.seed, number])
    mean, draw = on_root(comm, lambda: (posterior.coefficients, posterior.draw(rng)))
    expected, drawn = (
        ClusterEnergies.of(progress.pool.functions, c, adviser.reference, adviser.end_energies)
        for c in (mean, draw)
    )
    model: Potential | None = expected if adviser.evidence.number else None
    if fitted is not None and _goes_by_potential(progress, errors):
        model, energies = fitted.model, _predicted(progress, fitted)
    else:
        energies, _ = adviser.predict_all()
    steps.explore(number, model, drawn, progress.expected_hull(energies))


def _goes_by_potential(progress: _Progress, errors: tuple[float, float]) -> bool:
    """Return whether the search goes by the potential, not by the posterior, and say so."""
    if not progress.options.chooses_model:
        return True
    is_better = _is_potential_better(errors)
    if progress.pool.comm.rank == 0:
        log.info(
            "search by the %s: left-out errors %.2f (potential) and %.2f (posterior) meV/atom",
            *("potential" if is_better else "posterior", 1e3 * errors[0], 1e3 * errors[1]),
        )
    return is_better


@dataclass(frozen=True, eq=False)
class _Decision:
    """What root decides in a round."""

    choices: list[Choice]
    following: list[Choice]
    stable: Floats
    grades: Floats
    missing: float
    distance: float
    end: End | None


def _decide(
    progress: _Progress, adviser: Adviser, fitted: Fitted | None, limits: tuple[int, str]
) -> _Decision:
    """Judge all candidates and choose; `limits` are what is left, and of what."""
    options, end, left = progress.options, adviser.end(*limits), limits[0]
    number = NEXT if end is not None else min(options.per_round, left)
    choices = adviser.next_calculations(number)
    return _Decision(
        choices if end is None else [],
        [] if end is None else choices,
        adviser.stable,
        _grades(progress, adviser, fitted),
        adviser.outlook.missing(options.tolerance),
        adviser.outlook.distance,
        end,
    )


def _grades(progress: _Progress, adviser: Adviser, fitted: Fitted | None) -> Floats:
    """Return the extrapolation grades, (n,), of what is known or worth a thought, else NaN."""
    grades = np.full(len(progress.candidates), np.nan)
    if fitted is not None:
        known = adviser.known.indices
        indices = np.concatenate([known, np.sort(adviser.outlook.indices)])
        rows = progress.candidates.learning_rows_of(fitted.model, indices)
        grades[indices] = training_grades(rows, np.arange(len(known)))
    return grades


def _close_round(progress: _Progress, choices: Sequence[Choice], predicted: Floats) -> float:
    """Update the hull and the error of what was checked; return the change."""
    indices = [c.index for c in choices if c.reason != DILUTE]
    errors = predicted[indices] - progress.true[indices]
    errors = errors[np.isfinite(errors)]
    if len(errors):
        progress.near_hull_error = _rms(errors)
    change = progress.update_hull()
    log.debug("hull lowered by %.2e eV/atom", change)
    return change
