"""Parent lattices, their supercells, and the labelings that are the structures of an alloy."""

from __future__ import annotations

from latticesearch.lattice._kernels import smallest_images
from latticesearch.lattice.labelings import Configuration, Labelings
from latticesearch.lattice.matching import LatticeMatch, map_to_lattice
from latticesearch.lattice.parent import ParentLattice
from latticesearch.lattice.supercell import Supercell

__all__ = [
    "Configuration",
    "Labelings",
    "LatticeMatch",
    "ParentLattice",
    "Supercell",
    "map_to_lattice",
    "smallest_images",
]
