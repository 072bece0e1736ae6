"""Relaxation of cell and ions with few evaluations of energy, forces and stress.

The coordinates are a symmetric deformation F of the start cell and the positions before that
deformation: ``cell = cell_0 @ F``, ``positions = p @ F``. F being symmetric, the crystal never
rotates away from its parent lattice. The coordinates are scaled by the elastic energy of a
typical metal, so that the first Hessian of the quasi-Newton method is the unit matrix.

Energies of codes have noise, and where the basis changes with the cell energy and stress do not
belong to the same function. So a relaxation also ends where the next steps can gain less than the
noise, and where the energy rises again and again although its slope says that it falls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from ase import Atoms
    from ase.constraints import FixSymmetry

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
REFUSALS = 4
"""Steps refused in a row, each a quarter of the last, after which no curvature explains it: the
last goes 1/256 of the way, and on any smooth surface the energy falls there."""
CAREFUL_REACH = 0.25
"""Share of a step that a careful quasi-Newton relaxation takes first."""
STALLED = 5
"""Steps without progress after which it is asked whether there is anything to gain; after twice as
many nothing is expected of more."""
STIFFEST = 10.0
"""Times that a crystal may be stiffer than the first guess (diamond: 3 to 6). What is learnt of the
curvature where energy and stress disagree knows no such limit, and would promise nothing."""
PROGRESS = 0.95
"""Residual in units of the smallest so far that counts as progress."""
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
    reason
        Why it ended where neither the threshold nor the number of steps did it: "noise" (what the
        next steps can gain is less than the noise of the energy; this counts as converged), or
        why it failed.
    """

    converged: bool
    steps: int
    residual: float
    reason: str = ""


