"""Grids of k-points: one rule for all codes, and one grid from the start to the end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.oracles.presets.vocabulary import DENSER

if TYPE_CHECKING:
    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.oracles.presets.vocabulary import Wanted

ROUNDING = 1e-6
"""Part of a k-point that is not worth another one: cells come with rounded numbers."""


def grid_of(cell: npt.ArrayLike, kspacing: float) -> tuple[int, int, int]:
    """Return the numbers of k-points along the reciprocal vectors b_i of a cell.

    ``n_i = max(1, ceil(2π |b_i| / kspacing))``, as VASP does with its KSPACING.

    Parameters
    ----------
    cell
        Lattice vectors as rows, (3, 3), Å.
    kspacing
        Largest distance between k-points, 1/Å.
    """
    reciprocal = 2.0 * math.pi * np.linalg.inv(np.asarray(cell, dtype=float)).T
    lengths = np.linalg.norm(reciprocal, axis=1) / kspacing
    first, second, third = (max(1, math.ceil(n - ROUNDING)) for n in lengths)
    return first, second, third


def start_grid(atoms: Atoms, wanted: Wanted) -> tuple[int, int, int]:
    """Return the grid with which a structure is computed, from its cell before relaxation.

    Structures of one element have what is said of it, by default a denser grid than the others.
    """
    assert wanted.kspacing is not None
    symbols = set(atoms.symbols)
    if len(symbols) > 1:
        return grid_of(atoms.cell, wanted.kspacing)
    element = wanted.element(symbols.pop())
    if element.grid is not None:
        return element.grid
    return grid_of(atoms.cell, element.kspacing or DENSER * wanted.kspacing)
