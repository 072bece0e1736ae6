"""Which pairs and triplets of a parent lattice a cluster expansion has, and their functions.

Sanchez, Ducastelle & Gratias, Physica A 128, 334 (1984). Clusters of one shape share their
coefficients: pairs of one length, triplets with the same three edges, between the same kinds of
sites. That is at least the symmetry of the lattice.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.lattice.parent import FieldsOnlyPickle
from latticesearch.potential.mtp.tables import parent_neighbours

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice, Supercell
    from latticesearch.potential.clusters.geometry import ClusterGeometry
    from latticesearch.potential.clusters.orientations import Orientations

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
        pairs = _clusters(kinds, list(_pairs(parent, pair_cutoff)), 2)
        triplets = _clusters(kinds, list(_triplets(parent, triplet_cutoff)), 3)
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
        from latticesearch.potential.clusters.orientations import Orientations

        return Orientations.of(self)

    @cached_property
    def geometries(self) -> dict[Supercell, ClusterGeometry]:
        """What `cluster_geometry` keeps."""
        return {}


def site_functions(n_species: int) -> Floats:
    """Return functions of the species, (n_species - 1, n_species), orthogonal to each other and 1.

    Cosines, as in a discrete cosine transform; mean square 1.
    """
    k = np.arange(1, n_species)[:, None]
    z = np.arange(n_species) + 0.5
    result: Floats = np.sqrt(2.0) * np.cos(np.pi * k * z / n_species)
    return result


def _site_kinds(parent: ParentLattice) -> npt.NDArray[np.int64]:
    """Return which orbit of the symmetry group each site of the basis belongs to, (n_basis,)."""
    first = parent.basis_images.min(axis=0)
    return np.asarray(np.unique(first, return_inverse=True)[1], dtype=np.int64).reshape(-1)


def _pairs(parent: ParentLattice, cutoff: float) -> Iterator[tuple[Any, ...]]:
    """Yield (centre, basis, cells, vertex positions relative to the centre) of all pairs."""
    for centre in range(parent.n_basis if cutoff > 0.0 else 0):
        basis, cells, vectors = parent_neighbours(parent, centre, cutoff)
        for b, t, vector in zip(basis, cells, vectors, strict=True):
            yield centre, [b], [t], np.array([np.zeros(3), vector])


def _triplets(parent: ParentLattice, cutoff: float) -> Iterator[tuple[Any, ...]]:
    """Yield the same of all triplets."""
    for centre in range(parent.n_basis if cutoff > 0.0 else 0):
        basis, cells, vectors = parent_neighbours(parent, centre, cutoff)
        for j, k in itertools.combinations(range(len(basis)), 2):
            if np.linalg.norm(vectors[j] - vectors[k]) < cutoff:
                positions = np.array([np.zeros(3), vectors[j], vectors[k]])
                yield centre, [basis[j], basis[k]], [cells[j], cells[k]], positions


def _clusters(
    kinds: npt.NDArray[np.int64], found: Sequence[tuple[Any, ...]], size: int
) -> Clusters:
    """Give clusters of one shape one number."""
    shapes: dict[Hashable, int] = {}
    rows, orders, kinds_of_shapes = [], [], []
    ties: list[list[tuple[int, ...]]] = []
    for centre, basis, _, positions in found:
        names = _vertex_names(kinds[[centre, *basis]], positions)
        order = sorted(range(size), key=names.__getitem__)
        name = tuple(names[v] for v in order)
        if name not in shapes:
            shapes[name] = len(shapes)
            kinds_of_shapes.append([vertex[0] for vertex in name])
            ties.append([p for p in _permutations(size) if tuple(name[v] for v in p) == name])
        rows.append(shapes[name])
        orders.append(order)
    return Clusters(
        np.array([c for c, *_ in found], dtype=np.int64),
        np.array([b for _, b, *_ in found], dtype=np.int64).reshape(-1, size - 1),
        np.array([t for _, _, t, _ in found], dtype=np.int64).reshape(-1, size - 1, 3),
        np.array(rows, dtype=np.int64),
        np.array(orders, dtype=np.int64).reshape(-1, size),
        np.array(kinds_of_shapes, dtype=np.int64).reshape(-1, size),
        ties,
    )


def _permutations(size: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(size)))


def _vertex_names(kinds: npt.NDArray[np.int64], positions: Floats) -> list[tuple[int, float]]:
    """Return per vertex its kind and the length of the opposite edge (pairs: of the pair).

    Three edges fix a triangle, so sorted names fix the shape of a cluster.
    """
    lengths = np.linalg.norm(positions[:, None] - positions, axis=2).round(LENGTH_DECIMALS)
    opposite = [
        float(lengths[0, 1])
        if len(kinds) == 2
        else float(lengths[tuple(v for v in range(3) if v != vertex)])
        for vertex in range(len(kinds))
    ]
    return [(int(kind), length) for kind, length in zip(kinds, opposite, strict=True)]


def _functions(clusters: Clusters, n_species: int) -> list[list[Floats]]:
    """Return per shape its functions, arrays with one axis of n_species per vertex.

    Products of one site function per vertex, averaged over the permutations that change nothing.
    """
    single = site_functions(n_species)
    result = []
    for ties in clusters.ties:
        functions = {}
        for which in itertools.product(range(n_species - 1), repeat=clusters.order.shape[1]):
            images = [tuple(which[v] for v in tie) for tie in ties]
            if which == min(images):
                functions[which] = np.mean([_outer(single[list(i)]) for i in images], axis=0)
        result.append([functions[which] for which in sorted(functions)])
    return result


def _outer(factors: Floats) -> Floats:
    """Return the outer product of the rows."""
    product: Floats = factors[0]
    for row in factors[1:]:
        product = np.multiply.outer(product, row)
    return product


def _tables(
    shapes: list[list[Floats]], dimensions: tuple[int, ...], first: int, n_parameters: int
) -> Floats:
    """Return what each coefficient multiplies, (n_shapes, *dimensions, n_parameters)."""
    result = np.zeros((len(shapes), *dimensions, n_parameters))
    column = first
    for shape, functions in enumerate(shapes):
        for function in functions:
            result[shape, ..., column] = function
            column += 1
    return result
