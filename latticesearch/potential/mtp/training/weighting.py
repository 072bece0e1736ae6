"""Weights of training data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.training_set import Energies

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.training_set import TrainingSet


def near_hull_weights(
    training: TrainingSet, *, width: float = 0.05, least: float = 0.1
) -> npt.NDArray[np.float64]:
    """Return weights for `fit` that fall off with the distance to the hull.

    The weight is ``least + (1 - least) * exp(-height / width)``: what can be stable is fitted
    closely, what cannot only has to stay where it is.

    Parameters
    ----------
    training
        Energies with, for every composition they span, those of the end members.
    width
        Height above the hull of the training set at which the weight has fallen to some 0.4, eV per
        site.
    least
        Weight far above the hull, 0 to 1.

    Returns
    -------
    (n,)
        Labelings first, then structures.

    Raises
    ------
    InputError
        `width` or `least` out of range, or end members without energies.
    """
    if not (width > 0.0 and 0.0 < least <= 1.0):
        raise InputError(
            f"width {width} eV and least weight {least}: the width must be positive, the least "
            "weight above 0 and at most 1"
        )
    symbols = {s for part in training.labelings for s in part.batch.supercell.parent.species}
    symbols.update(*(atoms.get_chemical_symbols() for atoms in training.structures))
    heights = Energies.of(training, sorted(symbols)).heights()
    return np.asarray(least + (1.0 - least) * np.exp(-heights / width))
