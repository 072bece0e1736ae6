"""Cluster functions of any number of vertices: what energies of labelings are taken as linear in.

A function is an orbit of clusters whose vertices carry functions of the species there (Sanchez,
Ducastelle & Gratias, Physica A 128, 334 (1984)), under the whole space group of the parent
lattice. Sites that allow one species only are no vertices. Nothing is fitted here: how large the
coefficients may be is a prior, which falls with the number of vertices and the extent.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice.neighbours import parent_neighbours
from latticesearch.lattice.parent import FieldsOnlyPickle
from latticesearch.learning._correlation_kernels import count_patterns, sum_patterns
from latticesearch.potential.clusters.functions import site_functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice, Supercell

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

DISTANCE_MARGIN = 1e-4
"""Å: distances that are equal but for rounding belong to one shell."""

KEPT_SUPERCELLS = 1024
"""Supercells whose clusters are kept, some 100 kB each."""


@dataclass(frozen=True, eq=False)
class Orbit:
    """All clusters that the symmetry of the parent lattice makes equal.

    Attributes
    ----------
    basis : (n_members, size) int
        Site of the parent's basis that each vertex is; members are counted per primitive cell.
    cells : (n_members, size, 3) int
        The cells they stand in.
    tables : (n_functions, n_species**size) float
        Values of the functions on every pattern of species, the first vertex's digit in front.
    spreads : (n_functions,) float
        Prior spread of the coefficients that makes all species alike, relative to one spread per
        orbit: a function that sums over several products gets their share.
    extent : float
        Longest distance of two vertices, Å; 0 for points.
    """

    basis: Integers
    cells: Integers
    tables: Floats
    spreads: Floats
    extent: float

    @property
    def size(self) -> int:
        """Number of vertices."""
        return int(self.basis.shape[1])


@dataclass(frozen=True, eq=False)
class Correlations(FieldsOnlyPickle):
    """The cluster functions of a parent lattice.

    Attributes
    ----------
    parent : ParentLattice
    orbits : tuple of Orbit
        Points first, then by number of vertices and extent.
    """

    parent: ParentLattice
    orbits: tuple[Orbit, ...]

    @classmethod
    def of(cls, parent: ParentLattice, cutoffs: Sequence[float]) -> Correlations:
        """Return all functions of points, pairs, ... up to a longest distance for each size.

        Parameters
        ----------
        parent
            The lattice.
        cutoffs
            Longest distance of two vertices of pairs, triplets, ..., Å; distances that are equal
            to it count.
        """
        symmetry = _Symmetry(parent, max(cutoffs, default=0.0))
        active = np.flatnonzero(parent.is_active)
        clusters = np.array([[[b, 0, 0, 0]] for b in active], dtype=np.int64).reshape(-1, 1, 4)
        found = list(symmetry.orbits(clusters))
        level = [orbit.representative for orbit in found]
        for size, cutoff in enumerate(cutoffs, start=2):
            grown = [symmetry.grown(one, cutoff) for one in level if symmetry.fits(one, cutoff)]
            grown = [one for one in grown if len(one)]
            if not grown:
                break
            new = list(symmetry.orbits(np.concatenate(grown)))
            level = [orbit.representative for orbit in new]
            found += new
            del size
        orbits = [symmetry.with_functions(one) for one in found]
        orbits.sort(key=lambda one: (one.size, round(one.extent, 4)))
        return cls(parent, tuple(orbits))

    @cached_property
    def sizes(self) -> Integers:
        """Number of vertices of each function, (n_functions,)."""
        return np.concatenate([[one.size] * len(one.tables) for one in self.orbits]).astype(int)

    @cached_property
    def extents(self) -> Floats:
        """Longest distance of two vertices of each function, (n_functions,), Å."""
        return np.concatenate([[one.extent] * len(one.tables) for one in self.orbits])

    @cached_property
    def spreads(self) -> Floats:
        """As `Orbit.spreads`, (n_functions,)."""
        return np.concatenate([one.spreads for one in self.orbits])

    def rows(self, supercell: Supercell, labels: npt.NDArray[np.int8]) -> Floats:
        """Return the sums of all functions per site, (n, n_functions), of `labels`, (n, n_sites).

        Sums run over all clusters, so that a function weighs as many times as it occurs.
        """
        labels = np.ascontiguousarray(labels, dtype=np.int8)
        n_species = self.parent.n_species
        parts = []
        for size, orbits in itertools.groupby(self.orbits, key=lambda one: one.size):
            group = list(orbits)
            n_patterns = len(group) * n_species**size
            sites, places = _sites(self, supercell, size)
            counts = count_patterns(labels, sites, places, n_species, n_patterns)
            parts += [
                counts[:, k * n_species**size : (k + 1) * n_species**size] @ one.tables.T
                for k, one in enumerate(group)
            ]
        return np.concatenate(parts, axis=1) / supercell.n_sites

    def sums(
        self, coefficients: Floats, supercell: Supercell, labels: npt.NDArray[np.int8]
    ) -> Floats:
        """Return what coefficients, (n_functions,), make of `rows`, (n,), without any rows."""
        n_species = self.parent.n_species
        # Batches of an enumeration may be read-only, which the kernel's signature is not.
        labels = np.require(labels, np.int8, ["C", "W"])
        total, start = np.zeros(len(labels)), 0
        for size, orbits in itertools.groupby(self.orbits, key=lambda one: one.size):
            values = []
            for one in orbits:
                values.append(coefficients[start : start + len(one.tables)] @ one.tables)
                start += len(one.tables)
            sites, places = _sites(self, supercell, size)
            total += sum_patterns(labels, sites, places, n_species, np.concatenate(values))
        return total / supercell.n_sites


@lru_cache(maxsize=KEPT_SUPERCELLS)
def _sites(
    functions: Correlations, supercell: Supercell, size: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the sites of all clusters of a size, (n, size), and their first patterns, (n,)."""
    group = [one for one in functions.orbits if one.size == size]
    n_patterns = functions.parent.n_species**size
    sites, places = [], []
    for k, one in enumerate(group):
        cells = one.cells[:, None] + supercell.cell_vectors[None, :, None]
        found = supercell.site_of(one.basis[:, None], cells).reshape(-1, size)
        sites.append(found.astype(np.int32))
        places.append(np.full(len(found), k * n_patterns, dtype=np.int32))
    return np.ascontiguousarray(np.concatenate(sites)), np.concatenate(places)


