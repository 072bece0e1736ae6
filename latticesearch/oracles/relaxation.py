"""Relaxation of cell and ions with few evaluations of energy, forces and stress.

The coordinates are a symmetric deformation F of the start cell and the positions before that
deformation: ``cell = cell_0 @ F``, ``positions = p @ F``. F being symmetric, the crystal never
rotates away from its parent lattice. The coordinates are scaled by the elastic energy of a
typical metal, so that the first Hessian of the quasi-Newton method is the unit matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from ase import Atoms

BULK_MODULUS = 1.0
"""First guess of the bulk modulus, eV/Å³ (160 GPa)."""
SHEAR_MODULUS = 0.4
"""First guess of the shear modulus, eV/Å³."""
FORCE_CONSTANT = 10.0
"""First guess of the force constant of an atom, eV/Å²."""
MAX_STRAIN_STEP = 0.05
"""Largest change of a component of the strain in one step."""
MAX_ION_STEP = 0.2
"""Largest displacement of an atom in one step, Å."""
ENERGY_NOISE = 1e-4
"""Rise of the energy, eV/atom, that is still taken for noise of the calculator."""
MIN_CURVATURE = 0.05
"""Smallest eigenvalue of the scaled Hessian; keeps steps in soft directions finite."""

_VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
_PLACES = np.array([0.5, 0.5, 0.5, 1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Relaxation:
    """How a relaxation ended.

    Parameters
    ----------
    converged
        Whether `residual` fell below the threshold.
    steps
        Number of steps taken.
    residual
        Largest force on an atom, eV/Å, or largest row of the virial per atom, eV.
    """

    converged: bool
    steps: int
    residual: float


class _Coordinates:
    """Scaled coordinates z of the cell (6) and of the ions (3 n_atoms) of one structure."""

    def __init__(self, atoms: Atoms, *, cell: bool, ions: bool) -> None:
        self._atoms, self._use_cell, self._use_ions = atoms, cell, ions
        self._cell = np.array(atoms.cell)
        self._positions = atoms.get_positions()
        elastic = np.diag([2.0 * SHEAR_MODULUS] * 3 + [4.0 * SHEAR_MODULUS] * 3)
        elastic[:3, :3] += BULK_MODULUS - 2.0 * SHEAR_MODULUS / 3.0
        # Strain e = inverse.T @ z makes the elastic energy z @ z / 2.
        self._inverse = np.linalg.inv(np.linalg.cholesky(atoms.get_volume() * elastic))
        self._free = np.repeat([cell, ions], [6, 3 * len(atoms)])
        self._deformation = np.eye(3)
        self.size = int(self._free.sum())

    def _expand(self, z: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
        full = np.zeros(self._free.size)
        full[self._free] = z
        strain = self._inverse.T @ full[:6]
        return strain, full[6:].reshape(-1, 3) / np.sqrt(FORCE_CONSTANT)

    def move_to(self, z: npt.NDArray[np.float64]) -> None:
        """Put the structure where `z`, (size,), says."""
        strain, displacements = self._expand(z)
        self._deformation = np.eye(3)
        self._deformation[_VOIGT] += strain
        self._deformation[_VOIGT[::-1]] = self._deformation[_VOIGT]
        self._atoms.set_cell(self._cell @ self._deformation)
        self._atoms.set_positions((self._positions + displacements) @ self._deformation)

    def limited(self, step: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return `step`, (size,), shortened to the largest steps allowed."""
        strain, displacements = self._expand(step)
        excess = max(
            np.abs(strain).max() / MAX_STRAIN_STEP,
            np.linalg.norm(displacements, axis=1).max() / MAX_ION_STEP,
        )
        return step / np.float64(max(excess, 1.0))

    def gradient(self) -> tuple[npt.NDArray[np.float64], float]:
        """Return dE/dz, (size,), eV, and the residual (see `Relaxation`)."""
        residual, cell_part = 0.0, np.zeros(6)
        forces = self._atoms.get_forces()
        forces = forces - forces.mean(axis=0)
        if self._use_cell:
            virial = self._atoms.get_volume() * self._atoms.get_stress(voigt=False)
            slope = np.linalg.solve(self._deformation, virial)
            # A shear of the symmetric strain stands in two places of F, a stretch in one.
            cell_part = self._inverse @ ((slope + slope.T)[_VOIGT] * _PLACES)
            residual = float(np.linalg.norm(virial, axis=1).max() / len(self._atoms))
        if self._use_ions:
            residual = max(residual, float(np.linalg.norm(forces, axis=1).max()))
        ions_part = -(forces @ self._deformation).ravel() / np.sqrt(FORCE_CONSTANT)
        return np.concatenate([cell_part, ions_part])[self._free], residual


