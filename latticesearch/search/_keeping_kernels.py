"""Compiled choice of the labelings worth keeping of an enumeration.

An enumeration streams: its labelings come in batches and are gone with them. What is remembered of
each composition are its lowest energies, in a binary heap with the highest first (heapsort's;
Williams, Commun. ACM 7, 347 (1964)): nearly all labelings are refused by one comparison with that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from latticesearch.potential.walk import LEAN
from latticesearch.search._walk_kernels import SAME

if TYPE_CHECKING:
    import numpy.typing as npt


@njit(cache=True)
def keep_lowest(
    labels: npt.NDArray[np.int8],
    energies: npt.NDArray[np.float64],
    weights: npt.NDArray[np.int64],
    codes: npt.NDArray[np.int64],
    heaps: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """Return the rows that may be among the lowest of their composition.

    Parameters
    ----------
    labels
        (n, n_sites).
    energies
        (n,), eV per site.
    weights
        (n_species,): the weights of the species on all sites add up to the code of a composition.
    codes
        Ascending codes of all compositions, (n_codes,).
    heaps
        (n_codes, n_kept): the lowest energies of each composition so far, the highest of them
        first (a binary heap); infinite where there are none yet. Brought up to date.

    Returns
    -------
    (m,)
        Ascending rows; more than n_kept of a composition where later ones are lower.
    """
    n, n_sites = labels.shape
    kept = np.empty(n, np.int64)
    n_kept = 0
    for row in range(n):
        # One number per composition, without counting species: sites add their species' weights.
        code = 0
        for i in range(n_sites):
            code += weights[labels[row, i]]
        heap = heaps[np.searchsorted(codes, code)]
        energy = energies[row]
        # What equals the highest kept is returned, too: which of equals are kept must not depend on
        # rounding or on the order of batches, so whoever has all of them decides.
        if energy <= heap[0] + SAME:
            kept[n_kept] = row
            n_kept += 1
            if energy < heap[0]:
                _replace_first(heap, energy)
    return kept[:n_kept]


@njit(**LEAN)
def _replace_first(heap: npt.NDArray[np.float64], value: float) -> None:
    """Replace the first, highest, entry of a binary heap, (n_kept,), by a lower value, eV."""
    # The larger child moves up until neither is larger than the value: log2(n_kept) steps at most.
    at = 0
    while True:
        child = 2 * at + 1
        if child + 1 < heap.size and heap[child + 1] > heap[child]:
            child += 1
        if child >= heap.size or heap[child] <= value:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = value
