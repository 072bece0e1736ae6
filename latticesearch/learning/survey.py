"""One pass over all candidates that keeps those a calculation could be worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from latticesearch.hull import Hull
    from latticesearch.learning.opinions import Opinions
    from latticesearch.learning.pool import Pool
    from latticesearch.learning.posterior import Prediction
    from latticesearch.learning.reference import Reference

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Worth = Callable[[Prediction, Floats, Indices], Floats]

KEPT = 2048
"""Candidates kept: a batch needs as many as it has places, and those that could be stable are a few
hundred even where there are a million of others."""

DECIMALS = 12
"""eV/atom: worths that agree to so many decimals tie, and the first candidate wins everywhere."""


@dataclass(frozen=True, eq=False)
class Survey:
    """The candidates worth most, best first.

    Attributes
    ----------
    indices : (m,) int
    rows : (m, r) float
        Their features relative to the end members.
    compositions : (m, k) float
    worths : (m,) float
        eV/atom.
    heights : (m,) float
        Expected energies above the hull of what is computed, eV/atom; ties of worthless ones are
        broken by them.
    """

    indices: Indices
    rows: Floats
    compositions: Floats
    worths: Floats
    heights: Floats

    def best(self, number: int) -> Survey:
        """Return the best of them."""
        order = np.lexsort(
            (self.indices, self.heights.round(DECIMALS), -self.worths.round(DECIMALS))
        )
        kept = order[:number]
        return Survey(
            self.indices[kept],
            self.rows[kept],
            self.compositions[kept],
            self.worths[kept],
            self.heights[kept],
        )

    @classmethod
    def merged(cls, surveys: Sequence[Survey], number: int = KEPT) -> Survey:
        """Return the best of several ranks, or of several blocks."""
        return cls(
            *(
                np.concatenate([getattr(one, name) for one in surveys])
                for name in ("indices", "rows", "compositions", "worths", "heights")
            )
        ).best(number)


def survey(
    pool: Pool,
    opinions: Opinions,
    hull: Hull,
    reference: Reference,
    is_taken: npt.NDArray[np.bool_],
    worth: Worth,
) -> Survey:
    """Return the candidates of a pool that are worth most.

    Parameters
    ----------
    pool
        The candidates.
    opinions
        What is thought of them; what is under way may be supposed in it.
    hull
        Of the energies relative to the end members.
    reference
        Features of the end members.
    is_taken
        Candidates that are computed, under way or given up, (n,).
    worth
        What calculations are worth.
    """
    compositions = pool.compositions
    found: list[Survey] = []
    n_found = 0
    for indices, rows in pool.blocks():
        free = ~is_taken[indices]
        own, x = indices[free], compositions[indices[free]]
        if not len(own):
            continue
        relative = reference.rows(x, rows[free])
        prediction = opinions.predict(relative, own)
        level = hull.energy(x)
        worths = worth(prediction, level, own)
        found.append(Survey(own, relative, x, worths, prediction.mean - level).best(KEPT))
        n_found += len(found[-1].indices)
        if n_found > 8 * KEPT:
            found = [Survey.merged(found)]
            n_found = KEPT
    if not found:
        k, r = compositions.shape[1], sum(reference.values.shape)
        nothing = np.zeros(0)
        return Survey(
            np.zeros(0, dtype=np.intp), np.zeros((0, r)), np.zeros((0, k)), nothing, nothing
        )
    return Survey.merged(found)


def greedy(
    found: Survey,
    opinions: Opinions,
    hull: Hull,
    worth: Worth,
    number: int,
) -> Indices:
    """Return the rows of a survey, (m,), that are to be computed at once.

    The best, then the best of what is left if that turned out as predicted, and so on.
    """
    prediction = opinions.predict(found.rows, found.indices)
    variances = prediction.spreads**2
    taken = np.zeros(len(found.indices), dtype=bool)
    points, energies = [hull.compositions[hull.vertices]], [hull.energies[hull.vertices]]
    columns: list[Floats] = []
    chosen: list[int] = []
    while len(chosen) < min(number, len(found.indices)):
        level = hull.energy(found.compositions)
        spread = np.sqrt(np.maximum(variances, 1e-16))
        worths = worth(prediction._replace(spreads=spread), level, found.indices).round(DECIMALS)
        heights = (prediction.mean - level).round(DECIMALS)
        open_ = np.flatnonzero(~taken)
        pick = int(open_[np.lexsort((heights[open_], -worths[open_]))[0]])
        chosen.append(pick)
        taken[pick] = True
        # What the pick has in common with the others, less what those before it have told.
        column = opinions.covariances(found.rows, found.rows[pick])
        for one in columns:
            column = column - one * one[:, pick : pick + 1]
        own = np.maximum(variances[:, pick], 1e-16)
        columns.append(column / np.sqrt(own)[:, None])
        variances = variances - columns[-1] ** 2
        points.append(found.compositions[pick][None])
        energies.append(np.array([prediction.mean[pick]]))
        hull = type(hull)(
            np.concatenate(points),
            np.concatenate(energies),
            end_members=hull.compositions[hull.end_members],
        )
    return np.array(chosen, dtype=np.intp)
