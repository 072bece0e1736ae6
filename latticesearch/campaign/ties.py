"""Structures of one composition whose energies are equal but for the noise of relaxations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

NOISE: Final = 1e-5
"""eV/atom: a relaxation that ends at forces of 0.01 eV/Å is off by about as much."""


def levelled(compositions: Floats, energies: Floats) -> Floats:
    """Return energies in which what is as good as the lowest of its composition is equal to it.

    Of equal energies a hull takes the first, so whoever puts small cells first gets these.

    Parameters
    ----------
    compositions
        (n, k) fractions of the components.
    energies
        (n,) eV/atom.

    Returns
    -------
    Floats
        (n,) eV/atom, none higher than before.
    """
    group = np.unique(np.round(compositions, 9), axis=0, return_inverse=True)[1].reshape(-1)
    lowest = np.full(group.max(initial=-1) + 1, np.inf)
    np.minimum.at(lowest, group, energies)
    equal = energies - lowest[group] < NOISE
    return np.where(equal, lowest[group], energies)
