"""Descriptors of what surrounds a site: the power spectrum of the species in its shells.

A shell is a set of neighbours that the symmetry of the site maps onto each other. With functions
u_a of the species that are orthogonal to each other and 1, the descriptor of a site holds the sums
of u_a over each shell and, for each two shells, the sums of u_a(i) u_b(j) P_l(cos ij) over pairs
of neighbours, P_l Legendre polynomials of the angle between them. Up to the choice of radial
functions, which few shells need not have, these are the invariants of Bartók, Kondor & Csányi,
PRB 87 184115 (2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.polynomial.legendre import legvander

from latticesearch.lattice.neighbours import nearest_distance, parent_neighbours
from latticesearch.potential.clusters.functions import site_functions
from latticesearch.potential.sites import _site_kernels as kernels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Labelings, ParentLattice, Supercell

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

REACHES = (1.7, 1.2)
"""Farthest neighbour in nearest-neighbour distances; the first whose descriptors are short
enough counts."""

WIDEST = 400
"""Numbers in a descriptor at most."""

DEGREE = 4
"""Highest Legendre polynomial."""

PAIRS = 0.25
"""Spread of the pair sums of a descriptor among random labelings, relative to the shell sums."""

SCALE = 0.5
"""Mean square of the shell sums of random labelings: how fast a kernel of descriptors bends."""


class _Site(NamedTuple):
    """The neighbours, (n,) and (n, 3), of one site of the parent's basis."""

    basis: Integers
    translations: Integers


class _Shells(NamedTuple):
    """How the neighbours of a site are counted.

    ``singles[j, a]`` and ``pairs[i, j, a, b]`` are columns, `transform`, (n_columns, width),
    makes descriptors of the counts.
    """

    singles: Integers
    pairs: Integers
    transform: Floats


@dataclass(frozen=True, eq=False)
class SiteBasis:
    """Descriptors of the sites of a parent lattice.

    Attributes
    ----------
    parent : ParentLattice
    kinds : (n_basis,) int
        Which set of equivalent sites each site of the basis belongs to.
    sites : list of _Site
        Neighbours of each site of the basis; those of equivalent sites in corresponding order.
    shells : list of _Shells
        Per kind.
    """

    parent: ParentLattice
    kinds: Integers
    sites: list[_Site]
    shells: list[_Shells]

    @classmethod
    def of(cls, parent: ParentLattice, reach: float) -> SiteBasis:
        """Make descriptors of neighbours within a reach, see `REACHES`."""
        kinds = np.empty(parent.n_basis, dtype=np.int64)
        found: dict[int, _Site] = {}
        shells = []
        for kind, members in enumerate(parent.sublattices):
            kinds[members] = kind
            centre = int(members[0])
            site, vectors = _neighbours(parent, centre, reach * nearest_distance(parent))
            group = _site_group(parent, centre, site)
            shells.append(_shells(group, vectors, parent.n_species))
            found |= {int(b): _moved(parent, centre, int(b), site) for b in members}
        return cls(parent, kinds, [found[b] for b in range(parent.n_basis)], shells)

    @cached_property
    def width(self) -> int:
        """Numbers in a descriptor: 1 and those of `_Shells`; zeros where a site has fewer."""
        return 1 + max(int(shells.transform.shape[1]) for shells in self.shells)

    @property
    def n_centres(self) -> int:
        """Number of kinds times species."""
        return len(self.shells) * self.parent.n_species

    @cached_property
    def numbers(self) -> list[npt.NDArray[np.uint64]]:
        """Per kind, random numbers of the columns and of the species of the centre.

        Their sums tell surroundings apart: that two of a million agree by chance has a
        probability of 10⁻⁸.
        """
        rng = np.random.default_rng(0)
        sizes = [len(shells.transform) + self.parent.n_species for shells in self.shells]
        return [rng.integers(2**64, size=size, dtype=np.uint64) for size in sizes]

    def tables(self, supercell: Supercell) -> list[kernels.SiteTables]:
        """Return per kind what the compiled functions need of a supercell."""
        return _tables(self, supercell)

    def codes(self, batch: Labelings) -> npt.NDArray[np.uint64]:
        """Return a number per site, (n, n_sites), that says what it is and what surrounds it."""
        codes = np.zeros(batch.labels.shape, dtype=np.uint64)
        for tables, numbers in zip(self.tables(batch.supercell), self.numbers, strict=True):
            own = numbers[-self.parent.n_species :]
            codes[:, tables.sites] = own[batch.labels[:, tables.sites]]
            kernels.add_codes(batch.labels, tables, numbers, codes)
        return codes

    def describe(
        self, batch: Labelings, rows: npt.NDArray[np.intp], sites: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.float32], Integers]:
        """Return descriptors, (m, width), and kinds times species, (m,), of sites of labelings."""
        x = np.zeros((len(rows), self.width), dtype=np.float32)
        x[:, 0] = 1.0
        kinds = self.kinds[batch.supercell.basis_index[sites]]
        everything = zip(self.tables(batch.supercell), self.shells, strict=True)
        for kind, (tables, shells) in enumerate(everything):
            mine = np.flatnonzero(kinds == kind)
            places = np.searchsorted(tables.sites, sites[mine])
            parts = kernels.descriptors(batch.labels[rows[mine]], tables, places, shells.transform)
            x[mine, 1 : 1 + parts.shape[1]] = parts
        return x, kinds * self.parent.n_species + batch.labels[rows, sites]


