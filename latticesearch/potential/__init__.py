"""Potentials: what search and learning see of them, and the moment tensor potential."""

from __future__ import annotations

from latticesearch.potential.mtp import (
    FitReport,
    LabelledBatch,
    MtpBasis,
    MtpPotential,
    Regularisation,
    TrainingSet,
    fit,
    format_cfg,
    format_mtp,
    near_hull_weights,
    parse_cfg,
    parse_mtp,
    read_cfg,
    read_mtp,
)
from latticesearch.potential.protocol import LatticeEvaluator, LatticeModel

__all__ = [
    "FitReport",
    "LabelledBatch",
    "LatticeEvaluator",
    "LatticeModel",
    "MtpBasis",
    "MtpPotential",
    "Regularisation",
    "TrainingSet",
    "fit",
    "format_cfg",
    "format_mtp",
    "near_hull_weights",
    "parse_cfg",
    "parse_mtp",
    "read_cfg",
    "read_mtp",
]
