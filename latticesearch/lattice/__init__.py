"""Parent lattices, their supercells, and the labelings that are the structures of an alloy."""

from __future__ import annotations

from latticesearch.lattice.images import smallest_images
from latticesearch.lattice.labelings import Configuration, Labelings
from latticesearch.lattice.matching import (
    LatticeMatch,
    MappingFailure,
    Mismatch,
    map_to_lattice,
    match_to_lattice,
)
from latticesearch.lattice.normal_forms import is_superlattice
from latticesearch.lattice.parent import VACANCY, ParentLattice
from latticesearch.lattice.relaxed import match_to_start
from latticesearch.lattice.supercell import Supercell

__all__ = [
    "VACANCY",
    "Configuration",
    "Labelings",
    "LatticeMatch",
    "MappingFailure",
    "Mismatch",
    "ParentLattice",
    "Supercell",
    "is_superlattice",
    "map_to_lattice",
    "match_to_lattice",
    "match_to_start",
    "smallest_images",
]
