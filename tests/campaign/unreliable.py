"""A calculator that works for most structures and fails for some, each in its own way."""

from __future__ import annotations

import numpy as np
from ase.calculators.emt import EMT


class Unreliable(EMT):
    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        n_palladium = int((self.atoms.numbers == 46).sum())
        match (len(self.atoms), n_palladium):
            case (2, 1):
                raise ValueError("broken on purpose")
            case (3, 1):
                self.results["energy"] = np.nan
            case (3, 2):
                self.results["energy"] = -1000.0


def factory():
    return Unreliable()
