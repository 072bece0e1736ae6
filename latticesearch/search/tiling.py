"""Large cells tiled with small ones.

A structure of a small cell fills every supercell that the small cell divides. Where its size allows
the composition, that is often the ground state, and a walk through the labelings of eight sites
finds it long before one through those of a hundred; where it does not, it is a start with few atoms
in the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration.superlattices import all_superlattices
from latticesearch.lattice import Supercell
from latticesearch.lattice.normal_forms import is_superlattice
from latticesearch.lattice.skewness import by_skewness
from latticesearch.search.partial import UNDECIDED, complete_at_random, fits_sites, is_feasible

if TYPE_CHECKING:
    import numpy.typing as npt

    Labels = npt.NDArray[np.int8]
    Counts = npt.NDArray[np.int64]

LARGEST_TILE = 32
"""Sites of a small cell at most; larger ones are searched hardly faster than the whole."""

MOST_OFF = 0.13
"""Part of the sites that may have to change their species after tiling, at most."""

MOST_PER_SIZE = 16
"""Small cells of one size at most, the least skewed ones."""

ROUNDING = 1e-6
"""Atoms by which a whole number of them may be short for rounding."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A small cell that divides a large one.

    Attributes
    ----------
    cell : Supercell
        The small cell.
    counts : (n_species,) int
        Atoms of each species in it, as near to the composition of the large cell as its size
        allows.
    sites : (n_sites,) int
        The site of the small cell that each site of the large one repeats.
    is_exact : bool
        The small cell has the composition of the large one, not only nearly.
    """

    cell: Supercell
    counts: Counts
    sites: npt.NDArray[np.intp]
    is_exact: bool

    def fill(
        self,
        labels: Labels,
        counts: Counts,
        allowed: npt.NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> Labels | None:
        """Return the large cell filled with a labeling of the small one, (n_sites,).

        Sites drawn at random change their species until the composition is right; None where the
        sublattices do not allow that.

        Parameters
        ----------
        labels
            (n_tile_sites,) of the small cell.
        counts
            (n_species,) atoms of each species in the large cell.
        allowed
            (n_sites, n_species) of the large cell.
        rng
            Source of chance.
        """
        filled = labels[self.sites]
        surplus = np.bincount(filled, minlength=len(counts)) - counts
        for species in np.flatnonzero(surplus > 0):
            sites = rng.permutation(np.flatnonzero(filled == species))
            filled[sites[: surplus[species]]] = UNDECIDED
        if not is_feasible(filled[None], counts, allowed)[0]:
            return None
        return complete_at_random(filled, counts, allowed, rng)


def tiles_of(cell: Supercell, counts: Counts) -> list[Tile]:
    """Return the small cells that tile a large one, smallest first.

    Parameters
    ----------
    cell
        The large cell.
    counts
        (n_species,) atoms of each species in it.
    """
    vectors = np.tile(cell.cell_vectors, (cell.parent.n_basis, 1))
    tiles = []
    for small in dividing_cells(cell):
        nearest = nearest_counts(small, counts / cell.n_sites)
        if nearest is not None:
            sites = small.site_of(cell.basis_index, vectors)
            is_exact = bool((nearest * cell.n_sites == counts * small.n_sites).all())
            tiles.append(Tile(small, nearest, sites, is_exact))
    return tiles


@lru_cache(maxsize=256)  # a search works with one cell at a time, a run with some dozens
def dividing_cells(cell: Supercell) -> tuple[Supercell, ...]:
    """Return the cells of up to `LARGEST_TILE` sites that divide a supercell, smallest first.

    Of those that the parent's symmetry carries into each other one stands for all: whatever their
    orientation, a labeling fills the supercell with the same energy per site.
    """
    largest = min(LARGEST_TILE // cell.parent.n_basis, cell.n_cells // 2)
    indices = [n for n in range(2, largest + 1) if cell.n_cells % n == 0]
    return tuple(small for index in indices for small in _dividing(cell, index))


def _dividing(cell: Supercell, index: int) -> list[Supercell]:
    """Return the distinct cells of one index, the least skewed first."""
    forms = all_superlattices(index)
    forms = forms[is_superlattice(cell.hnf, forms)]
    distinct = {cell.parent.canonical_hnf(hnf)[0].tobytes(): hnf for hnf in forms[::-1]}
    cells = by_skewness(Supercell.from_matrix(cell.parent, hnf) for hnf in distinct.values())
    return cells[:MOST_PER_SIZE]


def nearest_counts(cell: Supercell, fractions: npt.NDArray[np.float64]) -> Counts | None:
    """Return the counts of a cell nearest to a composition, (n_species,).

    None where more than `MOST_OFF` of its sites would have to differ, or the sites of the cell do
    not allow them.

    Parameters
    ----------
    cell
        The cell.
    fractions
        (n_species,) of all sites.
    """
    exact = cell.n_sites * fractions
    counts = np.floor(exact + ROUNDING).astype(np.int64)
    order = np.argsort(np.round(counts - exact, 9), kind="stable")
    counts[order[: cell.n_sites - counts.sum()]] += 1
    off = 0.5 * float(np.abs(counts - exact).sum()) / cell.n_sites
    is_open = np.ones((1, cell.n_sites), dtype=np.bool_)
    if off > MOST_OFF or not fits_sites(counts[None], is_open, cell.allowed)[0]:
        return None
    return counts
