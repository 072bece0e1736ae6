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

    The errors are those of the jackknife over fits that leave one part of the data out, with K
    parts: sqrt((K - 1) / K sum_f (value_f - mean)²). Sums are taken in one order, so that a result
    does not depend on the block its row stands in, as it does with a product of matrices.

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

    Returns
    -------
    (n,)
        eV per site, as the coefficients are; lowest first is what to pay for next.
    """
    n_folds = left_out.shape[0]
    result = np.zeros(rows.shape[0])
    values = np.zeros(n_folds)
    for n in range(rows.shape[0]):
        total = 0.0
        values[:] = 0.0
        # Features outside, folds inside: each feature is read once for all fits.
        for k in range(coefficients.size):
            row = rows[n, k]
            total += row * coefficients[k]
            for f in range(n_folds):
                values[f] += row * left_out[f, k]
        mean = values.sum() / n_folds
        # Differences to the mean, not a difference of squares, which cancels where fits agree.
        square = 0.0
        for f in range(n_folds):
            square += (values[f] - mean) ** 2
        result[n] = total - optimism * np.sqrt(square * (n_folds - 1) / n_folds)
    return result
