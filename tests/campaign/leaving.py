"""A calculator under which cells of two atoms relax to something that is no lattice at all."""

from __future__ import annotations

import numpy as np
from ase.calculators.emt import EMT


class Leaving(EMT):
    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        if len(self.atoms) == 2:
            # A spring that pulls the two atoms to a place where the lattice has no site.
            wanted = self.atoms.cell.cartesian_positions([0.31, 0.2, 0.13])
            apart = self.atoms.positions[1] - self.atoms.positions[0] - wanted
            self.results["energy"] = -1.0 + 5.0 * float(apart @ apart)
            self.results["forces"] = 10.0 * np.array([apart, -apart])


def factory():
    return Leaving()
