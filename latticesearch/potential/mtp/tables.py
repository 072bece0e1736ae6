"""Geometry of the neighbourhoods of a supercell, folded so that no distance is left.

On a lattice the neighbour vectors are fixed, and in a supercell all images of one site that a
centre sees carry the same species. So they fold into one row per ordered pair of sites, and by
translation symmetry the rows of the first cell's centres serve all cells.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from latticesearch.potential.mtp.radial import chebyshev_basis

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice, Supercell

SAME_SITE = 1e-6
"""Å; a neighbour closer than this is the centre itself."""

PADDING = -1
"""Marks the unused end of the rows of the index arrays of `LatticeGeometry`."""


@dataclass(frozen=True)
class RadialInterval:
    """Where the radial basis functions live, Å, and how many there are; see `chebyshev_basis`."""

    min_dist: float
    max_dist: float
    size: int


@dataclass(frozen=True, eq=False)
class LatticeGeometry:
    """Sums of the radial and angular factors over the images of each site seen from each site.

    Parameters
    ----------
    neighbours
        ``neighbours[i, r] = j``: site i sees at least one image of site j; ascending, padded with
        -1 at the end, (n_sites, n_rows).
    rows
        ``values[rows[i, r]]`` belongs to the pair (i, ``neighbours[i, r]``), (n_sites, n_rows).
    seers, seer_rows
        The same lists read the other way: site ``i = seers[j, s]`` sees site j, through the row
        ``seer_rows[j, s]``; ascending, padded with -1 at the end, (n_sites, n_seers).
    values
        (n_unique, radial_size, n_powers): ``values[u, b, p]`` is the sum over the images of
        ``Q_b(r) (max_dist - r)**2 x**a y**b z**c / r**(a+b+c)``, (a, b, c) = ``powers[p]``, Å².
    powers
        Exponents of the direction cosines, (n_powers, 3).
    """

    neighbours: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    seers: npt.NDArray[np.int64]
    seer_rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    powers: npt.NDArray[np.int64]


class _ParentPairs(NamedTuple):
    """Neighbours of one site of the parent, see `parent_neighbours`, and what each of them adds."""

    basis: npt.NDArray[np.int64]
    translations: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


_CACHE: WeakKeyDictionary[Supercell, dict[object, LatticeGeometry]] = WeakKeyDictionary()
_PARENTS: WeakKeyDictionary[ParentLattice, dict[object, list[_ParentPairs]]] = WeakKeyDictionary()


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


def lattice_geometry(
    supercell: Supercell, interval: RadialInterval, powers: npt.NDArray[np.int64]
) -> LatticeGeometry:
    """Return the folded neighbourhoods of `supercell`; made once, kept while the supercell lives.

    Parameters
    ----------
    supercell
        Cell whose sites are centres and neighbours.
    interval
        Radial basis functions; its max_dist is the cutoff.
    powers
        Exponents of the direction cosines to tabulate, (n_powers, 3).
    """
    kept = _CACHE.setdefault(supercell, {})
    key = (interval, powers.tobytes())
    if key not in kept:
        parents = _PARENTS.setdefault(supercell.parent, {})
        if key not in parents:
            parents[key] = [
                _parent_pairs(supercell.parent, centre, interval, powers)
                for centre in range(supercell.parent.n_basis)
            ]
        kept[key] = _fold(supercell, parents[key], powers)
    return kept[key]


def _parent_pairs(
    parent: ParentLattice,
    centre: int,
    interval: RadialInterval,
    powers: npt.NDArray[np.int64],
) -> _ParentPairs:
    basis, translations, vectors = parent_neighbours(parent, centre, interval.max_dist)
    return _ParentPairs(basis, translations, _pair_values(vectors, interval, powers))


def _fold(
    supercell: Supercell, pairs_of_centres: list[_ParentPairs], powers: npt.NDArray[np.int64]
) -> LatticeGeometry:
    sites: list[npt.NDArray[np.intp]] = []
    rows: list[npt.NDArray[np.intp]] = []
    blocks: list[npt.NDArray[np.float64]] = []
    for basis, shifts, summands in pairs_of_centres:
        seen, first, inverse = np.unique(
            supercell.site_of(basis, shifts), return_index=True, return_inverse=True
        )
        block = np.zeros((len(seen), *summands.shape[1:]))
        np.add.at(block, inverse, summands)
        moved = shifts[first] + supercell.cell_vectors[:, None]
        sites.extend(supercell.site_of(basis[first], moved))
        rows.extend([sum(map(len, blocks)) + np.arange(len(seen))] * supercell.n_cells)
        blocks.append(block)
    centres = np.repeat(np.arange(supercell.n_sites), [len(row) for row in rows])
    pairs = centres, np.concatenate(sites), np.concatenate(rows)
    neighbours, rows_of_sites = _by_first(supercell.n_sites, *pairs)
    seers, seer_rows = _by_first(supercell.n_sites, pairs[1], pairs[0], pairs[2])
    values = np.concatenate(blocks)
    return LatticeGeometry(neighbours, rows_of_sites, seers, seer_rows, values, powers)


def _pair_values(
    vectors: npt.NDArray[np.float64], interval: RadialInterval, powers: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the summands of `LatticeGeometry.values`, (n, radial_size, n_powers)."""
    distances = np.linalg.norm(vectors, axis=1)
    cosines = vectors / distances[:, None]
    angular = np.prod(cosines[:, None, :] ** powers, axis=2)
    radial, _ = chebyshev_basis(distances, interval.min_dist, interval.max_dist, interval.size)
    values: npt.NDArray[np.float64] = radial[:, :, None] * angular[:, None, :]
    return values


def _by_first(
    n_sites: int,
    first: npt.NDArray[np.intp],
    second: npt.NDArray[np.intp],
    rows: npt.NDArray[np.intp],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the `second` sites and the rows of the pairs of each `first` site, with padding."""
    order = np.lexsort((second, first))
    counts = np.bincount(first, minlength=n_sites)
    column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (n_sites, int(counts.max()))
    found = np.full((2, *shape), PADDING, dtype=np.int64)
    found[0, first[order], column] = second[order]
    found[1, first[order], column] = rows[order]
    return found[0], found[1]
