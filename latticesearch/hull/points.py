"""Checked compositions and energies, and which of several points of one composition counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from latticesearch.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

COMPOSITION_TOLERANCE: Final = 1e-7
"""Compositions closer than this are the same; cells with a million sites differ by more."""

SUM_TOLERANCE: Final = 1e-6
"""How far the fractions of one composition may add up to something else than 1."""


def as_compositions(compositions: npt.ArrayLike) -> Floats:
    """Return checked (n, k) fractions whose rows add up to exactly 1."""
    x = np.asarray(compositions, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        raise InputError(f"compositions need the shape (points, components), not {x.shape}")
    total = x.sum(axis=1)
    wrong = ~np.isfinite(total) | (np.abs(total - 1) > SUM_TOLERANCE)
    wrong |= (x < -SUM_TOLERANCE).any(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        values = np.array2string(x[row], precision=6, separator=", ")
        raise InputError(
            f"composition {row} is {values} with the sum {total[row]:.6g}; give fractions between "
            "0 and 1 that add up to 1"
        )
    x = np.maximum(x, 0.0)
    x /= x.sum(axis=1, keepdims=True)
    return x


def validated(compositions: npt.ArrayLike, energies: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return compositions (n, k) and energies (n,), n > 0, that fit together."""
    x = as_compositions(compositions)
    e = np.array(energies, dtype=np.float64)
    if e.shape != (len(x),):
        raise InputError(
            f"{len(x)} compositions need as many energies, not an array of shape {e.shape}"
        )
    if len(x) == 0:
        raise InputError("a hull needs at least one point")
    bad = np.flatnonzero(~np.isfinite(e))
    if bad.size:
        raise InputError(f"energy {bad[0]} is {e[bad[0]]}; leave failed calculations out")
    return x, e


def energies_like(energies: npt.ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Return energies flattened to fit compositions of the given leading shape."""
    e = np.asarray(energies, dtype=np.float64)
    if e.shape != shape:
        raise InputError(f"energies of shape {e.shape} do not fit compositions of shape {shape}")
    return e.reshape(-1)


def lowest_per_composition(compositions: Floats, energies: Floats) -> Integers:
    """Return the (m,) ascending indices of the lowest, else first, point at each composition."""
    if compositions.shape[1] == 0:
        return np.array([int(energies.argmin())], dtype=np.int64)
    # The shift keeps simple fractions away from the borders of the rounding.
    bins = np.rint(compositions / COMPOSITION_TOLERANCE + 1.0 / np.pi).astype(np.int64)
    order = np.lexsort((energies, *bins.T))
    sorted_bins = bins[order]
    starts = np.append(True, (sorted_bins[1:] != sorted_bins[:-1]).any(axis=1))
    return np.sort(order[starts])
