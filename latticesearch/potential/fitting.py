"""Fitting any model: what a fit tells, and what stands in for it where a model has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.protocol import evaluator_of, kind_name
from latticesearch.potential.training_set import rms

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.protocol import Potential
    from latticesearch.potential.training_set import TrainingSet

    Floats = npt.NDArray[np.float64]

FOLDS = 5
"""Parts that are left out in turn where a fit does not tell left-out errors: each trains on four
fifths of the data, which is near enough to all, and costs five fits."""

MEV = 1e3
"""meV per eV."""


class Summary(Protocol):
    """What a fit tells at least; see `FitSummary`."""

    @property
    def energy_rmse(self) -> float:
        """Of the fit, meV per site."""

    @property
    def left_out_rmse(self) -> float:
        """Of energies not fitted to, meV per site."""

    @property
    def left_out_errors(self) -> tuple[float, ...]:
        """One for each configuration, meV per site."""


@dataclass(frozen=True)
class FitSummary:
    """How well a model fits.

    Parameters
    ----------
    energy_rmse
        Root mean square error of the energies fitted to, meV per site.
    left_out_rmse
        The same as if each energy had not been fitted to.
    left_out_errors
        Predicted minus known energy of each configuration as if it had not been fitted to, in the
        order of the training set, meV per site.
    """

    energy_rmse: float
    left_out_rmse: float
    left_out_errors: tuple[float, ...]

    @classmethod
    def of(cls, fitted: Floats, left_out: Floats) -> FitSummary:
        """Sum up errors, (n,) each, eV per site."""
        return cls(MEV * rms(fitted), MEV * rms(left_out), tuple((MEV * left_out).tolist()))


def fit_potential(
    model: Potential, training: TrainingSet, *, seed: int = 0
) -> tuple[Potential, Summary]:
    """Return the model fitted to `training`, and how well it fits.

    Parameters
    ----------
    model
        Whatever it learned before. One without ``fit`` is fixed: it is returned as it is, and its
        errors are what it is wrong by. One whose ``fit`` returns a model alone, or a summary
        without left-out errors, is fitted five times more, each time without one part.
    training
        Energies; see `TrainingSet`.
    seed
        Of the fit and of the parts.

    Raises
    ------
    InputError
        The training set cannot be fitted to, or the model's ``fit`` returns something else.
    """
    if not callable(getattr(model, "fit", None)):
        errors = energy_errors(model, training)
        return model, FitSummary.of(errors, errors)
    fitted, summary = _fit(model, training, seed)
    if len(getattr(summary, "left_out_errors", None) or ()) == len(training):
        return fitted, summary
    left_out = _left_out_errors(model, training, seed)
    return fitted, FitSummary.of(energy_errors(fitted, training), left_out)


def energy_errors(model: Potential, training: TrainingSet) -> Floats:
    """Return predicted minus known energy of each labeling, (n,), eV per site.

    Raises
    ------
    InputError
        The training set has structures off the lattice.
    """
    if training.structures:
        raise InputError(
            f"the potential {kind_name(model)!r} is one of labelings: structures off the lattice "
            "cannot be compared with it, leave them out of the training set"
        )
    errors = [np.zeros(0)]
    for part in training.labelings:
        energies = evaluator_of(model, part.batch.supercell).energies(part.batch.labels)
        errors.append(energies - part.energies)
    return np.concatenate(errors)


def _fit(model: Any, training: TrainingSet, seed: int) -> tuple[Potential, Any]:
    """Return the fitted model and its summary, None where there is none."""
    result = model.fit(training, seed=seed)
    fitted, summary = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not callable(getattr(fitted, "evaluator", None)):
        raise InputError(
            f"the fit of the potential {kind_name(model)!r} returns {type(fitted).__name__}: it "
            "must return the fitted potential, or that and a summary"
        )
    return fitted, summary


def _left_out_errors(model: Potential, training: TrainingSet, seed: int) -> Floats:
    """Return the errors of each of at most `FOLDS` parts under a fit to the others, (n,), eV."""
    n = len(training)
    if n < 2:
        raise InputError(f"{n} training energies: at least 2 are needed to leave one out")
    fold_of = np.random.default_rng(seed).permutation(n) % FOLDS
    errors = np.zeros(n)
    for fold in range(min(FOLDS, n)):
        unseen = np.flatnonzero(fold_of == fold)
        fitted, _ = _fit(model, training.subset(np.flatnonzero(fold_of != fold)), seed)
        errors[unseen] = energy_errors(fitted, training.subset(unseen))
    return errors