class _Coordinates:
    """Scaled coordinates z of the cell (6) and of the ions (3 n_atoms) of one structure."""

    def __init__(
        self, atoms: Atoms, *, cell: bool, ions: bool, symmetry: FixSymmetry | None = None
    ) -> None:
        self._atoms, self._use_cell, self._use_ions = atoms, cell, ions
        self._symmetry = symmetry
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
        if self._symmetry is not None:
            self._symmetry.adjust_forces(self._atoms, forces)
        if self._use_cell:
            virial = self._atoms.get_volume() * self._stress()
            slope = np.linalg.solve(self._deformation, virial)
            # A shear of the symmetric strain stands in two places of F, a stretch in one.
            cell_part = self._inverse @ ((slope + slope.T)[_VOIGT] * _PLACES)
            residual = float(np.linalg.norm(virial, axis=1).max() / len(self._atoms))
        if self._use_ions:
            residual = max(residual, float(np.linalg.norm(forces, axis=1).max()))
        ions_part = -(forces @ self._deformation).ravel() / np.sqrt(FORCE_CONSTANT)
        return np.concatenate([cell_part, ions_part])[self._free], residual

    def _stress(self) -> npt.NDArray[np.float64]:
        """Return the stress, (3, 3), eV/Å³, with the symmetry of the start if that is kept."""
        stress = np.array(self._atoms.get_stress(), dtype=np.float64)
        if self._symmetry is not None:
            self._symmetry.adjust_stress(self._atoms, stress)
        full: npt.NDArray[np.float64] = stress[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
        return full


def relax(
    atoms: Atoms,
    *,
    cell: bool = True,
    ions: bool = True,
    fmax: float = 0.01,
    max_steps: int = 200,
    careful: bool = False,
    symmetry: bool = False,
    costly: bool = False,
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
    symmetry
        Keep the space group of the start, with its moments: the noise of forces and stress would
        break it, and make every later step more costly.
    costly
        Evaluations take minutes: a careful relaxation makes smaller steps, but no hundreds.

    Returns
    -------
    Relaxation
        Whether and how it converged.
    """
    if not (cell or ions):
        return Relaxation(converged=True, steps=0, residual=0.0)
    kept = _symmetry_of(atoms) if symmetry else None
    if careful and not costly:
        return _relax_with_fire(atoms, cell, ions, fmax, max_steps, kept)
    coordinates = _Coordinates(atoms, cell=cell, ions=ions, symmetry=kept)
    start = CAREFUL_REACH if careful else 1.0
    return _quasi_newton(atoms, coordinates, fmax, max_steps, start)


def _symmetry_of(atoms: Atoms) -> FixSymmetry:
    """Return the operations that map the atoms, and their moments, onto each other."""
    from ase.constraints import FixSymmetry

    marked = atoms.copy()
    kinds = [(n, round(m, 6)) for n, m in zip(atoms.numbers, _moments(atoms), strict=True)]
    numbers = {kind: 1 + i for i, kind in enumerate(dict.fromkeys(kinds))}
    marked.numbers = [numbers[kind] for kind in kinds]
    return FixSymmetry(marked)


def _moments(atoms: Atoms) -> list[float]:
    moments: list[float] = atoms.get_initial_magnetic_moments().tolist()
    return moments


@dataclass
class _Descent:
    """Where a quasi-Newton relaxation is, and what it has seen.

    Parameters
    ----------
    z, lowest, gradient, residual
        The last step that was taken, in the coordinates of `_Coordinates`, and the lowest energy
        so far; eV.
    hessian
        What is believed of the curvature, (size, size).
    reach
        Share of the next step that is tried.
    noise
        Rise of the energy of the cell above its lowest that is still taken, eV.
    """

    z: npt.NDArray[np.float64]
    lowest: float
    gradient: npt.NDArray[np.float64]
    residual: float
    hessian: npt.NDArray[np.float64]
    reach: float
    noise: float
    refused: int = 0
    best: float = np.inf
    stalled: int = 0
    rise: float = 0.0

    def take(
        self,
        step: npt.NDArray[np.float64],
        energy: float,
        gradient: npt.NDArray[np.float64],
        residual: float,
    ) -> None:
        """Learn from a step, and go where it leads unless the energy rises."""
        self.hessian = _updated(self.hessian, step, gradient - self.gradient)
        self.rise = energy - self.lowest
        if self.rise < self.noise:
            self.z, self.gradient, self.residual = self.z + step, gradient, residual
            self.reach, self.refused = min(1.0, 2.0 * self.reach), 0
        else:
            # What was learnt of the Hessian is kept; try again from where we were, less far.
            self.reach, self.refused = 0.25 * self.reach, self.refused + 1
        goes_on = self.rise < -self.noise or residual < PROGRESS * self.best
        self.stalled = 0 if goes_on else self.stalled + 1
        self.best, self.lowest = min(self.best, residual), min(self.lowest, energy)

    @property
    def gain(self) -> float:
        """What a whole Newton step promises, eV, on a crystal that is not absurdly stiff."""
        learnt = -0.5 * float(self.gradient @ _newton_step(self.hessian, self.gradient))
        return max(learnt, 0.5 * float(self.gradient @ self.gradient) / STIFFEST)

    def end(self, fmax: float, n_atoms: int) -> tuple[bool, str] | None:
        """Return whether it has converged and why it ends; None as long as it goes on."""
        if self.residual < fmax:
            return True, ""
        in_trouble = self.refused > 0 or self.stalled >= STALLED
        if in_trouble and self.gain < self.noise:
            return True, "noise"
        if self.refused >= REFUSALS or self.stalled >= 2 * STALLED:
            return False, _contradiction(self.rise / n_atoms, self.gain / n_atoms)
        return None


def _contradiction(rise: float, gain: float) -> str:
    """Return what is wrong where energy, eV/atom, and slope say different things."""
    return (
        f"energy and stress contradict each other: the energy has risen by {1000 * rise:.2f} "
        f"meV/atom where stress and forces promise to gain {1000 * gain:.2f}; raise the cutoff"
    )


def _quasi_newton(
    atoms: Atoms, coordinates: _Coordinates, fmax: float, max_steps: int, reach: float
) -> Relaxation:
    """Minimise with BFGS steps that are limited in length and refused when the energy rises."""
    size, energy = coordinates.size, float(atoms.get_potential_energy())
    gradient, residual = coordinates.gradient()
    noise = ENERGY_NOISE * len(atoms)
    at = _Descent(np.zeros(size), energy, gradient, residual, np.eye(size), reach, noise)
    steps, ended = 0, at.end(fmax, len(atoms))
    while ended is None and steps < max_steps:
        step = coordinates.limited(_newton_step(at.hessian, at.gradient)) * at.reach
        coordinates.move_to(at.z + step)
        at.take(step, float(atoms.get_potential_energy()), *coordinates.gradient())
        steps, ended = steps + 1, at.end(fmax, len(atoms))
    coordinates.move_to(at.z)
    converged, reason = ended or (False, "")
    return Relaxation(converged, steps, at.residual, reason)


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
    atoms: Atoms, cell: bool, ions: bool, fmax: float, max_steps: int, kept: FixSymmetry | None
) -> Relaxation:
    # They take most of a worker's start, and most workers never need them.
    from ase.filters import FrechetCellFilter, StrainFilter
    from ase.optimize import FIRE

    movable, start = atoms, float(atoms.get_potential_energy())
    if kept is not None:
        atoms.set_constraint(kept)
    if cell:
        movable = FrechetCellFilter(atoms) if ions else StrainFilter(atoms)
    optimiser = FIRE(movable, logfile=None, maxstep=0.1)
    converged = bool(optimiser.run(fmax=fmax, steps=max_steps))
    residual = float(np.linalg.norm(movable.get_forces(), axis=1).max())
    atoms.set_constraint()
    # FIRE looks at the slope alone and is content where the energy is higher than it was.
    rise = (float(atoms.get_potential_energy()) - start) / len(atoms)
    if converged and rise > ENERGY_NOISE:
        return Relaxation(False, int(optimiser.nsteps), residual, _contradiction(rise, 0.0))  # noqa: FBT003
    return Relaxation(converged, int(optimiser.nsteps), residual)
