"""The volume of lowest energy, for codes that have no stress: the shape of the cell stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.oracles.relaxation import ENERGY_NOISE, Relaxation

if TYPE_CHECKING:
    from ase import Atoms

STEP = 0.02
"""Strain between two volumes at first: the energy then changes by some 10 meV/atom, far beyond any
noise, and a parabola still fits."""
MAX_MOVE = 0.06
"""Largest strain between the best volume so far and the next, where the parabola is a guess."""


@dataclass
class _Scan:
    """Energies, eV, at strains of one structure."""

    atoms: Atoms
    points: dict[float, float]

    def look(self, strain: float) -> None:
        """Compute the energy at an isotropic strain of the start cell."""
        moved = self.atoms
        start = moved.info["start_cell"]
        moved.set_cell(start * (1.0 + strain), scale_atoms=True)
        self.points[strain] = float(moved.get_potential_energy())

    def proposal(self) -> tuple[float, float]:
        """Return the strain of lowest energy by the three best points, and its energy.

        Where these bend the wrong way it is the next step downhill.
        """
        best = sorted(self.points, key=lambda strain: self.points[strain])[:3]
        square, slope, rest = np.polyfit(best, [self.points[s] for s in best], 2)
        if square <= 0:
            return best[0] + (best[0] - best[1]), -np.inf
        strain = float(np.clip(-slope / (2 * square), best[0] - MAX_MOVE, best[0] + MAX_MOVE))
        return strain, float(np.polyval([square, slope, rest], strain))


def scan_volume(atoms: Atoms, *, max_steps: int = 20) -> Relaxation:
    """Bring `atoms`, which carry a calculator, to the volume of lowest energy, in place.

    Fractional coordinates and the shape of the cell stay. It ends when the parabola through the
    three best volumes promises less than the noise of the energy.

    Parameters
    ----------
    atoms
        A periodic structure with an ASE calculator.
    max_steps
        Most volumes.

    Returns
    -------
    Relaxation
        Its residual is the gain that was still promised, eV/atom.
    """
    cell = np.array(atoms.cell)
    atoms.info["start_cell"] = cell
    try:
        return _scanned(_Scan(atoms, {}), max_steps)
    finally:
        del atoms.info["start_cell"]


def _scanned(scan: _Scan, max_steps: int) -> Relaxation:
    for strain in (0.0, -STEP, STEP):
        scan.look(strain)
    while True:
        strain, promised = scan.proposal()
        lowest = min(scan.points.values())
        gain = (lowest - promised) / len(scan.atoms)
        if gain < ENERGY_NOISE or len(scan.points) >= max_steps:
            break
        scan.look(strain)
    best = min(scan.points, key=lambda one: scan.points[one])
    scan.look(best)
    converged = bool(gain < ENERGY_NOISE)
    return Relaxation(converged, len(scan.points), float(max(gain, 0.0)))
