"""Potentials: what search and learning see of them, and the kinds there are."""

from __future__ import annotations

from latticesearch.potential.fitting import FitSummary, fit_potential
from latticesearch.potential.mtp import (
    FitReport,
    MtpBasis,
    MtpPotential,
    Regularisation,
    fit,
    format_cfg,
    format_mtp,
    near_hull_weights,
    parse_cfg,
    parse_mtp,
    read_cfg,
    read_mtp,
)
from latticesearch.potential.protocol import (
    Evaluator,
    LatticeEvaluator,
    LatticeModel,
    Potential,
    energies_per_atom,
    evaluator_of,
)
from latticesearch.potential.registry import Kind, kind_of
from latticesearch.potential.rows import learning_rows
from latticesearch.potential.training_set import LabelledBatch, TrainingSet

__all__ = [
    "Evaluator",
    "FitReport",
    "FitSummary",
    "Kind",
    "LabelledBatch",
    "LatticeEvaluator",
    "LatticeModel",
    "MtpBasis",
    "MtpPotential",
    "Potential",
    "Regularisation",
    "TrainingSet",
    "energies_per_atom",
    "evaluator_of",
    "fit",
    "fit_potential",
    "format_cfg",
    "format_mtp",
    "kind_of",
    "learning_rows",
    "near_hull_weights",
    "parse_cfg",
    "parse_mtp",
    "read_cfg",
    "read_mtp",
]
