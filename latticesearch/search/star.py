"""Surrogates that learn site energies: sums over clusters around a site of known species.

One energy of a labeling of n sites comes with n site energies, so these learn n times more from
it than an expansion of the total. Clusters are a centre and up to three of its neighbours; those
that the symmetry of the site maps onto each other share coefficients, per species of the centre,
and so do species that change places within a cluster.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.potential.clusters.basis import site_functions
from latticesearch.potential.mtp.tables import parent_neighbours
from latticesearch.search import _star_kernels as kernels
from latticesearch.search.surrogate import FOLDS, Normal, nearest_distance

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from latticesearch.lattice import Labelings, ParentLattice, Supercell

    Floats = npt.NDArray[np.float64]
    Counts = npt.NDArray[np.int16] | npt.NDArray[np.int32]
    Integers = npt.NDArray[np.int64]

STAR_REACHES = ((1.7, 1.7, 0.0), (1.7, 1.7, 1.2), (1.7, 1.7, 1.7))
"""Farthest neighbour in clusters of one, two and three neighbours, in nearest-neighbour
distances."""

RIDGES = (1e-8, 1e-6, 1e-4)
"""Dampings of the coefficients, relative to the diagonal; the last round decides."""

MOST_COUNTS = 6000
"""Columns of a basis at most: beyond, counts of all labelings take too much memory and time."""

MOST_CLUSTERS = 12_000
"""Clusters around one site at most."""


class _Site(NamedTuple):
    """The neighbours, (n,) and (n, 3), of one site of the parent's basis."""

    basis: Integers
    translations: Integers


