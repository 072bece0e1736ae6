"""Cluster expansions that learn from every energy a search pays for, and then cost nothing.

A swap under a cluster expansion costs a look-up, an energy of a potential many times that. What
the expansion gets wrong the search finds out where it matters, among low energies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg.blas import dsymv, dsyrk
from scipy.linalg.lapack import dposv

from latticesearch.lattice.neighbours import nearest_distance
from latticesearch.potential.clusters import ClusterBasis, ClusterModel
from latticesearch.potential.clusters.lattice import feature_evaluator
from latticesearch.search.enumerate import labelings_of
from latticesearch.search.policy import TAUGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Labelings, ParentLattice, Supercell
    from latticesearch.potential.clusters.basis import Clusters
    from latticesearch.search.blocks import Block
    from latticesearch.search.types import Problem
    from latticesearch.search.walk import Log

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

SCREEN_REACHES = ((2.05, 1.25), (2.6, 2.05))
"""The same for screening, where thousands of energies can teach hundreds of coefficients."""

REACHES = ((2.05, 0.0), (2.05, 1.25))
"""Longest pairs and triplets of the expansions, in nearest-neighbour distances. Measured on
quaternary cells of 54 and 64 sites: two in turn find what each alone misses."""

WIDE_REACHES = ((2.05, 2.05), (2.05, 1.65))
"""The first of these that has not too many coefficients describes the neighbourhood of low
energies where many bodies act together: half the error after a thousand swaps."""

WIDEST = 400
"""Coefficients of a wide expansion at most: thousands of swaps teach so many."""

RIDGE = 1e-4
"""Damping of the coefficients of pairs and triplets, relative to the diagonal."""

FOLDS = 5
"""Parts of the energies that are left out in turn."""

LEARNT = 1500
"""Swaps of one piece of a walk that are taught at most; by then the neighbourhood is known."""

LEAST = 1e-12
"""The same for what damping must not touch: it only keeps the matrix regular."""


@dataclass(eq=False)
class Normal:
    """Normal equations of one expansion; those of several searches add up.

    Attributes
    ----------
    matrix : (n, n)
        The upper triangle alone, columns contiguous.
    vector : (n,)
    square : float
        Sum of the squared targets.
    number : float
        Number of equations.
    """

    matrix: Floats
    vector: Floats
    square: float = 0.0
    number: float = 0.0

    @classmethod
    def empty(cls, n: int) -> Normal:
        """Return the equations of no data."""
        return cls(np.zeros((n, n), order="F"), np.zeros(n))

    def add(self, rows: Floats, targets: Floats) -> None:
        """Add equations, (m, n) and (m,)."""
        if len(targets) == 0:
            return
        # Either order of the rows is taken as it is.
        rows, trans = (rows, 1) if rows.flags.f_contiguous else (rows.T, 0)
        self.matrix = dsyrk(1.0, rows, 1.0, self.matrix, trans=trans, overwrite_c=1)
        rows = rows if trans else rows.T
        self.vector += rows.T @ targets
        self.square += float(targets @ targets)
        self.number += len(targets)

    def plus(self, other: Normal, sign: float = 1.0) -> Normal:
        """Return the equations of both, or without those of the other."""
        return Normal(
            self.matrix + sign * other.matrix,
            self.vector + sign * other.vector,
            self.square + sign * other.square,
            self.number + sign * other.number,
        )

    def solve(self, damped: npt.NDArray[np.bool_], ridge: float = RIDGE) -> tuple[Floats, float]:
        """Return the coefficients, (n,), and the root mean square residual.

        `damped`, (n,), says which coefficients the ridge pulls to zero; the rest is kept regular.

        Raises
        ------
        numpy.linalg.LinAlgError
            The matrix is not positive definite: rows or targets are not finite numbers.
        """
        damping = np.where(damped, ridge, LEAST) * np.diag(self.matrix)
        damping[damping <= 0.0] = 1.0
        matrix = self.matrix.copy(order="F")
        matrix[np.diag_indices_from(matrix)] += damping
        _, coefficients, info = dposv(matrix, self.vector, overwrite_a=1)
        if info != 0 or not np.isfinite(coefficients).all():
            raise np.linalg.LinAlgError(
                f"{len(self.vector)} coefficients cannot be fitted to {self.number:.0f} equations: "
                "the normal matrix is not positive definite; were all energies finite?"
            )
        product = dsymv(1.0, self.matrix, coefficients)
        explained = coefficients @ (2.0 * self.vector - product)
        square = max(self.square - float(explained), 0.0)
        return coefficients, math.sqrt(square / max(self.number, 1.0))


@dataclass(eq=False)
class Surrogate:
    """One cluster expansion and what it has learnt.

    Attributes
    ----------
    basis : ClusterBasis
    normal : Normal
        Of all that was learnt.
    folds : list of Normal
        Of the energies of labelings dealt out in turn, for fits that leave one part out.
    """

    basis: ClusterBasis
    normal: Normal
    folds: list[Normal]
    _fitted: tuple[ClusterModel, float] | None = field(default=None, init=False, repr=False)
    """Kept until something is learnt."""

    @classmethod
    def of(cls, basis: ClusterBasis, n_folds: int = FOLDS) -> Surrogate:
        """Return a surrogate that knows nothing."""
        n = basis.n_parameters
        return cls(basis, Normal.empty(n), [Normal.empty(n) for _ in range(n_folds)])

    def copy(self) -> Surrogate:
        """Return one that can learn on its own."""
        nothing = Normal.empty(self.basis.n_parameters)
        folds = [fold.plus(nothing) for fold in self.folds]
        return Surrogate(self.basis, self.normal.plus(nothing), folds)

    def learn_energies(self, rows: Floats, energies: Floats, factors: Floats) -> None:
        """Learn energies, (n,), eV per site, of rows, (n, n_parameters), each with a factor."""
        rows, targets = factors[:, None] * rows, factors * energies
        first = int(self.normal.number)
        self._fitted = None
        self.normal.add(rows, targets)
        for k, fold in enumerate(self.folds):
            mine = slice((k - first) % FOLDS, None, FOLDS)
            fold.add(np.ascontiguousarray(rows[mine]), targets[mine])

    def learn_changes(
        self, rows: Floats, changes: Floats, model: ClusterModel | None = None
    ) -> float:
        """Learn changes of energy, (n,), eV, of rows, (n, n_parameters).

        Returns the root mean square error of a `model` of this basis on them, eV; else 0.
        """
        if len(changes) == 0:
            return 0.0
        self._fitted = None
        self.normal.add(rows, changes)
        if model is None:
            return 0.0
        return float(np.sqrt(np.mean((rows @ model.coefficients - changes) ** 2)))

    def model(self) -> tuple[ClusterModel, float]:
        """Return the fitted expansion and its root mean square error, eV."""
        if self._fitted is None:
            coefficients, error = self.normal.solve(self._damped)
            self._fitted = ClusterModel(self.basis, coefficients), error
        return self._fitted

    def coefficients(self) -> tuple[Floats, float]:
        """Return the fitted coefficients, (n_parameters,), eV, and their root mean square error."""
        model, error = self.model()
        return model.coefficients, error

    def left_out_coefficients(self) -> Floats:
        """Return the coefficients, (FOLDS, n_parameters), without one part of the energies each."""
        fits = [self.normal.plus(fold, -1.0).solve(self._damped)[0] for fold in self.folds]
        return np.array(fits)

    @property
    def _damped(self) -> npt.NDArray[np.bool_]:
        """All coefficients but those of single sites, (n_parameters,)."""
        damped = np.ones(self.basis.n_parameters, dtype=np.bool_)
        damped[(self.basis.points != 0.0).any(axis=(0, 1))] = False
        return damped


@dataclass(eq=False)
class Guides:
    """The surrogates of one parent lattice.

    Attributes
    ----------
    surrogates : list of Surrogate
        Take turns.
    wide : list of Surrogate
        One with many coefficients, or none; it learns from walks through large cells only.
    """

    surrogates: list[Surrogate] = field(default_factory=list)
    wide: list[Surrogate] = field(default_factory=list)

    @classmethod
    def of(cls, parent: ParentLattice, reaches: Sequence[tuple[float, float]] = REACHES) -> Guides:
        """Return surrogates that know nothing; those of one parent share their bases."""
        return cls([Surrogate.of(_basis_of(parent, reach)) for reach in reaches])

    @classmethod
    def of_large_cells(cls, parent: ParentLattice) -> Guides:
        """Return surrogates for walks through large cells, with a wide one."""
        guides = cls.of(parent)
        bases = (_basis_of(parent, reach) for reach in WIDE_REACHES)
        narrow = [basis for basis in bases if basis.n_parameters <= WIDEST][:1]
        return cls(guides.surrogates, [Surrogate.of(basis, 0) for basis in narrow])

    def copy(self) -> Guides:
        """Return guides that can learn on their own."""
        return Guides([s.copy() for s in self.surrogates], [s.copy() for s in self.wide])

    @property
    def every(self) -> list[Surrogate]:
        """Those that take turns, then the wide one."""
        return self.surrogates + self.wide

    def learn_energies(
        self, batch: Labelings, energies: Floats, weights: Floats | float = 1.0
    ) -> None:
        """Learn energies of labelings, (n,), eV per site, with weights; larger cells count more."""
        factors = math.sqrt(batch.supercell.n_sites) * np.broadcast_to(weights, len(energies))
        rows = _rows(
            self.surrogates,
            lambda basis: feature_evaluator(basis, batch.supercell).gradient_rows(batch.labels),
        )
        for surrogate, mine in zip(self.surrogates, rows, strict=True):
            surrogate.learn_energies(mine, energies, factors)

    def learn_blocks(self, problem: Problem, blocks: list[Block]) -> None:
        """Learn energies of enumerated labelings, smallest cells first; they are paid for."""
        for batch in taught_labelings(problem, blocks):
            evaluator = problem.evaluator(batch.supercell)
            self.learn_energies(batch, evaluator.energies(batch.labels))

    def learn_walk(
        self, log: Log, models: Sequence[ClusterModel] | None = None, *, wide: bool = False
    ) -> list[float]:
        """Learn what a walk asked; see `learn_swaps`."""
        swaps, changes = log.swaps[:LEARNT], log.changes[:LEARNT]
        return self.learn_swaps(log.supercell, log.start, swaps, changes, models, wide=wide)

    def learn_swaps(
        self,
        supercell: Supercell,
        start: npt.NDArray[np.int8],
        swaps: npt.NDArray[np.int64],
        changes: Floats,
        models: Sequence[ClusterModel] | None = None,
        *,
        wide: bool = False,
    ) -> list[float]:
        """Learn changes of energy, (n,), eV, along a walk of swaps, (n, 3), from `start`.

        The wide surrogate learns only where that is said. Returns the root mean square error of
        each of `models`, one per surrogate, on them, eV; zeros without models.
        """
        learners = self.every if wide else self.surrogates
        rows = _rows(
            learners,
            lambda basis: feature_evaluator(basis, supercell).swap_gradient_rows(start, swaps),
        )
        kept: Sequence[ClusterModel | None] = models or [None] * len(rows)
        return [
            surrogate.learn_changes(mine, changes, model)
            for surrogate, mine, model in zip(learners, rows, kept, strict=True)
        ]


@lru_cache(maxsize=64)  # five reaches; a dozen parent lattices at a time is more than anybody has
def _basis_of(parent: ParentLattice, reach: tuple[float, float]) -> ClusterBasis:
    """Return the basis of a reach, longest pair and triplet; made once per parent lattice."""
    length = nearest_distance(parent)
    return ClusterBasis.of(parent, reach[0] * length, reach[1] * length)


def _rows(surrogates: Sequence[Surrogate], make: Callable[[ClusterBasis], Floats]) -> list[Floats]:
    """Return the rows of every surrogate, (n, n_parameters) each.

    Where one basis holds another they are made once.
    """
    bases = [surrogate.basis for surrogate in surrogates]
    made: dict[ClusterBasis, Floats] = {}
    result = []
    for basis in bases:
        wider, columns = widest(basis, bases)
        if wider not in made:
            made[wider] = make(wider)
        # Transposed, since the rows of swaps come column by column.
        result.append(made[wider] if wider is basis else made[wider].T[columns].T)
    return result


def widest(basis: ClusterBasis, bases: Sequence[ClusterBasis]) -> tuple[ClusterBasis, Integers]:
    """Return the largest of `bases` that holds all functions of `basis`, and which those are.

    These are (n_parameters,) columns of the larger one.
    """
    best, columns = basis, np.arange(basis.n_parameters)
    for other in bases:
        shared = columns_within(basis, other)
        if shared is not None and other.n_parameters > best.n_parameters:
            best, columns = other, shared
    return best, columns


@lru_cache(maxsize=64)
def columns_within(basis: ClusterBasis, wider: ClusterBasis) -> Integers | None:
    """Return which functions of `wider` are those of `basis`, (n_parameters,), None if not all.

    A shape is recognized by one of its clusters; all others with the same edges go with it.
    """
    if basis.points.shape[:2] != wider.points.shape[:2]:
        return None
    columns = [np.flatnonzero((wider.points != 0.0).any(axis=(0, 1)))]
    for clusters, tables, others, other_tables in (
        (basis.pairs, basis.pair_tables, wider.pairs, wider.pair_tables),
        (basis.triplets, basis.triplet_tables, wider.triplets, wider.triplet_tables),
    ):
        shape_of = dict(zip(_names(others), others.shape.tolist(), strict=True))
        names = _names(clusters)
        for shape, first in zip(*np.unique(clusters.shape, return_index=True), strict=True):
            other = shape_of.get(names[first])
            if other is None:
                return None
            mine, found = _used(tables[shape]), _used(other_tables[other])
            if not np.array_equal(tables[shape][..., mine], other_tables[other][..., found]):
                return None
            columns.append(found)
    result = np.concatenate(columns)
    return result if len(result) == basis.n_parameters else None


def _used(table: Floats) -> Integers:
    """Return the coefficients, (n,), that a table, (..., n_parameters), depends on."""
    return np.flatnonzero((table != 0.0).any(axis=tuple(range(table.ndim - 1))))


def _names(clusters: Clusters) -> list[tuple[int, bytes, bytes]]:
    """Return what tells clusters from each other: their vertices."""
    rows = zip(clusters.centre.tolist(), clusters.basis, clusters.cells, strict=True)
    return [(centre, sites.tobytes(), cells.tobytes()) for centre, sites, cells in rows]


def taught_labelings(problem: Problem, blocks: list[Block]) -> Iterator[Labelings]:
    """Yield enumerated labelings, smallest cells first, as many as surrogates are taught."""
    taught = 0
    for block in blocks:
        for batch in labelings_of(problem, block):
            taught += len(batch)
            if taught > TAUGHT:
                return
            yield batch
