"""Where labels go, so that they cover neither each other nor the points."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_ANGLES: Final = np.deg2rad([90, 30, 150, 0, 180, -30, -150, -90, 60, 120, -60, -120])
"""Directions tried around a point, in the order of preference."""

_RADII: Final = (1.0, 1.8, 2.8, 4.0)
"""Distances tried, in units of the nearest one; far labels get a leader line."""

LINE_COST: Final = 1.0
"""Of a piece of a line (a fortieth) under a label: a quarter of what a covered point costs."""


def spread_apart(wanted: Floats, gap: float, low: float, high: float) -> Floats:
    """Return positions on a line, close to those wanted and at least `gap` apart.

    Neighbours that are too close form a group around the mean of what they want, and groups
    that meet merge: the least-squares answer, as in isotonic regression.

    Parameters
    ----------
    wanted
        (n,) ascending positions.
    gap
        Smallest distance of neighbours; smaller where the interval has no room for it.
    low, high
        The interval for all positions.

    Returns
    -------
    Floats
        (n,) ascending positions.
    """
    n = len(wanted)
    if n > 1:
        gap = min(gap, (high - low) / (n - 1))
    shifts = gap * np.arange(n)
    groups: list[tuple[float, int]] = []
    for value in (wanted - shifts).tolist():
        mean, size = value, 1
        while groups and groups[-1][0] >= mean:
            previous, count = groups.pop()
            mean, size = (previous * count + mean * size) / (count + size), count + size
        groups.append((mean, size))
    level = np.array([mean for mean, size in groups for _ in range(size)])
    places: Floats = np.clip(level, low, max(low, high - gap * (n - 1))) + shifts
    return places


def place_labels(
    points: Floats, sizes: Floats, obstacles: Floats, lines: Floats, distance: float
) -> Floats:
    """Return centres of labels around their points that overlap as little as possible.

    Greedy: the most crowded point chooses first.

    Parameters
    ----------
    points
        (n, 2) what is labelled.
    sizes
        (n, 2) widths and heights of the labels.
    obstacles
        (m, 2) points that should stay visible.
    lines
        (l, 2, 2) end points of lines that should not be crossed, at little cost.
    distance
        Nearest distance between a point and the edge of its label.

    Returns
    -------
    Floats
        (n, 2) centres.
    """
    centres = np.array(points, dtype=np.float64)
    if len(points) == 0:
        return centres
    spacing = np.linalg.norm(points[:, None] - points[None], axis=2)
    along = np.linspace(0, 1, 41)[:, None]
    samples = np.concatenate([a + along * (b - a) for a, b in lines]) if len(lines) else lines
    samples = samples.reshape(-1, 2)
    placed: list[int] = []
    for label in np.argsort(np.sort(spacing, axis=1)[:, : min(4, len(points))].sum(axis=1)):
        options = _options(points[label], sizes[label], distance)
        cost = np.array(
            [
                _overlap(centre, sizes[label], centres[placed], sizes[placed])
                + 4.0 * _covered(centre, sizes[label], obstacles)
                + LINE_COST * _covered(centre, sizes[label], samples)
                + 0.4 * rank
                for centre, rank in options
            ]
        )
        centres[label] = options[int(cost.argmin())][0]
        placed.append(int(label))
    return centres


def _options(point: Floats, size: Floats, distance: float) -> list[tuple[Floats, float]]:
    """Return possible centres of a label and how little they are liked."""
    options = []
    for (ring, radius), (turn, angle) in itertools.product(
        enumerate(_RADII), enumerate(_ANGLES.tolist())
    ):
        direction = np.array([np.cos(angle), np.sin(angle)])
        reach = distance * radius + _half_extent(size, direction)
        options.append((point + direction * reach, 3.0 * ring + 0.2 * turn))
    return options


def _half_extent(size: Floats, direction: Floats) -> float:
    """Return the distance from the centre of a box to its edge along a unit vector."""
    with np.errstate(divide="ignore"):
        return float(np.min(size / 2 / np.abs(direction)))


def _overlap(centre: Floats, size: Floats, others: Floats, other_sizes: Floats) -> float:
    """Return a high cost for every label that the new one would overlap."""
    depth = (size + other_sizes) / 2 - np.abs(others - centre)
    return 20.0 * float((depth > 0).all(axis=1).sum())


def _covered(centre: Floats, size: Floats, points: Sequence[Floats] | Floats) -> float:
    """Return how many points lie under a label."""
    return float((np.abs(np.asarray(points) - centre) < size / 2).all(axis=1).sum())
