"""The region of compositions that a hull covers: its coordinates and its borders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import qr
from scipy.spatial import ConvexHull, QhullError

from latticesearch.errors import InputError
from latticesearch.hull.points import SUM_TOLERANCE

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Frame:
    """Coordinates in the affine hull of compositions: a choice of d of the k fractions.

    Attributes
    ----------
    columns : (d,) int
        The components whose fractions are the coordinates.
    linear : (d, k) float
    offset : (k,) float
        ``compositions == coordinates @ linear + offset``.
    """

    columns: Integers
    linear: Floats
    offset: Floats

    @property
    def dimension(self) -> int:
        """Number d of coordinates."""
        return len(self.columns)

    @classmethod
    def of(cls, compositions: Floats) -> Frame:
        """Return the frame of (n, k) distinct compositions."""
        centre = compositions.mean(axis=0)
        centred = compositions - centre
        triangular, pivots = qr(centred, mode="r", pivoting=True)
        diagonal = np.abs(np.diag(triangular))
        rank = int((diagonal > SUM_TOLERANCE * np.sqrt(len(compositions))).sum())
        rank = min(rank, compositions.shape[1] - 1)
        columns = np.sort(pivots[:rank]).astype(np.int64)
        linear = np.linalg.lstsq(centred[:, columns], centred, rcond=None)[0]
        return cls(columns, linear, centre - centre[columns] @ linear)

    def coordinates(self, compositions: Floats) -> Floats:
        """Return the coordinates, (n, d), of compositions (n, k)."""
        return np.ascontiguousarray(compositions[:, self.columns])

    def compositions(self, coordinates: Floats) -> Floats:
        """Return the compositions, (n, k), at coordinates (n, d)."""
        mixed: Floats = coordinates @ self.linear + self.offset
        return mixed


@dataclass(frozen=True, eq=False)
class Region:
    """The compositions that mixtures of the end members have.

    Attributes
    ----------
    frame : Frame
    n_corners : int
        Number of end members.
    normals : (f, d) float
    offsets : (f,) float
        ``normals @ x + offsets <= 0`` for the coordinates x inside.
    """

    frame: Frame
    n_corners: int
    normals: Floats
    offsets: Floats

    @classmethod
    def of(cls, frame: Frame, end_members: Floats) -> Region:
        """Return the region that the compositions (m, k) of the end members span.

        Raises
        ------
        InputError
            They span fewer dimensions than the frame has.
        """
        return cls(frame, len(end_members), *_borders(frame.coordinates(end_members)))

    def coordinates(self, compositions: Floats) -> Floats:
        """Return the coordinates, (n, d), of compositions (n, k).

        Raises
        ------
        InputError
            A composition that no mixture of the end members has.
        """
        x = self.frame.coordinates(compositions)
        bad = np.flatnonzero(~self._inside(x, compositions))
        if bad.size:
            row = np.array2string(compositions[bad[0]], precision=4, separator=", ")
            raise InputError(
                f"composition {row} is no mixture of the {self.n_corners} end members; "
                "add the missing end member or leave the point out"
            )
        return x

    def covers(self, compositions: Floats) -> npt.NDArray[np.bool_]:
        """Return which compositions (n, k) are mixtures of the end members, (n,)."""
        return self._inside(self.frame.coordinates(compositions), compositions)

    def _inside(self, x: Floats, compositions: Floats) -> npt.NDArray[np.bool_]:
        """Return which compositions (n, k) with the coordinates (n, d) lie in the region, (n,)."""
        off = np.abs(self.frame.compositions(x) - compositions).max(axis=1, initial=0.0)
        outside = (x @ self.normals.T + self.offsets).max(axis=1, initial=-np.inf)
        inside: npt.NDArray[np.bool_] = (off <= SUM_TOLERANCE) & (outside <= SUM_TOLERANCE)
        return inside


def _borders(corners: Floats) -> tuple[Floats, Floats]:
    """Return normals (f, d) and offsets (f,) with ``normals @ x + offsets <= 0`` inside."""
    dimension = corners.shape[1]
    if dimension == 0:
        return np.empty((0, 0)), np.empty(0)
    if dimension == 1:
        return np.array([[-1.0], [1.0]]), np.array([corners.min(), -corners.max()])
    try:
        equations = ConvexHull(corners).equations
    except QhullError as error:
        raise InputError(
            f"the {len(corners)} end members span fewer than the {dimension} dimensions of the "
            "points; give an end member for every corner of the region"
        ) from error
    return equations[:, :-1], equations[:, -1]
