"""Training of moment tensor potentials, on the lattice and off it."""

from __future__ import annotations

from latticesearch.potential.mtp.regularisation import Regularisation
from latticesearch.potential.mtp.training.fit_report import FitReport
from latticesearch.potential.mtp.training.fitting import fit
from latticesearch.potential.mtp.training.weighting import near_hull_weights
from latticesearch.potential.training_set import LabelledBatch, TrainingSet

__all__ = [
    "FitReport",
    "LabelledBatch",
    "Regularisation",
    "TrainingSet",
    "fit",
    "near_hull_weights",
]
