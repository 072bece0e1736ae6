"""What the loop asks the oracle for, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.hull import corners

if TYPE_CHECKING:
    import numpy.typing as npt

END_MEMBER = "end member"
IMPROVEMENT = "improvement"
DILUTE = "dilute end"

SAME_COMPOSITION = 1e-9
"""Fractions of atoms that agree so well are equal."""


@dataclass(frozen=True)
class Choice:
    """A candidate to compute, why, and what that is worth.

    Attributes
    ----------
    index : int
    worth : float
        Expected lowering of the hull, eV/atom (per cost where costs are given), before those that
        stand in front of it are known.
    reason : str
    """

    index: int
    worth: float = 0.0
    reason: str = IMPROVEMENT


def end_members(compositions: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]) -> list[int]:
    """Return the rows to compute before there is any formation energy.

    That is the first at each corner of the region of compositions where no energy is known.

    Parameters
    ----------
    compositions
        Atomic fractions, (n, k), smallest cells first.
    known
        Whose energy is known, (n,).
    """
    rows = []
    for corner in corners(compositions):
        there = np.flatnonzero(np.abs(compositions - corner).max(axis=1) < SAME_COMPOSITION)
        # Where other sites are vacant there are several of one composition; one will do.
        if not known[there].any():
            rows.append(int(there[0]))
    return rows
