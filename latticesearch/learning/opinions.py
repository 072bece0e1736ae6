"""Two opinions on the same energies: the posterior's, and that of a potential beside it.

A potential fitted to the same energies sees what cluster functions do not, and the other way
round. Where both agree nothing changes; where they differ, either may be right, and the truth is
taken to lie about the one or the other. How far about says the posterior alone: residuals of a
potential that interpolates are no measure of its errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.learning.posterior import Prediction

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.learning.posterior import Posterior

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Opinions:
    """What is thought of the formation energies of candidates.

    Attributes
    ----------
    posterior : Posterior
    second : (n,) float or None
        Formation energies of all candidates, eV/atom, that somebody else expects; NaN where there
        is no second opinion.
    weight : float
        What the second counts; the posterior counts the rest.
    """

    posterior: Posterior
    second: Floats | None = None
    weight: float = 0.0

    def predict(self, rows: Floats, indices: Indices) -> Prediction:
        """Return the energies of candidates, (n,), with the rows (n, r)."""
        own = self.posterior.predict(rows)
        if self.second is None:
            return own
        means = np.concatenate([own.means, own.means + self._shifts(own.mean, indices)])
        weights = np.concatenate([(1.0 - self.weight) * own.weights, self.weight * own.weights])
        return Prediction(means, np.concatenate([own.spreads] * 2), weights)

    def covariances(self, rows: Floats, row: Floats) -> Floats:
        """Return covariances, (p, n), of rows (n, r) with another candidate (r,)."""
        own = self.posterior.covariances(rows, row)
        return own if self.second is None else np.concatenate([own] * 2)

    def samples(
        self, rows: Floats, indices: Indices, number: int, rng: np.random.Generator
    ) -> Floats:
        """Return joint samples, (number, n), each about one of the opinions, eV/atom."""
        energies = self.posterior.samples(rows, number, rng)
        if self.second is not None:
            is_second = rng.random(number) < self.weight
            energies[is_second] += self._shifts(self.posterior.predict(rows).mean, indices)
        return energies

    def _shifts(self, own: Floats, indices: Indices) -> Floats:
        """Return how far the second is from the posterior's, (n,), 0 where there is none."""
        assert self.second is not None
        shifts: Floats = np.nan_to_num(self.second[indices] - own)
        return shifts
