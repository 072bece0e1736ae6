"""Stands for GPAW, which takes minutes: effective medium theory behind the settings of a page."""

from __future__ import annotations

from ase.calculators.emt import EMT

KNOWN = {"mode", "xc", "kpts", "txt", "occupations", "symmetry"}


class GPAW(EMT):
    """Refuses settings that GPAW does not know."""

    def __init__(self, **parameters):
        unknown = sorted(set(parameters) - KNOWN)
        if unknown:
            raise TypeError(f"GPAW has no parameter {unknown[0]}")
        super().__init__()
