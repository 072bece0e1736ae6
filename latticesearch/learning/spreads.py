"""How far a prediction may be off, from the likeness of a structure to those computed.

The potential's error is taken as linear in the learning rows with independent coefficients of
equal prior variance once every column has unit spread over the candidates: a Gaussian process
(Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, chapter 2) whose posterior
spread says where the training set leaves the potential free. Its scale comes from the left-out
errors of training structures of similar composition. This is the project's own choice; on relaxed
Cu-Pd-Pt it ranks the errors (Spearman 0.5 to 0.6), which the extrapolation grade alone does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve

if TYPE_CHECKING:
    import numpy.typing as npt

NOISE = 1e-2
"""Variance of what no potential of this form can follow, relative to the prior variance."""

COMPOSITION_RANGE = 0.25
"""Distance of atomic fractions over which errors are alike; from the likelihood of the errors of
all Cu-Pd-Pt structures up to eight sites, which is flat between 0.15 and 0.5."""

ABSENT = 1e-9
"""Columns whose spread is below this part of the largest are rounding."""


def expected_errors(
    rows: npt.NDArray[np.float64],
    compositions: npt.NDArray[np.float64],
    training: npt.NDArray[np.intp],
    left_out: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return the expected error of every prediction, (n,), in the unit of `left_out`.

    Parameters
    ----------
    rows
        Learning rows of all candidates, (n, m).
    compositions
        Atomic fractions, (n, n_elements).
    training
        Which candidates the potential was fitted to, (m,).
    left_out
        Errors of the potential on each of them had it been left out of the fit, (m,).
    """
    features = _standardised(rows)
    known = features[training]
    kernel = known @ known.T
    kernel[np.diag_indices_from(kernel)] += NOISE
    factor = cho_factor(kernel)
    cross = known @ features.T
    explained = np.einsum("ij,ij->j", cross, cho_solve(factor, cross))
    prior = np.einsum("ij,ij->i", features, features)
    spread = np.sqrt(np.maximum(prior - explained, 0.0) + NOISE)
    # The spread each training structure would have had without itself (Rasmussen & Williams,
    # equation 5.12).
    spread_without = 1.0 / np.sqrt(np.diag(cho_solve(factor, np.eye(len(training)))))
    ratios = (left_out / spread_without) ** 2
    result: npt.NDArray[np.float64] = spread * local_scale(
        compositions, compositions[training], ratios
    )
    return result


def local_scale(
    compositions: npt.NDArray[np.float64],
    known: npt.NDArray[np.float64],
    ratios: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return what spreads have to be multiplied with at compositions, (n, k), for errors to fit.

    The root of the mean of squared ratios at known compositions nearby: one system may have nearly
    ideal binaries beside strongly ordering ones. That the spreads are right as they are counts as
    one neighbour more.

    Parameters
    ----------
    compositions
        Where, (n, k).
    known
        Where left-out errors are known, (m, k).
    ratios
        Squares of these over what was expected of them, (m,).
    """
    unique, inverse = np.unique(compositions.round(9), axis=0, return_inverse=True)
    distances = np.linalg.norm(unique[:, None] - known[None], axis=-1)
    weights = np.exp(-0.5 * (distances / COMPOSITION_RANGE) ** 2)
    squares = (weights @ ratios + 1.0) / (weights.sum(axis=1) + 1.0)
    result: npt.NDArray[np.float64] = np.sqrt(squares)[inverse.ravel()]
    return result


def _standardised(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return columns of unit spread and a constant one, scaled to unit mean square per row."""
    centred = rows - rows.mean(axis=0)
    spread = centred.std(axis=0)
    present = spread > ABSENT * max(spread.max(initial=0.0), 1e-300)
    columns = centred[:, present] / spread[present]
    features = np.column_stack([columns, np.ones(len(rows))])
    result: npt.NDArray[np.float64] = features / np.sqrt(features.shape[1])
    return result
