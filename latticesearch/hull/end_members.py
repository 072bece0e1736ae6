"""The points that formation energies refer to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.hull.points import (
    COMPOSITION_TOLERANCE,
    SUM_TOLERANCE,
    as_compositions,
)
from latticesearch.hull.region import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


def end_member_points(
    compositions: Floats,
    lowest: Integers,
    frame: Frame,
    named: npt.ArrayLike | None,
    species: Sequence[str] | None,
) -> Integers:
    """Return the (m,) ascending indices of the points at the end members' compositions.

    Parameters
    ----------
    compositions
        (n, k) of all points.
    lowest
        (l,) indices of the lowest point at each composition.
    frame
        Coordinates of the region that the points span.
    named
        (m, k) the end members asked for. By default the pure components where the points span all
        mixtures of them, else the corners of the region that they span.
    species
        k names of the components, for messages.

    Raises
    ------
    InputError
        An end member of another number of components, or without a point.
    """
    n_components = compositions.shape[1]
    if named is not None:
        wanted = as_compositions(named)
        if wanted.shape[1] != n_components:
            raise InputError(
                f"end members have {wanted.shape[1]} components, the points have "
                f"{n_components}; give the same components in the same order"
            )
    elif frame.dimension == n_components - 1:
        wanted = np.eye(n_components)
    else:
        return np.sort(lowest[_extreme_points(frame.coordinates(compositions[lowest]))])
    points = [_point_at(row, compositions, lowest, species) for row in wanted]
    return np.sort(np.array(points, dtype=np.int64))


def corners(compositions: npt.ArrayLike) -> Floats:
    """Return the corners of the region that compositions span.

    Named as end members they make a hull of any points: also of points that lack pure components,
    such as nitrides together with metals, but no nitrogen.

    Parameters
    ----------
    compositions
        (n, k) fractions of the components.

    Returns
    -------
    Floats
        (m, k) distinct rows of `compositions`, in their order.

    Raises
    ------
    InputError
        Rows that are no fractions, or none at all.
    """
    x = as_compositions(compositions)
    if not len(x):
        raise InputError("no compositions, so there is nothing that they span")
    _, first = np.unique(np.rint(x / COMPOSITION_TOLERANCE), axis=0, return_index=True)
    distinct = x[np.sort(first)]
    pure = distinct.max(axis=1) > 1.0 - COMPOSITION_TOLERANCE
    if pure.sum() == x.shape[1]:
        # Nothing lies outside; the general case is slow for many components.
        return np.ascontiguousarray(distinct[pure])
    extreme = _extreme_points(Frame.of(distinct).coordinates(distinct))
    result: Floats = distinct[np.sort(extreme)]
    return result


def _extreme_points(x: Floats) -> Integers:
    """Return the (m,) indices of the corners of the convex hull of distinct points (n, d)."""
    dimension = x.shape[1]
    if dimension == 0:
        return np.array([0], dtype=np.int64)
    if dimension == 1:
        return np.array([int(x.argmin()), int(x.argmax())], dtype=np.int64)
    from scipy.optimize import nnls
    from scipy.spatial import ConvexHull

    corners = ConvexHull(x).vertices.astype(np.int64)
    # By rounding, Qhull keeps some points in the middle of a face.
    for corner in corners.tolist():
        others = corners[corners != corner]
        system = np.vstack([x[others].T, np.ones(len(others))])
        if nnls(system, np.append(x[corner], 1.0))[1] < SUM_TOLERANCE:
            corners = others
    return corners


def _point_at(
    wanted: Floats, compositions: Floats, lowest: Integers, species: Sequence[str] | None
) -> int:
    """Return the index of the lowest point at the composition `wanted` (k,)."""
    distance = np.abs(compositions[lowest] - wanted).max(axis=1)
    if distance.min() < SUM_TOLERANCE:
        return int(lowest[distance.argmin()])
    names = species or [f"component {i + 1}" for i in range(len(wanted))]
    parts = [
        f"pure {name}" if part > 1 - SUM_TOLERANCE else f"{name} {part:.4g}"
        for name, part in zip(names, wanted, strict=True)
        if part > SUM_TOLERANCE
    ]
    raise InputError(
        f"the hull has no point for the end member {', '.join(parts)}; add its energy, or name "
        "other end members"
    )
