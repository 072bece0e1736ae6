"""The neighbourhoods of a training set of labelings, ready for any radial coefficients.

On the lattice only the values of the radial functions at the shells' distances matter. They are
the coordinates of training: fewer than the radial coefficients, independent, and of one scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.potential.mtp.lattice import radial_interval, species_order, unique_powers
from latticesearch.potential.mtp.radial import chebyshev_basis
from latticesearch.potential.mtp.tables import lattice_geometry
from latticesearch.potential.mtp.training import _training_kernels as kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Labelings
    from latticesearch.potential.mtp.coefficients import MtpCoefficients

    Floats = npt.NDArray[np.float64]

RELEVANT = 1e-4
"""Directions of radial coefficients with less effect than this, relative to the largest, are kept
fixed: the data cannot tell."""

LARGEST_GROUP = 200_000
"""Entries of a table of site permutations up to which equivalent sites are looked for."""


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
    def at(
        cls, distances: Floats, weights: Floats, potential: MtpCoefficients
    ) -> RadialCoordinates:
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
        """Return the coordinates, flat, of (n_species, n_species, n_radial, radial_size)."""
        coordinates: Floats = radial_coeffs.swapaxes(1, 2) @ self.from_coeffs.T
        return coordinates.ravel()

    def radial_coeffs(self, coordinates: Floats, base: Floats) -> Floats:
        """Return radial coefficients with these coordinates, flat, otherwise those of `base`.

        `base` and the result are (n_species, n_species, n_radial, radial_size).
        """
        n_species, _, n_radial, _ = base.shape
        change = (coordinates - self.of(base)).reshape(n_species, n_radial, n_species, -1)
        result: Floats = base + (change @ self.to_coeffs.T).swapaxes(1, 2)
        return result


@dataclass(frozen=True, eq=False)
class LatticeEnvironments:
    """A `Design` for the energies per site of labelings: species fractions, then basis functions.

    Environments are the sites of all labelings that symmetry does not make equivalent. The
    coordinates are those of `RadialCoordinates`.

    Parameters
    ----------
    potential
        The form; its coefficients are not used.
    blocks
        The environments.
    lists
        The potential's index lists.
    fractions
        Species fractions of the labelings, (n_labelings, n_species).
    """

    potential: MtpCoefficients
    blocks: kernels.Blocks
    lists: kernels.TrainingLists
    fractions: Floats

    @classmethod
    def of(
        cls,
        potential: MtpCoefficients,
        coordinates: RadialCoordinates,
        batches: Sequence[Labelings],
    ) -> LatticeEnvironments:
        """Collect the environments of all sites of all labelings."""
        parts = [_environments(potential, coordinates, batch) for batch in batches]
        starts = np.cumsum([0, *map(len, batches)])
        owners = np.concatenate([p.owners + start for p, start in zip(parts, starts, strict=False)])
        centres = np.concatenate([part.centres for part in parts])
        shares = np.concatenate([part.shares for part in parts])
        sums = np.concatenate([part.sums for part in parts])
        fractions = np.zeros((starts[-1], potential.n_species))
        np.add.at(fractions, (owners, centres), shares)
        blocks = _blocks(_Environments(owners, centres, shares, sums), potential.n_species)
        return cls(potential, blocks, _lists(potential), fractions)

    @property
    def seen_pairs(self) -> npt.NDArray[np.bool_]:
        """``seen_pairs[a, b]``: some a has a neighbour b, (n_species, n_species)."""
        n_species = self.potential.n_species
        present = self.blocks.present.reshape(-1, n_species, self._shape[2] // n_species)
        seen = np.zeros((n_species, n_species), dtype=bool)
        np.logical_or.at(seen, self.blocks.centres, present.any(axis=2))
        return seen

    @property
    def _shape(self) -> tuple[int, int, int]:
        """Centre, mu, and neighbour with coordinate: the shape of the coordinates."""
        shape = self.potential.radial_coeffs.shape
        return shape[0], shape[2], self.blocks.present.shape[1]

    def columns(self, coordinates: Floats) -> tuple[Floats, Floats]:
        """Return the design matrix, (n_labelings, n_species + n_scalars), and the coordinates."""
        coordinates = np.ascontiguousarray(coordinates).reshape(self._shape)
        rows = np.zeros((len(self.fractions), len(self.lists.scalars)))
        kernels.basis_rows(self.blocks, self.lists, coordinates, rows)
        return np.hstack([self.fractions, rows]), coordinates

    def slopes(self, state: Floats, linear: Floats) -> Floats:
        """Return the derivatives of the energies, (n_labelings, n_coordinates of all functions)."""
        rows = np.zeros((len(self.fractions), *self._shape))
        coeffs = np.ascontiguousarray(linear[self.potential.n_species :])
        kernels.slope_rows(self.blocks, self.lists, state, coeffs, rows)
        return rows.reshape(len(rows), math.prod(self._shape))


class _Environments(NamedTuple):
    """Some environments, in the order of their labelings.

    ``owners`` says which labeling each belongs to, ``shares`` which fraction of its sites it
    stands for, both (n,); ``sums`` is (n, n_species * n_coordinates, n_powers).
    """

    owners: npt.NDArray[np.int64]
    centres: npt.NDArray[np.int64]
    shares: Floats
    sums: Floats


def _environments(
    potential: MtpCoefficients, coordinates: RadialCoordinates, batch: Labelings
) -> _Environments:
    """Return the environments of a batch with the sums over the neighbours of each."""
    supercell = batch.supercell
    powers, _ = unique_powers(potential)
    geometry = lattice_geometry(supercell, radial_interval(potential), powers)
    values = np.einsum("uqp,qv->uvp", geometry.values, coordinates.to_coeffs) * potential.scaling
    labels = species_order(potential.species, supercell.parent)[batch.labels]
    multiplicities = _multiplicities(batch)
    owners, sites = np.nonzero(multiplicities)
    sums = np.zeros((len(owners), potential.n_species, *values.shape[1:]))
    for site in range(supercell.n_sites):
        mine = np.flatnonzero(sites == site)
        rows = geometry.rows[site] >= 0
        seen = zip(geometry.neighbours[site, rows], geometry.rows[site, rows], strict=True)
        for neighbour, row in seen:
            sums[mine, labels[owners[mine], neighbour]] += values[row]
    shares = multiplicities[owners, sites] / supercell.n_sites
    sums = sums.reshape(len(owners), potential.n_species * coordinates.n_coordinates, len(powers))
    return _Environments(owners, labels[owners, sites], shares, sums)


def _multiplicities(batch: Labelings) -> npt.NDArray[np.int64]:
    """Return how many sites the first site of each set of equivalent ones stands for.

    (n, n_sites); zero for the others. Sites are equivalent if a symmetry of the labeling maps one
    onto the other; in large cells, where there are hardly any, every site stands for itself.
    """
    supercell, labels = batch.supercell, batch.labels
    n, n_sites = labels.shape
    if n_sites**2 * len(supercell.point_operations) > LARGEST_GROUP:
        return np.ones((n, n_sites), dtype=np.int64)
    permutations = supercell.site_permutations
    counts = np.zeros((n, n_sites), dtype=np.int64)
    step = max(LARGEST_GROUP // permutations.size, 1)
    for start in range(0, n, step):
        some = labels[start : start + step]
        fixed = (some[:, permutations] == some[:, None]).all(axis=2)
        first = np.where(fixed[:, :, None], permutations, n_sites).min(axis=1)
        np.add.at(counts[start : start + step], (np.arange(len(some))[:, None], first), 1)
    return counts


def _blocks(environments: _Environments, n_species: int) -> kernels.Blocks:
    """Pack environments into blocks by the species of the centre."""
    chosen = []
    for z in range(n_species):
        mine = np.flatnonzero(environments.centres == z)
        padding = np.full(-len(mine) % kernels.WIDTH, -1)
        chosen.append(np.concatenate([mine, padding]).reshape(-1, kernels.WIDTH))
    index = np.concatenate(chosen)
    sums = environments.sums[index]
    sums[index < 0] = 0.0
    geometry = np.ascontiguousarray(np.moveaxis(sums, 1, 3))
    return kernels.Blocks(
        geometry=geometry,
        present=np.asarray(geometry.any(axis=(2, 3))),
        centres=environments.centres[index[:, 0]],
        owners=environments.owners[index],
        shares=np.where(index < 0, 0.0, environments.shares[index]),
    )


def _lists(potential: MtpCoefficients) -> kernels.TrainingLists:
    """Return a potential's index lists for the kernels."""
    times = potential.alpha_index_times
    return kernels.TrainingLists(
        mu=np.ascontiguousarray(potential.alpha_index_basic[:, 0]),
        power=unique_powers(potential)[1].astype(np.int64),
        times=np.ascontiguousarray(times[:, [0, 1, 3]], dtype=np.int64),
        factors=np.ascontiguousarray(times[:, 2], dtype=np.float64),
        scalars=np.ascontiguousarray(potential.alpha_moment_mapping, dtype=np.int64),
        n_moments=int(potential.n_moments),
    )