@dataclass(frozen=True, eq=False)
class StarBasis:
    """Clusters around the sites of a parent lattice.

    Attributes
    ----------
    parent : ParentLattice
    kinds : (n_basis,) int
        Which set of equivalent sites each site of the basis belongs to.
    sites : list of _Site
        Neighbours of each site of the basis; those of equivalent sites in corresponding order.
    clusters : list of (n_clusters, 3) int
        Per kind, indices of neighbours; the number of neighbours stands for none.
    orbits : list of (n_clusters,) int
        Per kind, number of each cluster's orbit; orbits are ordered by size of the clusters.
    """

    parent: ParentLattice
    kinds: Integers
    sites: list[_Site]
    clusters: list[Integers]
    orbits: list[Integers]

    @classmethod
    def of(cls, parent: ParentLattice, reaches: tuple[float, float, float]) -> StarBasis:
        """Make the basis of clusters within the reaches, see `STAR_REACHES`."""
        length = nearest_distance(parent)
        kinds = np.empty(parent.n_basis, dtype=np.int64)
        found: dict[int, _Site] = {}
        clusters, orbits = [], []
        for kind, members in enumerate(parent.sublattices):
            kinds[members] = kind
            centre = int(members[0])
            site, distances = _neighbours(parent, centre, max(reaches) * length)
            permutations = _site_group(parent, centre, site)
            limits = tuple(reach * length for reach in reaches)
            rows, numbers = _clusters(permutations, distances, limits)
            clusters.append(rows)
            orbits.append(numbers)
            found |= {int(b): _moved(parent, centre, int(b), site) for b in members}
        return cls(parent, kinds, [found[b] for b in range(parent.n_basis)], clusters, orbits)

    @cached_property
    def decorations(self) -> tuple[Integers, list[Integers]]:
        """Column of every choice of species in any order, and the species of each column.

        (n_species + 1,) * 3 and, per number of neighbours 0 to 3, (n_columns, size).
        """
        n = self.parent.n_species
        table = np.zeros((n + 1,) * 3, dtype=np.int64)
        columns = []
        for size in range(4):
            rows = list(itertools.combinations_with_replacement(range(n), size))
            columns.append(np.array(rows, dtype=np.int64).reshape(len(rows), size))
            for column, row in enumerate(rows):
                for place in itertools.permutations((*row, *[n] * (3 - size))):
                    table[place] = column
        return table, columns

    @cached_property
    def first(self) -> list[Integers]:
        """Per kind, first column of each orbit and, last, the number of columns."""
        widths = np.array([len(rows) for rows in self.decorations[1]])
        result = []
        for rows, numbers in zip(self.clusters, self.orbits, strict=True):
            sizes = (rows < rows.max()).sum(axis=1)[np.unique(numbers, return_index=True)[1]]
            result.append(np.concatenate([[0], np.cumsum(widths[sizes])]).astype(np.int64))
        return result

    @cached_property
    def transforms(self) -> list[Floats]:
        """Per kind, what turns counts into sums of products of site functions.

        (width, n_parameters). Counts of larger clusters contain those of smaller ones, products
        of functions that are orthogonal to 1 do not.
        """
        blocks = [_products(columns, self.parent.n_species) for columns in self.decorations[1]]
        result = []
        for rows, numbers in zip(self.clusters, self.orbits, strict=True):
            sizes = (rows < rows.max()).sum(axis=1)[np.unique(numbers, return_index=True)[1]]
            parts = [blocks[size] / math.sqrt(np.sum(numbers == i)) for i, size in enumerate(sizes)]
            result.append(_block_diagonal(parts))
        return result

    @cached_property
    def blocks(self) -> Integers:
        """First column, (n_kinds, n_species), of each centre; -1 where it cannot be."""
        result = np.full((len(self.clusters), self.parent.n_species), -1, dtype=np.int64)
        total = 0
        for kind, members in enumerate(self.parent.sublattices):
            for species in np.flatnonzero(self.parent.allowed[members[0]]):
                result[kind, species] = total
                total += int(self.first[kind][-1])
        return result

    @property
    def n_counts(self) -> int:
        """Number of columns of the counts of a labeling."""
        width = np.array([first[-1] for first in self.first])
        return int(((self.blocks >= 0).sum(axis=1) * width).sum())

    @property
    def n_parameters(self) -> int:
        """Number of coefficients."""
        width = np.array([transform.shape[1] for transform in self.transforms])
        return int(((self.blocks >= 0).sum(axis=1) * width).sum())

    def tables(self, supercell: Supercell) -> list[kernels.StarTables]:
        """Return per kind what the compiled functions need of a supercell."""
        return _tables(self, supercell)

    def counts(self, batch: Labelings) -> Counts:
        """Return the decorated clusters, (n, n_counts), of labelings."""
        largest = max(int(np.bincount(numbers).max()) for numbers in self.orbits)
        fits = largest * batch.supercell.n_sites <= np.iinfo(np.int16).max
        result = np.zeros((len(batch), self.n_counts), dtype=np.int16 if fits else np.int32)
        for tables, blocks in zip(self.tables(batch.supercell), self.blocks, strict=True):
            kernels.add_structure_counts(batch.labels, tables, blocks, result)
        return result

    def site_rows(self, batch: Labelings) -> Iterator[tuple[Integers, Floats]]:
        """Yield per kind its sites, (m,), and what coefficients multiply, (n, m, n_parameters)."""
        everything = zip(self.tables(batch.supercell), self.first, self.transforms, strict=True)
        for tables, first, transform in everything:
            counts = np.zeros((len(batch), len(tables.sites), int(first[-1])), dtype=np.int16)
            kernels.add_site_counts(batch.labels, tables, counts)
            yield tables.sites, counts @ transform


@lru_cache(maxsize=1024)
def _tables(basis: StarBasis, supercell: Supercell) -> list[kernels.StarTables]:
    result = []
    for kind, (clusters, orbits) in enumerate(zip(basis.clusters, basis.orbits, strict=True)):
        neighbours = [
            supercell.site_of(
                basis.sites[b].basis, basis.sites[b].translations + supercell.cell_vectors[:, None]
            )
            for b in np.flatnonzero(basis.kinds == kind)
        ]
        sites = np.flatnonzero(basis.kinds[supercell.basis_index] == kind)
        first = basis.first[kind][orbits]
        around = np.ascontiguousarray(np.concatenate(neighbours), dtype=np.int64)
        result.append(kernels.StarTables(sites, around, clusters, first, basis.decorations[0]))
    return result


