"""Energies, forces and stress of any structure; gradient rows of its site energies.

One structure is an `OffLatticeStructure`: its neighbour pairs and their radial basis functions,
made once and used for every set of coefficients. Everything else is a sum over pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import vesin

from latticesearch.errors import InputError
from latticesearch.potential.mtp.lattice import radial_interval, unique_powers
from latticesearch.potential.mtp.offlattice import _force_kernels as force_kernels
from latticesearch.potential.mtp.offlattice import _pair_kernels
from latticesearch.potential.mtp.products import energy_contraction
from latticesearch.potential.mtp.radial import chebyshev_basis
from latticesearch.potential.mtp.tables import RadialInterval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.potential.mtp.coefficients import MtpCoefficients

    Floats = npt.NDArray[np.float64]

KEPT = 16
"""Potentials whose tables are kept: a calculator has one, a fit tries a few."""

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


@dataclass(frozen=True, eq=False)
class OffLatticeStructure:
    """The neighbour pairs of one structure, each from both of its ends, by centre.

    Parameters
    ----------
    types
        Species of the atoms, (n_atoms,).
    volume
        Å³; NaN unless the structure is periodic in all directions.
    interval
        Of the radial basis functions, which are zero from its max_dist on.
    starts
        (n_atoms + 1,): the pairs of atom i are ``starts[i]`` to ``starts[i + 1]``.
    centres, neighbours
        Atoms of each pair, (n_pairs,); the neighbours of one atom in the order of their species.
    vectors
        From the centre to the neighbour, (n_pairs, 3), Å.
    distances
        (n_pairs,), Å.
    """

    types: npt.NDArray[np.int64]
    volume: float
    interval: RadialInterval
    starts: npt.NDArray[np.int64]
    centres: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]
    vectors: Floats
    distances: Floats

    @classmethod
    def from_atoms(cls, atoms: Atoms, potential: MtpCoefficients) -> OffLatticeStructure:
        """Find the neighbours within the cutoff of `potential`.

        Only the species, min_dist, max_dist and the number of radial basis functions of the
        potential matter, no coefficients.

        Raises
        ------
        InputError
            An unknown species, positions that are not finite, or two atoms at one place.
        """
        types = species_indices(atoms.get_chemical_symbols(), potential.species)
        found = _neighbours(atoms, types, potential)
        if len(found.distances) and found.distances.min() == 0.0:
            pair = int(np.argmin(found.distances))
            raise InputError(
                f"{atoms.get_chemical_formula()}: atoms {found.centres[pair]} and "
                f"{found.neighbours[pair]} are at the same place"
            )
        size = potential.radial_coeffs.shape[3]
        return cls(
            types=types,
            volume=float(atoms.get_volume()) if all(atoms.pbc) else np.nan,
            interval=RadialInterval(potential.min_dist, potential.max_dist, size),
            starts=found.starts,
            centres=found.centres,
            neighbours=found.neighbours,
            vectors=found.vectors,
            distances=found.distances,
        )

    @property
    def min_distance(self) -> float:
        """Shortest distance, Å; infinite without neighbours."""
        return float(self.distances.min(initial=np.inf))

    @cached_property
    def inverses(self) -> Floats:
        """Inverse distances, (n_pairs,), 1/Å."""
        inverses: Floats = 1.0 / self.distances
        return inverses

    @cached_property
    def units(self) -> Floats:
        """Unit vectors from the centre to the neighbour, (n_pairs, 3)."""
        units: Floats = self.vectors / self.distances[:, None]
        return units

    @property
    def radial(self) -> Floats:
        """Radial basis functions with the cutoff, (n_pairs, radial_size), Å²."""
        return self._basis[0]

    @property
    def radial_slopes(self) -> Floats:
        """Derivatives of `radial` by the distance, (n_pairs, radial_size), Å."""
        return self._basis[1]

    @cached_property
    def _basis(self) -> tuple[Floats, Floats]:
        """Both, (n_pairs, radial_size) each: one recurrence gives them."""
        size = self.interval.size
        return chebyshev_basis(self.distances, self.interval.min_dist, self.interval.max_dist, size)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.types)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Return the range of pairs of each atom."""
        return zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)

    def pairs(self, potential: MtpCoefficients) -> _pair_kernels.Pairs:
        """Return the pairs with the radial functions of `potential`, for the kernels."""
        coefficients = potential.scaling * potential.radial_coeffs
        chosen = coefficients[self.types[self.centres], self.types[self.neighbours]]
        return _pair_kernels.Pairs(
            self.starts,
            self.units,
            self.inverses,
            np.einsum("pb,pmb->pm", self.radial, chosen),
            np.einsum("pb,pmb->pm", self.radial_slopes, chosen),
        )


