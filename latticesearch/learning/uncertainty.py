"""How far a prediction may be off, from the likeness of a structure to those computed.

The potential's error is taken as linear in the gradient rows with independent coefficients of
equal prior variance once every column has unit spread over the candidates: a Gaussian process
(Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, chapter 2) whose posterior
spread says where the training set leaves the potential free. Its one scale comes from errors the
potential really made on structures it had not seen. This is this project's own choice; on relaxed
Cu-Pd-Pt it ranks the errors (Spearman 0.5 to 0.6), which the extrapolation grade alone does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

NOISE = 1e-2
"""Variance of what no potential of this form can follow, relative to the prior variance."""

ABSENT = 1e-9
"""Columns whose spread is below this part of the largest are rounding."""


def relative_spread(
    rows: npt.NDArray[np.float64], training: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Return the posterior spread of the error of every candidate, (n,), without its scale.

    Parameters
    ----------
    rows
        Gradient rows of all candidates, (n, n_parameters).
    training
        Which of them the potential was fitted to.
    """
    features = _standardised(rows)
    known = features[training]
    kernel = known @ known.T
    kernel[np.diag_indices_from(kernel)] += NOISE
    cross = known @ features.T
    explained = np.einsum("ij,ij->j", cross, cho_solve(cho_factor(kernel), cross))
    prior = np.einsum("ij,ij->i", features, features)
    result: npt.NDArray[np.float64] = np.sqrt(np.maximum(prior - explained, 0.0) + NOISE)
    return result


def spread_out(
    rows: npt.NDArray[np.float64],
    chosen: Sequence[int],
    pool: npt.NDArray[np.intp],
    number: int,
) -> list[int]:
    """Choose `number` of `pool`, each where the spread left by all before it is largest.

    Parameters
    ----------
    rows
        Gradient rows of all candidates, (n, n_parameters).
    chosen
        Candidates already computed, or sure to be.
    pool
        Candidates to choose from.
    number
        How many.
    """
    features = _standardised(rows)
    variance = np.einsum("ij,ij->i", features, features)
    factors: list[npt.NDArray[np.float64]] = []
    picked: list[int] = []
    free = np.zeros(len(rows), dtype=bool)
    free[pool] = True
    for i in chosen:
        _condition(features, factors, variance, i)
    for _ in range(min(number, len(pool))):
        # Rounded, so that equal structures tie and the first one wins on every machine.
        best = int(np.argmax(np.where(free, variance.round(9), -1.0)))
        picked.append(best)
        free[best] = False
        _condition(features, factors, variance, best)
    return picked


def _condition(
    features: npt.NDArray[np.float64],
    factors: list[npt.NDArray[np.float64]],
    variance: npt.NDArray[np.float64],
    i: int,
) -> None:
    """Take what is learned from candidate `i` out of the `variance`, in place.

    One more column of the Cholesky factor of the covariance goes to `factors`.
    """
    covariance = features @ features[i]
    for factor in factors:
        covariance -= factor * factor[i]
    column = covariance / np.sqrt(covariance[i] + NOISE)
    factors.append(column)
    variance -= column**2


def _standardised(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return columns of unit spread and a constant one, scaled to unit mean square per row."""
    centred = rows - rows.mean(axis=0)
    spread = centred.std(axis=0)
    present = spread > ABSENT * max(spread.max(initial=0.0), 1e-300)
    columns = centred[:, present] / spread[present]
    features = np.column_stack([columns, np.ones(len(rows))])
    result: npt.NDArray[np.float64] = features / np.sqrt(features.shape[1])
    return result


def calibrated(
    spread: npt.NDArray[np.float64],
    errors: npt.NDArray[np.float64],
    spreads_then: npt.NDArray[np.float64],
    fallback: float,
) -> npt.NDArray[np.float64]:
    """Scale `spread` to energies, eV/atom.

    Parameters
    ----------
    spread
        Of all candidates, (n,), from `relative_spread`.
    errors
        Errors the potential made on structures before it was fitted to them, (m,), eV/atom.
    spreads_then
        Their spreads when they were predicted, (m,).
    fallback
        Typical error to assume while there are no `errors`, eV/atom.
    """
    usable = np.isfinite(errors) & np.isfinite(spreads_then)
    if not usable.any():
        return spread * (fallback / float(np.median(spread)))
    scale = np.sqrt(np.mean((errors[usable] / spreads_then[usable]) ** 2))
    return spread * float(scale)
