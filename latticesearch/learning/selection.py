"""The extrapolation grade and the choice of an active set by MaxVol.

Podryabinkin & Shapeev, Comput. Mater. Sci. 140, 171 (2017); the algorithm is that of
Goreinov et al., "How to find a good submatrix" (2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

INITIAL_DIAGONAL = 1e-5
"""The active set starts as this multiple of the identity: rows that were never replaced mark
directions no training structure covers, and give grades far above one."""

SWAP_THRESHOLD = 1.0000001
"""A row is exchanged if that multiplies the volume by more than this; ties stay as they are."""

RANK_TOLERANCE = 1e-9
"""Directions with singular values below this fraction of the largest are numerically absent."""


@dataclass(frozen=True, eq=False)
class ActiveSet:
    """The square matrix A of the extrapolation grade ``max_j |b A^-1|_j``.

    Parameters
    ----------
    rows
        A, (m, m).
    indices
        Which of the offered rows each row of A is, (m,); -1 for a start row never replaced.
    inverse
        A^-1, (m, m).
    """

    rows: npt.NDArray[np.float64]
    indices: npt.NDArray[np.intp]
    inverse: npt.NDArray[np.float64]

    @classmethod
    def from_rows(
        cls, rows: npt.NDArray[np.float64], indices: npt.NDArray[np.intp] | None = None
    ) -> ActiveSet:
        """Take the square matrix `rows`, (m, m), as it stands."""
        if indices is None:
            indices = np.arange(len(rows))
        return cls(rows, indices, np.asarray(np.linalg.inv(rows), dtype=np.float64))

    @classmethod
    def empty(cls, width: int) -> ActiveSet:
        """Return the active set before any structure was seen, (width, width)."""
        start = INITIAL_DIAGONAL * np.eye(width)
        return cls(start, np.full(width, -1, dtype=np.intp), np.eye(width) / INITIAL_DIAGONAL)

    @classmethod
    def select(
        cls,
        rows: npt.NDArray[np.float64],
        *,
        start: ActiveSet | None = None,
        max_swaps: int | None = None,
    ) -> ActiveSet:
        """Choose from `rows`, (n, m), the m rows of (locally) largest volume.

        Parameters
        ----------
        rows
            One row per structure or site.
        start
            The active set to improve; rows of it that stay keep their index. Indices of rows
            that come in are those of `rows`.
        max_swaps
            End after this many exchanges; default until no exchange enlarges the volume.

        Raises
        ------
        InputError
            `rows` holds something that is not a number.
        """
        if not np.isfinite(rows).all():
            raise InputError("the rows offered to MaxVol hold NaN or infinity; refit the potential")
        active = cls.empty(rows.shape[1]) if start is None else start
        swaps = max_swaps if max_swaps is not None else 100 * rows.shape[1]
        # Rank-one updates accumulate rounding: repeat from a fresh inverse until nothing moves.
        while swaps > 0:
            active, used = _swap(active, rows, swaps)
            swaps -= used
            if used == 0:
                break
        return active

    def coefficients(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return ``rows @ A^-1``, (n, m)."""
        result: npt.NDArray[np.float64] = rows @ self.inverse
        return result

    def grades(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the extrapolation grades, (n,), of `rows`, (n, m)."""
        result: npt.NDArray[np.float64] = np.abs(self.coefficients(rows)).max(axis=1, initial=0.0)
        return result


def _swap(
    active: ActiveSet, rows: npt.NDArray[np.float64], max_swaps: int
) -> tuple[ActiveSet, int]:
    """Exchange rows greedily, the largest coefficient first; return how many were exchanged."""
    if len(rows) == 0:
        return active, 0
    matrix, indices = active.rows.copy(), active.indices.copy()
    coefficients = active.coefficients(rows)
    used = 0
    while used < max_swaps:
        i, j = np.unravel_index(np.abs(coefficients).argmax(), coefficients.shape)
        pivot = coefficients[i, j]
        if abs(pivot) <= SWAP_THRESHOLD:
            break
        matrix[j], indices[j] = rows[i], i
        step = coefficients[i].copy()
        step[j] -= 1.0
        coefficients -= np.outer(coefficients[:, j], step / pivot)
        used += 1
    return ActiveSet.from_rows(matrix, indices), used


def effective_rows(
    rows: npt.NDArray[np.float64], tolerance: float = RANK_TOLERANCE
) -> npt.NDArray[np.float64]:
    """Express `rows`, (n, m), in an orthonormal basis of the space they span, (n, rank).

    On a lattice only the values of the radial functions at the neighbour distances matter, so
    many coefficients are redundant and A would stay singular. Grades do not change with the
    basis of the row space; they only lose the directions no candidate has. Rows are scaled as
    one, so that the start rows of `ActiveSet` are small against them whatever the units.
    """
    if len(rows) == 0:
        return rows
    gram = rows.T @ rows if len(rows) > rows.shape[1] else None
    if gram is not None:
        values, vectors = np.linalg.eigh(gram)
        order = values.argsort()[::-1]
        singular, directions = np.sqrt(np.maximum(values[order], 0.0)), vectors[:, order]
        # The squares lose half the digits: only half the orders of magnitude can be told apart.
        tolerance = max(tolerance, 1e-7)
    else:
        _, singular, right = np.linalg.svd(rows, full_matrices=False)
        directions = right.T
    rank = max(1, int((singular > tolerance * singular[0]).sum()))
    projected: npt.NDArray[np.float64] = rows @ directions[:, :rank]
    largest = np.abs(projected).max()
    return projected / largest if largest > 0 else projected


def training_grades(
    rows: npt.NDArray[np.float64], training: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Return the grades of all `rows`, (n,), with the active set chosen from `training`."""
    effective = effective_rows(rows)
    return ActiveSet.select(effective[training]).grades(effective)
