"""What a calculation is worth: how far it is expected to lower the hull of what is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.special import ndtr

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.learning.posterior import Prediction

    Floats = npt.NDArray[np.float64]


class Acquisition(Protocol):
    """Anything that says what each calculation is worth."""

    def __call__(self, prediction: Prediction, hull: Floats) -> Floats:
        """Return the worth of each candidate, (n,), eV/atom, higher is better.

        It must not grow when other energies become known as they are predicted: then the best of
        a batch are found among the best of all.

        Parameters
        ----------
        prediction
            Of n candidates.
        hull
            Energies of the hull of all that is computed at their compositions, (n,), eV/atom.
        """


def normal_improvement(depths: Floats, spreads: Floats) -> Floats:
    """Return E[max(depth + error, 0)], eV/atom, for errors of normal distribution.

    Jones, Schonlau & Welch, J. Global Optim. 13, 455 (1998), equation 15.

    Parameters
    ----------
    depths, spreads
        How far below the hull each energy is expected, and its standard deviation, eV/atom;
        any shape.
    """
    ratios = depths / spreads
    density = np.exp(-0.5 * ratios**2) / np.sqrt(2.0 * np.pi)
    improvement: Floats = depths * ndtr(ratios) + spreads * density
    return np.maximum(improvement, 0.0)


@dataclass(frozen=True)
class ExpectedImprovement:
    """By how much a candidate's energy is expected to lie below the hull."""

    def __call__(self, prediction: Prediction, hull: Floats) -> Floats:
        """Return the expected improvement, (n,), eV/atom, under all priors as they count."""
        improvements = normal_improvement(hull - prediction.means, prediction.spreads)
        worth: Floats = prediction.weights @ improvements
        return worth
