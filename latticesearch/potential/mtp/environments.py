"""The neighbourhoods of a training set of labelings, ready for any radial coefficients.

On the lattice only the values of the radial functions at the shells' distances matter. They are
the coordinates of training: fewer than the radial coefficients, independent, and of one scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from latticesearch.potential.mtp.lattice import radial_interval, species_order, unique_powers
from latticesearch.potential.mtp.radial import chebyshev_basis
from latticesearch.potential.mtp.tables import lattice_geometry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Labelings
    from latticesearch.potential.mtp.model import MtpPotential

    Floats = npt.NDArray[np.float64]

RELEVANT = 1e-4
"""Directions of radial coefficients with less effect than this, relative to the largest, are kept
fixed: the data cannot tell."""


@dataclass(frozen=True, eq=False)
class RadialCoordinates:
    """Coordinates v of radial functions: their weighted values at the distances that occur.

    With weights w, ``sum(v**2)`` is the sum over the distances of ``(w_s f(r_s))**2``. Where there
    are more distances than radial basis functions, the values are projected on what these can do.
    All functions together, (n_species, n_radial, n_species, n_coordinates) flat, are the species of
    the centre, mu, the species of the neighbour and the coordinate.

    Parameters
    ----------
    to_coeffs
        (radial_size, n_coordinates): ``c = to_coeffs @ v`` for the part of the coefficients c that
        matters at the distances.
    from_coeffs
        (n_coordinates, radial_size): ``v = from_coeffs @ c``.
    from_values
        (n_coordinates, n_distances): ``v = from_values @ (w * f)`` of values f at the distances.
    """

    to_coeffs: Floats
    from_coeffs: Floats
    from_values: Floats

    @classmethod
    def at(cls, distances: Floats, weights: Floats, potential: MtpPotential) -> RadialCoordinates:
        """Choose the coordinates for some `distances`, (n,), Å, with `weights`, (n,)."""
        interval = radial_interval(potential)
        basis, _ = chebyshev_basis(distances, interval.min_dist, interval.max_dist, interval.size)
        scaled = potential.scaling * weights[:, None] * basis
        left, values, right = np.linalg.svd(scaled, full_matrices=False)
        keep = values > RELEVANT * values[0]
        left, values, right = left[:, keep], values[keep], right[keep]
        if len(values) == len(distances):  # every value is free: no need to mix them
            return cls(right.T / values @ left.T, scaled, np.eye(len(distances)))
        return cls(right.T / values, values[:, None] * right, left.T)

    @property
    def n_coordinates(self) -> int:
        """Number of coordinates of one radial function."""
        return len(self.from_coeffs)

    def of(self, radial_coeffs: Floats) -> Floats:
        """Return the coordinates, flat, of `radial_coeffs` as in `MtpPotential`."""
        coordinates: Floats = radial_coeffs.swapaxes(1, 2) @ self.from_coeffs.T
        return coordinates.ravel()

    def radial_coeffs(self, coordinates: Floats, base: Floats) -> Floats:
        """Return radial coefficients with these coordinates, otherwise those of `base`."""
        n_species, _, n_radial, _ = base.shape
        change = (coordinates - self.of(base)).reshape(n_species, n_radial, n_species, -1)
        result: Floats = base + (change @ self.to_coeffs.T).swapaxes(1, 2)
        return result


@dataclass(frozen=True, eq=False)
class LatticeEnvironments:
    """A `Design` for the energies per site of labelings: species fractions, then basis functions.

    Environments are the sites of all labelings, ordered by the species of the centre. The
    coordinates are those of `RadialCoordinates`.

    Parameters
    ----------
    potential
        The form; its coefficients are not used.
    geometry
        Per species of the centre (n_species * n_coordinates, n_powers, n_environments): sums over
        the neighbours of one species of the functions behind one coordinate times the powers.
    averages
        Per species of the centre the matrix that averages over the sites of each labeling,
        (n_labelings, n_environments).
    fractions
        Species fractions of the labelings, (n_labelings, n_species).
    """

    potential: MtpPotential
    geometry: tuple[Floats, ...]
    averages: tuple[sparse.csr_array, ...]
    fractions: Floats

    @classmethod
    def of(
        cls, potential: MtpPotential, coordinates: RadialCoordinates, batches: Sequence[Labelings]
    ) -> LatticeEnvironments:
        """Collect the environments of all sites of all labelings."""
        parts = [_neighbour_sums(potential, coordinates, batch) for batch in batches]
        species = np.concatenate([labels.ravel() for labels, _ in parts])
        sums = np.concatenate([sums for _, sums in parts])
        sizes = np.concatenate([np.full(len(labels), labels.shape[1]) for labels, _ in parts])
        owners = np.repeat(np.arange(len(sizes)), sizes)
        geometry, averages = [], []
        for z in range(potential.n_species):
            mine = np.flatnonzero(species == z)
            geometry.append(np.ascontiguousarray(np.moveaxis(sums[mine], 0, 2)))
            shares = (1.0 / sizes[owners[mine]], (owners[mine], np.arange(len(mine))))
            averages.append(sparse.csr_array(shares, shape=(len(sizes), len(mine))))
        counts: Floats = np.stack([matrix.sum(axis=1) for matrix in averages], axis=1)
        return cls(potential, tuple(geometry), tuple(averages), counts)

    @property
    def seen_pairs(self) -> npt.NDArray[np.bool_]:
        """``seen_pairs[a, b]``: some a has a neighbour b, (n_species, n_species)."""
        n_species = len(self.geometry)
        return np.stack([g.reshape(n_species, -1).any(axis=1) for g in self.geometry])

    @property
    def _shape(self) -> tuple[int, int, int]:
        """Centre, mu, neighbour and coordinate: the shape of the coordinates."""
        shape = self.potential.radial_coeffs.shape
        return shape[0], shape[2], self.geometry[0].shape[0]

    def columns(self, coordinates: Floats) -> tuple[Floats, Floats]:
        """Return the design matrix, (n_labelings, n_species + n_scalars), and all moments."""
        coordinates = coordinates.reshape(self._shape)
        mu, power = self._basic
        moments = np.zeros((self.potential.n_moments, sum(m.shape[1] for m in self.averages)))
        for z, block in self._blocks():
            geometry = self.geometry[z]
            sums = coordinates[z] @ geometry.reshape(len(geometry), -1)
            moments[: len(mu), block] = sums.reshape(-1, *geometry.shape[1:])[mu, power]
        for a, b, factor, c in self.potential.alpha_index_times.tolist():
            moments[c] += factor * moments[a] * moments[b]
        scalars = moments[self.potential.alpha_moment_mapping]
        means = sum(self.averages[z] @ scalars[:, block].T for z, block in self._blocks())
        return np.hstack([self.fractions, means]), moments

    def slopes(self, state: Floats, linear: Floats) -> Floats:
        """Return the derivatives of the energies, (n_labelings, n_coordinates of all functions)."""
        derivatives = self._moment_derivatives(state, linear[self.potential.n_species :])
        mu, power = self._basic
        n_species, n_radial, width = self._shape
        result = np.empty((len(self.fractions), n_species, n_radial, width))
        for z, block in self._blocks():
            geometry = self.geometry[z]
            for radial in range(n_radial):
                chosen = np.flatnonzero(mu == radial)
                # Within one radial function each power occurs once.
                part = np.einsum(
                    "vpe,pe->ve", geometry[:, power[chosen]], derivatives[chosen, block]
                )
                result[:, z, radial] = self.averages[z] @ part.T
        return result.reshape(len(result), -1)

    @property
    def _basic(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
        """Radial index and index of the powers of each basic moment."""
        return self.potential.alpha_index_basic[:, 0], unique_powers(self.potential)[1]

    def _blocks(self) -> Iterator[tuple[int, slice]]:
        """Yield the species of the centre and its environments' columns among all."""
        stop = 0
        for z, matrix in enumerate(self.averages):
            start, stop = stop, stop + matrix.shape[1]
            yield z, slice(start, stop)

    def _moment_derivatives(self, moments: Floats, scalar_coeffs: Floats) -> Floats:
        """Return d(site energy)/d(moments), (n_moments, n_environments), in reverse mode."""
        derivatives = np.zeros_like(moments)
        derivatives[self.potential.alpha_moment_mapping] = scalar_coeffs[:, None]
        for a, b, factor, c in reversed(self.potential.alpha_index_times.tolist()):
            outer = factor * derivatives[c]
            derivatives[a] += outer * moments[b]
            derivatives[b] += outer * moments[a]
        return derivatives


def _neighbour_sums(
    potential: MtpPotential, coordinates: RadialCoordinates, batch: Labelings
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the species, (n, n_sites), and sums of the neighbours of all sites of a batch.

    The sums, (n * n_sites, n_species * n_coordinates, n_powers), are site by site, labeling by
    labeling.
    """
    supercell = batch.supercell
    powers, _ = unique_powers(potential)
    geometry = lattice_geometry(supercell, radial_interval(potential), powers)
    values = np.einsum("uqp,qv->uvp", geometry.values, coordinates.to_coeffs) * potential.scaling
    labels = species_order(potential.species, supercell.parent)[batch.labels]
    occupied = np.eye(potential.n_species)[labels]
    n, n_sites = labels.shape
    sums = np.zeros((n, n_sites, potential.n_species, values[:1].size))
    for site in range(n_sites):
        rows = geometry.rows[site] >= 0
        seen = occupied[:, geometry.neighbours[site, rows]].transpose(0, 2, 1)
        sums[:, site] = seen @ values[geometry.rows[site, rows]].reshape(rows.sum(), -1)
    return labels, sums.reshape(n * n_sites, -1, len(powers))
