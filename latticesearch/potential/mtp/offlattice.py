"""Energies, forces and stress of any structure; gradient rows of its site energies.

One structure is an `OffLatticeStructure`: its neighbour pairs and their radial basis functions,
made once and used for every set of coefficients. Everything else is a sum over pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import vesin

from latticesearch.errors import InputError
from latticesearch.potential.mtp import _kernels
from latticesearch.potential.mtp.radial import chebyshev_basis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Return the range of pairs of each atom."""
        return zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)

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
    basis_values, gradients, _ = _site_derivatives(potential, structure)
    site_energies = potential.species_coeffs[structure.types]
    site_energies = site_energies + basis_values @ potential.moment_coeffs
    forces = np.zeros((structure.n_atoms, 3))
    for axis in range(3):
        by_pair = gradients[:, axis]
        forces[:, axis] += np.bincount(structure.centres, by_pair, structure.n_atoms)
        forces[:, axis] -= np.bincount(structure.neighbours, by_pair, structure.n_atoms)
    stress = stresses(structure, (structure.vectors.T @ gradients)[:, :, None])[:, 0]
    return Evaluation(float(site_energies.sum()), forces, stress, site_energies)


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
    potential: MtpPotential, structure: Atoms | OffLatticeStructure
) -> OffLatticeStructure:
    if isinstance(structure, OffLatticeStructure):
        return structure
    return OffLatticeStructure.from_atoms(structure, potential)


def _site_derivatives(
    potential: MtpPotential, structure: OffLatticeStructure
) -> tuple[Floats, Floats, Floats]:
    """Return what the kernel of the same name does: basis values, gradients, radial weights."""
    basis_values, gradients, weights = _kernels.site_derivatives(
        kernel_lists(potential),
        structure.pairs(potential),
        potential.moment_coeffs,
        int(potential.alpha_index_basic[:, 1:].max()),
    )
    return basis_values, gradients, weights


def stresses(structure: OffLatticeStructure, strain_derivatives: Floats) -> Floats:
    """Return stresses, (6, n_columns), from dE/d(strain), (3, 3, n_columns)."""
    symmetric = 0.5 * (strain_derivatives + strain_derivatives.transpose(1, 0, 2))
    return np.stack([symmetric[i, j] for i, j in _VOIGT]) / structure.volume