@dataclass(frozen=True, eq=False)
class _Bare:
    """An orbit before it has functions: its first cluster, members and permutations.

    ``members``, (n, size, 4), are sites of the basis and cells in the order of the
    representative's vertices, ``representative``, (size, 4). ``ties`` are the permutations of
    its vertices that symmetry makes.
    """

    representative: Integers
    members: Integers
    ties: list[tuple[int, ...]]


class _Symmetry:
    """The space group of a parent lattice acting on clusters, (size, 4): site of basis, cell."""

    def __init__(self, parent: ParentLattice, cutoff: float) -> None:
        self.parent = parent
        self.cutoff = cutoff
        self.neighbours = {
            int(b): parent_neighbours(parent, int(b), cutoff + DISTANCE_MARGIN)
            for b in np.flatnonzero(parent.is_active)
        }
        reach = max((np.abs(cells).max() for _, cells, _ in self.neighbours.values()), default=0)
        # Images and differences of cells stay far within this, whatever the operation.
        self.span = int(8 * reach + 16)

    def images(self, clusters: Integers) -> Integers:
        """Return the images, (n, n_ops, size, 4), of clusters, (n, size, 4)."""
        basis, cells = clusters[..., 0], clusters[..., 1:]
        moved = np.einsum("oij,nvj->novi", self.parent.rotations, cells)
        moved += self.parent.basis_shifts[:, basis].transpose(1, 0, 2, 3)
        images = self.parent.basis_images[:, basis].transpose(1, 0, 2)
        return np.concatenate([images[..., None], moved], axis=-1)

    def codes(self, clusters: Integers) -> tuple[Integers, Integers]:
        """Return names of clusters, (..., size), that no translation changes, and their order.

        The order, (..., size), is that of the vertices in the name.
        """
        basis, cells = clusters[..., 0], clusters[..., 1:]
        weights = np.array([self.span**2, self.span, 1], dtype=np.int64)
        places = cells @ weights
        n_basis = self.parent.n_basis
        codes = places * n_basis + basis
        order = np.argsort(codes, axis=-1)
        sorted_codes = np.take_along_axis(codes, order, axis=-1)
        first = np.take_along_axis(places, order[..., :1], axis=-1)
        return sorted_codes - first * n_basis, order

    def orbits(self, clusters: Integers) -> list[_Bare]:
        """Return the distinct orbits of clusters, (n, size, 4)."""
        seen: set[bytes] = set()
        found = []
        names = self.codes(clusters)[0]
        _, first = np.unique(names, axis=0, return_index=True)
        for cluster in clusters[np.sort(first)]:
            if np.ascontiguousarray(self.codes(cluster)[0]).tobytes() in seen:
                continue
            images = self.images(cluster[None])[0]
            codes, order = self.codes(images)
            rows = [np.ascontiguousarray(row).tobytes() for row in codes]
            own, own_order = self.codes(cluster)
            ties = {
                tuple(int(v) for v in _as_permutation(own_order, one))
                for one, row in zip(order, rows, strict=True)
                if row == np.ascontiguousarray(own).tobytes()
            }
            members = dict(zip(reversed(rows), reversed(images), strict=True))
            seen.update(members)
            found.append(_Bare(cluster, np.array([*members.values()]), sorted(ties)))
        return found

    def fits(self, cluster: Integers, cutoff: float) -> bool:
        """Return whether all vertices of a cluster, (size, 4), are so close."""
        return self.extent(cluster) <= cutoff + DISTANCE_MARGIN

    def extent(self, cluster: Integers) -> float:
        """Return the longest distance of two vertices of a cluster, (size, 4), Å."""
        positions = self.positions(cluster)
        return float(np.linalg.norm(positions[:, None] - positions, axis=-1).max())

    def positions(self, cluster: Integers) -> Floats:
        """Return the positions, (size, 3), Å, of the vertices of a cluster, (size, 4)."""
        cartesian: Floats = (cluster[:, 1:] + self.parent.basis[cluster[:, 0]]) @ self.parent.cell
        return cartesian

    def grown(self, cluster: Integers, cutoff: float) -> Integers:
        """Return the clusters, (n, size + 1, 4), with one vertex more than `cluster`, (size, 4)."""
        basis, cells, _ = self.neighbours[int(cluster[0, 0])]
        is_active = self.parent.is_active[basis]
        sites = np.column_stack([basis[is_active], cells[is_active] + cluster[0, 1:]])
        apart = np.linalg.norm(self.positions(sites)[:, None] - self.positions(cluster), axis=-1)
        near = (apart < cutoff + DISTANCE_MARGIN).all(axis=1) & (apart > DISTANCE_MARGIN).all(
            axis=1
        )
        sites = sites[near]
        old = np.broadcast_to(cluster, (len(sites), *cluster.shape))
        return np.concatenate([old, sites[:, None]], axis=1)

    def with_functions(self, bare: _Bare) -> Orbit:
        """Return the orbit with its functions."""
        parent = self.parent
        single = [_functions_of(parent, int(b)) for b in bare.representative[:, 0]]
        tables, spreads = [], []
        seen: set[tuple[int, ...]] = set()
        for choice in itertools.product(*(range(len(one)) for one in single)):
            if choice in seen:
                continue
            alike = {tuple(choice[v] for v in tie) for tie in bare.ties}
            seen |= alike
            table = sum(_product([one[f] for one, f in zip(single, c, strict=True)]) for c in alike)
            tables.append(np.asarray(table))
            spreads.append(1.0 / np.sqrt(len(alike)))
        extent = self.extent(bare.representative)
        members = bare.members
        return Orbit(members[..., 0], members[..., 1:], np.array(tables), np.array(spreads), extent)


def _as_permutation(own: Integers, other: Integers) -> Integers:
    """Return which vertex of a cluster its image puts in the place of each, (size,).

    Both arguments, (size,), sort the vertices into the same name.
    """
    permutation = np.empty_like(own)
    permutation[own] = other
    return permutation


def _functions_of(parent: ParentLattice, basis: int) -> Floats:
    """Return the functions of the species on a site, (n_allowed - 1, n_species)."""
    allowed = np.flatnonzero(parent.allowed[basis])
    functions = np.zeros((len(allowed) - 1, parent.n_species))
    functions[:, allowed] = site_functions(len(allowed))
    return functions


def _product(functions: Sequence[Floats]) -> Floats:
    """Return the values of a product of functions, (n_species,) each, on all patterns."""
    result = np.ones(1)
    for one in functions:
        result = np.multiply.outer(result, one).reshape(-1)
    return result
