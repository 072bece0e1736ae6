"""Energies, forces, stress of any structure, and their derivatives by the coefficients.

One structure is an `OffLatticeStructure`: its neighbour pairs and their radial basis functions,
made once and used for every set of coefficients. Everything else is a sum over pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse
import vesin

from latticesearch.errors import InputError
from latticesearch.potential.mtp import _kernels
from latticesearch.potential.mtp.radial import chebyshev_basis

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.potential.mtp.model import MtpPotential

    Floats = npt.NDArray[np.float64]

_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


class Evaluation(NamedTuple):
    """Result of `evaluate`.

    Parameters
    ----------
    energy
        Of the cell, eV.
    forces
        (n_atoms, 3), eV/Å.
    stress
        (6,), eV/Å³, in ASE's sign and order xx, yy, zz, yz, xz, xy; NaN unless the structure is
        periodic in all directions.
    site_energies
        (n_atoms,), eV.
    """

    energy: float
    forces: Floats
    stress: Floats
    site_energies: Floats


class DesignRows(NamedTuple):
    """Derivatives of energy, forces and stress by some coefficients (the last axis).

    Parameters
    ----------
    energy
        (n_columns,), of the cell.
    forces
        (n_atoms, 3, n_columns).
    stress
        (6, n_columns), in the order and with the NaN of `Evaluation`.
    """

    energy: Floats
    forces: Floats
    stress: Floats


@dataclass(frozen=True, eq=False)
class OffLatticeStructure:
    """The neighbour pairs of one structure, each from both of its ends, by centre.

    Parameters
    ----------
    types
        Species of the atoms, (n_atoms,).
    volume
        Å³; NaN unless the structure is periodic in all directions.
    min_distance
        Shortest distance, Å; infinite without neighbours.
    starts
        (n_atoms + 1,): the pairs of atom i are ``starts[i]`` to ``starts[i + 1]``.
    centres, neighbours
        Atoms of each pair, (n_pairs,).
    vectors
        From the centre to the neighbour, (n_pairs, 3), Å.
    units, inverses
        Unit vectors, (n_pairs, 3), and inverse distances, (n_pairs,), 1/Å.
    radial, radial_slopes
        Radial basis functions with the cutoff and their derivatives, (n_pairs, radial_size).
    """

    types: npt.NDArray[np.intp]
    volume: float
    min_distance: float
    starts: npt.NDArray[np.int64]
    centres: npt.NDArray[np.intp]
    neighbours: npt.NDArray[np.intp]
    vectors: Floats
    units: Floats
    inverses: Floats
    radial: Floats
    radial_slopes: Floats

    @classmethod
    def from_atoms(cls, atoms: Atoms, potential: MtpPotential) -> OffLatticeStructure:
        """Find the neighbours within the cutoff of `potential`.

        Only the species, min_dist, max_dist and the number of radial basis functions of the
        potential matter, no coefficients.

        Raises
        ------
        InputError
            An unknown species, positions that are not finite, or two atoms at one place.
        """
        types = species_indices(atoms.get_chemical_symbols(), potential.species)
        centres, neighbours, vectors = _neighbours(atoms, potential.max_dist)
        distances = np.linalg.norm(vectors, axis=1)
        if len(distances) and distances.min() == 0.0:
            pair = int(np.argmin(distances))
            raise InputError(
                f"{atoms.get_chemical_formula()}: atoms {centres[pair]} and {neighbours[pair]} "
                "are at the same place"
            )
        radial, slopes = chebyshev_basis(
            distances, potential.min_dist, potential.max_dist, potential.radial_coeffs.shape[3]
        )
        return cls(
            types=types,
            volume=float(atoms.get_volume()) if all(atoms.pbc) else np.nan,
            min_distance=float(distances.min(initial=np.inf)),
            starts=np.searchsorted(centres, np.arange(len(atoms) + 1)),
            centres=centres,
            neighbours=neighbours,
            vectors=vectors,
            units=vectors / distances[:, None],
            inverses=1.0 / distances,
            radial=radial,
            radial_slopes=slopes,
        )

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.types)

    def pairs(self, potential: MtpPotential) -> _kernels.Pairs:
        """Return the pairs with the radial functions of `potential`, for the kernels."""
        coefficients = potential.scaling * potential.radial_coeffs
        chosen = coefficients[self.types[self.centres], self.types[self.neighbours]]
        return _kernels.Pairs(
            self.starts,
            self.units,
            self.inverses,
            np.einsum("pb,pmb->pm", self.radial, chosen),
            np.einsum("pb,pmb->pm", self.radial_slopes, chosen),
        )

    def scatter(self, gradients: Floats) -> tuple[Floats, Floats]:
        """Return forces and stress from derivatives by the pair vectors.

        Parameters
        ----------
        gradients
            dE/dr of every pair, (n_pairs, 3, n_columns).

        Returns
        -------
        forces
            (n_atoms, 3, n_columns).
        stress
            (6, n_columns).
        """
        n_pairs, _, n_columns = gradients.shape
        ones = np.ones(n_pairs)
        ends = np.concatenate([self.centres, self.neighbours])
        incidence = scipy.sparse.csr_array(
            (np.concatenate([ones, -ones]), (ends, np.tile(np.arange(n_pairs), 2))),
            shape=(self.n_atoms, n_pairs),
        )
        forces = incidence @ gradients.reshape(n_pairs, 3 * n_columns)
        strain = np.tensordot(self.vectors, gradients, axes=(0, 0))
        strain = 0.5 * (strain + strain.transpose(1, 0, 2))
        stress = np.stack([strain[i, j] for i, j in _VOIGT]) / self.volume
        return forces.reshape(self.n_atoms, 3, n_columns), stress


def species_indices(symbols: Sequence[str], species: tuple[str, ...]) -> npt.NDArray[np.intp]:
    """Return the index of each symbol in `species`.

    Raises
    ------
    InputError
        A symbol is not in `species`.
    """
    unknown = sorted(set(symbols) - set(species))
    if unknown:
        raise InputError(
            f"the potential knows {', '.join(species)}, but the structure contains "
            f"{', '.join(unknown)}"
        )
    return np.array([species.index(symbol) for symbol in symbols], dtype=np.intp)


def _neighbours(
    atoms: Atoms, cutoff: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    """Return centres, neighbours (n_pairs,) and vectors (n_pairs, 3), sorted by centre."""
    positions, cell = np.asarray(atoms.positions), np.asarray(atoms.cell.array)
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise InputError(f"{atoms.get_chemical_formula()}: positions or cell are not finite")
    found = vesin.NeighborList(cutoff=cutoff, full_list=True)
    i, j, shifts = found.compute(positions, cell, periodic=np.array(atoms.pbc), quantities="ijS")
    order = np.lexsort((*shifts.T, j, i))
    centres, neighbours = i[order].astype(np.intp), j[order].astype(np.intp)
    vectors = positions[neighbours] - positions[centres] + shifts[order] @ cell
    return centres, neighbours, vectors


def kernel_lists(potential: MtpPotential) -> _kernels.Lists:
    """Return the index lists of `potential` for the kernels."""
    return _kernels.Lists(
        potential.alpha_index_basic,
        potential.alpha_index_times,
        potential.alpha_moment_mapping,
        potential.n_moments,
    )


def evaluate(potential: MtpPotential, structure: Atoms | OffLatticeStructure) -> Evaluation:
    """Return energy, forces, stress and site energies of one structure.

    Raises
    ------
    InputError
        See `OffLatticeStructure.from_atoms`.
    """
    structure = _prepared(potential, structure)
    energies, _, gradients, _ = _kernels.site_derivatives(
        kernel_lists(potential), structure.pairs(potential), potential.moment_coeffs
    )
    energies += potential.species_coeffs[structure.types]
    forces, stress = structure.scatter(gradients[:, :, None])
    return Evaluation(float(energies.sum()), forces[:, :, 0], stress[:, 0], energies)


def site_gradient_rows(
    potential: MtpPotential, structure: Atoms | OffLatticeStructure
) -> npt.NDArray[np.float64]:
    """Return d(site energy)/d(coefficients), (n_atoms, n_parameters), in the order of the model.

    Raises
    ------
    InputError
        See `OffLatticeStructure.from_atoms`.
    """
    structure = _prepared(potential, structure)
    n, n_species = structure.n_atoms, potential.n_species
    _, basis_values, _, weights = _kernels.site_derivatives(
        kernel_lists(potential), structure.pairs(potential), potential.moment_coeffs
    )
    radial = np.zeros((n, *potential.radial_coeffs.shape))
    centre_types = structure.types[structure.centres]
    by_pair = potential.scaling * weights[:, :, None] * structure.radial[:, None, :]
    where = (structure.centres, centre_types, structure.types[structure.neighbours])
    np.add.at(radial, where, by_pair)
    own = np.eye(n_species)[structure.types]
    return np.concatenate([radial.reshape(n, -1), own, basis_values], axis=1)


def design_rows(
    potential: MtpPotential, structure: Atoms | OffLatticeStructure
) -> tuple[DesignRows, DesignRows]:
    """Return the derivatives of energy, forces and stress by all coefficients.

    Returns
    -------
    linear
        By the species and moment coefficients: since these enter linearly, this is energy,
        forces and stress of every basis function at the given radial coefficients.
        n_columns = n_species + n_scalars.
    radial
        By the radial coefficients, at the given moment coefficients.

    Raises
    ------
    InputError
        See `OffLatticeStructure.from_atoms`.
    """
    structure = _prepared(potential, structure)
    pairs = structure.pairs(potential)
    mu = potential.alpha_index_basic[:, 0]
    angular = _angular(potential, structure)
    phi = pairs.values[:, mu] * angular.values
    # d(phi)/dr, (n_pairs, 3, n_basic)
    slopes = (pairs.slopes[:, mu] * angular.values)[:, None, :] * structure.units[:, :, None]
    slopes += pairs.values[:, None, mu] * angular.slopes
    basic = _sums_by_site(structure, phi)
    moments = _MomentDerivatives(
        *_kernels.moment_derivatives(kernel_lists(potential), basic, potential.moment_coeffs)
    )
    linear = _linear_rows(potential, structure, slopes, moments)
    return linear, _radial_rows(potential, structure, angular, slopes, moments)


class _MomentDerivatives(NamedTuple):
    """What `_kernels.moment_derivatives` returns."""

    basis_values: Floats
    jacobians: Floats
    adjoints: Floats
    hessians: Floats


class _Angular(NamedTuple):
    """Angular parts x^a y^b z^c of unit vectors, (n_pairs, n_basic), and their d/dr."""

    values: Floats
    slopes: Floats


def _angular(potential: MtpPotential, structure: OffLatticeStructure) -> _Angular:
    """Return the angular parts of the basic moments; slopes are (n_pairs, 3, n_basic), 1/Å."""
    powers = potential.alpha_index_basic[:, 1:]
    units = structure.units
    raised = [units**0]
    for _ in range(int(powers.max())):
        raised.append(raised[-1] * units)
    table = np.stack(raised, axis=2)  # (n_pairs, 3, rank + 1)
    factors = [table[:, axis, powers[:, axis]] for axis in range(3)]
    values = factors[0] * factors[1] * factors[2]
    slopes = np.empty((len(units), 3, len(powers)))
    for axis in range(3):
        n = powers[:, axis]
        lowered = n * table[:, axis, np.maximum(n - 1, 0)]
        others = factors[axis - 1] * factors[axis - 2]
        slopes[:, axis] = lowered * others - powers.sum(axis=1) * values * units[:, axis, None]
    return _Angular(values, slopes * structure.inverses[:, None, None])


def _sums_by_site(structure: OffLatticeStructure, by_pair: Floats) -> Floats:
    """Sum the rows of `by_pair` over the pairs of each site, (n_atoms, n_columns)."""
    sums = np.zeros((structure.n_atoms, by_pair.shape[1]))
    filled = np.flatnonzero(np.diff(structure.starts))
    if len(filled):
        sums[filled] = np.add.reduceat(by_pair, structure.starts[filled], axis=0)
    return sums


def _linear_rows(
    potential: MtpPotential,
    structure: OffLatticeStructure,
    slopes: Floats,
    moments: _MomentDerivatives,
) -> DesignRows:
    """Return energy, forces and stress of every linear basis function."""
    n_species = potential.n_species
    gradients = np.zeros((len(slopes), 3, n_species + len(potential.moment_coeffs)))
    for site, (start, end) in enumerate(_blocks(structure)):
        gradients[start:end, :, n_species:] = slopes[start:end] @ moments.jacobians[site].T
    counts = np.bincount(structure.types, minlength=n_species)
    energy = np.concatenate([counts, moments.basis_values.sum(axis=0)])
    return DesignRows(energy, *structure.scatter(gradients))


def _radial_rows(
    potential: MtpPotential,
    structure: OffLatticeStructure,
    angular: _Angular,
    slopes: Floats,
    moments: _MomentDerivatives,
) -> DesignRows:
    """Return derivatives by the radial coefficients, one species of the centre after another.

    ``d/dc (dE_i/dr) = sum_k dE_i/dm_k d(dphi_k/dr)/dc + sum_kl (d²E_i/dm_k dm_l) dm_l/dc dphi_k/dr``
    """
    shape = potential.radial_coeffs.shape
    energy = np.zeros(shape)
    forces = np.zeros((structure.n_atoms, 3, *shape))
    stress = np.zeros((6, *shape)) / structure.volume
    for centre in range(shape[0]):
        sites = np.flatnonzero(structure.types == centre)
        if not len(sites):
            continue
        gradients = np.zeros((len(structure.units), 3, *shape[1:]))
        for site in sites:
            block = slice(structure.starts[site], structure.starts[site + 1])
            adjoint = moments.adjoints[site]
            direct, tangents = _radial_block(potential, structure, angular, adjoint, block)
            energy[centre] += np.tensordot(adjoint, tangents, axes=1)
            change = moments.hessians[site] @ tangents.reshape(len(adjoint), -1)
            indirect = slopes[block] @ change
            gradients[block] = direct + indirect.reshape(direct.shape)
        f, s = structure.scatter(gradients.reshape(len(gradients), 3, -1))
        forces[:, :, centre] = f.reshape(-1, 3, *shape[1:])
        stress[:, centre] = s.reshape(6, *shape[1:])
    return DesignRows(energy.ravel(), forces.reshape(len(forces), 3, -1), stress.reshape(6, -1))


def _radial_block(
    potential: MtpPotential,
    structure: OffLatticeStructure,
    angular: _Angular,
    adjoint: Floats,
    block: slice,
) -> tuple[Floats, Floats]:
    """Return what the radial coefficients (n_species, n_radial, radial_size) of a site change.

    Returns
    -------
    direct
        ``sum_k dE_i/dm_k d(dphi_k/dr)/dc`` of the pairs in `block`, (n, 3, ...).
    tangents
        ``dm_k/dc``, (n_basic, ...).
    """
    mu = potential.alpha_index_basic[:, 0]
    shape = potential.radial_coeffs.shape[1:]
    neighbours = structure.types[structure.neighbours[block]]
    radial = potential.scaling * structure.radial[block]
    radial_slopes = potential.scaling * structure.radial_slopes[block]
    by_species = np.eye(shape[0])[neighbours][:, :, None] * radial[:, None, :]
    sums = angular.values[block].T @ by_species.reshape(len(radial), -1)
    tangents = np.zeros((len(mu), *shape))
    tangents[np.arange(len(mu)), :, mu] = sums.reshape(len(mu), shape[0], shape[2])

    select = np.eye(shape[1])[mu]
    along = structure.units[block][:, :, None] * ((angular.values[block] * adjoint) @ select)[:, None]
    across = (angular.slopes[block] * adjoint) @ select
    direct = np.zeros((len(radial), 3, *shape))
    direct[np.arange(len(radial)), :, neighbours] = (
        along[..., None] * radial_slopes[:, None, None] + across[..., None] * radial[:, None, None]
    )
    return direct, tangents


def _prepared(
    potential: MtpPotential, structure: Atoms | OffLatticeStructure
) -> OffLatticeStructure:
    if isinstance(structure, OffLatticeStructure):
        return structure
    return OffLatticeStructure.from_atoms(structure, potential)


def _blocks(structure: OffLatticeStructure) -> zip[tuple[int, int]]:
    """Return the range of pairs of each site."""
    return zip(structure.starts[:-1].tolist(), structure.starts[1:].tolist(), strict=True)
