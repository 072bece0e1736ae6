"""Radial Chebyshev basis of the moment tensor potential."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def chebyshev_basis(
    distances: npt.NDArray[np.float64], min_dist: float, max_dist: float, size: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the radial basis functions, with the cutoff factor, and their derivatives.

    The functions are ``T_b(x) (max_dist - r)**2`` with the Chebyshev polynomials of
    ``x = (2 r - min_dist - max_dist) / (max_dist - min_dist)``; zero from max_dist on. Below
    min_dist they are simply extrapolated.

    Parameters
    ----------
    distances
        (n,), Å.
    min_dist, max_dist
        Interval of the polynomials, Å.
    size
        Number of functions.

    Returns
    -------
    values
        (n, size), Å².
    derivatives
        (n, size), with respect to the distance, Å.
    """
    slope = 2.0 / (max_dist - min_dist)
    x = (2.0 * distances - (min_dist + max_dist)) / (max_dist - min_dist)
    polynomials = np.ones((len(distances), size))
    slopes = np.zeros((len(distances), size))
    if size > 1:
        polynomials[:, 1] = x
        slopes[:, 1] = slope
    for b in range(2, size):
        polynomials[:, b] = 2.0 * x * polynomials[:, b - 1] - polynomials[:, b - 2]
        slopes[:, b] = (
            2.0 * (slope * polynomials[:, b - 1] + x * slopes[:, b - 1]) - slopes[:, b - 2]
        )
    gap = np.maximum(max_dist - distances, 0.0)[:, None]
    return polynomials * gap**2, slopes * gap**2 - 2.0 * polynomials * gap
