"""Design rows: derivatives of energy, forces and stress by the coefficients, for training.

The linear coefficients need energy, forces and stress of each basis function; the radial ones
second derivatives, since forces are already derivatives. Both follow from the basic moments m_k
of a site, sums over its pairs of ``phi_k = f_mu(r) A_k(r / |r|)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.potential.mtp.offlattice import _pair_kernels
from latticesearch.potential.mtp.offlattice.evaluation import OffLatticeStructure, stresses

if TYPE_CHECKING:
    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.potential.mtp.coefficients import MtpCoefficients

    Floats = npt.NDArray[np.float64]


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


def design_rows(
    potential: MtpCoefficients, structure: Atoms | OffLatticeStructure
) -> tuple[DesignRows, DesignRows]:
    """Return the derivatives of energy, forces and stress by all coefficients.

    Parameters
    ----------
    potential
        Where to differentiate.
    structure
        The structure; prepared once as `OffLatticeStructure` if many potentials follow.

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
    if not isinstance(structure, OffLatticeStructure):
        structure = OffLatticeStructure.from_atoms(structure, potential)
    n_species = potential.n_species
    pairs = _PairTerms.of(potential, structure)
    linear = _RowSums(structure, len(potential.moment_coeffs))
    radial = [_RowSums(structure, potential.radial_coeffs[0].size) for _ in range(n_species)]
    for site, (start, end) in enumerate(structure.blocks()):
        if start == end:
            continue  # without neighbours all moments, and so all basis functions, are zero
        block = slice(start, end)
        moments = _SiteMoments.of(potential, pairs.phi[block].sum(axis=0))
        slopes = pairs.slopes[block].reshape(3 * (end - start), -1)
        linear.add(site, block, moments.basis_values, slopes @ moments.jacobian.T)
        direct, tangents = _radial_terms(potential, structure, pairs, moments.adjoint, block)
        gradients = direct + slopes @ (moments.hessian @ tangents)
        radial[structure.types[site]].add(site, block, moments.adjoint @ tangents, gradients)
    return _with_species(linear.rows(), structure, n_species), _joined([r.rows() for r in radial])


class _PairTerms(NamedTuple):
    """What all pairs contribute to the basic moments.

    Parameters
    ----------
    phi, slopes
        (n_pairs, n_basic), and its derivatives by the pair vector, (n_pairs, 3, n_basic), per Å.
    angular, angular_slopes
        The angular parts A alone, of the same shapes; no unit, and 1/Å.
    """

    phi: Floats
    slopes: Floats
    angular: Floats
    angular_slopes: Floats

    @classmethod
    def of(cls, potential: MtpCoefficients, structure: OffLatticeStructure) -> _PairTerms:
        """Return the terms of all pairs of `structure`."""
        mu = potential.alpha_index_basic[:, 0]
        radial = structure.pairs(potential)
        angular, angular_slopes = _angular_parts(potential.alpha_index_basic[:, 1:], structure)
        slopes = (radial.slopes[:, mu] * angular)[:, None, :] * structure.units[:, :, None]
        slopes += radial.values[:, None, mu] * angular_slopes
        return cls(radial.values[:, mu] * angular, slopes, angular, angular_slopes)


def _angular_parts(
    powers: npt.NDArray[np.int64], structure: OffLatticeStructure
) -> tuple[Floats, Floats]:
    """Return the products of powers of unit vectors, and their derivatives by the pair vector.

    Of `powers`, (n_basic, 3): (n_pairs, n_basic), no unit, and (n_pairs, 3, n_basic), 1/Å.
    """
    units = structure.units
    raised = [np.ones_like(units)]
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
    return values, slopes * structure.inverses[:, None, None]


