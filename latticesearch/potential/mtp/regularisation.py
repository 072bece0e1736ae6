"""How strongly a fit of a moment tensor potential is held back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Regularisation:
    """Strengths of the two ridges, for energies scaled to unit spread.

    Parameters
    ----------
    linear
        On the coefficients of the basis functions, each scaled by its spread in the training set.
    radial
        On the radial functions' distance from where they started, in units in which the moments
        have unit spread on a random lattice.
    growth
        Factor of `linear` for each moment after the first in a basis function: with 16, those of
        four moments are used only as far as those of fewer cannot explain the data. So a potential
        of high level is no worse than one of low level where data are few.
    """

    linear: float = 1e-2
    radial: float = 1e-1
    growth: float = 16.0
