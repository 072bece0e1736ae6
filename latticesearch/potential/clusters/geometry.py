"""Clusters of a supercell: those whose vertices are images of one site fold into smaller ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.potential.clusters._unfold_kernels import Unfolded, unfold

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.potential.clusters.basis import ClusterBasis

    Integers = npt.NDArray[np.int64]
    Numbers = npt.NDArray[np.int32]

BUNDLED = 1.5
"""Triplets per ordered three sites, on average, above which their tables are added up.

Below, tables of its own cost a cell more than look-ups of more triplets do.
"""

KEPT = 2048
"""Supercells times bases whose clusters are kept: a search guides with up to four bases."""


@dataclass(frozen=True, eq=False)
class ClusterGeometry:
    """The clusters of a cluster basis in one supercell; every one has distinct sites.

    Pairs of sites that the same clusters connect belong to one class. How clusters look, energies
    and functions are those of `Orientations`: here are only their numbers.

    Attributes
    ----------
    basis : ClusterBasis
    n_cells : int
        Primitive cells.
    sites : (n_neighbours,) int
        The site that each neighbour in `Orientations` is.
    classes : (n_basis, n_sites) int32
        Class of each site of the first cell with each site; -1 where no cluster contains both.
    alone : (n_basis, n_shapes) int32
        How many clusters of each shape of pairs, then of triplets, fold into one site.
    counts : (n_classes, n_elements + n_bundles) int32
        How many pairs and folded triplets, by their rows of `Entries.pairs`, the first site of a
        pair has with the second, and how many bundles of triplets begin with the two.
    bundles : (n_bundles, n_oriented) int32
        How many triplets, by their rows of `Entries.triplets`, three sites share in this order.
        Where few share any, each triplet stands alone, and three sites may have several.
    unfolded : Unfolded
        Neighbours and ordered triples of all sites.
    """

    basis: ClusterBasis
    n_cells: int
    sites: npt.NDArray[np.intp]
    classes: Numbers
    alone: Numbers
    counts: Numbers
    bundles: Numbers
    unfolded: Unfolded

    @property
    def n_elements(self) -> int:
        """Number of different pairs and folded triplets."""
        return len(self.basis.orientations.entries.pairs)

    @property
    def is_bundled(self) -> bool:
        """Triplets of the same three sites share a table."""
        return self.bundles is not self.basis.orientations.unbundled


@lru_cache(maxsize=KEPT)
def cluster_geometry(supercell: Supercell, basis: ClusterBasis) -> ClusterGeometry:
    """Return the folded clusters of `supercell`; those last asked for are kept."""
    return _fold(supercell, basis)


def _fold(supercell: Supercell, basis: ClusterBasis) -> ClusterGeometry:
    seen = basis.orientations
    sites = supercell.site_of(seen.basis, seen.cells)
    difference = supercell.translation_permutations[:, : supercell.n_cells]
    counter = _Counter(basis, sites, difference[:, 0])
    counter.add_pairs()
    triples, bundles = _bundled(counter.add_triplets(), supercell, seen.unbundled)
    alone, counts = counter.result(triples, len(bundles))
    classes, rows = _classes(counts.reshape(-1, counts.shape[2]))
    classes = classes.reshape(counts.shape[:2])
    unfolded = unfold(difference, classes, triples, basis.points.shape[1])
    return ClusterGeometry(basis, supercell.n_cells, sites, classes, alone, rows, bundles, unfolded)


def _bundled(
    triples: Integers, supercell: Supercell, unbundled: Numbers
) -> tuple[Integers, Numbers]:
    """Return ordered triples with rows of bundles in place of oriented triplets, and the bundles.

    Parameters
    ----------
    triples
        (n, 4): three sites, the first in the first cell, and the row of `Entries.triplets`.
    supercell
        Of the sites.
    unbundled
        (n_oriented, n_oriented): bundles of one triplet each, for where few have the same sites.
    """
    n_sites, n_cells, n_oriented = supercell.n_sites, supercell.n_cells, len(unbundled)
    names = (triples[:, 0] // n_cells * n_sites + triples[:, 1]) * n_sites + triples[:, 2]
    _, first, number = np.unique(names, return_index=True, return_inverse=True)
    if BUNDLED * len(first) >= len(triples):
        return triples, unbundled
    places = number.reshape(-1) * n_oriented + triples[:, 3]
    bundle, bundles = _classes(_numbers(places, (len(first), n_oriented)))
    return np.column_stack([triples[first, :3], bundle]), bundles


def _classes(counts: Numbers) -> tuple[Numbers, Numbers]:
    """Return the class of each row of `counts`, (n, m), and the distinct rows, (n_classes, m).

    Classes are (n,); rows of zeros have the class -1.
    """
    used = np.flatnonzero(counts.any(axis=1))
    rows = counts[used]
    number: dict[bytes, int] = {}
    name = np.array([number.setdefault(row.tobytes(), len(number)) for row in rows], dtype=np.int32)
    classes = np.full(len(counts), -1, dtype=np.int32)
    classes[used] = name
    return classes, rows[np.unique(name, return_index=True)[1]]


class _Counter:
    """Counts the clusters of the sites of the first cell.

    Parameters
    ----------
    basis
        The clusters.
    sites
        (n_neighbours,): the site that each neighbour is.
    opposite
        (n_cells,): the cell opposite to each, as seen from the first.
    """

    def __init__(
        self, basis: ClusterBasis, sites: npt.NDArray[np.intp], opposite: npt.NDArray[np.intp]
    ) -> None:
        self.seen, self.sites, self.opposite = basis.orientations, sites, opposite
        entries, n_basis, n_cells = self.seen.entries, basis.parent.n_basis, len(opposite)
        self.shape = (n_basis, n_basis * n_cells, len(entries.pairs))
        self.shape_alone = (n_basis, len(entries.alone))
        self.places: list[Integers] = []
        self.places_alone: list[tuple[Integers, int]] = []

    def add_pairs(self) -> None:
        """Count the pairs."""
        centre, rows, shape, element = self.seen.pairs
        other = self.sites[rows]
        is_pair = other != centre * len(self.opposite)
        self._add(centre[is_pair], other[is_pair], element[is_pair])
        self._add_alone(centre[~is_pair], shape[~is_pair], 2)

    def add_triplets(self) -> Integers:
        """Count the triplets that fold; return the others, (n, 4), in both orders."""
        triplets, n_cells = self.seen.triplets, len(self.opposite)
        first, (one, other) = triplets.centre * n_cells, self.sites[triplets.others].T
        is_fold, with_first = one == other, one == first
        is_triple = ~(is_fold | with_first | (other == first))
        self._add_folded(is_fold & ~with_first, one)
        alone = is_fold & with_first
        self._add_alone(triplets.centre[alone], triplets.shape[alone], 3)
        first, one, other = first[is_triple], one[is_triple], other[is_triple]
        straight, exchanged = triplets.oriented[is_triple].T
        triples = np.concatenate([[first, one, other, straight], [first, other, one, exchanged]], 1)
        return triples.T

    def result(self, triples: Integers, n_bundles: int) -> tuple[Numbers, Numbers]:
        """Return `alone`, as in `ClusterGeometry`, and the counts of all pairs of sites.

        These, (n_basis, n_sites, n_elements + n_bundles), hold `triples`, (n, 4), as well.
        """
        alone = np.zeros(self.shape_alone, dtype=np.int32)
        for places, n_vertices in self.places_alone:
            # Every vertex has counted them.
            alone += _numbers(places, self.shape_alone) // n_vertices
        pairs = _numbers(np.concatenate(self.places), self.shape)
        names = triples[:, 0] // len(self.opposite) * self.shape[1] + triples[:, 1]
        begun = _numbers(names * n_bundles + triples[:, 3], (*self.shape[:2], n_bundles))
        return alone, np.concatenate([pairs, begun], axis=2)

    def _add_folded(self, mine: npt.NDArray[np.bool_], other: npt.NDArray[np.intp]) -> None:
        """Count triplets whose other vertices are one site, for both sites of such a pair.

        `mine` says which triplets of the basis these are, `other` which site, both (n,). Two of
        their three vertices see them otherwise, so each counts once.
        """
        centre, other = self.seen.triplets.centre[mine], other[mine]
        there, back = self.seen.triplets.folded[mine].T
        self._add(centre, other, there)
        basis, cell = np.divmod(other, len(self.opposite))
        self._add(basis, centre * len(self.opposite) + self.opposite[cell], back)

    def _add(self, centre: Integers, other: npt.NDArray[np.intp], column: Integers) -> None:
        """Note one cluster per entry of the arguments, (n,)."""
        self.places.append((centre * self.shape[1] + other) * self.shape[2] + column)

    def _add_alone(self, centre: Integers, shape: Integers, n_vertices: int) -> None:
        """Note one cluster folded into one site per entry of the arguments, (n,)."""
        self.places_alone.append((centre * self.shape_alone[1] + shape, n_vertices))


def _numbers(places: Integers, shape: tuple[int, ...]) -> Numbers:
    """Return how often each place of an array of this shape occurs in `places`, (n,)."""
    numbers = np.bincount(places, minlength=int(np.prod(shape)))
    return numbers.astype(np.int32).reshape(shape)
