"""Geometry of the neighbourhoods of a supercell, folded so that no distance is left.

On a lattice the neighbour vectors are fixed, and in a supercell all images of one site that a
centre sees carry the same species. So they fold into one row per ordered pair of sites, and by
translation symmetry the rows of the first cell's centres serve all cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.lattice.neighbours import parent_neighbours
from latticesearch.potential.mtp.radial import chebyshev_basis

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice, Supercell

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


KEPT = 512
"""Supercells whose geometry is kept, as many as evaluators: a fit makes new ones every round."""

KEPT_PARENTS = 8
"""Lattices whose neighbours are kept; one problem has one, a comparison a few."""


def lattice_geometry(
    supercell: Supercell, interval: RadialInterval, powers: npt.NDArray[np.int64]
) -> LatticeGeometry:
    """Return the folded neighbourhoods of `supercell`; those last asked for are kept.

    Parameters
    ----------
    supercell
        Cell whose sites are centres and neighbours.
    interval
        Radial basis functions; its max_dist is the cutoff.
    powers
        Exponents of the direction cosines to tabulate, (n_powers, 3).
    """
    return _geometry(supercell, interval, np.asarray(powers, dtype=np.int64).tobytes())


@lru_cache(maxsize=KEPT)
def _geometry(supercell: Supercell, interval: RadialInterval, exponents: bytes) -> LatticeGeometry:
    """Return the same; arrays have no hash, so the exponents are named by their bytes."""
    powers = np.frombuffer(exponents, dtype=np.int64).reshape(-1, 3)
    return _fold(supercell, _all_pairs(supercell.parent, interval, exponents), powers)


@lru_cache(maxsize=KEPT_PARENTS)
def _all_pairs(
    parent: ParentLattice, interval: RadialInterval, exponents: bytes
) -> list[_ParentPairs]:
    """Return the neighbours of every site of the parent."""
    powers = np.frombuffer(exponents, dtype=np.int64).reshape(-1, 3)
    return [_parent_pairs(parent, centre, interval, powers) for centre in range(parent.n_basis)]


def _parent_pairs(
    parent: ParentLattice,
    centre: int,
    interval: RadialInterval,
    powers: npt.NDArray[np.int64],
) -> _ParentPairs:
    """Return the neighbours of one site of the parent and what each adds to `powers`, (n, 3)."""
    basis, translations, vectors = parent_neighbours(parent, centre, interval.max_dist)
    return _ParentPairs(basis, translations, _pair_values(vectors, interval, powers))


def _fold(
    supercell: Supercell, pairs_of_centres: list[_ParentPairs], powers: npt.NDArray[np.int64]
) -> LatticeGeometry:
    """Return the geometry of a supercell: what images of one site add is summed.

    `powers` are exponents of the direction cosines, (n_powers, 3).
    """
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
    """Return the `second` sites and the rows of the pairs of each `first` site, with padding.

    All three are (n_pairs,); both results are (n_sites, most pairs of a site).
    """
    order = np.lexsort((second, first))
    counts = np.bincount(first, minlength=n_sites)
    column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (n_sites, int(counts.max()))
    found = np.full((2, *shape), PADDING, dtype=np.int64)
    found[0, first[order], column] = second[order]
    found[1, first[order], column] = rows[order]
    return found[0], found[1]
