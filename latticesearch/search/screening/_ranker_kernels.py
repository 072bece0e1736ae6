"""Compiled predictions of surrogates with their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt


@njit(cache=True)
def optimistic(
    rows: npt.NDArray[np.float64],
    coefficients: npt.NDArray[np.float64],
    left_out: npt.NDArray[np.float64],
    optimism: float,
) -> npt.NDArray[np.float64]:
    """Return predictions, (n,), lowered by a multiple of their standard errors.

    The errors are those of the jackknife over fits that leave one part of the data out. Sums are
    taken in one order, so that a result does not depend on the block its row stands in.

    Parameters
    ----------
    rows
        (n, n_parameters).
    coefficients
        (n_parameters,).
    left_out
        (n_folds, n_parameters).
    optimism
        The multiple.
    """
    n_folds = left_out.shape[0]
    result = np.zeros(rows.shape[0])
    values = np.zeros(n_folds)
    for n in range(rows.shape[0]):
        total = 0.0
        values[:] = 0.0
        for k in range(coefficients.size):
            row = rows[n, k]
            total += row * coefficients[k]
            for f in range(n_folds):
                values[f] += row * left_out[f, k]
        mean = values.sum() / n_folds
        square = 0.0
        for f in range(n_folds):
            square += (values[f] - mean) ** 2
        result[n] = total - optimism * np.sqrt(square * (n_folds - 1) / n_folds)
    return result
