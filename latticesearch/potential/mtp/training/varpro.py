"""Separable regularised least squares: variable projection with a Levenberg-Marquardt loop.

Golub & Pereyra, SIAM J. Numer. Anal. 10, 413 (1973): given the nonlinear coordinates the linear
coefficients are the solution of a linear problem, so only the nonlinear ones are iterated. The
Jacobian of the projected residuals is Kaufman's (BIT 15, 49 (1975)), which leaves out a term that
vanishes with the residuals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

FIRST_DAMPING = 1e-3
"""Damping of the first step, relative to the diagonal of the normal matrix."""

SMALLEST_DAMPING = 1e-9
"""Below this the damping only hides behind rounding."""

DAMPING_DOWN, DAMPING_UP = 0.2, 6.0
"""Factors of the damping after a good and after a bad step."""

MAX_BAD_STEPS = 8
"""A step that fails this often, each time shorter, means that the minimum is found."""


class Design(Protocol):
    """Rows of a linear problem whose columns depend on nonlinear coordinates."""

    def columns(self, coordinates: Floats) -> tuple[Floats, Any]:
        """Return the matrix, (n_rows, n_linear), and a state to hand to `slopes`."""

    def slopes(self, state: Any, linear: Floats) -> Floats:
        """Return d(matrix @ linear)/d(coordinates), (n_rows, n_coordinates)."""


@dataclass(frozen=True, eq=False)
class SeparableProblem:
    """Minimise |A(v) x - y|² + sum(linear_ridge x²) + radial_ridge |v - centre|² over v and x.

    Parameters
    ----------
    design
        Gives A(v), (n_rows, n_linear).
    targets
        y, (n_rows,).
    linear_ridge
        (n_linear,), positive.
    radial_ridge
        Positive.
    centre
        Where the nonlinear coordinates are pulled to, (n_coordinates,).
    """

    design: Design
    targets: Floats
    linear_ridge: Floats
    radial_ridge: float
    centre: Floats


@dataclass(frozen=True, eq=False)
class Solution:
    """A minimum of a `SeparableProblem`.

    Parameters
    ----------
    coordinates, linear
        v, (n_coordinates,), and x, (n_linear,).
    residuals
        ``A(v) x - y``, (n_rows,).
    leverages
        Diagonal of the hat matrix of the problem linearised in v and x, (n_rows,).
    singular_values
        Of A(v), without the ridge, descending, (min(n_rows, n_linear),).
    iterations
        Number of accepted steps.
    """

    coordinates: Floats
    linear: Floats
    residuals: Floats
    leverages: Floats
    singular_values: Floats
    iterations: int

    @property
    def left_out_residuals(self) -> Floats:
        """Residuals of rows not fitted to, (n_rows,), from the linearised problem (PRESS)."""
        # A row of its own with all the weight has leverage 1: nothing else predicts it.
        return self.residuals / np.maximum(1.0 - self.leverages, 1e-6)

    @property
    def effective_parameters(self) -> float:
        """Trace of the hat matrix: how many parameters the data determine."""
        return float(self.leverages.sum())


class _Point(NamedTuple):
    """Everything about one set of coordinates.

    Parameters
    ----------
    coordinates
        v, (n_coordinates,).
    matrix, state
        A(v), (n_rows, n_linear), and what its derivatives need.
    basis
        (n_rows + n_linear, n_linear): spans the columns of A with the ridge as rows below.
    linear
        The best x, (n_linear,).
    extended_residuals
        (n_rows + n_linear,), those of the ridge behind.
    cost
        What is minimised.
    """

    coordinates: Floats
    matrix: Floats
    state: Any
    basis: Floats
    linear: Floats
    extended_residuals: Floats
    cost: float


def solve(
    problem: SeparableProblem, start: Floats, *, max_iterations: int, tolerance: float
) -> Solution:
    """Minimise a separable problem.

    Parameters
    ----------
    problem
        What to minimise.
    start
        First coordinates, (n_coordinates,).
    max_iterations
        Largest number of accepted steps.
    tolerance
        Stop after a step that lowers the cost by less than this fraction.
    """
    point = _evaluate(problem, np.asarray(start, dtype=np.float64))
    damping, iterations = FIRST_DAMPING, 0
    while iterations < max_iterations:
        new, damping = _step(problem, point, damping)
        if new is None:
            break
        iterations += 1
        finished = point.cost - new.cost < tolerance * point.cost
        point = new
        if finished:
            break
    residuals = point.extended_residuals[: len(problem.targets)]
    singular_values = np.linalg.svd(point.matrix, compute_uv=False).astype(np.float64)
    return Solution(
        coordinates=point.coordinates,
        linear=point.linear,
        residuals=residuals,
        leverages=_leverages(problem, point),
        singular_values=singular_values,
        iterations=iterations,
    )


def _evaluate(problem: SeparableProblem, coordinates: Floats) -> _Point:
    """Solve the linear problem at given coordinates, (n_coordinates,)."""
    # By orthogonal factors, not normal equations: they would square the condition number.
    matrix, state = problem.design.columns(coordinates)
    extended = np.vstack([matrix, np.diag(np.sqrt(problem.linear_ridge))])
    targets = np.concatenate([problem.targets, np.zeros(len(problem.linear_ridge))])
    basis, triangle = np.linalg.qr(extended)
    linear = np.linalg.solve(triangle, basis.T @ targets)
    residuals = extended @ linear - targets
    shift = coordinates - problem.centre
    cost = float(residuals @ residuals + problem.radial_ridge * (shift @ shift))
    return _Point(coordinates, matrix, state, basis, linear, residuals, cost)


def _step(problem: SeparableProblem, point: _Point, damping: float) -> tuple[_Point | None, float]:
    """Return a point of lower cost (None if there is none) and the damping for the next step."""
    # Kaufman's Jacobian: slopes at fixed linear coefficients, less what these can make up for.
    slopes = problem.design.slopes(point.state, point.linear)
    n_ridge_rows = len(point.linear)
    extended = np.vstack([slopes, np.zeros((n_ridge_rows, slopes.shape[1]))])
    projected = extended - point.basis @ (point.basis.T @ extended)
    ridge = problem.radial_ridge
    normal = projected.T @ projected
    normal.flat[:: len(normal) + 1] += ridge
    gradient = projected.T @ point.extended_residuals
    gradient += ridge * (point.coordinates - problem.centre)
    for _ in range(MAX_BAD_STEPS):
        damped = normal + damping * np.diag(np.diag(normal))
        trial = _evaluate(problem, point.coordinates - np.linalg.solve(damped, gradient))
        if trial.cost < point.cost:
            return trial, max(damping * DAMPING_DOWN, SMALLEST_DAMPING)
        damping *= DAMPING_UP
    return None, damping


def _leverages(problem: SeparableProblem, point: _Point) -> Floats:
    """Return the diagonal of the hat matrix of the full linearised problem, (n_rows,)."""
    slopes = problem.design.slopes(point.state, point.linear)
    rows = np.hstack([point.matrix, slopes])
    ridge = np.concatenate([problem.linear_ridge, np.full(slopes.shape[1], problem.radial_ridge)])
    normal = rows.T @ rows
    normal.flat[:: len(normal) + 1] += ridge
    leverages: Floats = np.einsum("rp,pr->r", rows, np.linalg.solve(normal, rows.T))
    return leverages
