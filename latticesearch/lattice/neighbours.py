"""Which sites of the infinite parent lattice are near to which."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice.parent import ParentLattice

SAME_SITE = 1e-6
"""Å; a neighbour closer than this is the centre itself."""


def parent_neighbours(
    parent: ParentLattice, centre: int, cutoff: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the neighbours of one basis site of the infinite parent lattice.

    Parameters
    ----------
    parent
        The parent lattice.
    centre
        Basis index of the centre, which sits in the cell (0, 0, 0).
    cutoff
        Neighbours are closer than this, Å.

    Returns
    -------
    basis : (n,)
        Basis indices of the neighbours.
    translations : (n, 3)
        Integer translations of their cells.
    vectors : (n, 3)
        Vectors from the centre, Å.
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(parent.cell), axis=0)
    spread = np.ptp(parent.basis, axis=0)
    reach = np.ceil(cutoff / heights + spread).astype(int)
    grid = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach))), dtype=np.int64)
    basis = np.repeat(np.arange(len(parent.basis)), len(grid))
    translations = np.tile(grid, (len(parent.basis), 1))
    vectors = (translations + parent.basis[basis] - parent.basis[centre]) @ parent.cell
    distances = np.linalg.norm(vectors, axis=1)
    keep = (distances < cutoff) & (distances > SAME_SITE)
    return basis[keep], translations[keep], vectors[keep]


def nearest_distance(parent: ParentLattice) -> float:
    """Return the shortest distance between two sites of the infinite parent lattice, Å."""
    # The shortest lattice vector is no longer than any of the cell's.
    cutoff = float(np.linalg.norm(parent.cell, axis=1).max()) + SAME_SITE
    return min(
        float(np.linalg.norm(parent_neighbours(parent, centre, cutoff)[2], axis=1).min())
        for centre in range(parent.n_basis)
    )
