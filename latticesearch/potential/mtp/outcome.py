"""What fits on and off the lattice have in common: how they scale, and what they tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.mtp.coefficients import MtpCoefficients

    Floats = npt.NDArray[np.float64]

SPECIES_RIDGE = 1e-8
"""Ridge of the species' energies: only decides where the compositions leave them open."""

SMALLEST_SPREAD = 1e-4
"""eV/site; energies that scatter less than this about the species' energies scatter by noise."""

CONSTANT, TINY = 1e-3, 1e-12
"""Smallest scale of a column relative to its largest entry, and at all."""

DETERMINED = 1e-7
"""Singular values below this, relative to the largest, belong to what the data do not tell."""


class Outcome(NamedTuple):
    """What a fit, by whatever method, tells about itself.

    Parameters
    ----------
    form
        A potential of the form that was fitted.
    seen_pairs
        ``seen_pairs[a, b]``: some a has a neighbour b, (n_species, n_species).
    spread
        Scatter of the energies about the species' energies, eV per site.
    n_rows, n_linear
        Numbers of values fitted to and of linear coefficients.
    energy_errors, left_out_errors
        Of the fit, and estimated as if each were not fitted to, (n_configurations,), eV per site.
    effective_parameters, undetermined, iterations
        As in `FitReport`.
    """

    form: MtpCoefficients
    seen_pairs: npt.NDArray[np.bool_]
    spread: float
    n_rows: int
    n_linear: int
    energy_errors: Floats
    left_out_errors: Floats
    effective_parameters: float
    undetermined: int
    iterations: int


def undetermined_directions(singular_values: Floats, n_linear: int) -> int:
    """Return the dimension of what the data do not tell of the linear coefficients.

    `singular_values` are those of the design matrix, (min(n_rows, n_linear),).
    """
    return n_linear - int((singular_values > DETERMINED * singular_values.max()).sum())


def moments_of_scalars(form: MtpCoefficients) -> npt.NDArray[np.float64]:
    """Return how many moments each basis function is a product of, (n_scalars,)."""
    counts = np.zeros(form.n_moments)
    counts[: len(form.alpha_index_basic)] = 1.0
    for a, b, _, c in form.alpha_index_times.tolist():
        counts[c] = counts[a] + counts[b]
    return counts[form.alpha_moment_mapping]
