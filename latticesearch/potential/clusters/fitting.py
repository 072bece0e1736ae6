"""Fit the coefficients of a cluster expansion: ridge regression with a prior that falls.

The prior of a coefficient is narrower the longer the edges of its clusters and the more vertices
they have, as interactions are (Mueller & Ceder, Phys. Rev. B 80, 024103 (2009)). How narrow on the
whole is chosen by the left-out error, which linear regression knows in closed form: the residual
over one minus the leverage (Allen, Technometrics 16, 125 (1974)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.errors import InputError
from latticesearch.parallel import one_thread
from latticesearch.potential.clusters.lattice import feature_evaluator
from latticesearch.potential.clusters.shapes import columns_of, shape_lengths
from latticesearch.potential.fitting import FitSummary
from latticesearch.potential.training_checks import check_all, checked, checked_weights
from latticesearch.potential.training_set import rms

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.clusters.basis import ClusterBasis
    from latticesearch.potential.training_set import TrainingSet

    Floats = npt.NDArray[np.float64]

FALL = 4
"""Power of the length with which the variance of a coefficient falls: elastic and screened
electronic interactions of metals fall with its third power and faster, their squares with twice
that; four leaves long pairs a chance where data ask for them."""

GROWTH = 16.0
"""Factor by which the variance falls with each further vertex: the same as for the moments of a
moment tensor potential (`latticesearch.potential.mtp.training.regularisation`)."""

DAMPINGS = np.geomspace(1e-8, 1e2, 41)
"""Ridges tried, relative to the mean square of the columns: from interpolation to nothing but the
energies of the species, in steps that the left-out error does not resolve."""

OPEN = 1e-9
"""One minus the leverage below which an energy alone fixes what would predict it."""

SMALL = 1e-10
"""Directions of the species' columns, relative to the largest, that are none: rounding."""


class _Decomposed(NamedTuple):
    """The regression in coordinates in which the ridge is a number per direction.

    ``own``, (n, k), spans what the species' energies explain; ``left``, (n, r), ``values``, (r,)
    and ``right``, (r, m) are the singular value decomposition of the rest.
    """

    own: Floats
    left: Floats
    values: Floats
    right: Floats


@one_thread()
def fit_coefficients(basis: ClusterBasis, training: TrainingSet) -> tuple[Floats, FitSummary]:
    """Return the coefficients, (n_parameters,), eV per cluster, and how well they fit.

    Parameters
    ----------
    basis
        The functions.
    training
        Labelings with energies.

    Raises
    ------
    InputError
        The training set is too small, contradicts itself, or has structures off the lattice.
    """
    if training.structures:
        raise InputError(
            "a cluster expansion is fitted to labelings alone: leave structures off the lattice "
            "out of the training set"
        )
    training = checked(training, basis.parent.species)
    check_all(training, basis.parent.species)
    roots = np.sqrt(checked_weights(training, None))
    energies = np.concatenate([part.energies for part in training.labelings])
    rows = np.concatenate(
        [
            feature_evaluator(basis, part.batch.supercell).gradient_rows(part.batch.labels)
            for part in training.labelings
        ]
    )
    coefficients, left_out = _best_ridge(basis, rows * roots[:, None], energies * roots, roots)
    return coefficients, FitSummary.of(rows @ coefficients - energies, left_out)


def _best_ridge(
    basis: ClusterBasis, rows: Floats, energies: Floats, roots: Floats
) -> tuple[Floats, Floats]:
    """Return the coefficients of least left-out error, and these errors, (n,), eV per site.

    Rows and energies are multiplied by `roots`, (n,), of the weights.
    """
    is_own = columns_of(basis.points)
    scales = 1.0 / np.sqrt(_penalties(basis)[~is_own])
    own, penalised = rows[:, is_own], rows[:, ~is_own] * scales
    parts = _decompose(own, penalised)
    target = energies - parts.own @ (parts.own.T @ energies)
    # Without anything but the species' energies, what a left-out energy is compared with.
    fallback = energies / roots - np.average(energies / roots, weights=roots**2)
    size = float((penalised**2).mean()) * len(rows) if penalised.size else 1.0
    best, chosen, errors = np.inf, 0.0, np.zeros(len(energies))
    for damping in DAMPINGS * max(size, np.finfo(float).tiny):
        left_out = _left_out(parts, target, damping) / roots
        left_out = np.where(np.isnan(left_out), -fallback, left_out)
        if rms(left_out * roots) < best:
            best, chosen, errors = rms(left_out * roots), float(damping), left_out
    filters = parts.values / (parts.values**2 + chosen)
    inner = parts.right.T @ (filters * (parts.left.T @ target))
    coefficients = np.zeros(rows.shape[1])
    coefficients[~is_own] = scales * inner
    coefficients[is_own] = np.linalg.lstsq(own, energies - penalised @ inner, rcond=SMALL)[0]
    return coefficients, errors


def _decompose(own: Floats, penalised: Floats) -> _Decomposed:
    """Take the species' energies, which no prior narrows, out of the penalised columns.

    `own` and `penalised` are weighted rows, (n, n_own) and (n, n_penalised).
    """
    basis, values, _ = np.linalg.svd(own, full_matrices=False)
    basis = basis[:, values > SMALL * values.max()]
    rest = penalised - basis @ (basis.T @ penalised)
    return _Decomposed(basis, *np.linalg.svd(rest, full_matrices=False))


def _left_out(parts: _Decomposed, target: Floats, damping: float) -> Floats:
    """Return predicted minus known of each energy under a fit to the others, (n,); NaN if open."""
    shrink = parts.values**2 / (parts.values**2 + damping)
    residuals = parts.left @ (shrink * (parts.left.T @ target)) - target
    leverage = (parts.own**2).sum(axis=1) + (parts.left**2) @ shrink
    free = 1.0 - leverage
    return np.where(free > OPEN, residuals / np.where(free > OPEN, free, 1.0), np.nan)


def _penalties(basis: ClusterBasis) -> Floats:
    """Return what the square of each coefficient costs, (n_parameters,); 1 for nearest pairs."""
    penalties = np.ones(basis.n_parameters)
    shapes = [
        (length, order, tables)
        for order, clusters, every in (
            (2, basis.pairs, basis.pair_tables),
            (3, basis.triplets, basis.triplet_tables),
        )
        for length, tables in zip(shape_lengths(basis, clusters), every, strict=True)
    ]
    shortest = min((length for length, _, _ in shapes), default=1.0)
    for length, order, tables in shapes:
        penalties[columns_of(tables[None])] = GROWTH ** (order - 2) * (length / shortest) ** FALL
    return penalties
