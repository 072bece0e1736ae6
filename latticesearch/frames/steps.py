"""Whether two frames of a file, one after the other, can be steps of one relaxation.

Files of many structures do not say which of them belong together: a relaxation may be written step
by step, and two calculations of one structure side by side. A step moves something, and the change
of energy is the work that forces and stress do on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.frames.types import Frame

MOVED = 1e-4
"""Å: what is less may be the rounding of a file, and changes no energy by more than `SMALL`."""

CURVED = 2.0
"""The change of energy, in units of the work at the larger of the forces at both ends, is at most 1
where energies are quadratic in the displacements; this much is left for those that are not."""

SMALL = 1e-4
"""eV/atom: noise of a calculation and of the digits in which its energy is written."""


def may_be_next_step(before: Frame, after: Frame) -> bool:
    """Tell whether a frame can be the step that follows another one in a relaxation.

    Parameters
    ----------
    before, after
        Frames that follow each other where they were read.

    Returns
    -------
    bool
        They are in one file, hold the same atoms in the same order, something has moved, and the
        forces and the stress, where they are known, can have changed the energy as much as it has.
    """
    if before.file != after.file:
        return False
    if before.atoms.get_chemical_symbols() != after.atoms.get_chemical_symbols():
        return False
    if before.atoms.cell.rank < 3 or after.atoms.cell.rank < 3:
        return False
    moves, strain = _displacements(before, after), _strain(before, after)
    lengths = np.abs(after.atoms.cell.array - before.atoms.cell.array).max()
    if max(lengths, _lengths(moves).max(initial=0.0)) < MOVED:
        return False
    work = _work(before, after, moves, strain if lengths > MOVED else np.zeros((3, 3)))
    change = abs(after.energy - before.energy)
    return work is None or change <= CURVED * work + SMALL * len(after.atoms)


def _displacements(before: Frame, after: Frame) -> npt.NDArray[np.float64]:
    """Return how far each atom moves, (n_atoms, 3) Å, beside what cell and origin do."""
    shift = after.atoms.get_scaled_positions(wrap=False)
    shift -= before.atoms.get_scaled_positions(wrap=False)
    # A cell may be counted from another origin, and atoms be moved to the other side of it.
    shift -= shift[0]
    shift -= np.round(shift)
    shift -= shift.mean(axis=0)
    moves: npt.NDArray[np.float64] = shift @ after.atoms.cell.array
    return moves


def _lengths(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the lengths, (n,), of vectors, (n, 3)."""
    lengths: npt.NDArray[np.float64] = np.linalg.norm(vectors, axis=1)
    return lengths


def _strain(before: Frame, after: Frame) -> npt.NDArray[np.float64]:
    """Return the symmetric strain, (3, 3), that leads from one cell to the other."""
    change = np.linalg.solve(before.atoms.cell.array, after.atoms.cell.array) - np.eye(3)
    strain: npt.NDArray[np.float64] = (change + change.T) / 2.0
    return strain


def _work(
    before: Frame,
    after: Frame,
    moves: npt.NDArray[np.float64],
    strain: npt.NDArray[np.float64],
) -> float | None:
    """Return the most work that forces and stress can do, eV; None where they are unknown."""
    if before.forces is None or after.forces is None:
        return None
    forces = np.maximum(_lengths(before.forces), _lengths(after.forces))
    work = float(forces @ _lengths(moves))
    if not strain.any():
        return work
    if before.stress is None or after.stress is None:
        return None
    stress = np.maximum(np.abs(before.stress), np.abs(after.stress))
    # Order xx, yy, zz, yz, xz, xy: the last three stand for two components each.
    parts = np.abs(strain)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] * [1, 1, 1, 2, 2, 2]
    return work + float(before.atoms.get_volume() * (stress @ parts))
