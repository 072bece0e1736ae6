"""Cluster expansions that learn one energy or swap after the other, and are solved when asked.

A swap under a cluster expansion costs a look-up, an energy of a potential many times that: what
such an expansion has learnt from the energies that were paid for can rank and guide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg.blas import dsymv, dsyrk
from scipy.linalg.lapack import dposv

from latticesearch.potential.clusters.model import ClusterModel

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.clusters.basis import ClusterBasis

    Floats = npt.NDArray[np.float64]

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
