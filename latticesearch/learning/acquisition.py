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

from latticesearch.hull import Hull
from latticesearch.learning.selection import ActiveSet, effective_rows

if TYPE_CHECKING:
    import numpy.typing as npt

END_MEMBER = "end member"
INITIAL = "initial"
VERTEX = "vertex"
NEAR_HULL = "near hull"
GRADE = "grade"

EXPLORATION_SHARE = 0.3
"""Part of a round kept for high grades while there are any near the hull."""

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
) -> list[Choice]:
    """Choose the first training set.

    First the end members, without which there is no formation energy; the rest by D-optimality
    in the gradient rows of the untrained potential, small cells first where the rows tie: they
    are cheap for the oracle.

    Parameters
    ----------
    rows
        Gradient rows of the untrained potential, (n, n_parameters).
    compositions
        Atomic fractions, (n, n_elements).
    n_sites
        Sites of the primitive cells, (n,).
    number
        Structures wanted; end members are always included.
    """
    order = np.argsort(n_sites, kind="stable")
    ends = [int(order[i]) for i in end_members(compositions[order])]
    rest = spread(rows, ends, np.setdiff1d(order, ends, assume_unique=True), number - len(ends))
    return [Choice(i, END_MEMBER) for i in ends] + [Choice(i, INITIAL) for i in rest]


def end_members(compositions: npt.NDArray[np.float64]) -> list[int]:
    """Return the first row at each extreme point of the composition space."""
    unique, first = np.unique(compositions.round(12), axis=0, return_index=True)
    extreme = Hull(unique, np.zeros(len(unique))).end_members
    return sorted(int(first[i]) for i in extreme)


def spread(
    rows: npt.NDArray[np.float64],
    chosen: list[int],
    pool: npt.NDArray[np.intp],
    number: int,
) -> list[int]:
    """Choose `number` of `pool`, each as far as possible from the span of those before it.

    The pivots of a QR factorisation with the `chosen` rows taken out first: the greedy form of
    D-optimality, defined also for fewer structures than parameters.
    """
    residual = effective_rows(rows)
    picked: list[int] = []
    # Once the rows span everything the space is used up: begin again with what is left.
    work = residual.copy()
    for i in chosen:
        _project_out(work, i)
    free = np.zeros(len(rows), dtype=bool)
    free[pool] = True
    for _ in range(min(number, len(pool))):
        norms = np.einsum("ij,ij->i", work, work)[pool]
        norms[~free[pool]] = -1.0
        if norms.max() < 1e-12:
            work = residual.copy()
            norms = np.where(free[pool], np.einsum("ij,ij->i", work, work)[pool], -1.0)
        # Rounded, so that equal structures tie and the first one wins on every machine.
        best = int(pool[np.argmax(np.round(norms / max(norms.max(), 1e-300), 9))])
        picked.append(best)
        free[best] = False
        _project_out(work, best)
    return picked


def _project_out(rows: npt.NDArray[np.float64], i: int) -> None:
    """Remove the direction of row `i` from all `rows`, in place."""
    norm = np.linalg.norm(rows[i])
    if norm > 1e-9:
        unit = rows[i] / norm
        rows -= np.outer(rows @ unit, unit)


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
    """

    compositions: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.float64]
    true: npt.NDArray[np.float64]
    closed: npt.NDArray[np.bool_]

    @property
    def best(self) -> npt.NDArray[np.float64]:
        """The best knowledge of each energy: the oracle's, else the potential's, (n,), eV/atom.

        Candidates the oracle failed on have neither: infinity keeps them off the hull.
        """
        known = np.isfinite(self.true)
        return np.where(known, self.true, np.where(self.closed, np.inf, self.predicted))

    def true_hull(self) -> tuple[Hull, npt.NDArray[np.intp]]:
        """Return the hull of the oracle energies and the candidates its points stand for."""
        known = np.flatnonzero(np.isfinite(self.true))
        return Hull(self.compositions[known], self.true[known]), known

    def mixed_hull(self) -> tuple[Hull, npt.NDArray[np.intp]]:
        """Return the hull of the best knowledge and the candidates its points stand for."""
        usable = np.flatnonzero(np.isfinite(self.best))
        return Hull(self.compositions[usable], self.best[usable]), usable


def choose(
    state: State,
    grades: npt.NDArray[np.float64],
    rows: npt.NDArray[np.float64],
    *,
    number: int,
    window: float,
    grade_threshold: float,
) -> list[Choice]:
    """Choose up to `number` structures for the next round.

    Parameters
    ----------
    state
        Energies known and predicted.
    grades
        Extrapolation grades, (n,).
    rows
        Gradient rows, (n, n_parameters), for the diversity of what is chosen by grade.
    number
        Oracle calculations of the round.
    window
        Height above the hull, eV/atom, up to which a prediction may be a vertex in truth.
    grade_threshold
        Candidates with larger grades extrapolate.
    """
    hull, usable = state.mixed_hull()
    above = hull.energy_above_hull(state.compositions, state.predicted)
    is_open = ~state.closed
    depths = dict(zip(usable[hull.vertices].tolist(), hull.depths.tolist(), strict=True))
    vertices = [i for i in depths if is_open[i]]
    near = _best_of_each_composition_first(np.flatnonzero(is_open & (above < window)), state, above)
    wide = is_open & (above < EXPLORATION_WINDOW * window) & (grades > grade_threshold)
    unlike = np.flatnonzero(wide)

    exploring = min(len(unlike), int(np.ceil(EXPLORATION_SHARE * number)))
    vertices.sort(key=lambda i: (-round(depths[i], 10), i))
    chosen = [Choice(i, VERTEX) for i in vertices[: number - exploring]]
    taken = {c.index for c in chosen}
    chosen += [Choice(int(i), NEAR_HULL) for i in near if i not in taken][
        : number - exploring - len(chosen)
    ]
    taken = {c.index for c in chosen}
    left = np.array([i for i in unlike if i not in taken], dtype=np.intp)
    anchors = [*np.flatnonzero(state.closed), *taken]
    extra = spread(rows, anchors, left, number - len(chosen))
    return chosen + [Choice(i, GRADE) for i in extra]


def _best_of_each_composition_first(
    near: npt.NDArray[np.intp], state: State, above: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Sort candidates: the lowest of every composition, then the second lowest, and so on.

    Where many structures are nearly degenerate, a round spent on one composition would learn
    little about the others.
    """
    by_energy = near[np.argsort(above[near].round(10), kind="stable")]
    seen: dict[bytes, int] = {}
    ranks = []
    for x in state.compositions[by_energy].round(9):
        ranks.append(seen.get(x.tobytes(), 0))
        seen[x.tobytes()] = ranks[-1] + 1
    ordered: npt.NDArray[np.intp] = by_energy[np.argsort(ranks, kind="stable")]
    return ordered


def training_grades(
    rows: npt.NDArray[np.float64], training: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Return the grades of all `rows`, (n,), with the active set chosen from `training`."""
    effective = effective_rows(rows)
    return ActiveSet.select(effective[training]).grades(effective)
