"""What is the same in all supercells: clusters as their vertices see them, and their functions.

A supercell only says which sites the vertices are, and how many clusters fold into each pair or
site. So all that depends on functions or coefficients is made once per basis or model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.potential.clusters._table_kernels import Entries
from latticesearch.potential.clusters.functions import site_functions

if TYPE_CHECKING:
    from collections.abc import Hashable

    import numpy.typing as npt

    from latticesearch.potential.clusters.basis import ClusterBasis, Clusters

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

NOTHING = 1e-13
"""Products of site functions that a table holds less of it does not hold."""


class PairList(NamedTuple):
    """Pairs of the sites of the first cell.

    Parameters
    ----------
    centre
        (n,): site of the basis.
    other
        (n,): row of the neighbours.
    shape
        (n,): row of `Entries.alone`.
    element
        (n,): row of `Entries.pairs`.
    """

    centre: Integers
    other: Integers
    shape: Integers
    element: Integers


class TripletList(NamedTuple):
    """Triplets of the sites of the first cell, each once per vertex there.

    Parameters
    ----------
    centre
        (n,): site of the basis.
    others
        (n, 2): rows of the neighbours.
    shape
        (n,): row of `Entries.alone`.
    oriented
        (n, 2): rows of `Entries.triplets`, for the other vertices as they stand and exchanged.
    folded
        (n, 2): rows of `Entries.pairs` where both others are one site: the pair of the centre with
        it, and of it with the centre.
    hub
        (n,): which of the others comes first where sums are made: triplets of one orientation then
        have fewer different first vertices.
    """

    centre: Integers
    others: Integers
    shape: Integers
    oriented: Integers
    folded: Integers
    hub: Integers


class Terms(NamedTuple):
    """Products of site functions that coefficients multiply.

    Parameters
    ----------
    rows
        (n, 3): coefficient, site function of the centre, and of the others, the last one's running
        faster.
    weights
        (n,): factors.
    start
        (n_elements + n_oriented + 1,): first of each row of `Entries.pairs`, then of each row of
        `Entries.triplets`.
    """

    rows: Integers
    weights: Floats
    start: Integers


@dataclass(frozen=True, eq=False)
class Orientations:
    """The clusters of a basis as seen from their vertices.

    Attributes
    ----------
    centre : (n,) int
        Site of the basis that each neighbour is one of.
    basis : (n,) int
        Which site of the basis the neighbour is.
    cells : (n, 3) int
        Its cell, as seen from that of the centre.
    pairs : PairList
    triplets : TripletList
    entries : Entries
        Tables of equal numbers are listed once. The pairs are those of the basis, and triplets two
        vertices of which are one site, of every orientation.
    """

    centre: Integers
    basis: Integers
    cells: Integers
    pairs: PairList
    triplets: TripletList
    entries: Entries

    @classmethod
    def of(cls, basis: ClusterBasis) -> Orientations:
        """Look at the clusters of `basis` from every vertex."""
        neighbours, pair_rows, triplet_rows = _neighbours(basis)
        builder = _Builder(basis)
        elements = builder.pair_elements()
        pairs = PairList(basis.pairs.centre, pair_rows[:, 0], basis.pairs.shape, elements)
        triplets = builder.triplet_list(triplet_rows)
        return cls(
            neighbours[:, 0],
            neighbours[:, 1],
            neighbours[:, 2:],
            pairs,
            triplets,
            builder.entries(),
        )

    @cached_property
    def unbundled(self) -> npt.NDArray[np.int32]:
        """Bundles of one oriented triplet each, (n_oriented, n_oriented)."""
        return np.eye(len(self.entries.triplets), dtype=np.int32)

    @cached_property
    def element_functions(self) -> tuple[Floats, Integers]:
        """Functions of `Entries.pairs`, (n, n_species**2, width), and their columns, (n, 2)."""
        return self._functions(self.entries.pairs)

    @cached_property
    def triplet_functions(self) -> tuple[Floats, Integers]:
        """Functions of `Entries.triplets`, (n, n_species**3, width), and their columns, (n, 2)."""
        return self._functions(self.entries.triplets)

    @cached_property
    def alone_functions(self) -> tuple[Floats, Integers]:
        """Functions of `Entries.alone`, (n, n_species, width), and their columns, (n, 2)."""
        return self._functions(self.entries.alone)

    @cached_property
    def mean_functions(self) -> tuple[Floats, Integers]:
        """Functions of `Entries.pairs` averaged over the second species, and their columns.

        (n, n_species, width) and (n, 2).
        """
        (functions, columns), s = self.element_functions, self.entries.alone.shape[1]
        means = functions.reshape(len(functions), s, s, functions.shape[2]).mean(axis=2)
        means[np.abs(means) < NOTHING] = 0.0
        return means, columns

    @cached_property
    def terms(self) -> Terms:
        """What site functions the coefficients of every element and oriented triplet multiply."""
        s = self.entries.alone.shape[1]
        single = site_functions(s) / s
        parts = []
        tables = (self.element_functions, self.triplet_functions)
        for size, (functions, columns) in enumerate(tables, start=2):
            products = functions.reshape(len(functions), *[s] * size, functions.shape[2])
            for axis in range(1, size + 1):
                products = np.moveaxis(np.tensordot(single, products, (1, axis)), 0, axis)
            flat = products.reshape(len(products), s - 1, (s - 1) ** (size - 1), products.shape[-1])
            # The coefficients run slowest, so that what they add to stays in a cache.
            kind, column, centre, total = np.nonzero(np.abs(flat.transpose(0, 3, 1, 2)) > NOTHING)
            weights = flat[kind, centre, total, column]
            rows = np.column_stack([column + columns[kind, 0], centre, total])
            parts.append((rows, weights, np.bincount(kind, minlength=len(flat))))
        rows, weights, numbers = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Terms(rows, weights, np.cumsum([0, *numbers]))

    def _functions(self, places: npt.NDArray[np.int32]) -> tuple[Floats, Integers]:
        """Return functions, (n, m, width), of tables of m entries, (n, ...), and columns."""
        entries = self.entries
        flat = places.reshape(len(places), int(np.prod(places.shape[1:])))
        shape = np.searchsorted(entries.start, flat[:, :1].ravel(), side="right") - 1
        return entries.functions[flat], entries.columns[shape].reshape(-1, 2)


def _neighbours(basis: ClusterBasis) -> tuple[Integers, Integers, Integers]:
    """Return all neighbours, (n, 5), and which of them clusters have as vertices.

    A neighbour is its centre, its site of the basis and its cell; pairs have one, (n_pairs, 1),
    triplets two, (n_triplets, 2).
    """
    names = [
        np.concatenate(
            [
                np.broadcast_to(c.centre[:, None, None], (*c.basis.shape, 1)),
                c.basis[:, :, None],
                c.cells,
            ],
            axis=2,
        ).reshape(-1, 5)
        for c in (basis.pairs, basis.triplets)
    ]
    distinct, rows = np.unique(np.concatenate(names), axis=0, return_inverse=True)
    rows, n_pairs = rows.reshape(-1).astype(np.int64), len(names[0])
    return distinct, rows[:n_pairs].reshape(-1, 1), rows[n_pairs:].reshape(-1, 2)


class _Builder:
    """Gives numbers to tables; those that ties of their shape make equal have one number."""

    def __init__(self, basis: ClusterBasis) -> None:
        self.basis = basis
        self.n_species = basis.points.shape[1]
        self.n_pairs = len(basis.pair_tables)
        self.elements: dict[Hashable, int] = {}
        self.element_entries: list[Integers] = []
        self.oriented: dict[Hashable, int] = {}
        self.oriented_entries: list[Integers] = []

    def pair_elements(self) -> Integers:
        """Return the element of every pair of the basis, (n,)."""
        distinct, inverse = _distinct_orders(self.basis.pairs)
        numbers = []
        for shape, *order in distinct:
            canonical = min(tuple(order[v] for v in tie) for tie in self.basis.pairs.ties[shape])
            name = ("pair", shape, canonical)
            numbers.append(self._element(name, self._table(2, shape, canonical)))
        return np.array(numbers, dtype=np.int64)[inverse]

    def triplet_list(self, rows: Integers) -> TripletList:
        """Return the triplets of the basis, whose vertices are `rows`, (n, 2), of neighbours."""
        triplets = self.basis.triplets
        distinct, inverse = _distinct_orders(triplets)
        oriented, folded = [], []
        for shape, *order in distinct:
            orders = [tuple(order[v] for v in tie) for tie in triplets.ties[shape]]
            straight = min(orders)
            exchanged = min(tuple((0, 2, 1)[v] for v in o) for o in orders)
            oriented.append((self._oriented(shape, straight), self._oriented(shape, exchanged)))
            folded.append(self._folded(shape, straight, exchanged))
        numbers = np.array(oriented, dtype=np.int64).reshape(-1, 2)[inverse]
        elements = np.array(folded, dtype=np.int64).reshape(-1, 2)[inverse]
        return TripletList(
            triplets.centre,
            rows,
            self.n_pairs + triplets.shape,
            numbers,
            elements,
            _hubs(numbers, rows),
        )

    def entries(self) -> Entries:
        """Return the functions and all tables that were numbered."""
        s, basis = self.n_species, self.basis
        tables = [*basis.pair_tables, *basis.triplet_tables]
        columns = np.array([_columns(table) for table in tables], dtype=np.int64).reshape(-1, 2)
        start = np.cumsum([0, *(table[..., 0].size for table in tables)])
        width = int(np.diff(columns, axis=1).max(initial=1))
        functions = np.zeros((start[-1], width))
        for table, (first, end), row in zip(tables, columns, start, strict=False):
            part = table[..., first:end].reshape(-1, end - first)
            functions[row : row + len(part), : end - first] = part
        diagonals = [
            [start[k] + z * sum(s**v for v in range(table.ndim - 1)) for z in range(s)]
            for k, table in enumerate(tables)
        ]
        return Entries(
            functions,
            columns,
            start,
            np.array(diagonals, dtype=np.int32).reshape(-1, s),
            np.array(self.element_entries, dtype=np.int32).reshape(-1, s, s),
            np.array(self.oriented_entries, dtype=np.int32).reshape(-1, s, s, s),
        )

    def _element(self, name: Hashable, entries: Integers) -> int:
        """Return the number of a pair with these entries, (n_species, n_species)."""
        if name not in self.elements:
            self.elements[name] = len(self.elements)
            self.element_entries.append(entries)
        return self.elements[name]

    def _folded(self, shape: int, *orders: tuple[int, ...]) -> tuple[int, int]:
        """Return the elements of a triplet whose last two vertices are one site."""
        # Both orders of the last two give one table; it depends on the axis of the centre.
        order = min(orders)
        entries = np.einsum("abb->ab", self._table(3, shape, order))
        name = ("folded", shape, order)
        return self._element((*name, 0), entries), self._element((*name, 1), entries.T)

    def _oriented(self, shape: int, order: tuple[int, ...]) -> int:
        """Return the number of a triplet whose axes stand for the vertices in this order."""
        if (shape, order) not in self.oriented:
            self.oriented[shape, order] = len(self.oriented)
            self.oriented_entries.append(self._table(3, shape, order))
        return self.oriented[shape, order]

    def _table(self, size: int, shape: int, order: tuple[int, ...]) -> Integers:
        """Return the entries of a shape of pairs or triplets, one axis of n_species per vertex."""
        n = self.n_species
        first = shape * n**2 if size == 2 else self.n_pairs * n**2 + shape * n**3
        entries = np.arange(n**size).reshape([n] * size) + first
        table: Integers = entries.transpose(np.argsort(order))
        return table


def _distinct_orders(clusters: Clusters) -> tuple[list[list[int]], Integers]:
    """Return the distinct shapes with the orders of their axes, and which each has, (n,)."""
    names = np.column_stack([clusters.shape, clusters.order])
    distinct, inverse = np.unique(names, axis=0, return_inverse=True)
    return distinct.tolist(), inverse.reshape(-1)


def _hubs(oriented: Integers, rows: Integers) -> Integers:
    """Return which of the other vertices comes first, (n,); all three are as in `TripletList`."""
    n = int(oriented.max(initial=-1)) + 1
    pairs = np.concatenate([np.column_stack([oriented[:, v], rows[:, v]]) for v in (0, 1)])
    kinds = np.unique(pairs, axis=0)[:, 0]
    firsts = np.bincount(kinds, minlength=n)
    one, other = oriented.T
    fewer = (firsts[other] < firsts[one]) | ((firsts[other] == firsts[one]) & (other < one))
    return np.asarray(fewer, dtype=np.int64)


def _columns(table: Floats) -> tuple[int, int]:
    """Return first and end of the coefficients that a table, (..., n_parameters), depends on."""
    used = np.flatnonzero((table != 0.0).any(axis=tuple(range(table.ndim - 1))))
    return (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)
