"""Energies of labelings of one supercell under a cluster expansion."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.clusters import _kernels as kernels
from latticesearch.potential.clusters import _row_kernels as row_kernels
from latticesearch.potential.clusters import _table_kernels as table_kernels
from latticesearch.potential.clusters import _walk_kernels as walk_kernels
from latticesearch.potential.clusters.environments import swap_tables
from latticesearch.potential.clusters.geometry import cluster_geometry

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.potential.clusters.geometry import ClusterGeometry
    from latticesearch.potential.clusters.model import ClusterModel

Floats: TypeAlias = "npt.NDArray[np.float64]"
Labels: TypeAlias = "npt.NDArray[np.int8]"


class ClusterLatticeEvaluator:
    """A `LatticeEvaluator` of a cluster expansion.

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
    mean_field_cost = 1

    def __init__(self, model: ClusterModel, supercell: Supercell) -> None:
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
        self._supercell = supercell
        self._geometry = cluster_geometry(supercell, model.basis)
        self._tables = _tables(model, self._geometry)

    @property
    def supercell(self) -> Supercell:
        """The supercell all arrays refer to."""
        return self._supercell

    @property
    def n_parameters(self) -> int:
        """Number of coefficients."""
        return self._geometry.basis.n_parameters

    @property
    def walk_tables(self) -> kernels.ClusterTables:
        """What compiled walks need besides a state."""
        return self._tables

    @property
    def has_rows(self) -> bool:
        """All swaps of a site are look-ups."""
        return True

    def walk_state(self, labels: Labels) -> walk_kernels.ClusterState:
        """Return the state of a walk that starts at `labels`, (n_sites,)."""
        labels = np.array(self._checked(labels, 1))
        shape = (len(labels), self._tables.pairs.shape[2])
        state = walk_kernels.ClusterState(
            labels, np.zeros(1), np.zeros(shape), np.zeros(5, dtype=np.int64), np.zeros(1)
        )
        walk_kernels.begin(self._tables, state)
        return state

    def partial_state(
        self, labels: Labels, occupations: Floats
    ) -> walk_kernels.ClusterPartialState:
        """Return the state of a partial cell.

        Parameters
        ----------
        labels
            (n_sites,), -1 where undecided.
        occupations
            (n_sites, n_species), rows sum to one, unit vectors where decided.
        """
        occupations = np.array(occupations, dtype=np.float64)
        state = walk_kernels.ClusterPartialState(
            np.array(labels, dtype=np.int8), occupations, np.zeros(1), np.zeros(occupations.shape)
        )
        walk_kernels.begin_partial(self._tables, state)
        return state

    def energies(self, labels: Labels) -> Floats:
        """Return the energies per site, (n,), eV, of `labels`, (n, n_sites)."""
        energies: Floats = kernels.cell_energies(self._tables, self._checked(labels, 2))
        return energies / self._supercell.n_sites

    def site_energies(self, labels: Labels) -> Floats:
        """Return the energies of the sites, (n, n_sites), eV; vertices share their clusters."""
        energies: Floats = kernels.site_energies(self._tables, self._checked(labels, 2))
        return energies

    def mean_field_energies(self, occupations: Floats) -> Floats:
        """Return the energies per site, (n,), eV, averaged over independent sites.

        Parameters
        ----------
        occupations
            (n, n_sites, n_species), rows sum to one.
        """
        rows = np.ascontiguousarray(occupations, dtype=np.float64)
        expected = self._tables.points.shape
        if rows.ndim != 3 or rows.shape[1:] != expected:
            raise InputError(
                f"occupations have the shape {rows.shape}, but (n, n_sites, n_species) must be "
                f"(n, {expected[0]}, {expected[1]}) here"
            )
        energies = [kernels.mean_field_energy(self._tables, row) for row in rows]
        return np.array(energies, dtype=np.float64) / self._supercell.n_sites

    def flip_energies(self, labels: Labels, sites: npt.NDArray[np.intp], species: Labels) -> Floats:
        """Return the changes of the cell's energy, (m,), eV, of flips as in the protocol."""
        field = self.walk_state(labels).field
        return np.asarray(field[sites, species] - field[sites, np.asarray(labels)[sites]])

    def swap_energies(self, labels: Labels, pairs: npt.NDArray[np.intp]) -> Floats:
        """Return the changes of the cell's energy, (m,), eV, of swaps as in the protocol."""
        changes: Floats = walk_kernels.swap_changes(
            self._tables, self.walk_state(labels), np.ascontiguousarray(pairs, dtype=np.int64)
        )
        return changes

    def gradient_rows(self, labels: Labels) -> Floats:
        """Return d(energy per site)/d(coefficients), (n, n_parameters), of (n, n_sites)."""
        labels = self._checked(labels, 2)
        rows: Floats = kernels.cell_features(self._tables, self._features, labels)
        return rows / self._supercell.n_sites

    def site_gradient_rows(self, labels: Labels) -> Floats:
        """Return d(site energy)/d(coefficients), (n_sites, n_parameters), of one labeling."""
        labels = self._checked(labels, 1)
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
        return swap_tables(self._supercell, self._geometry)

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

    def _checked(self, labels: Labels, ndim: int) -> Labels:
        """Return `labels` fit for the kernels, which would read beyond their tables otherwise."""
        labels = np.ascontiguousarray(labels, dtype=np.int8)
        n_sites, n_species = self._tables.points.shape
        if labels.ndim != ndim or labels.shape[-1] != n_sites:
            raise InputError(
                f"labels have the shape {labels.shape}, but the supercell has {n_sites} sites "
                f"and {ndim} dimension(s) are needed"
            )
        if labels.size and (labels.min() < 0 or labels.max() >= n_species):
            raise InputError(
                f"labels run from {labels.min()} to {labels.max()}, but the parent lattice has "
                f"{n_species} species (0 to {n_species - 1})"
            )
        return labels


def _tables(model: ClusterModel, geometry: ClusterGeometry) -> kernels.ClusterTables:
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
