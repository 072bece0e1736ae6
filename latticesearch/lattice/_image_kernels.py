"""Compiled loops over labelings and the permutations of their sites.

The canonical form of a labeling is the smallest of its images, in lexicographic order (Hart &
Forcade, Phys. Rev. B 77, 224115 (2008), cross the others out of a list). Labels are int8, one byte
per site, so that ten thousand labelings of 16 sites take 160 kB. Permutations are read, never
applied: an image is compared site by site through its indices, and most comparisons end within the
first sites.
"""

from __future__ import annotations

import numba
import numpy as np


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
    # The number of the best permutation so far is all that is kept of it; its image is written once
    # at the end.
    for item in range(n):
        winner = 0
        # Of equal images the first permutation stays the winner; the image is the same.
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
    # With the translations as permutations, a row with more than one True is a labeling that has a
    # smaller cell: its True entries are the further periods.
    fixed = np.ones((n, n_perms), np.bool_)
    for item in range(n):
        for p in range(n_perms):
            for site in range(n_sites):
                if labels[item, permutations[p, site]] != labels[item, site]:
                    fixed[item, p] = False
                    break
    return fixed