@dataclass(frozen=True, eq=False)
class SiteTable:
    """The distinct sites of labelings.

    Attributes
    ----------
    codes : (n,) int
        See `SiteBasis.codes`.
    x : (n, width) float32
        Descriptors.
    centres : (n,) int
        Kind times number of species plus species, ascending.
    starts : (n_centres + 1,) int
        Where each of them starts.
    index : list of (n_labelings, n_sites) int
        Which of them the sites of each batch are.
    """

    codes: npt.NDArray[np.uint64]
    x: npt.NDArray[np.float32]
    centres: Integers
    starts: Integers
    index: list[npt.NDArray[np.int32]]

    @classmethod
    def of(cls, basis: SiteBasis, batches: Sequence[Labelings]) -> SiteTable:
        """Find the distinct sites."""
        parts = [basis.codes(batch) for batch in batches]
        flat = np.concatenate([np.zeros(0, np.uint64), *(part.reshape(-1) for part in parts)])
        codes, first, inverse = np.unique(flat, return_index=True, return_inverse=True)
        starts = np.cumsum([0, *(part.size for part in parts)])
        x = np.empty((len(codes), basis.width), dtype=np.float32)
        centres = np.empty(len(codes), dtype=np.int64)
        for batch, start, end in zip(batches, starts, starts[1:], strict=False):
            mine = np.flatnonzero((first >= start) & (first < end))
            rows, sites = np.divmod(first[mine] - start, batch.supercell.n_sites)
            x[mine], centres[mine] = basis.describe(batch, rows, sites)
        order = np.argsort(centres, kind="stable")
        places = np.argsort(order).astype(np.int32)[inverse.reshape(-1)]
        index = [
            places[start : start + part.size].reshape(part.shape)
            for start, part in zip(starts, parts, strict=False)
        ]
        centres = centres[order]
        firsts = np.searchsorted(centres, np.arange(basis.n_centres + 1))
        return cls(codes[order], x[order], centres, firsts, index)

    def part(self, rows: Sequence[npt.NDArray[np.intp]]) -> SiteTable:
        """Return the distinct sites of some labelings, (m,), of each batch."""
        wanted = np.zeros(len(self.codes), dtype=np.bool_)
        for index, mine in zip(self.index, rows, strict=True):
            wanted[index[mine]] = True
        places = np.cumsum([0, *wanted])
        parts = [
            places[index[mine]].astype(np.int32)
            for index, mine in zip(self.index, rows, strict=True)
        ]
        starts = places[self.starts]
        return SiteTable(self.codes[wanted], self.x[wanted], self.centres[wanted], starts, parts)

    def energies(self, forms: Floats) -> Iterator[Floats]:
        """Yield the energies per site, (n,), of each batch, with one quadratic form per centre."""
        values = kernels.quadratic_forms(self.x, self.starts, forms)
        for index in self.index:
            yield kernels.means(values, index)


@lru_cache(maxsize=16)  # a dozen parent lattices at a time is more than anybody has
def site_basis(parent: ParentLattice) -> SiteBasis:
    """Return the descriptors of a parent lattice, made once."""
    made = (SiteBasis.of(parent, reach) for reach in REACHES)
    short = (basis for basis in made if basis.width <= WIDEST)
    return next(short, None) or SiteBasis.of(parent, 0.0)


@lru_cache(maxsize=1024)
def _tables(basis: SiteBasis, supercell: Supercell) -> list[kernels.SiteTables]:
    result = []
    for kind, shells in enumerate(basis.shells):
        neighbours = [
            supercell.site_of(
                basis.sites[b].basis, basis.sites[b].translations + supercell.cell_vectors[:, None]
            )
            for b in np.flatnonzero(basis.kinds == kind)
        ]
        sites = np.flatnonzero(basis.kinds[supercell.basis_index] == kind)
        around = np.ascontiguousarray(np.concatenate(neighbours), dtype=np.int64)
        result.append(kernels.SiteTables(sites, around, shells.singles, shells.pairs))
    return result


