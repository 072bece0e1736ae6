"""A calculator that cannot do cells of more than two atoms, until MENDED is set."""

from __future__ import annotations

import os

from ase.calculators.emt import EMT


class SmallOnly(EMT):
    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        if len(atoms) > 2 and not os.environ.get("MENDED"):
            raise RuntimeError("too large")
        super().calculate(atoms, properties, system_changes)


def factory():
    return SmallOnly()
