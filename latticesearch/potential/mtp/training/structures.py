"""Energies, forces and stresses of structures off the lattice as rows of a training problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.potential.mtp.offlattice.design import design_rows
from latticesearch.potential.mtp.offlattice.evaluation import OffLatticeStructure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.potential.mtp.coefficients import MtpCoefficients
    from latticesearch.potential.mtp.offlattice.design import DesignRows
    from latticesearch.potential.mtp.training.environments import RadialCoordinates

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StructureRows:
    """A `Design` for what is known of structures; one energy row each, then forces and stresses.

    Rows are weighted already. Coordinates are those of `RadialCoordinates`.

    Parameters
    ----------
    potential
        The form; its radial coefficients are kept where the coordinates have no say.
    coordinates
        What is varied.
    structures
        With their neighbours.
    factors
        Per structure the factors of its energy, force and stress rows, zero for unknown ones.
    targets
        The known values, weighted, (n_rows,).
    """

    potential: MtpCoefficients
    coordinates: RadialCoordinates
    structures: tuple[OffLatticeStructure, ...]
    factors: tuple[tuple[float, float, float], ...]
    targets: Floats

    @classmethod
    def of(
        cls,
        potential: MtpCoefficients,
        coordinates: RadialCoordinates,
        known: Sequence[tuple[Atoms, OffLatticeStructure]],
        force_weight: float,
        stress_weight: float,
    ) -> StructureRows:
        """Prepare structures with the results of their calculators; weights as in `TrainingSet`."""
        factors, targets = [], [np.zeros(0)]
        for atoms, _ in known:
            results = atoms.calc.results
            n = len(atoms)
            has_stress = results.get("stress") is not None and bool(atoms.pbc.all())
            factor = (
                1.0 / n,
                force_weight / np.sqrt(3 * n) if results.get("forces") is not None else 0.0,
                stress_weight * atoms.get_volume() / n / np.sqrt(6) if has_stress else 0.0,
            )
            factors.append(factor)
            targets.append(np.array([factor[0] * results["energy"]]))
            if factor[1]:
                targets.append(factor[1] * np.asarray(results["forces"]).ravel())
            if factor[2]:
                targets.append(factor[2] * np.asarray(results["stress"]).ravel())
        structures = tuple(structure for _, structure in known)
        return cls(potential, coordinates, structures, tuple(factors), np.concatenate(targets))

    @property
    def seen_pairs(self) -> npt.NDArray[np.bool_]:
        """``seen_pairs[a, b]``: some a has a neighbour b, (n_species, n_species)."""
        n_species = self.potential.n_species
        seen = np.zeros((n_species, n_species), dtype=bool)
        for structure in self.structures:
            seen[structure.types[structure.centres], structure.types[structure.neighbours]] = True
        return seen

    @property
    def energy_weights(self) -> Floats:
        """What multiplied the energies per atom, (n_structures,)."""
        return np.ones(len(self.structures))

    @property
    def is_energy(self) -> npt.NDArray[np.bool_]:
        """Which rows are energies, (n_rows,)."""
        rows = [
            [True] + [False] * (3 * structure.n_atoms * bool(force) + 6 * bool(stress))
            for structure, (_, force, stress) in zip(self.structures, self.factors, strict=True)
        ]
        return np.array([row for block in rows for row in block], dtype=bool)

    def columns(self, coordinates: Floats) -> tuple[Floats, MtpCoefficients]:
        """Return the rows, (n_rows, n_linear), and the potential they belong to."""
        form = self.potential
        radial = self.coordinates.radial_coeffs(coordinates, form.radial_coeffs)
        linear = np.zeros(form.n_species + len(form.moment_coeffs))
        potential = form.with_parameters(np.concatenate([radial.ravel(), linear]))
        rows = [design_rows(potential, structure)[0] for structure in self.structures]
        return self._stack(rows, len(linear)), potential

    def slopes(self, state: MtpCoefficients, linear: Floats) -> Floats:
        """Return the derivatives by the coordinates, (n_rows, n_coordinates of all functions)."""
        radial = state.radial_coeffs
        potential = state.with_parameters(np.concatenate([radial.ravel(), linear]))
        rows = [design_rows(potential, structure)[1] for structure in self.structures]
        by_coeffs = self._stack(rows, radial.size).reshape(-1, *radial.shape)
        result: Floats = by_coeffs.swapaxes(2, 3) @ self.coordinates.to_coeffs
        return result.reshape(len(result), -1)

    def _stack(self, rows: Sequence[DesignRows], n_columns: int) -> Floats:
        """Return weighted rows, (n_rows, n_columns): energy, forces, stress of each structure."""
        parts = [np.zeros((0, n_columns))]
        for row, (energy, force, stress) in zip(rows, self.factors, strict=True):
            parts.append(energy * row.energy[None])
            if force:
                parts.append(force * row.forces.reshape(-1, n_columns))
            if stress:
                parts.append(stress * row.stress)
        return np.concatenate(parts)


def prepared(
    structures: Sequence[Atoms], potential: MtpCoefficients
) -> list[tuple[Atoms, OffLatticeStructure]]:
    """Return structures, which have been checked, with their neighbours."""
    return [(atoms, OffLatticeStructure.from_atoms(atoms, potential)) for atoms in structures]
