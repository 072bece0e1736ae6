"""A calculator whose energy tells how it is run."""

from __future__ import annotations

import os

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

_MADE = []


class Telling(Calculator):
    """The energy is a number that `what` names."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, what):
        super().__init__()
        self.what = what
        _MADE.append(self)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] = float(getattr(self, self.what)())
        self.results["forces"] = np.zeros((len(self.atoms), 3))
        self.results["stress"] = np.zeros(6)

    def threads(self):
        return int(os.environ["OMP_NUM_THREADS"])

    def processors(self):
        return len(os.sched_getaffinity(0))

    def ranks(self):
        from mpi4py import MPI

        return MPI.COMM_WORLD.Get_size()

    def made(self):
        """How many calculators this process has made so far."""
        return len(_MADE)
