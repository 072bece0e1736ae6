"""What surrounds the sites of a supercell, arranged for the rows of many swaps at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.potential.clusters._row_kernels import SwapTables
from latticesearch.potential.clusters.basis import site_functions

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.potential.clusters.geometry import ClusterGeometry

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

NOTHING = 1e-13
"""Products of site functions that a table holds less of it does not hold."""


class _Part(NamedTuple):
    """The same of one sublattice as `SwapTables`; a list holds one array per kind."""

    around: Integers
    segments: list[Integers]
    partners: list[Integers]
    terms: list[Integers]
    weights: list[Floats]
    points: Floats


def swap_tables(supercell: Supercell, geometry: ClusterGeometry) -> SwapTables:
    """Return the clusters around the sites of `supercell` for `swap_features`."""
    n_cells = supercell.n_cells
    parts = [_part(geometry, b * n_cells) for b in range(supercell.parent.n_basis)]
    segments = [rows for part in parts for rows in part.segments]
    terms = [rows for part in parts for rows in part.terms]
    lengths = [(len(a), len(b)) for a, b in zip(segments, terms, strict=True)]
    return SwapTables(
        np.ascontiguousarray(site_functions(geometry.points.shape[1])),
        np.asarray(supercell.basis_index, dtype=np.int64),
        _around(supercell, [part.around for part in parts]),
        np.cumsum([0, *(len(part.terms) for part in parts)]),
        np.cumsum([(0, 0), *lengths], axis=0),
        _partners_counted(_joined(segments, 2)),
        _joined([rows for part in parts for rows in part.partners]),
        _joined(terms, 3),
        np.concatenate([np.zeros(0), *(w for part in parts for w in part.weights)]),
        np.stack([part.points for part in parts]),
    )


def _joined(arrays: list[Integers], *width: int) -> Integers:
    """Return arrays of one width one after the other, also if there are none."""
    return np.concatenate([np.zeros((0, *width), dtype=np.int64), *arrays])


def _partners_counted(segments: Integers) -> Integers:
    """Return vertex, first and end of the partners of segments given as vertex and number."""
    end = np.cumsum(segments[:, 1])
    return np.column_stack([segments[:, 0], end - segments[:, 1], end])


def _around(supercell: Supercell, parts: list[Integers]) -> Integers:
    """Return what surrounds every site, (n_sites, n_around), padded with the site itself."""
    n_cells, n_around = supercell.n_cells, max(map(len, parts))
    result = np.repeat(np.arange(supercell.n_sites)[:, None], n_around, axis=1)
    vectors = supercell.cell_vectors
    for b, around in enumerate(parts):
        basis, cells = np.divmod(around, n_cells)
        moved = supercell.site_of(basis, vectors[cells] + vectors[:, None])
        result[b * n_cells : (b + 1) * n_cells, : len(around)] = moved
    return result.astype(np.int64)


def _part(geometry: ClusterGeometry, site: int) -> _Part:
    """Return what surrounds one site, as it surrounds all of its sublattice."""
    neighbours = np.flatnonzero(geometry.class_of[site] >= 0)
    kind, second, third = _triplets(geometry, site)
    around = np.union1d(neighbours, np.concatenate([second, third]))
    builder = _Builder(geometry.points[site])
    for table, members in _pairs(geometry, site, neighbours):
        builder.add_pairs(table, np.searchsorted(around, members))
    for name in np.unique(kind):
        mine = kind == name
        first, end = geometry.triplet_columns[name]
        table = geometry.triplet_tables[name, ..., first:end]
        places = np.searchsorted(around, np.column_stack([second[mine], third[mine]]))
        builder.add_triplets(table, int(first), places)
    return builder.part(around)


def _pairs(
    geometry: ClusterGeometry, site: int, neighbours: Integers
) -> list[tuple[Floats, Integers]]:
    """Return the distinct tables of the pairs of a site, and the other sites of each."""
    members: dict[bytes, list[int]] = {}
    for other in neighbours.tolist():
        table = geometry.pair_tables[geometry.class_of[site, other]]
        members.setdefault(table.tobytes(), []).append(other)
    return [
        (geometry.pair_tables[geometry.class_of[site, others[0]]], np.array(others))
        for others in members.values()
    ]


def _triplets(geometry: ClusterGeometry, site: int) -> tuple[Integers, Integers, Integers]:
    """Return the triplets of a site, each once: table, second and third site.

    Of the two orders of the other sites that one is kept whose first of them are fewer.
    """
    n_sites = len(geometry.points)
    mine = slice(geometry.start[site * n_sites], geometry.start[(site + 1) * n_sites])
    second, third = geometry.second[mine], geometry.third[mine]
    name, transposed = geometry.distinct_triplets
    kind = name[geometry.oriented[mine]]
    firsts = np.full(len(name), n_sites + 1)
    for k in np.unique(kind):
        firsts[k] = len(np.unique(second[kind == k]))
    rank, other = firsts[kind], firsts[transposed[kind]]
    same = kind == transposed[kind]
    kept = (
        (rank < other) | ((rank == other) & (kind < transposed[kind])) | (same & (second < third))
    )
    return kind[kept], second[kept], third[kept]


class _Builder:
    """Collects the kinds of one sublattice and what coefficients multiply their sums."""

    def __init__(self, points: Floats) -> None:
        self.points = points.copy()
        self.functions = site_functions(len(points)) / len(points)
        self.segments: list[Integers] = []
        self.partners: list[Integers] = []
        self.terms: list[Integers] = []
        self.weights: list[Floats] = []

    def add_pairs(self, table: Floats, places: Integers) -> None:
        """Add pairs of one table, (n_species, n_species, n_parameters)."""
        self.points += len(places) * table.mean(axis=1)
        products = np.einsum("zyp,az,by->abp", table, *[self.functions] * 2, optimize=True)
        self._add(np.array([[-1, len(places)]]), places, products)

    def add_triplets(self, table: Floats, first: int, places: Integers) -> None:
        """Add triplets of one table, whose last axis begins with the coefficient `first`."""
        places = places[np.lexsort(places.T[::-1])]
        segments = np.column_stack(np.unique(places[:, 0], return_counts=True))
        products = np.einsum("zyxp,az,by,cx->abcp", table, *[self.functions] * 3, optimize=True)
        n, width = len(self.functions), table.shape[3]
        self._add(segments, places[:, 1], products.reshape(n, n * n, width), first)

    def _add(
        self, segments: Integers, partners: Integers, products: Floats, first: int = 0
    ) -> None:
        """Add a kind; `products`, (n_functions, n_sums, n), say what coefficients multiply."""
        centre, total, column = np.nonzero(np.abs(products) > NOTHING)
        order = np.argsort(column, kind="stable")
        self.segments.append(segments)
        self.partners.append(partners)
        self.terms.append(np.column_stack([column + first, centre, total])[order])
        self.weights.append(products[centre, total, column][order])

    def part(self, around: Integers) -> _Part:
        """Return all that was added."""
        return _Part(around, self.segments, self.partners, self.terms, self.weights, self.points)
