"""Compiled loops over integer matrices and labelings; plain arrays in, plain arrays out."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def hermite_batch(generators: np.ndarray) -> np.ndarray:
    """Reduce row generators of integer lattices to upper triangular Hermite normal form.

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
            if rows[column, column] == 0:
                full_rank = False
                break
            if rows[column, column] < 0:
                for k in range(3):
                    rows[column, k] = -rows[column, k]
            for above in range(column):
                quotient = rows[above, column] // rows[column, column]
                for k in range(3):
                    rows[above, k] -= quotient * rows[column, k]
        if full_rank:
            for row in range(3):
                for k in range(3):
                    forms[item, row, k] = rows[row, k]
    return forms


@numba.njit(cache=True)
def smallest_images(labels: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Return the lexicographically smallest image of each labeling.

    Parameters
    ----------
    labels : (n, n_sites) int8
    permutations : (n_perms, n_sites) intp
        A group, or a coset of one; the images are ``labels[i][permutations[p]]``.

    Returns
    -------
    (n, n_sites) int8
    """
    n, n_sites = labels.shape
    best = np.empty_like(labels)
    for item in range(n):
        winner = 0
        for p in range(1, permutations.shape[0]):
            for site in range(n_sites):
                new = labels[item, permutations[p, site]]
                old = labels[item, permutations[winner, site]]
                if new != old:
                    if new < old:
                        winner = p
                    break
        for site in range(n_sites):
            best[item, site] = labels[item, permutations[winner, site]]
    return best


@numba.njit(cache=True)
def fixed_by(labels: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Return which permutations leave which labelings unchanged.

    Parameters
    ----------
    labels : (n, n_sites) int8
    permutations : (n_perms, n_sites) intp

    Returns
    -------
    (n, n_perms) bool
    """
    n, n_sites = labels.shape
    n_perms = permutations.shape[0]
    fixed = np.ones((n, n_perms), np.bool_)
    for item in range(n):
        for p in range(n_perms):
            for site in range(n_sites):
                if labels[item, permutations[p, site]] != labels[item, site]:
                    fixed[item, p] = False
                    break
    return fixed
