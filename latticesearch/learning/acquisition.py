"""Which structures the oracle computes next.

Three reasons, in this order: a candidate would be a vertex of the hull if its prediction were
true ("vertex"); it lies so close above the hull that the potential cannot tell ("near hull"); it
is unlike everything computed so far ("grade"). The order and the shares are this project's own
choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.hull import Hull, hull_with
from latticesearch.learning.selection import ActiveSet, effective_rows
from latticesearch.learning.spreads import spread_out

if TYPE_CHECKING:
    import numpy.typing as npt

END_MEMBER = "end member"
INITIAL = "initial"
VERTEX = "vertex"
NEAR_HULL = "near hull"
GRADE = "grade"

EXPLORATION_SHARE = 0.3
"""Part of a round kept for high grades while there are any near the hull."""

MAX_DOUBT = 2.0
"""Candidates this many expected errors away from lowering the hull are left alone."""

LIKELY_DOUBT = 1.0
"""The search does not end while a candidate is closer than this many expected errors."""

EXPLORATION_WINDOW = 5.0
"""Grades matter up to this many near-hull windows above the hull: structures far above it are
never stable, whatever the potential says of them."""


@dataclass(frozen=True)
class Choice:
    """One structure for the oracle and the reason it was chosen."""

    index: int
    reason: str


def initial_choice(
    rows: npt.NDArray[np.float64],
    compositions: npt.NDArray[np.float64],
    n_sites: npt.NDArray[np.intp],
    number: int,
    known: npt.NDArray[np.bool_] | None = None,
    closed: npt.NDArray[np.bool_] | None = None,
) -> list[Choice]:
    """Choose the first training set.

    First the end members, without which there is no formation energy. Then all structures of
    the smallest cells, size by size, as far as they fit: they are cheap for the oracle and few
    prototypes are more common. What is left is spread over the larger cells.

    Parameters
    ----------
    rows
        Learning rows of the untrained potential, (n, m); see `CandidateSet.learning_rows`.
    compositions
        Atomic fractions, (n, n_elements).
    n_sites
        Sites of the primitive cells, (n,).
    number
        Structures wanted, known ones included; end members are chosen whatever it says.
    known
        Whose energy is known already, (n,): part of the set, not chosen again.
    closed
        Not to be asked, known or not, (n,).
    """
    nothing = np.zeros(len(n_sites), dtype=bool)
    known = nothing if known is None else known
    closed = known if closed is None else closed | known
    order = np.argsort(n_sites, kind="stable")
    every_end = [int(order[i]) for i in end_members(compositions[order])]
    ends = [i for i in every_end if not closed[i]]
    rest = np.setdiff1d(order[~closed[order]], every_end)
    room = number - int(known.sum()) - len(ends)
    small: list[int] = []
    for size in np.unique(n_sites):
        of_size = [int(i) for i in rest[n_sites[rest] == size]]
        if len(small) + len(of_size) > room:
            break
        small += of_size
    left = np.setdiff1d(rest, small)
    anchors = [*np.union1d(every_end, np.flatnonzero(known)).tolist(), *small]
    spread = spread_out(rows, anchors, left, max(0, room - len(small)))
    return [Choice(i, END_MEMBER) for i in ends] + [Choice(i, INITIAL) for i in small + spread]


def end_members(compositions: npt.NDArray[np.float64]) -> list[int]:
    """Return the first row at each extreme point of the composition space."""
    unique, first = np.unique(compositions.round(12), axis=0, return_index=True)
    extreme = Hull(unique, np.zeros(len(unique))).end_members
    return sorted(int(first[i]) for i in extreme)


@dataclass(frozen=True, eq=False)
class State:
    """What is known when a round begins; arrays over all candidates.

    Parameters
    ----------
    compositions
        Atomic fractions, (n, n_elements).
    predicted
        Energies of the potential, (n,), eV/atom.
    true
        Oracle energies, (n,), eV/atom, NaN where there is none.
    closed
        True where the oracle was asked, with or without success, (n,).
    competing
        Compositions, (p, n_elements), and energies, (p,) eV/atom, of phases that are no
        candidates: part of every hull.
    """

    compositions: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.float64]
    true: npt.NDArray[np.float64]
    closed: npt.NDArray[np.bool_]
    competing: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None

    @property
    def best(self) -> npt.NDArray[np.float64]:
        """The best knowledge of each energy: the oracle's, else the potential's, (n,), eV/atom.

        Candidates the oracle failed on have neither: infinity keeps them off the hull.
        """
        known = np.isfinite(self.true)
        return np.where(known, self.true, np.where(self.closed, np.inf, self.predicted))

    def true_hull(self) -> tuple[Hull, npt.NDArray[np.intp]]:
        """Return the hull of the oracle energies and its vertices among the candidates."""
        return self._hull(self.true)

    def mixed_hull(self) -> tuple[Hull, npt.NDArray[np.intp]]:
        """Return the hull of the best knowledge and its vertices among the candidates."""
        return self._hull(self.best)

    def _hull(self, energies: npt.NDArray[np.float64]) -> tuple[Hull, npt.NDArray[np.intp]]:
        """Return the hull of finite energies with the competing phases, and its vertices."""
        usable = np.flatnonzero(np.isfinite(energies))
        hull = hull_with(self.compositions[usable], energies[usable], self.competing)
        return hull, usable[hull.vertices[hull.vertices < len(usable)]]


@dataclass(frozen=True)
class Thresholds:
    """What makes a candidate worth an oracle calculation; energies in eV/atom.

    Parameters
    ----------
    window
        Candidates higher above the hull than this are never near it.
    gain
        Lowering of the hull that matters; less is not worth a calculation.
    grade
        Candidates with larger extrapolation grades extrapolate.
    """

    window: float
    gain: float
    grade: float


def choose(
    state: State,
    spread: npt.NDArray[np.float64],
    grades: npt.NDArray[np.float64],
    rows: npt.NDArray[np.float64],
    thresholds: Thresholds,
    number: int,
) -> list[Choice]:
    """Choose up to `number` structures for the next round.

    Parameters
    ----------
    state
        Energies known and predicted.
    spread
        Expected error of each prediction, (n,), eV/atom.
    grades
        Extrapolation grades, (n,).
    rows
        Learning rows, (n, m), for the diversity of what is chosen by grade.
    thresholds
        What is worth a calculation.
    number
        Oracle calculations of the round.
    """
    hull, stable = state.mixed_hull()
    above = hull.energy_above_hull(state.compositions, state.predicted)
    is_open = ~state.closed
    wide = is_open & (above < EXPLORATION_WINDOW * thresholds.window)
    unlike = np.flatnonzero(wide & (grades > thresholds.grade))
    exploring = min(len(unlike), int(np.ceil(EXPLORATION_SHARE * number)))

    vertices = [int(i) for i in stable if is_open[i]]
    chosen = _deepest(vertices, state, thresholds.gain)[: number - exploring]
    doubt = doubts(state, above, spread, thresholds)
    near = np.flatnonzero(doubt < MAX_DOUBT)
    near = np.setdiff1d(near, [c.index for c in chosen])
    ordered = _best_of_each_composition_first(near, state, doubt)
    chosen += [Choice(int(i), NEAR_HULL) for i in ordered[: number - exploring - len(chosen)]]
    taken = [c.index for c in chosen]
    anchors = [*np.flatnonzero(state.closed).tolist(), *taken]
    extra = spread_out(rows, anchors, np.setdiff1d(unlike, taken), number - len(chosen))
    return chosen + [Choice(i, GRADE) for i in extra]


def doubts(
    state: State,
    above: npt.NDArray[np.float64],
    spread: npt.NDArray[np.float64],
    thresholds: Thresholds,
) -> npt.NDArray[np.float64]:
    """Return how many expected errors each candidate is from lowering the hull, (n,).

    Infinite for candidates the oracle was asked about and for those above the window.
    """
    possible = ~state.closed & (above < thresholds.window)
    return np.where(possible, (above + thresholds.gain) / spread, np.inf)


def _deepest(vertices: list[int], state: State, gain: float) -> list[Choice]:
    """Return the predicted vertices that would lower the hull of the oracle's energies most."""
    hull, _ = state.true_hull()
    gains = hull.energy(state.compositions[vertices]) - state.predicted[vertices]
    order = sorted(range(len(vertices)), key=lambda k: (-round(float(gains[k]), 10), vertices[k]))
    return [Choice(vertices[k], VERTEX) for k in order if gains[k] > gain]


def _best_of_each_composition_first(
    near: npt.NDArray[np.intp], state: State, doubt: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Sort candidates: the likeliest of every composition, then the second likeliest, and so on.

    Where many structures are nearly degenerate, a round spent on one composition would learn
    little about the others.
    """
    by_doubt = near[np.argsort(doubt[near].round(8), kind="stable")]
    seen: dict[bytes, int] = {}
    ranks = []
    for x in state.compositions[by_doubt].round(9):
        ranks.append(seen.get(x.tobytes(), 0))
        seen[x.tobytes()] = ranks[-1] + 1
    ordered: npt.NDArray[np.intp] = by_doubt[np.argsort(ranks, kind="stable")]
    return ordered


def training_grades(
    rows: npt.NDArray[np.float64], training: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Return the grades of all `rows`, (n,), with the active set chosen from `training`."""
    effective = effective_rows(rows)
    return ActiveSet.select(effective[training]).grades(effective)