class _SiteMoments(NamedTuple):
    """Basis functions B_a of one site and derivatives by its basic moments m_k.

    Parameters
    ----------
    basis_values
        B_a, (n_scalars,).
    jacobian
        dB_a/dm_k, (n_scalars, n_basic).
    adjoint
        dE/dm_k, (n_basic,), eV per unit of the moment.
    hessian
        d²E/dm_k dm_l, (n_basic, n_basic).
    """

    basis_values: Floats
    jacobian: Floats
    adjoint: Floats
    hessian: Floats

    @classmethod
    def of(cls, potential: MtpCoefficients, basic: Floats) -> _SiteMoments:
        """Return the derivatives at the basic moments `basic`, (n_basic,)."""
        times, mapping = potential.alpha_index_times, potential.alpha_moment_mapping
        n_basic, n_moments = len(basic), potential.n_moments
        moments = np.concatenate([basic, np.zeros(n_moments - n_basic)])
        _pair_kernels.multiply_moments(times, moments)
        tangents = np.eye(n_moments, n_basic)
        _pair_kernels.tangents_of_moments(times, moments, tangents)
        adjoints = np.zeros(n_moments)
        np.add.at(adjoints, mapping, potential.moment_coeffs)
        seconds = np.zeros((n_moments, n_basic))
        _pair_kernels.second_derivatives(times, moments, tangents, adjoints, seconds)
        return cls(moments[mapping], tangents[mapping], adjoints[:n_basic], seconds[:n_basic])


def _radial_terms(
    potential: MtpCoefficients,
    structure: OffLatticeStructure,
    pairs: _PairTerms,
    adjoint: Floats,
    block: slice,
) -> tuple[Floats, Floats]:
    """Return what the radial coefficients of one site change; columns (neighbour, mu, b).

    Returns
    -------
    direct
        ``sum_k dE/dm_k d(dphi_k/dr)/dc`` of the pairs in `block`, (3 n, n_columns).
    tangents
        ``dm_k/dc``, (n_basic, n_columns).
    """
    mu = potential.alpha_index_basic[:, 0]
    n_species, n_radial, size = potential.radial_coeffs.shape[1:]
    neighbours = structure.types[structure.neighbours[block]]
    n = len(neighbours)
    radial = potential.scaling * structure.radial[block]
    radial_slopes = potential.scaling * structure.radial_slopes[block]

    by_species = np.eye(n_species)[neighbours][:, :, None] * radial[:, None, :]
    sums = pairs.angular[block].T @ by_species.reshape(n, -1)
    tangents = np.zeros((len(mu), n_species, n_radial, size))
    tangents[np.arange(len(mu)), :, mu] = sums.reshape(len(mu), n_species, size)

    of_mu = adjoint[:, None] * np.eye(n_radial)[mu]
    along = structure.units[block][:, :, None] * (pairs.angular[block] @ of_mu)[:, None]
    across = pairs.angular_slopes[block] @ of_mu
    direct = np.zeros((n, 3, n_species, n_radial, size))
    direct[np.arange(n), :, neighbours] = (
        along[..., None] * radial_slopes[:, None, None] + across[..., None] * radial[:, None, None]
    )
    return direct.reshape(3 * n, -1), tangents.reshape(len(mu), -1)


class _RowSums:
    """Sums site after site into the derivatives of energy, forces and stress."""

    def __init__(self, structure: OffLatticeStructure, n_columns: int) -> None:
        self.structure = structure
        self.energy = np.zeros(n_columns)
        self.forces = np.zeros((structure.n_atoms, 3 * n_columns))
        self.strain = np.zeros((3, 3 * n_columns))

    def add(self, site: int, block: slice, energy: Floats, gradients: Floats) -> None:
        """Add one site, its energy (n_columns,) and pair gradients (3 n, n_columns)."""
        rows = gradients.reshape(block.stop - block.start, -1)
        self.energy += energy
        self.strain += self.structure.vectors[block].T @ rows
        _pair_kernels.scatter_rows(self.structure.neighbours[block], rows, self.forces, site)

    def rows(self) -> DesignRows:
        """Return the sums."""
        strain = self.strain.reshape(3, 3, -1)
        forces = self.forces.reshape(len(self.forces), 3, -1)
        return DesignRows(self.energy, forces, stresses(self.structure, strain))


def _with_species(rows: DesignRows, structure: OffLatticeStructure, n_species: int) -> DesignRows:
    """Put the columns of the species in front: the number of atoms, no forces, no stress."""
    counts = np.bincount(structure.types, minlength=n_species).astype(np.float64)
    own = DesignRows(
        counts,
        np.zeros((structure.n_atoms, 3, n_species)),
        np.zeros((6, n_species)) / structure.volume,
    )
    return _joined([own, rows])


def _joined(parts: list[DesignRows]) -> DesignRows:
    """Concatenate the columns."""
    return DesignRows(*(np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True)))
