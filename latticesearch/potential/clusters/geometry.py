"""Clusters of a supercell: those whose vertices are images of one site fold into smaller ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.potential.clusters.basis import ClusterBasis, Clusters

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClusterGeometry:
    """The functions of a cluster basis in one supercell; every cluster has distinct sites.

    Pairs of sites that a translation carries into each other belong to one class.

    Attributes
    ----------
    points : (n_sites, n_species, n_parameters)
        As in `ClusterBasis`, with all that folds into one site.
    class_of : (n_sites, n_sites) int32
        Class of the ordered pair of sites; -1 where no cluster contains both of them.
    pair_tables : (n_classes, n_species, n_species, n_parameters)
        Axes: species of the first site, of the second. Each pair of sites counts once.
    second, third, oriented : (n,) int64
        Ordered triples of distinct sites (every triplet six times) without their first site, and
        the row of `triplet_tables` whose axes are in this order; sorted by the first site, then
        the second.
    start : (n_sites * n_sites + 1,) int64
        Triples that begin with the sites i, j are ``start[i * n_sites + j]`` up to the next one's.
    triplet_tables : (n_oriented, n_species, n_species, n_species, n_parameters)
    """

    points: Floats
    class_of: npt.NDArray[np.int32]
    pair_tables: Floats
    second: Integers
    third: Integers
    oriented: Integers
    start: Integers
    triplet_tables: Floats

    @cached_property
    def neighbours(self) -> Integers:
        """Sites that share a cluster with each site, in their order, (n_sites, n_rows), and -1."""
        seen = self.class_of >= 0
        n_rows = int(seen.sum(axis=1).max(initial=0))
        # A stable sort by "not seen" puts the seen sites first.
        neighbours = np.argsort(~seen, axis=1, kind="stable")[:, :n_rows].astype(np.int64)
        neighbours[~np.take_along_axis(seen, neighbours, axis=1)] = -1
        return neighbours

    @cached_property
    def near(self) -> npt.NDArray[np.int32]:
        """Neighbours and first lines of their pair tables, as in `ClusterTables`."""
        lines = np.take_along_axis(self.class_of, self.neighbours, axis=1) * self.points.shape[1]
        return np.stack([self.neighbours, lines], axis=2).astype(np.int32)

    @cached_property
    def triples(self) -> npt.NDArray[np.int32]:
        """Other sites and first lines of ordered triples, as in `ClusterTables`.

        Those of one first site are dealt out so that the second changes from each to the next: a
        processor that adds to one site waits for the last addition to it.
        """
        lines = self.oriented * self.points.shape[1] ** 2
        pair = np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))
        turn = np.arange(len(pair)) - self.start[pair]
        order = np.lexsort((self.second, turn, pair // len(self.class_of)))
        triples = np.column_stack([self.second, self.third, lines])[order]
        return np.ascontiguousarray(triples, dtype=np.int32)

    @cached_property
    def triples_of_classes(self) -> tuple[Integers, Integers]:
        """Class and row of `triplet_tables`, (n,) each, of the triples that begin with one pair.

        One pair of sites stands for each class.
        """
        classes, pairs = np.unique(self.class_of, return_index=True)
        pairs, classes = pairs[classes >= 0], classes[classes >= 0].astype(np.int64)
        numbers = self.start[pairs + 1] - self.start[pairs]
        rows = [np.arange(self.start[pair], self.start[pair + 1]) for pair in pairs.tolist()]
        return np.repeat(classes, numbers), self.oriented[np.concatenate([*rows, [0]])[:-1]]

    @cached_property
    def pair_columns(self) -> Integers:
        """First and end, (n_classes, 2), of the coefficients that a pair table depends on."""
        return _columns(self.pair_tables)

    @cached_property
    def triplet_columns(self) -> Integers:
        """The same for triplets, (n_oriented, 2)."""
        return _columns(self.triplet_tables)

    @cached_property
    def distinct_triplets(self) -> tuple[Integers, Integers]:
        """First row of `triplet_tables` that equals each, and each with its last sites exchanged.

        Shape (n_oriented,) both.
        """
        first: dict[tuple[int, bytes], int] = {}
        parts = [
            (int(a), table[..., a:b])
            for table, (a, b) in zip(self.triplet_tables, self.triplet_columns, strict=True)
        ]
        name = [first.setdefault((a, p.tobytes()), row) for row, (a, p) in enumerate(parts)]
        exchanged = [first[a, p.swapaxes(1, 2).tobytes()] for a, p in parts]
        return np.array(name, dtype=np.int64), np.array(exchanged, dtype=np.int64)


def _columns(tables: Floats) -> Integers:
    """Return first and end of the columns in which each table is not zero, (n, 2)."""
    used = (tables != 0.0).any(axis=tuple(range(1, tables.ndim - 1)))
    end = tables.shape[-1] - used[:, ::-1].argmax(axis=1)
    return np.column_stack([used.argmax(axis=1), np.where(used.any(axis=1), end, 0)])


_CACHE: WeakKeyDictionary[Supercell, dict[int, tuple[ClusterBasis, ClusterGeometry]]] = (
    WeakKeyDictionary()
)


def cluster_geometry(supercell: Supercell, basis: ClusterBasis) -> ClusterGeometry:
    """Return the folded clusters of `supercell`; made once, kept while the supercell lives."""
    kept = _CACHE.setdefault(supercell, {})
    # The basis is kept with its entry, so its id is not reused meanwhile.
    if id(basis) not in kept:
        kept[id(basis)] = (basis, _fold(supercell, basis))
    return kept[id(basis)][1]


def _fold(supercell: Supercell, basis: ClusterBasis) -> ClusterGeometry:
    n_sites = supercell.n_sites
    fold = _Fold(supercell, basis)
    sites, oriented, tables = fold.add_all()
    fold.is_used[fold.classes[sites[:, 0], sites[:, 1]]] = True
    class_of = np.where(fold.is_used[fold.classes], fold.classes, -1)
    used = np.flatnonzero(fold.is_used)
    renumbered = np.full(len(fold.is_used) + 1, -1, dtype=np.int32)
    renumbered[used] = np.arange(len(used))
    order = np.lexsort((sites[:, 2], sites[:, 1], sites[:, 0]))
    sites, oriented = sites[order], oriented[order]
    names = sites[:, 0] * n_sites + sites[:, 1]
    start = np.searchsorted(names, np.arange(n_sites * n_sites + 1))
    return ClusterGeometry(
        np.ascontiguousarray(fold.points[supercell.basis_index]),
        renumbered[class_of],
        fold.pair_tables[used],
        np.ascontiguousarray(sites[:, 1], dtype=np.int64),
        np.ascontiguousarray(sites[:, 2], dtype=np.int64),
        oriented.astype(np.int64),
        start.astype(np.int64),
        tables,
    )


class _Fold:
    """Adds up what the clusters around the sites of the first cell contribute to each table."""

    def __init__(self, supercell: Supercell, basis: ClusterBasis) -> None:
        self.supercell, self.basis = supercell, basis
        n_basis, n_cells = supercell.parent.n_basis, supercell.n_cells
        n_species, n_parameters = basis.points.shape[1:]
        self.points = basis.points.copy()
        n_classes = n_basis * n_basis * n_cells
        self.pair_tables = np.zeros((n_classes, n_species, n_species, n_parameters))
        self.is_used = np.zeros(n_classes, dtype=np.bool_)
        vectors = supercell.cell_vectors
        # Cell of the difference of two cells, which is what a class is named by.
        difference = supercell.site_of(0, vectors - vectors[:, None])
        b, t = supercell.basis_index, np.tile(np.arange(n_cells), n_basis)
        self.classes = (b[:, None] * n_basis + b) * n_cells + difference[t[:, None], t]

    def add_all(self) -> tuple[Integers, Integers, Floats]:
        """Add all pairs and triplets; return ordered triples, their tables' rows, the tables."""
        pairs, triplets = self.basis.pairs, self.basis.triplets
        centre, others = self._sites(pairs)
        tables = _oriented(self.basis.pair_tables, pairs, np.full(len(centre), fill_value=True))
        self._add_pairs(centre, others[:, 0], tables / 2)
        centre, others = self._sites(triplets)
        distinct = (centre != others[:, 0]) & (centre != others[:, 1])
        distinct &= others[:, 0] != others[:, 1]
        # Many clusters fold into the same few sites: their tables are taken once, by their number.
        places = np.column_stack([centre, others, triplets.shape, triplets.order])[~distinct]
        _, first, number = np.unique(places, axis=0, return_index=True, return_counts=True)
        folded = np.flatnonzero(~distinct)[first]
        kept = np.isin(np.arange(len(centre)), folded)
        tables = _oriented(self.basis.triplet_tables, triplets, kept)
        tables *= number[np.argsort(folded)][:, None, None, None, None] / 3
        self._add_folded(centre[kept], others[kept], tables)
        return self._triples(distinct)

    def _sites(self, clusters: Clusters) -> tuple[Integers, Integers]:
        """Return the sites of the centres, (n,), and of the other vertices, (n, size - 1)."""
        centre = clusters.centre * self.supercell.n_cells
        return centre, self.supercell.site_of(clusters.basis, clusters.cells)

    def _add_points(self, centre: Integers, tables: Floats) -> None:
        np.add.at(self.points, centre // self.supercell.n_cells, tables)

    def _add_pairs(self, centre: Integers, other: Integers, tables: Floats) -> None:
        """Add tables, (n, n_species, n_species, n_parameters), of ordered pairs of sites."""
        alone = centre == other
        diagonal = np.einsum("naap->nap", tables[alone])
        self._add_points(centre[alone], diagonal)
        i, j, tables = centre[~alone], other[~alone], tables[~alone]
        np.add.at(self.pair_tables, self.classes[i, j], tables)
        np.add.at(self.pair_tables, self.classes[j, i], tables.swapaxes(1, 2))
        self.is_used[self.classes[i, j]] = True
        self.is_used[self.classes[j, i]] = True

    def _add_folded(self, i: Integers, others: Integers, tables: Floats) -> None:
        """Add triplets of which two or three vertices are images of one site."""
        j, k = others.T
        for same, other, axes in (
            (i == j, k, "naabp->nabp"),
            ((i == k) & (i != j), j, "nabap->nabp"),
            ((j == k) & (i != j), j, "nabbp->nabp"),
        ):
            # Where all three are one site, this gives a pair of a site with itself: a point.
            self._add_pairs(i[same], other[same], np.einsum(axes, tables[same]))

    def _triples(self, kept: npt.NDArray[np.bool_]) -> tuple[Integers, Integers, Floats]:
        """Return all ordered triples of distinct sites, and the tables in every orientation."""
        triplets, cells = self.basis.triplets, self.supercell.cell_vectors
        n_species, n_parameters = self.basis.points.shape[1:]
        names, sites = [], []
        for swap in (False, True):
            vertices = np.array([0, 2, 1]) if swap else np.arange(3)
            # order[v] is a vertex by its old number; this is its place in the new sequence.
            places = vertices[triplets.order[kept]]
            names.append(np.column_stack([triplets.shape[kept], places]))
            basis = triplets.basis[kept][:, vertices[1:] - 1]
            shifts = triplets.cells[kept][:, vertices[1:] - 1]
            centre = triplets.centre[kept] * self.supercell.n_cells
            blocks = [
                np.column_stack([centre + t, self.supercell.site_of(basis, shifts + vector)])
                for t, vector in enumerate(cells)
            ]
            sites.append(np.stack(blocks))
        unique, row = np.unique(np.concatenate(names), axis=0, return_inverse=True)
        tables = np.array(
            [
                self.basis.triplet_tables[shape].transpose(*np.argsort(order), 3)
                for shape, *order in unique
            ]
        ).reshape(len(unique), n_species, n_species, n_species, n_parameters)
        rows = np.broadcast_to(row.reshape(2, 1, -1), (2, len(cells), int(kept.sum())))
        return np.stack(sites).reshape(-1, 3), rows.reshape(-1), np.ascontiguousarray(tables)


def _oriented(tables: Floats, clusters: Clusters, kept: npt.NDArray[np.bool_]) -> Floats:
    """Return per cluster that is kept its table with the axes centre, other vertices."""
    result = np.empty((int(kept.sum()), *tables.shape[1:]))
    pairs = zip(clusters.shape[kept], clusters.order[kept], strict=True)
    for row, (shape, order) in enumerate(pairs):
        axes = np.argsort(order)
        result[row] = tables[shape].transpose(*axes, len(order))
    return result