def relax(
    atoms: Atoms,
    *,
    cell: bool = True,
    ions: bool = True,
    fmax: float = 0.01,
    max_steps: int = 200,
    careful: bool = False,
) -> Relaxation:
    """Relax `atoms`, which carry a calculator, in place.

    Parameters
    ----------
    atoms
        A periodic structure with an ASE calculator.
    cell, ions
        What may change; with neither, nothing moves and the result counts as converged.
    fmax
        Threshold of the forces, eV/Å, and of the virial per atom, eV (as in ASE's
        ``FrechetCellFilter``).
    max_steps
        Largest number of steps.
    careful
        Use ASE's FIRE with short steps instead of the quasi-Newton method: slow, but it
        assumes nothing about the energy surface.

    Returns
    -------
    Relaxation
        Whether and how it converged.
    """
    if not (cell or ions):
        return Relaxation(converged=True, steps=0, residual=0.0)
    if careful:
        return _relax_with_fire(atoms, cell, ions, fmax, max_steps)
    return _quasi_newton(atoms, _Coordinates(atoms, cell=cell, ions=ions), fmax, max_steps)


def _quasi_newton(
    atoms: Atoms, coordinates: _Coordinates, fmax: float, max_steps: int
) -> Relaxation:
    """Minimise with BFGS steps that are limited in length and refused when the energy rises."""
    z, hessian, reach = np.zeros(coordinates.size), np.eye(coordinates.size), 1.0
    energy = atoms.get_potential_energy()
    gradient, residual = coordinates.gradient()
    for steps in range(max_steps):
        if residual < fmax:
            return Relaxation(converged=True, steps=steps, residual=residual)
        step = coordinates.limited(_newton_step(hessian, gradient)) * reach
        coordinates.move_to(z + step)
        new_energy = atoms.get_potential_energy()
        new_gradient, new_residual = coordinates.gradient()
        hessian = _updated(hessian, step, new_gradient - gradient)
        if new_energy < energy + ENERGY_NOISE * len(atoms):
            z, energy, gradient, residual = z + step, new_energy, new_gradient, new_residual
            reach = min(1.0, 2.0 * reach)
        else:
            # What was learnt of the Hessian is kept; try again from where we were, less far.
            reach *= 0.25
    coordinates.move_to(z)
    return Relaxation(converged=residual < fmax, steps=max_steps, residual=residual)


def _newton_step(
    hessian: npt.NDArray[np.float64], gradient: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the step that descends even where the Hessian has negative eigenvalues."""
    curvatures, modes = np.linalg.eigh(hessian)
    step: npt.NDArray[np.float64] = -modes @ (
        (modes.T @ gradient) / np.maximum(np.abs(curvatures), MIN_CURVATURE)
    )
    return step


def _updated(
    hessian: npt.NDArray[np.float64],
    step: npt.NDArray[np.float64],
    change: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return the BFGS update of `hessian` for a `step` that brought `change` of the gradient."""
    curvature, image = step @ change, hessian @ step
    expected = step @ image
    if abs(curvature) < 1e-8 * (step @ step) or abs(expected) < 1e-8 * (step @ step):
        return hessian
    result: npt.NDArray[np.float64] = (
        hessian + np.outer(change, change) / curvature - np.outer(image, image) / expected
    )
    return result


def _relax_with_fire(
    atoms: Atoms, cell: bool, ions: bool, fmax: float, max_steps: int
) -> Relaxation:
    # They take most of a worker's start, and most workers never need them.
    from ase.filters import FrechetCellFilter, StrainFilter
    from ase.optimize import FIRE

    movable = atoms
    if cell:
        movable = FrechetCellFilter(atoms) if ions else StrainFilter(atoms)
    optimiser = FIRE(movable, logfile=None, maxstep=0.1)
    converged = bool(optimiser.run(fmax=fmax, steps=max_steps))
    residual = float(np.linalg.norm(movable.get_forces(), axis=1).max())
    return Relaxation(converged=converged, steps=int(optimiser.nsteps), residual=residual)
