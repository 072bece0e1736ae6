"""What compositions are counted by: atoms, or formula units of which a part never changes.

In LixCoO2 or (Ti,Hf)N chemists count by formula units: Co and O stay, x of Li are there. The part
that never changes is what all candidates have in equal numbers per cell of the parent lattice.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]

SAME: Final = 1e-6
"""Numbers of atoms per cell closer than this are equal: they are ratios of small integers."""

_LOW: Final = str.maketrans("0123456789-x", "₀₁₂₃₄₅₆₇₈₉₋ₓ")


@dataclass(frozen=True)
class FormulaUnit:
    """The part of a structure that all candidates share.

    Parameters
    ----------
    elements
        k symbols, in the order of the columns of compositions.
    hosts
        Atoms of the elements that never change, per formula unit, by symbol.
    """

    elements: tuple[str, ...]
    hosts: Mapping[str, int]

    @property
    def formula(self) -> str:
        """Formula of the shared part, e.g. "CoO2"."""
        return "".join(f"{e}{n if n > 1 else ''}" for e, n in self.hosts.items())

    def atoms(self, x: Floats) -> Floats:
        """Return the (n,) atoms per formula unit of compositions `x` (n, k)."""
        rows = [self.elements.index(e) for e in self.hosts]
        with np.errstate(divide="ignore"):
            found: Floats = sum(self.hosts.values()) / x[:, rows].sum(axis=1)
        return found

    def holds(self, x: Floats) -> bool:
        """Tell whether all compositions `x` (n, k) are made of such units."""
        parts = x[:, [self.elements.index(e) for e in self.hosts]] / list(self.hosts.values())
        return bool(parts.min() > SAME) and bool((np.ptp(parts, axis=1) < SAME).all())


def formula_unit(candidates: pd.DataFrame, hull: pd.DataFrame) -> FormulaUnit | None:
    """Return what compositions can be counted by instead of atoms.

    Parameters
    ----------
    candidates
        Columns of candidates.parquet; rows without `hnf` are not on the lattice.
    hull
        Rows that have to be made of such units, too; columns as in hull.csv.

    Returns
    -------
    FormulaUnit or None
        None where every element varies, as in an ordinary alloy.
    """
    columns = [name for name in candidates.columns if name.startswith("x_")]
    counts = _per_cell(candidates, columns)
    if len(counts) == 0:
        return None
    fixed = (np.ptp(counts, axis=0) < SAME) & (counts[0] > SAME)
    if not fixed.any() or fixed.all():
        return None
    numbers = np.rint(counts[0]).astype(int)
    divisor = gcd(*numbers[fixed].tolist())
    elements = tuple(name.removeprefix("x_") for name in columns)
    hosts = {e: int(numbers[i]) // divisor for i, e in enumerate(elements) if fixed[i]}
    unit = FormulaUnit(elements, hosts)
    return unit if unit.holds(hull[columns].to_numpy(dtype=np.float64)) else None


def _per_cell(candidates: pd.DataFrame, columns: list[str]) -> Floats:
    """Return the (n, k) atoms of each element per cell of the parent lattice."""
    if "hnf" not in candidates or candidates.empty:
        return np.empty((0, len(columns)))
    is_there = [one is not None and np.size(one) == 9 for one in candidates["hnf"]]
    on_lattice = candidates[is_there]
    if on_lattice.empty:
        return np.empty((0, len(columns)))
    # The matrices are triangular: their determinant is the product of the diagonal.
    cells = np.array(on_lattice["hnf"].tolist(), dtype=float)[:, [0, 4, 8]].prod(axis=1)
    x = on_lattice[columns].to_numpy(dtype=np.float64)
    counts: Floats = x * (on_lattice["n_atoms"].to_numpy(dtype=float) / cells)[:, None]
    return counts


def axis_label(counts: Floats, elements: Sequence[str]) -> str:
    """Return what the fraction of the second of two end members is, e.g. "x in Ti₁₋ₓHfₓN".

    Parameters
    ----------
    counts
        (2, k) atoms of each element per formula unit of the end members.
    elements
        k symbols.
    """
    parts = [
        f"{element}{_amount(a, b)}"
        for element, (a, b) in zip(elements, counts.T.tolist(), strict=True)
        if max(a, b) > SAME
    ]
    return f"x in {''.join(parts)}"


def _amount(first: float, second: float) -> str:
    """Return how many atoms there are between two ends, as subscripts, e.g. "₁₋ₓ"."""
    step = second - first
    if abs(step) < SAME:
        return "" if abs(first - 1) < SAME else f"{first:.3g}".translate(_LOW)
    factor = "" if abs(abs(step) - 1) < SAME else f"{abs(step):.3g}"
    text = f"{factor}x" if abs(first) < SAME else f"{first:.3g}{'-' if step < 0 else '+'}{factor}x"
    return text.translate(_LOW).replace("+", "₊")
