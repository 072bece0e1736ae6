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
    initial_choice,
    training_grades,
)
from latticesearch.learning.posterior import expected_errors
from latticesearch.parallel import SerialComm, on_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        Oracle calculations spent, failed attempts included.
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


class Steps(Protocol):
    """What the loop needs from its caller; all ranks call all three."""

    def train(self, number: int, indices: Sequence[int], energies: Sequence[float]) -> Fitted:
        """Return the potential of round `number`, fitted to candidates and energies, eV/atom."""

    def explore(self, number: int, model: Potential, state: State) -> None:
        """Add the candidates that a search with `model` finds."""

    def label(self, number: int, choices: Sequence[Choice]) -> Answer:
        """Return the true energies of the chosen candidates."""


@dataclass(eq=False)
class _Progress:
    """The loop's memory; arrays grow with the candidates."""

    candidates: CandidateSet
    true: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    closed: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    calculations: int = 0
    quiet_rounds: int = 0
    near_hull_error: float = float("nan")
    vertices: tuple[str, ...] = ()
    hull: Hull | None = None

    def grow(self) -> None:
        """Make room for candidates found since."""
        new = len(self.candidates) - len(self.true)
        self.true = np.concatenate([self.true, np.full(new, np.nan)])
        self.closed = np.concatenate([self.closed, np.zeros(new, dtype=bool)])

    def state(self, predicted: npt.NDArray[np.float64]) -> State:
        return State(self.candidates.compositions, predicted, self.true, self.closed)

    def record(self, choices: Sequence[Choice], answer: Answer) -> None:
        indices = [c.index for c in choices]
        self.true[indices] = answer.energies
        self.closed[indices] = True
        self.calculations += answer.calculations

    def training(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(np.isfinite(self.true))

    def update_hull(self) -> float:
        """Recompute the hull of the oracle energies; return by how much it moved, eV/atom."""
        hull, known = self.state(self.true).true_hull()
        change = float("nan") if self.hull is None else hull_change(self.hull, hull)
        self.hull = hull
        self.vertices = tuple(sorted(self.candidates.keys[known[v]] for v in hull.vertices))
        return change


def learn(
    candidates: CandidateSet,
    steps: Steps,
    start: Potential,
    options: LearningOptions,
    comm: Communicator | None = None,
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
    """
    comm = comm or SerialComm()
    progress = _Progress(candidates)
    yield _first_round(progress, steps, start, options, comm)
    for number in range(1, options.max_rounds + 1):
        outcome = _next_round(progress, steps, number, options, comm)
        yield outcome
        if outcome.stop:
            return


def _first_round(
    progress: _Progress,
    steps: Steps,
    start: Potential,
    options: LearningOptions,
    comm: Communicator,
) -> Round:
    """Compute the end members, then the rest of the first training set."""
    progress.grow()
    rows = progress.candidates.learning_rows(start, comm)
    sites = progress.candidates.n_sites
    number = min(options.initial, options.budget)
    x = progress.candidates.compositions
    choices = on_root(comm, initial_choice, rows, x, sites, number)
    for reason in (END_MEMBER, INITIAL):
        part = [c for c in choices if c.reason == reason]
        if part:
            progress.record(part, steps.label(0, part))
        if reason == END_MEMBER:
            _require_end_members(progress, part)
    change = progress.update_hull()
    nothing = np.zeros(0)
    return Round(
        0,
        tuple(choices),
        progress.calculations,
        progress.vertices,
        hull_change=change,
        near_hull_error=float("nan"),
        max_grade=float("nan"),
        predicted=nothing,
        grades=nothing,
    )


def _require_end_members(progress: _Progress, choices: Sequence[Choice]) -> None:
    """Without the energy of every end member there is no formation energy and no hull."""
    failed = [c.index for c in choices if not np.isfinite(progress.true[c.index])]
    if failed:
        names = ", ".join(progress.candidates.configuration(i).formula for i in failed)
        message = (
            f"the oracle gave no energy for the end member {names}; "
            "without it there is no formation energy (see the failed rows of oracle.db)"
        )
        raise RuntimeError(message)


def _next_round(
    progress: _Progress,
    steps: Steps,
    number: int,
    options: LearningOptions,
    comm: Communicator,
) -> Round:
    """Fit, predict, choose, and label what was chosen."""
    training = progress.training()
    fitted = steps.train(number, training.tolist(), progress.true[training].tolist())
    model = fitted.model
    predicted = progress.candidates.energies(model, comm)
    steps.explore(number, model, progress.state(predicted))
    progress.grow()
    predicted = progress.candidates.energies(model, comm)
    rows = progress.candidates.learning_rows(model, comm)
    state = progress.state(predicted)
    decision = on_root(comm, _decide, state, rows, training, fitted.left_out, options)
    choices = decision.choices
    stop = _reason_to_stop(progress, decision, options)
    if not stop:
        choices = choices[: options.budget - progress.calculations]
        progress.record(choices, steps.label(number, choices))
    change = 0.0 if stop else _close_round(progress, choices, predicted, options)
    return Round(
        number,
        () if stop else tuple(choices),
        progress.calculations,
        progress.vertices,
        hull_change=change,
        near_hull_error=progress.near_hull_error,
        max_grade=decision.max_grade,
        predicted=predicted,
        grades=decision.grades,
        stop=stop or _limit(progress, number, options),
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
        return "no candidate left to check"
    settled = progress.quiet_rounds >= options.patience
    accurate = progress.near_hull_error <= options.tolerance
    agreed = decision.depth <= QUIET_SHARE * options.tolerance and decision.n_likely == 0
    if settled and accurate and agreed:
        return "the hull stands still"
    return ""


def _limit(progress: _Progress, number: int, options: LearningOptions) -> str:
    """Return which limit was reached, or an empty string."""
    if progress.calculations >= options.budget:
        return "the budget of oracle calculations is used up"
    return "the last allowed round" if number == options.max_rounds else ""


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
