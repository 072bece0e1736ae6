"""Moment tensor potentials: files, basis, training, evaluation on and off the lattice."""

from __future__ import annotations

from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.mtp.files import format_mtp, parse_mtp, read_mtp
from latticesearch.potential.mtp.model import MtpPotential
from latticesearch.potential.mtp.offlattice.cfg import format_cfg, parse_cfg, read_cfg
from latticesearch.potential.mtp.training import (
    FitReport,
    LabelledBatch,
    Regularisation,
    TrainingSet,
    fit,
    near_hull_weights,
)

__all__ = [
    "FitReport",
    "LabelledBatch",
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
