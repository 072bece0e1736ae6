"""Slow, obvious twin of the hull: one linear programme per question, no geometry."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog


def envelope(compositions, energies, x):
    """Return the lowest energy of a mixture of points with composition x; inf if there is none.

    Minimise ``sum_i w_i e_i`` over ``w >= 0`` with ``sum_i w_i x_i = x``; the rows of `x` add up
    to 1, so the weights do as well.
    """
    if len(energies) == 0:
        return np.inf
    answer = linprog(energies, A_eq=np.transpose(compositions), b_eq=x, bounds=(0, None))
    return answer.fun if answer.status == 0 else np.inf


def depths(compositions, energies):
    """Return (n,) how far each point lies below the hull of all others, negative if above."""
    everyone = np.arange(len(energies))
    return np.array(
        [
            envelope(compositions[everyone != i], energies[everyone != i], compositions[i])
            - energies[i]
            for i in everyone
        ]
    )


def vertices(compositions, energies, tolerance=1e-7):
    """Return the indices of points that no mixture of the others reaches or beats."""
    return np.flatnonzero(depths(compositions, energies) > tolerance)
