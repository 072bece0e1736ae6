"""The compiled reduction of integer matrices to Hermite normal form.

Integers in and out, no unit: rows in units of the parent's lattice vectors. Hart & Forcade, Phys.
Rev. B 77, 224115 (2008), name superlattices by such forms; theirs is lower triangular with the
lattice vectors as columns, ours upper triangular, because vectors are rows here.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def hermite_batch(generators: np.ndarray) -> np.ndarray:
    """Reduce row generators of integer lattices to upper triangular Hermite normal form.

    Gaussian elimination in integers: adding a multiple of one row to another, exchanging rows and
    turning signs keep the lattice. More than three rows are reduced with the rest, so a lattice and
    further periods of it, or the rows of two lattices, need no step of their own.

    Parameters
    ----------
    generators : (n, m, 3) int64
        m >= 3 rows that span a lattice of full rank, for each of n lattices.

    Returns
    -------
    (n, 3, 3) int64
        ``[[a, b, c], [0, d, e], [0, 0, f]]`` with a, d, f > 0, 0 <= b < d and 0 <= c, e < f;
        a zero matrix where the rows do not have full rank.
    """
    n, m, _ = generators.shape
    # A batch at a time: the images of a superlattice under all operations are 48 matrices of 9
    # numbers, and a call from Python would cost more than the reduction.
    forms = np.zeros((n, 3, 3), np.int64)
    rows = np.empty((m, 3), np.int64)
    for item in range(n):
        for row in range(m):
            for k in range(3):
                rows[row, k] = generators[item, row, k]
        full_rank = True
        for column in range(3):
            # Euclid's algorithm between the pivot row and every row below it.
            for other in range(column + 1, m):
                while rows[other, column] != 0:
                    quotient = rows[column, column] // rows[other, column]
                    for k in range(3):
                        rest = rows[column, k] - quotient * rows[other, k]
                        rows[column, k] = rows[other, k]
                        rows[other, k] = rest
            # Now all below the pivot is zero, and the pivot is the greatest common divisor.
            if rows[column, column] == 0:
                full_rank = False
                break
            if rows[column, column] < 0:
                for k in range(3):
                    rows[column, k] = -rows[column, k]
            # The entries above get their smallest remainder that is not negative, which makes the
            # form unique; floor division does it for negative numbers, too.
            for above in range(column):
                quotient = rows[above, column] // rows[column, column]
                for k in range(3):
                    rows[above, k] -= quotient * rows[column, k]
        if full_rank:
            for row in range(3):
                for k in range(3):
                    forms[item, row, k] = rows[row, k]
    return forms
