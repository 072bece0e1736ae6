"""What to compute next, what the true hull may be, and whether to go on: all from what is known.

There is no state but what is known, no seed but that of the sampled hulls, and nothing to tune: the
same energies give the same advice, in whatever order they came.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.hull import Hull, corners, joined
from latticesearch.learning.choices import DILUTE, SAME_COMPOSITION, Choice
from latticesearch.learning.ending import BUDGET, End, Evidence, end_of, is_settled
from latticesearch.learning.improvement import Acquisition, ExpectedImprovement
from latticesearch.learning.opinions import Opinions
from latticesearch.learning.posterior import Posterior, Prediction, Prior
from latticesearch.learning.reference import Reference
from latticesearch.learning.sampled_hulls import Outlook, sampled_hulls
from latticesearch.learning.spreads import local_scale
from latticesearch.learning.survey import Survey, greedy, survey
from latticesearch.parallel import SerialComm, gather_blocks, one_thread, worked_out_once

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from latticesearch.learning.pool import Pool
    from latticesearch.parallel import Communicator

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of the candidates.

    Attributes
    ----------
    indices : (m,) int
        Candidates with energies.
    energies : (m,) float
        eV/atom.
    pending : (p,) int
        Candidates that are being computed.
    closed : (c,) int
        Candidates that will never have an energy.
    competing : (p, k) and (p,) float, or None
        Compositions and energies, eV/atom, of phases that are no candidates: part of the hull.
    """

    indices: Indices
    energies: Floats
    pending: Indices = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    closed: Indices = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    competing: tuple[Floats, Floats] | None = None

    def __post_init__(self) -> None:
        """Make arrays of lists."""
        for name in ("indices", "pending", "closed"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.intp))
        object.__setattr__(self, "energies", np.asarray(self.energies, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Adviser:
    """Advice on a pool of candidates of which some are known.

    Attributes
    ----------
    pool : Pool
        The candidates.
    known : Known
        Their energies so far, among them one at every end member of the pool.
    make_priors : callable
        From the mean squares of the features relative to the end members, (r,), the priors.
    tolerance : float
        Distance of hulls that matters, eV/atom.
    acquisition : Acquisition
        What a calculation is worth.
    costs : (n,) float or None
        What a calculation of each candidate costs: worth is counted per cost. Default all alike.
    second : ((n,) float, float) or None
        Energies that a potential expects of all candidates, eV/atom, NaN where it expects none,
        and what that opinion counts beside the posterior's; see `Opinions`.
    seed : int
        Of the sampled hulls.
    comm : Communicator
        Ranks that ask together, each with its part of the pool; all get the same advice.
    """

    pool: Pool
    known: Known
    make_priors: Callable[[Floats], Sequence[Prior]]
    tolerance: float = 0.001
    acquisition: Acquisition = field(default_factory=ExpectedImprovement)
    costs: Floats | None = None
    second: tuple[Floats, float] | None = None
    seed: int = 0
    comm: Communicator = field(default_factory=SerialComm)

    @worked_out_once
    def corners(self) -> Floats:
        """Compositions of the end members, (m, k)."""
        return corners(self.pool.compositions)

    @worked_out_once
    def ends(self) -> Indices:
        """Rows of what is known that are the lowest at each end member, (m,)."""
        ends = []
        for corner in self.corners:
            there = np.flatnonzero(np.abs(self._x - corner).max(axis=1) < SAME_COMPOSITION)
            if not len(there):
                raise InputError(
                    f"no energy is known at the end member {np.round(corner, 4).tolist()}: compute "
                    "the end members first"
                )
            ends.append(int(there[self.known.energies[there].argmin()]))
        return np.array(ends, dtype=np.intp)

    @worked_out_once
    def formation_energies(self) -> Floats:
        """Energies of what is known relative to the end members, (m,), eV/atom."""
        return self._formation(self._x, self.known.energies)

    @worked_out_once
    def is_end(self) -> npt.NDArray[np.bool_]:
        """Which of what is known are end members, (m,)."""
        is_end = np.zeros(len(self._x), dtype=bool)
        is_end[self.ends] = True
        return is_end

    @worked_out_once
    @one_thread()
    def posterior(self) -> Posterior:
        """What the energies say."""
        n_ends = len(self.corners)
        priors = [one.with_ends(n_ends) for one in self.make_priors(self._mean_squares)]
        others, energies = ~self.is_end, self.formation_energies
        found = Posterior.of(priors, self._known_rows, energies, self.is_end)
        ratios = (found.left_out.errors / found.left_out.spreads) ** 2

        def factor(rows: Floats) -> Floats:
            # The last columns of rows are what each end member takes part with: see `Reference`.
            return local_scale(-rows[:, -n_ends:] @ self.corners, self._x[others], ratios)

        return found.spread_by(factor)

    @worked_out_once
    def hull(self) -> Hull:
        """The hull of what is known, energies relative to the end members.

        Its points are what is known, in that order, then the competing phases.
        """
        return self._hull_of(self._x, self.formation_energies)

    @worked_out_once
    def evidence(self) -> Evidence:
        """How well the model does."""
        return Evidence.of(self.posterior.left_out, self.formation_energies[~self.is_end])

    @one_thread()
    def predict(self, indices: Indices) -> Prediction:
        """Return what is thought of the formation energies of candidates, (m,)."""
        return self._opinions.predict(self._relative(indices), indices)

    def total(self, indices: Indices, formation: Floats) -> Floats:
        """Return energies, (m,), eV/atom, of formation energies of candidates."""
        shares = self.reference.shares(self.pool.compositions[indices])
        return formation + shares @ self.end_energies

    @property
    def end_energies(self) -> Floats:
        """Energies of the end members, (m,), eV/atom."""
        return self.known.energies[self.ends]

    @one_thread()
    def next_calculations(self, number: int) -> list[Choice]:
        """Return up to `number` candidates, the most worth while first.

        What is under way counts as if it had turned out as predicted.
        """
        if self.is_settled:
            return [Choice(int(i), 0.0, DILUTE) for i in self._unchecked[:number]]
        found = self._found
        picks = greedy(found, self._supposing, self._supposed_hull, self._worth, number)
        return [Choice(int(found.indices[i]), float(found.worths[i])) for i in picks]

    @worked_out_once
    def worth(self) -> float:
        """The largest worth of a candidate, eV/atom; 0 where there is none."""
        return float(self._found.worths.max(initial=0.0))

    @worked_out_once
    @one_thread()
    def outlook(self) -> Outlook:
        """What the true hull may be; what is under way may turn out as it likes."""
        found = self._found
        if len(self.known.pending):
            x = self.pool.compositions[self.known.pending]
            own = Survey(
                self.known.pending, self._relative(self.known.pending), x, *np.zeros((2, len(x)))
            )
            found = Survey.merged([own, found], len(own.indices) + len(found.indices))
        rng = np.random.default_rng([self.seed, len(self.known.indices)])
        return sampled_hulls(self.hull, found, self._opinions, rng)

    @worked_out_once
    def stable(self) -> Floats:
        """Probability of each candidate to be a vertex of the true hull, (n,).

        NaN of those that will never have an energy; 0 also of those that are least likely where
        there are too many to sample them all.
        """
        stable = np.zeros(len(self.pool.compositions))
        stable[self.known.closed] = np.nan
        stable[self.outlook.indices] = self.outlook.stable
        is_candidate = self.outlook.vertices < len(self.known.indices)
        vertices = self.known.indices[self.outlook.vertices[is_candidate]]
        stable[vertices] = self.outlook.stays[is_candidate]
        return stable

    @one_thread()
    def predict_all(self) -> tuple[Floats, Floats]:
        """Return energies of all candidates and their standard deviations, (n,), eV/atom.

        All ranks call it, and all get the whole.
        """
        parts = []
        for indices, rows in self.pool.blocks():
            relative = self.reference.rows(self.pool.compositions[indices], rows)
            one = self.posterior.predict(relative)
            parts.append((indices, one.mean, one.spread))
        n = len(self.pool.compositions)
        formation, spreads = np.full(n, np.nan), np.full(n, np.nan)
        for indices, mean, spread in gather_blocks(parts, self.comm):
            formation[indices], spreads[indices] = mean, spread
        return self.total(np.arange(n), formation), spreads

    def end(self, budget_left: int, limit: str = BUDGET) -> End | None:
        """Return why to stop, or None while it is worth going on.

        Parameters
        ----------
        budget_left
            Calculations that may still be made.
        limit
            What is used up where there are none.
        """
        if budget_left > 0 and self._n_open and not (self.is_settled and not len(self._unchecked)):
            return None
        n_open = self._n_open
        return end_of(self.outlook, self.evidence, n_open, budget_left, self.tolerance, limit)

    @worked_out_once
    def is_settled(self) -> bool:
        """Whether nothing is likely to be missing, but for what no model foresees."""
        if self.worth > self.tolerance:
            return False  # what one calculation may bring is missing already
        return is_settled(self.outlook, self.evidence, self.tolerance, len(self._unchecked))

    @property
    def _n_open(self) -> int:
        return len(self._found.indices) + len(self.known.pending)

    @worked_out_once
    def _unchecked(self) -> Indices:
        """The lowest candidate of each composition next to an end member where nothing is known.

        Dilute alloys are the far end of what the other energies say, and the end members' own
        calculations are often of another kind than those of large cells.
        """
        x = self.pool.compositions
        tried = np.concatenate([self.known.indices, self.known.pending, self.known.closed])
        lowest = []
        for corner in self.corners:
            distances = np.linalg.norm(x - corner, axis=1).round(9)
            nearest = distances[distances > 0.0].min(initial=np.inf)
            there = np.flatnonzero(distances == nearest)
            unique, inverse = np.unique(x[there].round(9), axis=0, return_inverse=True)
            for k in range(len(unique)):
                members = there[inverse.reshape(-1) == k]
                if not np.isin(members, tried).any():
                    lowest.append(int(members[self.predict(members).mean.round(9).argmin()]))
        return np.array(list(dict.fromkeys(lowest)), dtype=np.intp)

    @worked_out_once
    def _x(self) -> Floats:
        return self.pool.compositions[self.known.indices]

    @worked_out_once
    def reference(self) -> Reference:
        """The end members with their features."""
        return Reference(self.corners, self.pool.rows(self.known.indices[self.ends]))

    def _relative(self, indices: Indices) -> Floats:
        rows = self.pool.rows(indices)
        return self.reference.rows(self.pool.compositions[indices], rows)

    @worked_out_once
    def _known_rows(self) -> Floats:
        rows = self._relative(self.known.indices)
        rows[self.ends] = self.reference.end_rows()
        return rows

    @worked_out_once
    def _mean_squares(self) -> Floats:
        """Mean squares of the features of all candidates relative to the end members, (r,)."""
        total, number = np.zeros(self.reference.values.shape[1]), 0
        for indices, rows in self.pool.blocks():
            relative = self.reference.relative(self.pool.compositions[indices], rows)
            total += (relative**2).sum(axis=0)
            number += len(rows)
        totals = self.comm.allgather((total, number))
        squares: Floats = np.sum([t for t, _ in totals], axis=0)
        return squares / max(1, sum(n for _, n in totals))

    @worked_out_once
    def _opinions(self) -> Opinions:
        if self.second is None:
            return Opinions(self.posterior)
        energies, weight = self.second
        return Opinions(self.posterior, self._formation(self.pool.compositions, energies), weight)

    @worked_out_once
    def _supposing(self) -> Opinions:
        """What would be thought if what is under way turned out as predicted."""
        pending = self.known.pending
        if not len(pending):
            return self._opinions
        return replace(self._opinions, posterior=self.posterior.supposing(self._relative(pending)))

    @worked_out_once
    def _supposed_hull(self) -> Hull:
        pending = self.known.pending
        if not len(pending):
            return self.hull
        x = np.concatenate([self._x, self.pool.compositions[pending]])
        energies = np.concatenate([self.formation_energies, self.predict(pending).mean])
        return self._hull_of(x, energies)

    def _formation(self, x: Floats, energies: Floats) -> Floats:
        """Return energies, (n,), at compositions, (n, k), less those of mixed end members."""
        zero = Reference(self.corners, self.end_energies[:, None])
        return zero.relative(x, energies[:, None])[:, 0]

    def _hull_of(self, x: Floats, formation: Floats) -> Hull:
        """Return the hull of points, (n, k) and (n,), and the competing phases."""
        if self.known.competing is None:
            return Hull(x, formation, end_members=self.corners)
        others, energies = self.known.competing
        x, formation = joined(x, formation, (others, self._formation(others, energies)))
        return Hull(x, formation, end_members=corners(x))

    def _worth(self, prediction: Prediction, level: Floats, indices: Indices) -> Floats:
        worths = self.acquisition(prediction, level)
        return worths if self.costs is None else worths / self.costs[indices]

    @worked_out_once
    @one_thread()
    def _found(self) -> Survey:
        """The candidates worth most, of all ranks."""
        is_taken = np.zeros(len(self.pool.compositions), dtype=bool)
        for indices in (self.known.indices, self.known.pending, self.known.closed):
            is_taken[indices] = True
        own = survey(
            self.pool, self._supposing, self._supposed_hull, self.reference, is_taken, self._worth
        )
        return Survey.merged(self.comm.allgather(own))
