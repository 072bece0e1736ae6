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
from scipy.linalg import cho_factor, cho_solve

from latticesearch.potential.clusters import ClusterBasis, ClusterModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Labelings, ParentLattice, Supercell
    from latticesearch.potential.clusters import ClusterLatticeEvaluator

    Floats = npt.NDArray[np.float64]

SCREEN_REACHES = ((2.05, 1.25), (2.6, 2.05))
"""The same for screening, where thousands of energies can teach hundreds of coefficients."""

REACHES = ((2.05, 0.0), (2.05, 1.25))
"""Longest pairs and triplets of the expansions, in nearest-neighbour distances. Measured on
quaternary cells of 54 and 64 sites: two in turn find what each alone misses."""

RIDGE = 1e-4
"""Damping of the coefficients of pairs and triplets, relative to the diagonal."""

FOLDS = 5
"""Parts of the energies that are left out in turn."""

LEAST = 1e-12
"""The same for what damping must not touch: it only keeps the matrix regular."""


@dataclass(eq=False)
class Normal:
    """Normal equations of one expansion; those of several searches add up.

    Attributes
    ----------
    matrix : (n, n)
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
        return cls(np.zeros((n, n)), np.zeros(n))

    def add(self, rows: Floats, targets: Floats) -> None:
        """Add equations, (m, n) and (m,)."""
        self.matrix += rows.T @ rows
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
        """Return the coefficients and the root mean square residual."""
        diagonal = np.diag(self.matrix)
        scale = 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
        scaled = self.matrix * scale[:, None] * scale
        scaled[np.diag_indices_from(scaled)] += np.where(damped, ridge, LEAST)
        scaled[np.diag_indices_from(scaled)] += diagonal <= 0.0
        coefficients = scale * cho_solve(cho_factor(scaled), scale * self.vector)
        explained = coefficients @ (2.0 * self.vector - self.matrix @ coefficients)
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

    @classmethod
    def of(cls, basis: ClusterBasis) -> Surrogate:
        """Return a surrogate that knows nothing."""
        n = basis.n_parameters
        return cls(basis, Normal.empty(n), [Normal.empty(n) for _ in range(FOLDS)])

    def copy(self) -> Surrogate:
        """Return one that can learn on its own."""
        nothing = Normal.empty(self.basis.n_parameters)
        folds = [fold.plus(nothing) for fold in self.folds]
        return Surrogate(self.basis, self.normal.plus(nothing), folds)

    def learn_energies(
        self, batch: Labelings, energies: Floats, weights: Floats | float = 1.0
    ) -> None:
        """Learn energies of labelings, (n,), eV per site, with weights; larger cells count more."""
        factors = math.sqrt(batch.supercell.n_sites) * np.broadcast_to(weights, len(energies))
        rows = features(self.basis, batch.supercell).gradient_rows(batch.labels)
        rows, targets = factors[:, None] * rows, factors * energies
        first = int(self.normal.number)
        self.normal.add(rows, targets)
        for k, fold in enumerate(self.folds):
            mine = slice((k - first) % FOLDS, None, FOLDS)
            fold.add(rows[mine], targets[mine])

    def learn_swaps(
        self,
        supercell: Supercell,
        start: npt.NDArray[np.int8],
        swaps: npt.NDArray[np.int64],
        changes: Floats,
        model: ClusterModel | None = None,
    ) -> float:
        """Learn changes of energy, (n,), eV, along a walk of swaps, (n, 3), from `start`.

        Returns the root mean square error of a `model` of this basis on them, eV; else 0.
        """
        rows = features(self.basis, supercell).swap_gradient_rows(start, swaps)
        self.normal.add(rows, changes)
        if model is None or len(changes) == 0:
            return 0.0
        return float(np.sqrt(np.mean((rows @ model.coefficients - changes) ** 2)))

    def model(self) -> tuple[ClusterModel, float]:
        """Return the fitted expansion and its root mean square error, eV."""
        coefficients, error = self.coefficients()
        return ClusterModel(self.basis, coefficients), error

    def coefficients(self) -> tuple[Floats, float]:
        """Return the fitted coefficients and their root mean square error, eV."""
        return self.normal.solve(self._damped)

    def left_out_coefficients(self) -> Floats:
        """Return the coefficients, (FOLDS, n_parameters), without one part of the energies each."""
        fits = [self.normal.plus(fold, -1.0).solve(self._damped)[0] for fold in self.folds]
        return np.array(fits)

    @property
    def _damped(self) -> npt.NDArray[np.bool_]:
        damped = np.ones(self.basis.n_parameters, dtype=np.bool_)
        damped[(self.basis.points != 0.0).any(axis=(0, 1))] = False
        return damped


@lru_cache(maxsize=512)
def features(basis: ClusterBasis, supercell: Supercell) -> ClusterLatticeEvaluator:
    """Return an evaluator whose rows are those of any expansion in this basis."""
    return ClusterModel(basis, np.zeros(basis.n_parameters)).evaluator(supercell)


@dataclass(eq=False)
class Guides:
    """The surrogates of one parent lattice, which take turns.

    Attributes
    ----------
    surrogates : list of Surrogate
    """

    surrogates: list[Surrogate] = field(default_factory=list)

    @classmethod
    def of(cls, parent: ParentLattice, reaches: Sequence[tuple[float, float]] = REACHES) -> Guides:
        """Return surrogates that know nothing; those of one parent share their bases."""
        kept: dict[tuple[float, float], ClusterBasis] = parent.__dict__.setdefault(
            "_guide_bases", {}
        )
        for pair, triplet in reaches:
            if (pair, triplet) not in kept:
                length = nearest_distance(parent)
                kept[pair, triplet] = ClusterBasis.of(parent, pair * length, triplet * length)
        return cls([Surrogate.of(kept[reach]) for reach in reaches])

    def copy(self) -> Guides:
        """Return guides that can learn on their own."""
        return Guides([surrogate.copy() for surrogate in self.surrogates])

    def learn_energies(
        self, batch: Labelings, energies: Floats, weights: Floats | float = 1.0
    ) -> None:
        """Teach all of them; see `Surrogate.learn_energies`."""
        for surrogate in self.surrogates:
            surrogate.learn_energies(batch, energies, weights)

    def learn_swaps(
        self,
        supercell: Supercell,
        start: npt.NDArray[np.int8],
        swaps: npt.NDArray[np.int64],
        changes: Floats,
        models: Sequence[ClusterModel] | None = None,
    ) -> list[float]:
        """Teach all of them, with one model each; see `Surrogate.learn_swaps`."""
        return [
            surrogate.learn_swaps(supercell, start, swaps, changes, models[i] if models else None)
            for i, surrogate in enumerate(self.surrogates)
        ]


def nearest_distance(parent: ParentLattice) -> float:
    """Return the distance of nearest neighbours, Å."""
    from latticesearch.potential.mtp.tables import parent_neighbours

    cutoff = float(np.linalg.norm(parent.cell, axis=1).max()) + 1e-6
    return min(
        float(np.linalg.norm(parent_neighbours(parent, b, cutoff)[2], axis=1).min())
        for b in range(parent.n_basis)
    )
