"""Functions of the species of one site, whose products are the functions of clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


def site_functions(n_species: int) -> Floats:
    """Return functions of the species, (n_species - 1, n_species), orthogonal to each other and 1.

    Cosines, as in a discrete cosine transform; mean square 1.
    """
    k = np.arange(1, n_species)[:, None]
    z = np.arange(n_species) + 0.5
    result: Floats = np.sqrt(2.0) * np.cos(np.pi * k * z / n_species)
    return result
