"""The active-learning loop: fit, predict, choose, ask the oracle; until the hull stands still.

The loop knows neither files nor settings. It asks three functions: one trains a potential, one
adds candidates, one answers with true energies. All ranks run it in step; what is decided is
decided on root and sent to all, so ranks never disagree.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from latticesearch.errors import InputError
from latticesearch.hull import Hull, hull_change
from latticesearch.learning.acquisition import (
    END_MEMBER,
    GRADE,
    INITIAL,
    LIKELY_DOUBT,
    Choice,
    State,
    Thresholds,
    choose,
    doubts,
    end_members,
    initial_choice,
    training_grades,
)
from latticesearch.learning.posterior import expected_errors
from latticesearch.parallel import SerialComm, on_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from latticesearch.learning.candidates import CandidateSet
    from latticesearch.parallel import Communicator
    from latticesearch.potential import Potential

log = logging.getLogger(__name__)

QUIET_SHARE = 0.25
"""A hull that moved by less than this share of the tolerance stands still: where structures are
nearly degenerate, vertices come and go without meaning anything."""

GAIN_SHARE = 0.1
"""Lowering the hull by less than this share of the tolerance is worth no calculation."""

NOTHING_LEFT = "no candidate left to check"
BUDGET_USED_UP = "the budget of oracle calculations is used up"

LIKELY_SHARE = 0.5
"""The search goes on while a usual error of the potential hides a structure that would lower the
hull by more than this share of the tolerance."""


@dataclass(frozen=True)
class LearningOptions:
    """Limits and tolerances of the loop; energies in eV/atom.

    Parameters
    ----------
    budget
        Oracle calculations, failed attempts included.
    initial
        Structures of the first training set.
    per_round
        Structures per round.
    near_hull
        Widest window above the hull in which candidates are checked.
    grade_threshold
        Extrapolation grades above this are checked.
    tolerance
        Near-hull prediction error that is good enough to stop.
    patience
        Rounds without a new vertex before the end.
    max_rounds
        Rounds at most.
    """

    budget: int = 150
    initial: int = 30
    per_round: int = 10
    near_hull: float = 0.010
    grade_threshold: float = 2.0
    tolerance: float = 0.002
    patience: int = 2
    max_rounds: int = 50


@dataclass(frozen=True, eq=False)
class Round:
    """What happened in one round; round 0 is the first training set.

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
        Root mean square error of the predictions this round checked near the hull, eV/atom;
        NaN where none was checked.
    max_grade
        Largest extrapolation grade of the candidates in the near-hull window; NaN in round 0.
    predicted, grades
        Energies, eV/atom, and grades of all candidates when the round chose, (n,); empty in
        round 0.
    stop
        Why the loop ended with this round; empty while it goes on.
    """

    number: int
    choices: tuple[Choice, ...]
    calculations: int
    vertices: tuple[str, ...]
    hull_change: float
    near_hull_error: float
    max_grade: float
    predicted: npt.NDArray[np.float64]
    grades: npt.NDArray[np.float64]
    stop: str = ""


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
    left_out: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Known:
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
    competing: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None


class Steps(Protocol):
    """What the loop needs from its caller; all ranks call all three."""

    def train(self, number: int, indices: Sequence[int], energies: Sequence[float]) -> Fitted:
        """Return the potential of round `number`, fitted to candidates and energies, eV/atom."""

    def explore(self, number: int, model: Potential, state: State) -> None:
        """Add the candidates that a search with `model` finds."""

    def label(self, number: int, choices: Sequence[Choice], limit: int) -> Answer:
        """Return the true energies of the chosen candidates, with `limit` calculations at most."""


@dataclass(eq=False)
class _Progress:
    """The loop's memory; arrays grow with the candidates."""

    candidates: CandidateSet
    budget: int
    competing: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None
    true: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    closed: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    calculations: int = 0
    quiet_rounds: int = 0
    near_hull_error: float = float("nan")
    vertices: tuple[str, ...] = ()
    hull: Hull | None = None

    @classmethod
    def start(cls, candidates: CandidateSet, budget: int, known: Known) -> _Progress:
        """Begin with what is known."""
        progress = cls(candidates, budget, known.competing, calculations=known.calculations)
        progress.grow()
        for i, energy in known.energies.items():
            progress.true[i] = energy
        progress.closed[[*known.closed, *known.energies]] = True
        return progress

    @property
    def left(self) -> int:
        """Oracle calculations that may still be spent."""
        return max(0, self.budget - self.calculations)

    def grow(self) -> None:
        """Make room for candidates found since."""
        new = len(self.candidates) - len(self.true)
        self.true = np.concatenate([self.true, np.full(new, np.nan)])
        self.closed = np.concatenate([self.closed, np.zeros(new, dtype=bool)])

    def state(self, predicted: npt.NDArray[np.float64]) -> State:
        x = self.candidates.compositions
        return State(x, predicted, self.true, self.closed, self.competing)

    def label(self, steps: Steps, number: int, choices: Sequence[Choice]) -> None:
        """Ask the oracle, within the budget, and take in what it says."""
        if choices:
            self.record(choices, steps.label(number, choices, self.left))

    def record(self, choices: Sequence[Choice], answer: Answer) -> None:
        indices = [c.index for c in choices]
        self.true[indices] = answer.energies
        self.closed[indices] = True
        self.calculations += answer.calculations

    def training(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(np.isfinite(self.true))

    def update_hull(self) -> float:
        """Recompute the hull of the oracle energies; return by how much it moved, eV/atom."""
        hull, stable = self.state(self.true).true_hull()
        change = float("nan") if self.hull is None else hull_change(self.hull, hull)
        self.hull = hull
        self.vertices = tuple(sorted(self.candidates.keys[i] for i in stable.tolist()))
        return change


def learn(
    candidates: CandidateSet,
    steps: Steps,
    start: Potential,
    options: LearningOptions,
    comm: Communicator | None = None,
    known: Known | None = None,
) -> Iterator[Round]:
    """Run the loop; yield every round when its oracle energies are in.

    Parameters
    ----------
    candidates
        The structures that compete; the loop's exploration may add to them.
    steps
        Training, exploration and the oracle.
    start
        The untrained potential, whose learning rows spread the first training set.
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
    comm, known = comm or SerialComm(), known or Known()
    progress = _Progress.start(candidates, options.budget, known)
    yield _first_round(progress, steps, start, options, comm, known.first_round)
    for number in range(1, options.max_rounds + 1):
        is_last = number == options.max_rounds
        outcome = _next_round(
            progress, steps, known.first_round + number, options, comm, is_last=is_last
        )
        yield outcome
        if outcome.stop:
            return


def _first_round(
    progress: _Progress,
    steps: Steps,
    start: Potential,
    options: LearningOptions,
    comm: Communicator,
    number: int,
) -> Round:
    """Compute the end members, then the rest of the first training set."""
    candidates = progress.candidates
    rows = candidates.learning_rows(start, comm)
    is_known = np.isfinite(progress.true)
    # A fit needs more energies than species, or it fixes no more than one energy for each.
    wanted = max(options.initial, candidates.parent.n_species + 1)
    wanted = min(wanted, int(is_known.sum()) + progress.left)
    x, sites, closed = candidates.compositions, candidates.n_sites, progress.closed
    choices = on_root(comm, initial_choice, rows, x, sites, wanted, is_known, closed)
    ends = [c for c in choices if c.reason == END_MEMBER]
    require_budget(options.budget, progress.calculations, len(ends))
    progress.label(steps, number, ends)
    _require_end_members(progress)
    # Attempts at end members that failed have used up some of the budget.
    others = [c for c in choices if c.reason == INITIAL][: progress.left]
    progress.label(steps, number, others)
    return _without_predictions(progress, number, [*ends, *others])


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


def _without_predictions(
    progress: _Progress, number: int, choices: Sequence[Choice], stop: str = ""
) -> Round:
    """Return a round in which no potential was fitted."""
    nothing = np.zeros(0)
    return Round(
        number,
        tuple(choices),
        progress.calculations,
        hull_change=progress.update_hull(),
        vertices=progress.vertices,
        near_hull_error=progress.near_hull_error,
        max_grade=float("nan"),
        predicted=nothing,
        grades=nothing,
        stop=stop,
    )


def _require_end_members(progress: _Progress) -> None:
    """Without the energy of every end member there is no formation energy and no hull.

    Raises
    ------
    RuntimeError
        The oracle failed on one, or left it without an energy.
    """
    x = progress.candidates.compositions
    known = np.isfinite(progress.true)
    order = np.argsort(~known, kind="stable")
    missing = [int(order[i]) for i in end_members(x[order]) if not known[order[i]]]
    if missing:
        names = ", ".join(progress.candidates.configuration(i).formula for i in missing)
        message = (
            f"the oracle gave no energy for the end member {names}; "
            "without it there is no formation energy (latticesearch status RUN --failed says why, "
            "latticesearch run RUN --retry-failed tries again)"
        )
        raise RuntimeError(message)


def _next_round(
    progress: _Progress,
    steps: Steps,
    number: int,
    options: LearningOptions,
    comm: Communicator,
    *,
    is_last: bool,
) -> Round:
    """Fit, predict, choose, and label what was chosen.

    The last round labels nothing where the budget is used up: the potential, the predictions and
    the tables then follow from all that was paid for.
    """
    training = progress.training()
    try:
        fitted = steps.train(number, training.tolist(), progress.true[training].tolist())
    except InputError:
        if len(training) > progress.candidates.parent.n_species:
            raise
        # So few energies are all there are; what is known of them is a result nevertheless.
        stop = NOTHING_LEFT if progress.left else BUDGET_USED_UP
        return _without_predictions(progress, number, [], stop)
    model = fitted.model
    predicted = progress.candidates.energies(model, comm)
    steps.explore(number, model, progress.state(predicted))
    progress.grow()
    predicted = progress.candidates.energies(model, comm)
    rows = progress.candidates.learning_rows(model, comm)
    state = progress.state(predicted)
    decision = on_root(comm, _decide, state, rows, training, fitted.left_out, options)
    stop = _reason_to_stop(progress, decision, options)
    choices = [] if stop else decision.choices[: progress.left]
    progress.label(steps, number, choices)
    change = 0.0 if stop else _close_round(progress, choices, predicted, options)
    return Round(
        number,
        tuple(choices),
        progress.calculations,
        progress.vertices,
        hull_change=change,
        near_hull_error=progress.near_hull_error,
        max_grade=decision.max_grade,
        predicted=predicted,
        grades=decision.grades,
        stop=stop or ("the last allowed round" if is_last else ""),
    )


@dataclass(frozen=True, eq=False)
class _Decision:
    """What root decides in a round."""

    choices: list[Choice]
    grades: npt.NDArray[np.float64]
    max_grade: float
    """Near the hull."""
    depth: float
    """How far the predictions would lower the hull of the oracle's energies, eV/atom."""
    n_likely: int
    """Candidates that a usual error of the potential could make stable."""


def _decide(
    state: State,
    rows: npt.NDArray[np.float64],
    training: npt.NDArray[np.intp],
    left_out: npt.NDArray[np.float64],
    options: LearningOptions,
) -> _Decision:
    """Judge all candidates and choose."""
    grades = training_grades(rows, training)
    expected = expected_errors(rows, state.compositions, training, left_out)
    thresholds = Thresholds(
        options.near_hull, GAIN_SHARE * options.tolerance, options.grade_threshold
    )
    choices = choose(state, expected, grades, rows, thresholds, options.per_round)
    hull, _ = state.mixed_hull()
    above = hull.energy_above_hull(state.compositions, state.predicted)
    worth = replace(thresholds, gain=LIKELY_SHARE * options.tolerance)
    likely = doubts(state, above, expected, worth) < LIKELY_DOUBT
    return _Decision(
        choices,
        grades,
        max_grade=float(grades[above < options.near_hull].max(initial=0.0)),
        depth=hull_change(state.true_hull()[0], hull),
        n_likely=int(likely.sum()),
    )


def _reason_to_stop(progress: _Progress, decision: _Decision, options: LearningOptions) -> str:
    """Return why there is nothing more to ask, or an empty string."""
    if not decision.choices:
        return NOTHING_LEFT
    settled = progress.quiet_rounds >= options.patience
    accurate = progress.near_hull_error <= options.tolerance
    agreed = decision.depth <= QUIET_SHARE * options.tolerance and decision.n_likely == 0
    if settled and accurate and agreed:
        return "the hull stands still"
    return "" if progress.left else BUDGET_USED_UP


def _close_round(
    progress: _Progress,
    choices: Sequence[Choice],
    predicted: npt.NDArray[np.float64],
    options: LearningOptions,
) -> float:
    """Update the hull, the near-hull error and the count of quiet rounds; return the change."""
    near = [c.index for c in choices if c.reason != GRADE]
    errors = predicted[near] - progress.true[near]
    errors = errors[np.isfinite(errors)]
    if len(errors):
        progress.near_hull_error = float(np.sqrt(np.mean(errors**2)))
    change = progress.update_hull()
    is_quiet = change <= QUIET_SHARE * options.tolerance
    progress.quiet_rounds = progress.quiet_rounds + 1 if is_quiet else 0
    log.debug("hull lowered by %.2e eV/atom, %d quiet rounds", change, progress.quiet_rounds)
    return change