def _neighbours(parent: ParentLattice, centre: int, cutoff: float) -> tuple[_Site, Floats]:
    """Return the neighbours with a choice of species, and their distances, Å."""
    basis, translations, vectors = parent_neighbours(parent, centre, cutoff)
    active = parent.is_active[basis]
    distances = np.linalg.norm(vectors[active], axis=1)
    return _Site(basis[active], translations[active]), distances


def _moved(parent: ParentLattice, centre: int, image: int, site: _Site) -> _Site:
    """Return the neighbours of an equivalent site, in corresponding order."""
    operation = int(np.flatnonzero(parent.basis_images[:, centre] == image)[0])
    return _mapped(parent, operation, centre, site)


def _mapped(parent: ParentLattice, operation: int, centre: int, site: _Site) -> _Site:
    shifts = parent.basis_shifts[operation]
    translations = site.translations @ parent.rotations[operation].T
    translations = translations + shifts[site.basis] - shifts[centre]
    return _Site(parent.basis_images[operation][site.basis], translations)


def _site_group(parent: ParentLattice, centre: int, site: _Site) -> Integers:
    """Return how the operations that keep a site permute its neighbours, (n_ops, n)."""
    names = np.column_stack([site.basis, site.translations]).tolist()
    place = {tuple(name): i for i, name in enumerate(names)}
    rows = []
    for operation in np.flatnonzero(parent.basis_images[:, centre] == centre):
        moved = _mapped(parent, int(operation), centre, site)
        names = np.column_stack([moved.basis, moved.translations]).tolist()
        rows.append([place[tuple(name)] for name in names])
    return np.unique(np.array(rows, dtype=np.int64).reshape(len(rows), -1), axis=0)


def _clusters(
    permutations: Integers, distances: Floats, limits: tuple[float, ...]
) -> tuple[Integers, Integers]:
    """Return clusters, (n, 3), and the numbers of their orbits, (n,); the empty one first."""
    n = permutations.shape[1]
    rows, numbers = [np.full((1, 3), n)], [np.zeros(1, dtype=np.int64)]
    for size, limit in enumerate(limits, start=1):
        near = np.flatnonzero(distances < limit).tolist()
        if math.comb(len(near), size) > MOST_CLUSTERS:
            break
        found = np.array(list(itertools.combinations(near, size)), dtype=np.int64)
        if not len(found):
            continue
        images = np.sort(permutations[:, found], axis=2)
        codes = (images * n ** np.arange(size)).sum(axis=2).min(axis=0)
        orbit = np.unique(codes, return_inverse=True)[1].reshape(-1)
        numbers.append(orbit + numbers[-1].max() + 1)
        rows.append(np.pad(found, ((0, 0), (0, 3 - size)), constant_values=n))
    return np.concatenate(rows), np.concatenate(numbers).astype(np.int64)


def _products(columns: Integers, n_species: int) -> Floats:
    """Return symmetrised products of site functions, (n_columns, n_products)."""
    functions = np.round(site_functions(n_species), 14)  # 0 for 1e-16: fits divide by the scale
    size = columns.shape[1]
    products = []
    for chosen in itertools.combinations_with_replacement(range(n_species - 1), size):
        orders = sorted(set(itertools.permutations(chosen)))
        terms = [
            np.prod([functions[f, columns[:, v]] for v, f in enumerate(order)], axis=0)
            for order in orders
        ]
        products.append(np.sum(terms, axis=0) / math.sqrt(len(orders)))
    return np.array([p * np.ones(len(columns)) for p in products]).T


