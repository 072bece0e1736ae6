"""Which pairs and triplets of a parent lattice a cluster expansion has, and their functions.

Sanchez, Ducastelle & Gratias, Physica A 128, 334 (1984). Clusters of one shape share their
coefficients: pairs of one length, triplets with the same three edges, between the same kinds of
sites. That is at least the symmetry of the lattice.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.lattice.neighbours import parent_neighbours
from latticesearch.lattice.parent import FieldsOnlyPickle
from latticesearch.potential.clusters.functions import site_functions
from latticesearch.potential.clusters.orientations import Orientations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice

    Floats = npt.NDArray[np.float64]

LENGTH_DECIMALS = 5
"""Å: edges that agree to so many decimals are equal."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """All clusters of one size around the sites of the first cell, each once per centre.

    Attributes
    ----------
    centre : (n,) int
        Site of the basis; it stands in the cell (0, 0, 0).
    basis : (n, size - 1) int
        Sites of the basis that the other vertices are.
    cells : (n, size - 1, 3) int
        The cells they stand in.
    shape : (n,) int
        Clusters with equal numbers share coefficients.
    order : (n, size) int
        ``order[c, v]`` is the vertex (0 for the centre) that the v-th axis of the shape's table
        stands for.
    kinds : (n_shapes, size) int
        Kind of site of each axis.
    ties : list of lists of permutations
        Per shape the permutations of its axes that change nothing.
    """

    centre: npt.NDArray[np.int64]
    basis: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    shape: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int64]
    ties: list[list[tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class ClusterBasis(FieldsOnlyPickle):
    """The functions of a cluster expansion: the energy is linear in their coefficients.

    Attributes
    ----------
    parent : ParentLattice
    pair_cutoff, triplet_cutoff : float
        Longest edge, Å; 0 for none.
    pairs, triplets : Clusters
    points : (n_basis, n_species, n_parameters)
        What each coefficient multiplies where one species stands on one site of the basis.
    pair_tables : (n_shapes, n_species, n_species, n_parameters)
        The same for two vertices.
    triplet_tables : (n_shapes, n_species, n_species, n_species, n_parameters)
        The same for three.
    """

    parent: ParentLattice
    pair_cutoff: float
    triplet_cutoff: float
    pairs: Clusters
    triplets: Clusters
    points: Floats
    pair_tables: Floats
    triplet_tables: Floats

    @classmethod
    def of(
        cls, parent: ParentLattice, pair_cutoff: float, triplet_cutoff: float = 0.0
    ) -> ClusterBasis:
        """Make the basis of all clusters with edges shorter than the cutoffs, Å."""
        kinds = _site_kinds(parent)
        pairs = _clusters(kinds, [*_pairs(parent, pair_cutoff)], 2)
        triplets = _clusters(kinds, [*_triplets(parent, triplet_cutoff)], 3)
        n_species, n_kinds = parent.n_species, int(kinds.max()) + 1
        products = [_functions(clusters, n_species) for clusters in (pairs, triplets)]
        sizes = [n_kinds * n_species, *(sum(map(len, shapes)) for shapes in products)]
        points = np.zeros((parent.n_basis, n_species, sum(sizes)))
        for site, kind in enumerate(kinds):
            points[site, :, kind * n_species : (kind + 1) * n_species] = np.eye(n_species)
        tables = [
            _tables(shapes, (n_species,) * size, first, sum(sizes))
            for shapes, size, first in zip(
                products, (2, 3), (sizes[0], sum(sizes[:2])), strict=True
            )
        ]
        return cls(parent, pair_cutoff, triplet_cutoff, pairs, triplets, points, *tables)

    @property
    def n_parameters(self) -> int:
        """Number of coefficients."""
        return int(self.points.shape[2])

    @cached_property
    def orientations(self) -> Orientations:
        """The clusters as their vertices see them: what all supercells have in common."""
        return Orientations.of(self)


def _site_kinds(parent: ParentLattice) -> npt.NDArray[np.int64]:
    """Return which orbit of the symmetry group each site of the basis belongs to, (n_basis,)."""
    first = parent.basis_images.min(axis=0)
    return np.asarray(np.unique(first, return_inverse=True)[1], dtype=np.int64).reshape(-1)


class _Found(NamedTuple):
    """Clusters around one site of the basis: what `Clusters` says of them, and their vertices.

    `positions`, (n, size, 3), are relative to the centre, Å.
    """

    centre: npt.NDArray[np.int64]
    basis: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    positions: Floats


def _pairs(parent: ParentLattice, cutoff: float) -> Iterator[_Found]:
    """Yield the pairs of every site of the basis."""
    for centre in range(parent.n_basis if cutoff > 0.0 else 0):
        basis, cells, vectors = parent_neighbours(parent, centre, cutoff)
        yield _found(centre, basis[:, None], cells[:, None], vectors[:, None])


def _triplets(parent: ParentLattice, cutoff: float) -> Iterator[_Found]:
    """Yield the triplets of every site of the basis."""
    for centre in range(parent.n_basis if cutoff > 0.0 else 0):
        basis, cells, vectors = parent_neighbours(parent, centre, cutoff)
        edges = np.linalg.norm(vectors[:, None] - vectors, axis=2)
        others = np.argwhere(np.triu(edges < cutoff, 1))
        yield _found(centre, basis[others], cells[others], vectors[others])


def _found(
    centre: int, basis: npt.NDArray[np.int64], cells: npt.NDArray[np.int64], vectors: Floats
) -> _Found:
    """Put the centre in front of the vectors, (n, size - 1, 3), of the other vertices."""
    positions = np.concatenate([np.zeros((len(vectors), 1, 3)), vectors], axis=1)
    return _Found(np.full(len(basis), centre), basis, cells, positions)


def _clusters(kinds: npt.NDArray[np.int64], found: Sequence[_Found], size: int) -> Clusters:
    """Give clusters of one shape one number.

    A vertex is named by its kind and the length of the opposite edge (pairs: of the pair). Three
    edges fix a triangle, so sorted names fix the shape of a cluster.

    Parameters
    ----------
    kinds
        (n_basis,): which set of equivalent sites each site of the basis belongs to.
    found
        Clusters of every centre, (n, size - 1) further vertices each.
    size
        Vertices of a cluster, 2 or 3.
    """
    nothing = _found(
        0,
        np.zeros((0, size - 1), dtype=np.int64),
        np.zeros((0, size - 1, 3), dtype=np.int64),
        np.zeros((0, size - 1, 3)),
    )
    centre, basis, cells, positions = map(np.concatenate, zip(nothing, *found, strict=True))
    kind = kinds[np.column_stack([centre, basis])]
    opposite = _opposite_edges(positions)
    order = np.lexsort((opposite, kind), axis=1)
    names = np.take_along_axis(np.stack([kind, opposite], axis=2), order[:, :, None], axis=1)
    _, first, number = np.unique(
        names.reshape(len(names), 2 * size), axis=0, return_index=True, return_inverse=True
    )
    rank = np.argsort(np.argsort(first))
    shapes = names[np.sort(first)].tolist()
    return Clusters(
        centre,
        basis,
        cells,
        rank[number.reshape(-1)],
        order,
        np.array([[vertex[0] for vertex in shape] for shape in shapes], dtype=np.int64).reshape(
            -1, size
        ),
        [[p for p in _permutations(size) if [shape[v] for v in p] == shape] for shape in shapes],
    )


def _opposite_edges(positions: Floats) -> Floats:
    """Return the rounded lengths of the edges opposite to all vertices, (n, size), Å."""
    # Of a pair it is the pair itself: the next vertex and the one before are the same.
    size = positions.shape[1]
    ends = [(1, 0), (1, 0)] if size == 2 else [(2, 1), (2, 0), (1, 0)]
    edges = [positions[:, a] - positions[:, b] for a, b in ends]
    lengths: Floats = np.linalg.norm(np.stack(edges, axis=1), axis=2).round(LENGTH_DECIMALS)
    return lengths


def _permutations(size: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(size)))


def _functions(clusters: Clusters, n_species: int) -> list[Floats]:
    """Return per shape its functions, (n_functions, ...) with one axis of n_species per vertex.

    Products of one site function per vertex, averaged over the permutations that change nothing.
    """
    single, size = site_functions(n_species), clusters.order.shape[1]
    products = single
    for _ in range(size - 1):
        products = np.multiply.outer(products, single)
    # From (function, species, function, species, ...) to all functions, then all species.
    products = products.transpose(*range(0, 2 * size, 2), *range(1, 2 * size, 2))
    every = np.indices((n_species - 1,) * size).reshape(size, -1).T
    strides = (n_species - 1) ** np.arange(size - 1, -1, -1)
    result = []
    for ties in clusters.ties:
        images = every[:, ties]
        distinct = every @ strides == (images @ strides).min(axis=1)
        result.append(products[tuple(np.moveaxis(images[distinct], 2, 0))].mean(axis=1))
    return result


def _tables(
    shapes: list[Floats], dimensions: tuple[int, ...], first: int, n_parameters: int
) -> Floats:
    """Return what each coefficient multiplies, (n_shapes, *dimensions, n_parameters)."""
    result = np.zeros((len(shapes), *dimensions, n_parameters))
    column = first
    for shape, functions in enumerate(shapes):
        for function in functions:
            result[shape, ..., column] = function
            column += 1
    return result
