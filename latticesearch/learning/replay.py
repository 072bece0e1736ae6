"""Whole campaigns on energies that are recorded: how many calculations a way of choosing needs.

The end members are given and not counted. What is judged is the hull of what was computed against
that of all recorded energies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from latticesearch.errors import InputError
from latticesearch.hull import Hull, corners
from latticesearch.lattice import Configuration, Labelings
from latticesearch.learning.adviser import Adviser, Known
from latticesearch.learning.pool import RowPool, cluster_rows
from latticesearch.learning.priors import cluster_priors, default_features
from latticesearch.learning.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice
    from latticesearch.learning.posterior import Prior

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

LEFT_OUT = 0.1
"""Part of the candidates, of those that are no vertices, that each start leaves out: a method
without random numbers gets other starts that way."""

RIDGE = 1e-3
"""Damping of the ridge regression, relative to the mean square of its columns."""


@dataclass(frozen=True, eq=False)
class Record:
    """Recorded energies of one system.

    Attributes
    ----------
    keys : tuple of str
        Canonical keys.
    pool : RowPool
        Compositions and features.
    energies : (n,) float
        eV/atom.
    make_priors : callable
        See `Adviser`.
    """

    keys: tuple[str, ...]
    pool: RowPool
    energies: Floats
    make_priors: Callable[[Floats], Sequence[Prior]]

    @classmethod
    def of(cls, parent: ParentLattice, energies: Mapping[str, float]) -> Record:
        """Return the record of energies, eV/atom, by canonical key.

        Raises
        ------
        InputError
            No energy at an end member of the lattice.
        """
        functions = default_features(parent)
        groups: dict[bytes, list[tuple[str, Configuration]]] = {}
        for key in energies:
            one = Configuration.from_key(parent, key)
            if one.n_atoms:
                groups.setdefault(one.supercell.hnf.tobytes(), []).append((key, one))
        keys = [key for group in groups.values() for key, _ in group]
        batches = [
            Labelings(group[0][1].supercell, np.array([one.labels for _, one in group]))
            for group in groups.values()
        ]
        if not batches:
            raise InputError("there is no recorded energy to replay")
        pool = RowPool(
            np.concatenate([batch.atomic_fractions for batch in batches]),
            np.concatenate([cluster_rows(functions, batch) for batch in batches]),
        )
        values = np.array([energies[key] for key in keys])
        return cls(tuple(keys), pool, values, partial(cluster_priors, functions))

    @cached_property
    def ends(self) -> Indices:
        """The lowest candidate at each end member, (m,)."""
        x = self.pool.compositions
        there = [np.flatnonzero(np.abs(x - c).max(axis=1) < 1e-9) for c in corners(x)]
        return np.array([rows[int(self.energies[rows].argmin())] for rows in there])

    @cached_property
    def hull(self) -> Hull:
        """The true hull."""
        return Hull(
            self.pool.compositions, self.energies, end_members=corners(self.pool.compositions)
        )

    def subset(self, indices: Indices) -> Record:
        """Return some of the candidates."""
        pool = RowPool(self.pool.compositions[indices], self.pool.features[indices])
        keys = tuple(self.keys[i] for i in indices)
        return Record(keys, pool, self.energies[indices], self.make_priors)

    def start(self, seed: int) -> Record:
        """Return all candidates but a random tenth of those that are no vertices."""
        rng = np.random.default_rng(seed)
        others = np.setdiff1d(np.arange(len(self.keys)), [*self.hull.vertices, *self.ends])
        left = rng.choice(others, int(LEFT_OUT * len(others)), replace=False)
        return self.subset(np.setdiff1d(np.arange(len(self.keys)), left))


@dataclass(frozen=True, eq=False)
class Replay:
    """How one campaign went; calculations do not count the end members.

    Attributes
    ----------
    to_hull : int or None
        Calculations until the hull was within the tolerance of the true one everywhere.
    stop : int or None
        Calculations when the method ended by itself; None where it was cut off.
    end : str
        Why it ended.
    error : float
        Distance of its hull from the true one at the end, eV/atom.
    forecasts : (n, 2) float
        Probabilities that were given, and whether it was so: 1 or 0. Of candidates to be stable.
    missing : (n, 2) float
        The same of the hull to miss something by more than the tolerance.
    """

    to_hull: int | None
    stop: int | None
    end: str
    error: float
    forecasts: Floats
    missing: Floats


class Method(Protocol):
    """A way of choosing."""

    def __call__(self, record: Record, known: Indices, number: int) -> Indices:
        """Return up to `number` candidates of a record to compute next."""


@dataclass(frozen=True)
class Judge:
    """Measures how far a hull is from the true one.

    Attributes
    ----------
    record : Record
    """

    record: Record

    def error(self, known: Sequence[int]) -> float:
        """Return the largest distance of the hull of what is known from the true one, eV/atom."""
        x, e = self.record.pool.compositions, self.record.energies
        true = self.record.hull
        own = Hull(x[known], e[known], end_members=corners(x))
        # Largest at a vertex of the lower hull: see `latticesearch.hull.hull_change`.
        return float((own.energy(x[true.vertices]) - e[true.vertices]).max())


@dataclass(frozen=True)
class Limits:
    """How a campaign is run.

    Attributes
    ----------
    batch : int
        Calculations per round.
    budget : int
        Calculations at most.
    tolerance : float
        Distance of hulls that matters, eV/atom.
    """

    batch: int = 1
    budget: int = 150
    tolerance: float = 0.001


def replay(record: Record, limits: Limits) -> Replay:
    """Let the adviser choose until it ends by itself, or to the budget."""
    tolerance = limits.tolerance
    judge = Judge(record)
    known = [int(i) for i in record.ends]
    n_ends = len(known)
    forecasts: list[Floats] = []
    missing: list[tuple[float, float]] = []
    error = judge.error(known)
    to_hull = 0 if error <= tolerance else None
    vertices = np.zeros(len(record.keys))
    vertices[record.hull.vertices] = 1.0
    while True:
        adviser = Adviser(
            record.pool,
            Known(np.array(known), record.energies[known]),
            record.make_priors,
            tolerance,
        )
        left = limits.budget - (len(known) - n_ends)
        if adviser.worth <= tolerance:
            outlook = adviser.outlook
            forecasts.append(np.column_stack([outlook.stable, vertices[outlook.indices]]))
            missing.append((outlook.missing(tolerance), float(error > tolerance)))
        end = adviser.end(left)
        if end is not None:
            break
        for one in adviser.next_calculations(min(limits.batch, left)):
            known.append(one.index)
            error = judge.error(known)
            if to_hull is None and error <= tolerance:
                to_hull = len(known) - n_ends
    stop = len(known) - n_ends
    given = np.concatenate([np.zeros((0, 2)), *forecasts])
    return Replay(to_hull, stop, end.kind, error, given, np.array(missing).reshape(-1, 2))


def replay_method(record: Record, method: Method, limits: Limits) -> Replay:
    """Let a method that knows no end choose until the hull is right, or to the budget."""
    judge = Judge(record)
    known = [int(i) for i in record.ends]
    n_ends = len(known)
    error = judge.error(known)
    to_hull = 0 if error <= limits.tolerance else None
    while to_hull is None and len(known) - n_ends < limits.budget:
        left = limits.budget - (len(known) - n_ends)
        picks = method(record, np.array(known), min(limits.batch, left))
        if not len(picks):
            break
        for i in picks.tolist():
            known.append(i)
            error = judge.error(known)
            if to_hull is None and error <= limits.tolerance:
                to_hull = len(known) - n_ends
    return Replay(to_hull, None, "", error, np.zeros((0, 2)), np.zeros((0, 2)))


@dataclass(frozen=True)
class RandomOrder:
    """Candidates in random order.

    Attributes
    ----------
    seed : int
    """

    seed: int

    def __call__(self, record: Record, known: Indices, number: int) -> Indices:
        """Return the next ones."""
        order = np.random.default_rng(self.seed).permutation(len(record.keys))
        return order[~np.isin(order, known)][:number]


def ridge_order(record: Record, known: Indices, number: int) -> Indices:
    """Return the candidates that a ridge cluster expansion expects lowest above the hull.

    The usual way: the same cluster functions, no prior but one damping, no errors.
    """
    x, e = record.pool.compositions, record.energies
    ends = record.ends
    reference = Reference(corners(x), record.pool.rows(ends))
    rows = reference.relative(x, record.pool.rows(np.arange(len(x))))
    formation = e[known] - Reference(corners(x), e[ends][:, None]).shares(x[known]) @ e[ends]
    scales = np.sqrt((rows**2).mean(axis=0))
    rows = rows / np.where(scales > 1e-9 * scales.max(), scales, np.inf)
    own = rows[known]
    damping = RIDGE * rows.shape[1] * max(1, len(known))
    dual = np.linalg.solve(own @ own.T + damping * np.eye(len(own)), formation)
    predicted = rows @ (own.T @ dual)
    heights = predicted - Hull(x[known], formation, end_members=corners(x)).energy(x)
    heights[known] = np.inf
    order = np.argsort(heights.round(12), kind="stable")
    return order[: min(number, len(x) - len(known))]


def reliability(forecasts: Floats, n_bins: int = 10) -> list[dict[str, float]]:
    """Return the reliability diagram of probabilities and outcomes, (n, 2), bin by bin."""
    rows = []
    bins = np.minimum((forecasts[:, 0] * n_bins).astype(int), n_bins - 1)
    for k in range(n_bins):
        mine = forecasts[bins == k]
        if len(mine):
            rows.append(
                {
                    "number": float(len(mine)),
                    "forecast": float(mine[:, 0].mean()),
                    "observed": float(mine[:, 1].mean()),
                }
            )
    return rows


def brier_score(forecasts: Floats) -> float:
    """Return the mean squared difference of probabilities and outcomes, (n, 2)."""
    return float(np.mean((forecasts[:, 0] - forecasts[:, 1]) ** 2)) if len(forecasts) else 0.0


def calibration_error(forecasts: Floats) -> float:
    """Return the expected calibration error of probabilities and outcomes, (n, 2)."""
    table = reliability(forecasts)
    total = sum(row["number"] for row in table)
    gaps = (row["number"] * abs(row["forecast"] - row["observed"]) for row in table)
    return sum(gaps) / total if total else 0.0
