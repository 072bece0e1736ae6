"""Moment tensor potentials off the lattice: any structure, forces, stresses, and fits to them."""

from __future__ import annotations

from latticesearch.potential.mtp.offlattice.evaluation import (
    Evaluation,
    OffLatticeStructure,
    evaluate,
    force_tables,
    site_gradient_rows,
    stresses,
)

__all__ = [
    "Evaluation",
    "OffLatticeStructure",
    "evaluate",
    "force_tables",
    "site_gradient_rows",
    "stresses",
]