def _neighbours(parent: ParentLattice, centre: int, cutoff: float) -> tuple[_Site, Floats]:
    """Return the neighbours with a choice of species, and the vectors to them, (n, 3), Å."""
    basis, translations, vectors = parent_neighbours(parent, centre, cutoff)
    active = parent.is_active[basis]
    return _Site(basis[active], translations[active]), vectors[active]


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


def _shells(group: Integers, vectors: Floats, n_species: int) -> _Shells:
    """Sort neighbours into shells and pairs of them by their angles.

    Parameters
    ----------
    group
        (n_ops, n): permutations of the neighbours.
    vectors
        (n, 3), Å.
    n_species
        Number of species.
    """
    n = len(vectors)
    shell = np.unique(group.min(axis=0), return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(shell)
    units = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    cosines = np.round(units @ units.T, 6)
    i, j = np.triu_indices(n, 1)
    names = np.column_stack([np.sort(shell[np.column_stack([i, j])], axis=1), cosines[i, j]])
    classes, of_pair = np.unique(names, axis=0, return_inverse=True)
    a, b = np.indices((n_species, n_species))
    start = len(sizes) * n_species
    pairs = np.zeros((n, n, n_species, n_species), dtype=np.int64)
    for p, q, c in zip(i.tolist(), j.tolist(), of_pair.reshape(-1).tolist(), strict=True):
        ends = (a, b) if shell[p] <= shell[q] else (b, a)
        if shell[p] == shell[q]:
            ends = np.minimum(a, b), np.maximum(a, b)
        pairs[p, q] = start + (c * n_species + ends[0]) * n_species + ends[1]
    singles = shell[:, None] * n_species + np.arange(n_species)
    transform = _transform(sizes, classes, np.bincount(of_pair.reshape(-1)), n_species)
    return _Shells(singles.astype(np.int64), pairs, transform)


def _transform(sizes: Integers, classes: Floats, members: Integers, n_species: int) -> Floats:
    """Return what makes descriptors of counts, (n_columns, width).

    `classes` holds rows of two shells and a cosine, `members` how many pairs each has.
    """
    functions = np.round(site_functions(n_species), 14)  # 0 for 1e-16
    scale = math.sqrt(SCALE / max(len(sizes) * len(functions), 1))
    parts: list[Floats] = [scale / math.sqrt(size) * functions.T for size in sizes.tolist()]
    legendre = legvander(classes[:, 2], DEGREE)[:, 1:] if len(classes) else np.zeros((0, DEGREE))
    shells = classes[:, :2].astype(np.int64)
    legendre /= np.sqrt(sizes[shells].prod(axis=1))[:, None]
    spread = 2.0 * len(functions) ** 2 * (members[:, None] * legendre**2).sum()
    legendre *= PAIRS * math.sqrt(SCALE / spread) if spread > 0.0 else 0.0
    for both in np.unique(shells, axis=0):
        factors = _factors(legendre[(shells == both).all(axis=1)])
        products = _products(functions, bool(both[0] == both[1]))
        parts.append(np.kron(factors, products).astype(np.float64))
    return _block_diagonal(parts)


def _factors(rows: Floats) -> Floats:
    """Return the narrowest matrix, (n, rank), with ``m @ m.T == rows @ rows.T``, rows (n, m)."""
    u, s, _ = np.linalg.svd(rows, full_matrices=False)
    kept = s > 1e-6 * s.max()
    return np.asarray(u[:, kept] * s[kept])


def _products(functions: Floats, is_one_shell: bool) -> Floats:
    """Return products of functions of two species, (n_species**2, n_products).

    Where neighbours of one shell may change places, only the symmetric ones.
    """
    n = len(functions)
    products = np.einsum("ax,by->xyab", functions, functions).reshape(-1, n, n) * math.sqrt(2.0)
    if not is_one_shell:
        return np.asarray(products.reshape(len(products), -1))
    a, b = np.triu_indices(n)
    scale = np.where(a == b, math.sqrt(0.5), 1.0)
    return np.asarray((products + products.transpose(0, 2, 1))[:, a, b] * scale)


def _block_diagonal(parts: list[Floats]) -> Floats:
    """Return the matrix with the parts, (n, m) each, along its diagonal, zeros elsewhere."""
    from scipy.linalg import block_diag

    return np.asarray(block_diag(*parts), dtype=np.float64) if parts else np.zeros((0, 0))
