"""Supercells of a parent lattice: sites, their order, and the permutations of their symmetry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice.normal_forms import hermite_normal_form, integer_matrix
from latticesearch.lattice.parent import VACANCY, FieldsOnlyPickle, ParentLattice

if TYPE_CHECKING:
    import numpy.typing as npt
    from ase import Atoms

SUPERCELLS_KEPT = 2048
"""Supercells that know their symmetry: all of bcc or fcc up to 36 cells, some 40 kB each."""


@dataclass(frozen=True, eq=False)
class Supercell(FieldsOnlyPickle):
    """A superlattice of a parent lattice with a fixed order of its sites.

    Site ``b * n_cells + t`` is site b of the basis in primitive cell t; cell t is at
    ``(i, j, k) @ parent.cell`` with ``t == (i * d + j) * f + k`` for 0 <= i < a, 0 <= j < d,
    0 <= k < f and the diagonal (a, d, f) of `hnf`.

    Attributes
    ----------
    parent : ParentLattice
    hnf : (3, 3) int
        Upper triangular Hermite normal form; ``hnf @ parent.cell`` spans the supercell.
    """

    parent: ParentLattice
    hnf: npt.NDArray[np.int64]

    @classmethod
    def from_matrix(cls, parent: ParentLattice, matrix: npt.ArrayLike) -> Supercell:
        """Make the supercell that integer rows span, in units of the parent's lattice vectors.

        The same superlattice of one parent gives the same object, so what it knows of itself is
        worked out once; only of a superlattice not seen for long another one may be made.

        Parameters
        ----------
        parent : ParentLattice
        matrix : (3, 3) int, or (3,) int for a diagonal matrix

        Raises
        ------
        InputError
            The entries are not integers or span no volume.
        """
        hnf = hermite_normal_form(integer_matrix(matrix))
        return _made_once(parent, hnf.tobytes())

    @classmethod
    def from_hnf(cls, parent: ParentLattice, hnf: npt.NDArray[np.int64]) -> Supercell:
        """Return what `from_matrix` does, of a (3, 3) matrix that is a Hermite normal form."""
        return _made_once(parent, hnf.tobytes())

    @cached_property
    def n_cells(self) -> int:
        """Number of primitive cells, the index of the superlattice."""
        return int(self.hnf[0, 0] * self.hnf[1, 1] * self.hnf[2, 2])

    @cached_property
    def n_sites(self) -> int:
        """Number of sites."""
        return self.n_cells * self.parent.n_basis

    @cached_property
    def cell_vectors(self) -> npt.NDArray[np.int64]:
        """Integer translations (i, j, k) of the primitive cells, (n_cells, 3)."""
        a, d, f = np.diag(self.hnf).tolist()
        return np.indices((a, d, f)).reshape(3, -1).T.astype(np.int64)

    @cached_property
    def basis_index(self) -> npt.NDArray[np.int64]:
        """Site of the parent's basis, (n_sites,), that each site is a copy of."""
        return np.repeat(np.arange(self.parent.n_basis), self.n_cells)

    @cached_property
    def allowed(self) -> npt.NDArray[np.bool_]:
        """Which species each site may hold, (n_sites, n_species)."""
        return self.parent.allowed[self.basis_index]

    @cached_property
    def cell(self) -> npt.NDArray[np.float64]:
        """Minkowski-reduced, right-handed lattice vectors of the supercell, rows, Å."""
        from ase.geometry.minkowski_reduction import minkowski_reduce

        reduced = np.array(minkowski_reduce(self.hnf @ self.parent.cell)[0], dtype=float)
        return reduced if np.linalg.det(reduced) > 0 else -reduced

    @cached_property
    def positions(self) -> npt.NDArray[np.float64]:
        """Cartesian coordinates of the sites, (n_sites, 3), Å, wrapped into `cell`."""
        fractional = self.parent.basis[:, None] + self.cell_vectors
        cartesian = fractional.reshape(-1, 3) @ self.parent.cell
        inside = cartesian @ np.linalg.inv(self.cell)
        # Coordinates that are 1 but for rounding belong to the other side of the cell.
        inside -= np.floor(inside + 1e-9)
        return inside @ self.cell

    def site_of(self, basis_index: npt.ArrayLike, vectors: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """Return the sites that sites of the basis in given primitive cells are.

        Parameters
        ----------
        basis_index : (...) int
            Sites of the parent's basis.
        vectors : (..., 3) int
            Translations of the primitive cells; any integers, folded into the supercell.

        Returns
        -------
        (...) int
            Site indices; the leading shapes of both arguments are broadcast.
        """
        array = np.asarray(vectors, dtype=np.int64)
        x, y, z = array[..., 0], array[..., 1], array[..., 2]
        (a, b, c), (_, d, e), (_, _, f) = self.hnf.tolist()
        turns = x // a
        x, y, z = x - turns * a, y - turns * b, z - turns * c
        turns = y // d
        y, z = y - turns * d, z - turns * e
        cell_index = (x * d + y) * f + z % f
        sites: npt.NDArray[np.intp] = np.asarray(basis_index) * self.n_cells + cell_index
        return sites.astype(np.intp, copy=False)

    @cached_property
    def translation_permutations(self) -> npt.NDArray[np.intp]:
        """Translations of the parent lattice, (n_cells, n_sites), in the order of the cells.

        ``labels[translation_permutations[t]]`` is the crystal moved by the vector of cell t;
        row 0 is the identity.
        """
        vectors = self.cell_vectors - self.cell_vectors[:, None]
        basis = np.arange(self.parent.n_basis)[:, None]
        sites = self.site_of(basis, vectors[:, None])
        return sites.reshape(self.n_cells, self.n_sites)

    def images(self, operations: npt.NDArray[np.intp], target: Supercell) -> npt.NDArray[np.intp]:
        """Return the permutations that carry labelings of this supercell over to `target`.

        Parameters
        ----------
        operations : (m,) int
            Operations of the parent that map this superlattice to that of `target`.
        target : Supercell

        Returns
        -------
        (m, n_sites) int
            ``labels[permutation]`` is the image of `labels`, in the order of `target`'s sites.
        """
        parent = self.parent
        rotated = self.cell_vectors @ parent.rotations[operations].transpose(0, 2, 1)
        vectors = rotated[:, None] + parent.basis_shifts[operations][:, :, None]
        sites = target.site_of(parent.basis_images[operations][:, :, None], vectors)
        return np.argsort(sites.reshape(len(operations), self.n_sites), axis=1)

    @cached_property
    def point_operations(self) -> npt.NDArray[np.intp]:
        """Indices of the parent's operations that keep this superlattice."""
        same = (self.parent.equivalent_hnfs(self.hnf) == self.hnf).all(axis=(1, 2))
        return np.flatnonzero(same)

    @cached_property
    def site_permutations(self) -> npt.NDArray[np.intp]:
        """The group of site permutations of this supercell, (n_perms, n_sites).

        The parent's operations that keep the superlattice times its translations, each
        permutation once, in lexicographic order (the identity is row 0). ``labels[perm]`` is
        equivalent to ``labels``.
        """
        point = _distinct_rows(self.images(self.point_operations, self))
        products = point[:, self.translation_permutations].reshape(-1, self.n_sites)
        return _distinct_rows(products)

    @cached_property
    def canonical(self) -> tuple[Supercell, npt.NDArray[np.intp]]:
        """The smallest equivalent supercell, and the permutation that leads there, (n_sites,)."""
        hnf, operation = self.parent.canonical_hnf(self.hnf)
        target = Supercell.from_hnf(self.parent, hnf)
        return target, self.images(np.array([operation]), target)[0]

    def to_atoms(self, labels: npt.ArrayLike) -> Atoms:
        """Return the structure of one labeling, (n_sites,), with vacancies left out."""
        from ase import Atoms

        symbols = np.array(self.parent.species)[np.asarray(labels, dtype=np.int64)]
        occupied = symbols != VACANCY
        return Atoms(
            symbols=list(symbols[occupied]),
            positions=self.positions[occupied],
            cell=self.cell,
            pbc=True,
        )


@lru_cache(maxsize=SUPERCELLS_KEPT)
def _made_once(parent: ParentLattice, hnf: bytes) -> Supercell:
    """Return the supercell of the 9 numbers, int64, of a Hermite normal form."""
    # An array on bytes cannot be written to.
    return Supercell(parent, np.frombuffer(hnf, np.int64).reshape(3, 3))


def _distinct_rows(rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the different rows of (n, m) numbers from 0 to 2**32 - 1, in lexicographic order."""
    # Big-endian bytes order like the numbers, and sort many times faster than rows do.
    names = np.ascontiguousarray(rows, dtype=">u4").view(np.dtype((np.void, 4 * rows.shape[1])))
    first = np.unique(names.reshape(-1), return_index=True)[1]
    return np.ascontiguousarray(rows[first])
