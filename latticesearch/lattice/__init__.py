"""Parent lattices, their supercells, and the labelings that are the structures of an alloy."""

from __future__ import annotations

from latticesearch.lattice.images import smallest_images
from latticesearch.lattice.labelings import Configuration, Labelings
from latticesearch.lattice.matching import LatticeMatch, map_to_lattice
from latticesearch.lattice.normal_forms import is_superlattice
from latticesearch.lattice.parent import VACANCY, ParentLattice
from latticesearch.lattice.supercell import Supercell

__all__ = [
    "VACANCY",
    "Configuration",
    "Labelings",
    "LatticeMatch",
    "ParentLattice",
    "Supercell",
    "is_superlattice",
    "map_to_lattice",
    "smallest_images",
]
