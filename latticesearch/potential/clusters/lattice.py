"""Energies of labelings of one supercell under a cluster expansion."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.clusters import _kernels as kernels
from latticesearch.potential.clusters import _row_kernels as row_kernels
from latticesearch.potential.clusters import _table_kernels as table_kernels
from latticesearch.potential.clusters import _walk_kernels as walk_kernels
from latticesearch.potential.clusters.coefficients import ClusterCoefficients
from latticesearch.potential.clusters.environments import swap_tables
from latticesearch.potential.clusters.geometry import cluster_geometry
from latticesearch.potential.protocol import KEPT, Evaluator

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.potential.clusters.basis import ClusterBasis
    from latticesearch.potential.clusters.geometry import ClusterGeometry

Floats: TypeAlias = "npt.NDArray[np.float64]"
Labels: TypeAlias = "npt.NDArray[np.int8]"


KEPT_BASES = 64
"""Bases whose empty expansions are kept; a problem has a handful."""


class ClusterLatticeEvaluator(Evaluator):
    """The `Evaluator` of a cluster expansion.

    Parameters
    ----------
    model
        The cluster expansion.
    supercell
        The cell of all labelings, of the same parent lattice.

    Raises
    ------
    InputError
        The supercell is one of another parent lattice.
    """

    is_compiled = True
    has_site_energies = True
    has_gradients = True
    has_rows = True
    mean_field_cost = 1

    def __init__(self, model: ClusterCoefficients, supercell: Supercell) -> None:
        super().__init__(supercell)
        parent = model.basis.parent
        if supercell.parent is not parent and not (
            supercell.parent.species == parent.species
            and np.array_equal(supercell.parent.cell, parent.cell)
            and np.array_equal(supercell.parent.basis, parent.basis)
        ):
            raise InputError(
                f"the cluster expansion is one of {', '.join(parent.species)} on a lattice with "
                f"{parent.n_basis} site(s) per cell, the supercell is one of another parent lattice"
            )
        self._geometry = cluster_geometry(supercell, model.basis)
        self._tables = _tables(model, self._geometry)

    @property
    def n_parameters(self) -> int:
        """Number of coefficients."""
        return self._geometry.basis.n_parameters

    @property
    def walk_tables(self) -> kernels.ClusterTables:
        """What compiled walks need besides a state."""
        return self._tables

    def walk_state(self, labels: Labels) -> walk_kernels.ClusterState:
        """Return the state of a walk that starts at `labels`, (n_sites,)."""
        labels = np.array(self.checked(labels, 1))
        shape = (len(labels), self._tables.pairs.shape[2])
        state = walk_kernels.ClusterState(
            labels, np.zeros(1), np.zeros(shape), np.zeros(5, dtype=np.int64), np.zeros(1)
        )
        walk_kernels.begin(self._tables, state)
        return state

    def energies(self, labels: Labels) -> Floats:
        """Return the energies per site, (n,), eV, of `labels`, (n, n_sites)."""
        energies: Floats = kernels.cell_energies(self._tables, self.checked(labels, 2))
        return energies / self.supercell.n_sites

    def site_energies(self, labels: Labels) -> Floats:
        """Return the energies of the sites, (n, n_sites), eV; vertices share their clusters."""
        energies: Floats = kernels.site_energies(self._tables, self.checked(labels, 2))
        return energies

    def mean_field_energies(self, occupations: Floats) -> Floats:
        """Return the energies per site, (n,), eV, averaged over independent sites.

        Parameters
        ----------
        occupations
            (n, n_sites, n_species), rows sum to one.
        """
        rows = self.checked_occupations(occupations)
        energies = [kernels.mean_field_energy(self._tables, row) for row in rows]
        return np.array(energies, dtype=np.float64) / self.supercell.n_sites

    def flip_energies(self, labels: Labels, sites: npt.NDArray[np.intp], species: Labels) -> Floats:
        """Return the changes of the cell's energy, (m,), eV, of flips as in the protocol."""
        sites, species = self.checked_flips(sites, species)
        field = self.walk_state(labels).field
        return np.asarray(field[sites, species] - field[sites, np.asarray(labels)[sites]])

    def swap_energies(self, labels: Labels, pairs: npt.NDArray[np.intp]) -> Floats:
        """Return the changes of the cell's energy, (m,), eV, of swaps as in the protocol."""
        changes: Floats = walk_kernels.swap_changes(
            self._tables, self.walk_state(labels), self.checked_sites(pairs, (-1, 2))
        )
        return changes

    def gradient_rows(self, labels: Labels) -> Floats:
        """Return d(energy per site)/d(coefficients), (n, n_parameters), of (n, n_sites)."""
        labels = self.checked(labels, 2)
        rows: Floats = kernels.cell_features(self._tables, self._features, labels)
        return rows / self.supercell.n_sites

    def site_gradient_rows(self, labels: Labels) -> Floats:
        """Return d(site energy)/d(coefficients), (n_sites, n_parameters), of one labeling."""
        labels = self.checked(labels, 1)
        rows: Floats = kernels.site_features(self._tables, self._features, labels)
        return rows

    def swap_gradient_rows(self, start: Labels, swaps: npt.NDArray[np.int64]) -> Floats:
        """Return d(change of energy)/d(coefficients), (n, n_parameters), along a walk.

        Parameters
        ----------
        start
            (n_sites,) labels before the first swap.
        swaps
            (n, 3): two sites, and 1 where the swap was carried out before the next, else 0.
        """
        columns: Floats = row_kernels.swap_features(self._swap_tables, start, swaps)
        return columns.T

    @cached_property
    def _swap_tables(self) -> row_kernels.SwapTables:
        return swap_tables(self.supercell, self._geometry)

    @property
    def _features(self) -> kernels.FeatureTables:
        geometry = self._geometry
        basis = geometry.basis
        return kernels.FeatureTables(
            basis.points,
            geometry.alone,
            geometry.counts,
            geometry.bundles,
            basis.orientations.entries,
        )


@lru_cache(maxsize=KEPT)
def lattice_evaluator(model: ClusterCoefficients, supercell: Supercell) -> ClusterLatticeEvaluator:
    """Return the evaluator of `supercell`; those last asked for are kept."""
    return ClusterLatticeEvaluator(model, supercell)


def feature_evaluator(basis: ClusterBasis, supercell: Supercell) -> ClusterLatticeEvaluator:
    """Return an evaluator whose gradient rows are those of any expansion in this basis."""
    return lattice_evaluator(_blank(basis), supercell)


@lru_cache(maxsize=KEPT_BASES)
def _blank(basis: ClusterBasis) -> ClusterCoefficients:
    """Return an expansion without energies."""
    return ClusterCoefficients(basis, np.zeros(basis.n_parameters))


def _tables(model: ClusterCoefficients, geometry: ClusterGeometry) -> kernels.ClusterTables:
    """Add up the energies of the clusters of one supercell."""
    energies, unfolded = model.cluster_energies, geometry.unfolded
    if geometry.is_bundled:
        energies = table_kernels.bundled_energies(energies, geometry.bundles)
    points, pairs, pair_swaps, floors = table_kernels.cell_tables(
        energies, model.point_energies, geometry.alone, geometry.counts, geometry.n_cells
    )
    return kernels.ClusterTables(
        points,
        unfolded.neighbours,
        unfolded.class_of,
        pairs,
        unfolded.second,
        unfolded.third,
        unfolded.oriented,
        unfolded.start,
        energies.triplets,
        unfolded.near,
        energies.triplet_lines,
        pair_swaps,
        energies.triplet_swaps,
        floors,
    )