def _block_diagonal(parts: list[Floats]) -> Floats:
    from scipy.linalg import block_diag

    return np.asarray(block_diag(*parts), dtype=np.float64)


@dataclass(eq=False)
class _Centres:
    """What is known of the sites of one kind and species.

    Attributes
    ----------
    total : Normal
    folds : list of Normal
    waiting : list of ((n, n_parameters), (n,), (n,))
        Rows, targets and folds not yet added: adding many at once is much cheaper.
    """

    total: Normal
    folds: list[Normal]
    waiting: list[tuple[Floats, Floats, Integers]] = field(default_factory=list)

    @classmethod
    def empty(cls, n: int) -> _Centres:
        return cls(Normal.empty(n), [Normal.empty(n) for _ in range(FOLDS)])

    def add_waiting(self) -> None:
        if self.waiting:
            parts = zip(*self.waiting, strict=True)
            rows, targets, folds = (np.concatenate(part) for part in parts)
            for k, fold in enumerate(self.folds):
                fold.add(rows[folds == k], targets[folds == k])
            self.total.add(rows, targets)
            self.waiting.clear()

    def solve(self, ridge: float, left_out: int | None) -> Floats:
        self.add_waiting()
        normal = self.total if left_out is None else self.total.plus(self.folds[left_out], -1.0)
        damped = np.arange(len(normal.vector)) > 0
        return normal.solve(damped, ridge)[0]


@dataclass(eq=False)
class StarSurrogate:
    """One basis and the site energies it has learnt.

    Attributes
    ----------
    basis : StarBasis
    centres : dict
        What is known of each kind and species of centres.
    n_labelings, n_energies : int
        Labelings and site energies learnt.
    """

    basis: StarBasis
    centres: dict[tuple[int, int], _Centres]
    n_labelings: int = 0
    n_energies: int = 0

    @classmethod
    def of(cls, basis: StarBasis) -> StarSurrogate:
        """Return a surrogate that knows nothing."""
        pairs = np.argwhere(basis.blocks >= 0).tolist()
        widths = [transform.shape[1] for transform in basis.transforms]
        return cls(basis, {(kind, z): _Centres.empty(widths[kind]) for kind, z in pairs})

    def learn(self, batch: Labelings, site_energies: Floats, weights: Floats) -> None:
        """Learn the energies of sites, (n, n_sites), eV, of labelings with weights, (n,)."""
        folds = (np.arange(len(batch)) + self.n_labelings) % FOLDS
        for kind, (sites, rows) in enumerate(self.basis.site_rows(batch)):
            centres = batch.labels[:, sites]
            for species in np.unique(centres).tolist():
                n, s = np.nonzero(centres == species)
                targets = weights[n] * site_energies[n, sites[s]]
                mine = weights[n][:, None] * rows[n, s]
                self.centres[kind, species].waiting.append((mine, targets, folds[n]))
        self.n_labelings += len(batch)
        self.n_energies += site_energies.size

    def fit(self, ridge: float, left_out: int | None = None) -> Floats:
        """Return coefficients of the counts, (n_counts,), without one part of what was learnt."""
        result = np.zeros(self.basis.n_counts)
        for (kind, species), centres in self.centres.items():
            coefficients = self.basis.transforms[kind] @ centres.solve(ridge, left_out)
            first = self.basis.blocks[kind, species]
            result[first : first + len(coefficients)] = coefficients
        return result


def star_surrogates(parent: ParentLattice) -> list[StarSurrogate]:
    """Return surrogates that know nothing, of the bases that are not too large.

    Those of one parent share their bases.
    """
    kept: list[StarBasis] | None = parent.__dict__.get("_star_bases")
    if kept is None:
        made = [StarBasis.of(parent, reaches) for reaches in STAR_REACHES]
        kept = parent.__dict__["_star_bases"] = [b for b in made if b.n_counts <= MOST_COUNTS]
    return [StarSurrogate.of(basis) for basis in kept]
