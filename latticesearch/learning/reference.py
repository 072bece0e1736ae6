"""Energies and features relative to the end members: what is left is what ordering does.

Of each structure that mixture of the end members is taken off which has its composition. Then the
energies of the elements are out of the model, whatever their size, and end members are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reference:
    """The end members of a region of compositions.

    Attributes
    ----------
    corners : (m, k) float
        Their compositions.
    values : (m, q) float
        What each has: energies, or features.
    """

    corners: Floats
    values: Floats

    def shares(self, compositions: Floats) -> Floats:
        """Return a mixture of the end members with each composition, (n, m).

        Of more than d + 1 end members that of least squares, which depends linearly on the
        composition.
        """
        shares: Floats = compositions @ np.linalg.pinv(self.corners)
        return shares

    def relative(self, compositions: Floats, values: Floats) -> Floats:
        """Return values, (n, q), minus those of the mixtures of end members."""
        relative: Floats = values - self.shares(compositions) @ self.values
        return relative

    def rows(self, compositions: Floats, features: Floats) -> Floats:
        """Return the rows, (n, q + m), that formation energies are linear in.

        What the features do not describe of an end member enters the formation energies of all
        mixtures: the last m columns are what each end member takes part with.
        """
        shares = self.shares(compositions)
        return np.concatenate([features - shares @ self.values, -shares], axis=1)

    def end_rows(self) -> Floats:
        """Return the same, (m, q + m), of the end members themselves; zero of a simplex."""
        shares = self.shares(self.corners)
        own = np.eye(len(shares))
        return np.concatenate([self.values - shares @ self.values, own - shares], axis=1)