def species_indices(symbols: Sequence[str], species: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Return the index of each symbol in `species`, (n_symbols,).

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
    return np.array([species.index(symbol) for symbol in symbols], dtype=np.int64)


def _neighbours(
    atoms: Atoms, types: npt.NDArray[np.int64], potential: MtpCoefficients
) -> force_kernels.Neighbours:
    """Return all pairs of atoms, of species `types`, (n_atoms,), closer than the cutoff."""
    positions, cell = np.asarray(atoms.positions), np.asarray(atoms.cell.array)
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise InputError(f"{atoms.get_chemical_formula()}: positions or cell are not finite")
    # The order of the pairs of several threads would be another one each time.
    finder = vesin.NeighborList(cutoff=potential.max_dist, full_list=False, n_threads=1)
    pairs = finder.compute(positions, cell, periodic=np.array(atoms.pbc), quantities="ijS")
    i, j, shifts = (np.ascontiguousarray(part, dtype=np.int64) for part in pairs)
    found: force_kernels.Neighbours = force_kernels.sorted_neighbours(
        (i, j, shifts.reshape(-1, 3)),
        np.ascontiguousarray(positions),
        np.ascontiguousarray(cell),
        types,
        potential.n_species,
    )
    return found


def kernel_lists(potential: MtpCoefficients) -> _pair_kernels.PairLists:
    """Return the index lists of `potential` for the kernels."""
    return _pair_kernels.PairLists(
        potential.alpha_index_basic,
        potential.alpha_index_times,
        potential.alpha_moment_mapping,
        potential.n_moments,
    )


@lru_cache(maxsize=KEPT)
def force_tables(potential: MtpCoefficients) -> force_kernels.ForceTables:
    """Return `potential` as the kernels need it; kept for the last few potentials."""
    powers, power = unique_powers(potential)
    order = np.argsort(power, kind="stable")
    counts = np.bincount(power, minlength=len(powers))
    return force_kernels.ForceTables(
        energy_contraction(potential),
        powers,
        np.concatenate([[0], np.cumsum(counts)]),
        order,
        np.ascontiguousarray(potential.alpha_index_basic[order, 0], dtype=np.int64),
        potential.scaling * potential.radial_coeffs,
        potential.species_coeffs,
        float(potential.min_dist),
        float(potential.max_dist),
        int(powers.max()),
    )


def evaluate(potential: MtpCoefficients, structure: Atoms | OffLatticeStructure) -> Evaluation:
    """Return energy, forces, stress and site energies of one structure.

    Raises
    ------
    InputError
        See `OffLatticeStructure.from_atoms`; or the neighbours of a prepared structure are those
        of another cutoff.
    """
    structure = _prepared(potential, structure)
    if structure.interval != radial_interval(potential):
        raise InputError(
            f"the structure's neighbours were found for radial functions {structure.interval}, "
            f"but the potential has {radial_interval(potential)}: find them anew"
        )
    found = force_kernels.Neighbours(
        structure.types,
        structure.starts,
        structure.centres,
        structure.neighbours,
        structure.vectors,
        structure.distances,
    )
    forces = np.zeros((structure.n_atoms, 3))
    energies, strain = force_kernels.energies_and_forces(force_tables(potential), found, forces)
    stress = stresses(structure, strain[:, :, None])[:, 0]
    return Evaluation(float(energies.sum()), forces, stress, energies)


def site_gradient_rows(
    potential: MtpCoefficients, structure: Atoms | OffLatticeStructure
) -> npt.NDArray[np.float64]:
    """Return d(site energy)/d(coefficients), (n_atoms, n_parameters), in the order of the model.

    Raises
    ------
    InputError
        See `OffLatticeStructure.from_atoms`.
    """
    structure = _prepared(potential, structure)
    n, n_species = structure.n_atoms, potential.n_species
    basis_values, _, weights = _site_derivatives(potential, structure)
    n_radial, size = potential.radial_coeffs.shape[2:]
    near = np.eye(n_species)[structure.types[structure.neighbours]]
    by_species = near[:, :, None] * weights[:, None, :]
    radial = np.zeros((n, n_species, n_species, n_radial, size))
    for site, (start, end) in enumerate(structure.blocks()):
        if start == end:
            continue
        sums = by_species[start:end].reshape(end - start, -1).T @ structure.radial[start:end]
        radial[site, structure.types[site]] = sums.reshape(n_species, n_radial, size)
    radial *= potential.scaling
    own = np.eye(n_species)[structure.types]
    return np.concatenate([radial.reshape(n, -1), own, basis_values], axis=1)


def _prepared(
    potential: MtpCoefficients, structure: Atoms | OffLatticeStructure
) -> OffLatticeStructure:
    if isinstance(structure, OffLatticeStructure):
        return structure
    return OffLatticeStructure.from_atoms(structure, potential)


def _site_derivatives(
    potential: MtpCoefficients, structure: OffLatticeStructure
) -> tuple[Floats, Floats, Floats]:
    """Return what the kernel of the same name does.

    Basis values, (n_atoms, n_scalars), gradients, (n_pairs, 3), eV/Å, and derivatives by radial
    functions, (n_pairs, n_radial).
    """
    basis_values, gradients, weights = _pair_kernels.site_derivatives(
        kernel_lists(potential),
        structure.pairs(potential),
        potential.moment_coeffs,
        int(potential.alpha_index_basic[:, 1:].max()),
    )
    return basis_values, gradients, weights


def stresses(structure: OffLatticeStructure, strain_derivatives: Floats) -> Floats:
    """Return stresses, (6, n_columns), eV/Å³, from dE/d(strain), (3, 3, n_columns), eV."""
    symmetric = 0.5 * (strain_derivatives + strain_derivatives.transpose(1, 0, 2))
    return np.stack([symmetric[i, j] for i, j in _VOIGT]) / structure.volume
