"""Phase diagrams drawn into given axes: pairs as curves, threes as triangles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib import patheffects
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from latticesearch.report.placement import place_labels, spread_apart
from latticesearch.report.style import BLUE, GREY, INK, PALE, VERMILLION, formula_text

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.text import Text

    from latticesearch.report.system import Points, System

    Floats = npt.NDArray[np.float64]

ABOVE_MAP: Final = "YlGnBu_r"
"""Colours of the energy above the hull: dark is stable, and what is far above fades."""

NAMED: Final = 16
"""Stable compounds named in a triangle: those that gain most over the competing phases."""

ON_HULL: Final = 1e-3
"""meV/atom: points closer to the hull than this are drawn as stable, not by colour."""

CORNERS: Final = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
"""Where the three end members are drawn."""

_HALO: Final = [patheffects.withStroke(linewidth=2.2, foreground="white")]


def draw_binary(axes: Axes, system: System, *, small: bool = False) -> None:
    """Draw formation energies over the fraction of the second of two end members."""
    size = 0.5 if small else 1.0
    points, stable = system.candidates, system.stable
    low, high = _energy_range(points, stable)
    # What lies higher is left out, so that no point is cut in two by the frame.
    cloud = _unique_cloud(points[points.formation <= high])
    for computed, colour, name in ((False, PALE, "predicted"), (True, BLUE, "computed")):
        chosen = cloud[cloud.computed == computed]
        if len(chosen) == 0:
            continue
        axes.scatter(
            chosen.fractions[:, 1],
            chosen.formation,
            s=14 * size,
            color=colour,
            linewidths=0,
            alpha=0.9,
            zorder=1 + computed,
            rasterized=True,
            clip_on=False,
            label=name,
        )
    order = np.argsort(stable.fractions[:, 1])
    axes.plot(
        stable.fractions[order, 1],
        stable.formation[order],
        color=INK,
        linewidth=1.3 * size**0.5,
        marker="o",
        markersize=5.5 * size**0.6,
        markerfacecolor=VERMILLION,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=4,
        label="stable",
        clip_on=False,
    )
    axes.axhline(0, color=GREY, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
    axes.set_ylim(low, high)
    axes.set_xlim(-0.02, 1.02)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5 if small else 8))
    first, second = (formula_text(name) for name in system.names)
    inner = [0.25, 0.5, 0.75] if not small else [0.5]
    axes.set_xticks([0, *inner, 1], [first, *(f"{x:g}" for x in inner), second])


def _unique_cloud(points: Points) -> Points:
    """Return the points without those that would be drawn over another one."""
    grid = np.column_stack(
        [
            np.rint(2000 * points.fractions[:, 1]),
            np.rint(4 * points.formation),
            points.computed,
        ]
    )
    _, rows = np.unique(grid, axis=0, return_index=True)
    return points[np.sort(rows)]


def _energy_range(points: Points, stable: Points) -> tuple[float, float]:
    """Return limits that show the hull well; the worst candidates may lie outside."""
    depth = max(0.0, -float(np.minimum(stable.formation, 0).min()))
    depth = max(depth, -float(points.formation.min(initial=0.0)))
    top = float(points.formation.max(initial=0.0))
    if depth > 0.1:
        return -1.08 * depth, min(max(1.05 * top, 0.05 * depth), 0.6 * depth)
    usual = float(np.quantile(points.formation, 0.9)) if len(points) else 0.0
    return -0.08 * max(usual, 1.0), 1.1 * max(usual, 1.0)


def label_binary(axes: Axes, system: System, *, small: bool = False) -> None:
    """Name the stable compounds below the hull, where nothing else is drawn."""
    inner = np.flatnonzero(np.isfinite(system.stabilities))
    if inner.size == 0:
        return
    inner = inner[np.argsort(system.stable.fractions[inner, 1])]
    x, y = system.stable.fractions[inner, 1], system.stable.formation[inner]
    # Labels stand upright in a common row below the deepest point.
    low, high = axes.get_ylim()
    longest = max(len(system.formulas[i]) for i in inner)
    room = 0.06 + 0.034 * longest if small else 0.05 + 0.018 * longest
    bottom = high - (high - low) / (1 - room)
    axes.set_ylim(bottom, high)
    row = low - 0.02 * (high - bottom)
    places = spread_apart(x, 0.065 if small else 0.032, 0.0, 1.0)
    for position, point, energy, member in zip(places, x, y, inner, strict=True):
        axes.annotate(
            formula_text(system.formulas[member]),
            xy=(point, energy),
            xytext=(position, row),
            rotation=90,
            ha="center",
            va="top",
            fontsize=6.5 if small else 8,
            arrowprops={
                "arrowstyle": "-",
                "color": PALE,
                "linewidth": 0.7,
                "shrinkB": 3,
                "shrinkA": 1,
                "relpos": (0.5, 1.0),
            },
            zorder=0.5,
        )


def above_norm(system: System) -> Normalize:
    """Return the scale of energies above the hull, meV/atom, that all triangles share."""
    above = system.candidates.above
    positive = above[above > 0]
    usual = float(np.quantile(positive, 0.5)) if positive.size else 1.0
    return Normalize(0.0, float(np.clip(usual, 1.0, 100.0)))


def draw_ternary(
    axes: Axes, system: System, norm: Normalize, *, small: bool = False
) -> PathCollection | None:
    """Draw the triangle of three end members; return the coloured points, None without any."""
    size = 0.55 if small else 1.0
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(-0.08, 1.08)
    axes.set_ylim(-0.1, CORNERS[2, 1] + 0.1)
    _draw_grid(axes)
    best = _lowest(system.candidates)
    best = best[np.abs(best.above) > ON_HULL]
    shown = None
    if len(best):
        xy = best.fractions @ CORNERS
        shown = axes.scatter(
            xy[:, 0],
            xy[:, 1],
            c=np.maximum(best.above, 0.0),  # predicted below the hull, not yet checked
            cmap=ABOVE_MAP,
            norm=norm,
            s=_dot_size(len(best)) * size,
            edgecolors=GREY,
            linewidths=0.4 * size,
            zorder=2,
            rasterized=len(best) > 2000,
        )
    stable = system.stable.fractions @ CORNERS
    lines = LineCollection(
        stable[system.tie_lines],
        colors=INK,
        linewidths=1.0 * size,
        zorder=1,
    )
    axes.add_collection(lines)
    axes.scatter(
        stable[:, 0],
        stable[:, 1],
        s=42 * size,
        marker="o",
        color=VERMILLION,
        edgecolors="white",
        linewidths=0.8 * size,
        zorder=4,
    )
    for name, corner, (right, up, alignment) in zip(
        system.names, CORNERS, ((-7, -5, "right"), (7, -5, "left"), (0, 7, "center")), strict=True
    ):
        axes.annotate(
            formula_text(name),
            xy=(corner[0], corner[1]),
            xytext=(right, up),
            textcoords="offset points",
            ha=alignment,
            va="top" if up < 0 else "bottom",
            fontsize=9 if small else 11,
            weight="bold",
        )
    return shown


def _draw_grid(axes: Axes) -> None:
    """Draw the triangle with a line at every quarter."""
    a, b, c = CORNERS
    parts = np.array([0.25, 0.5, 0.75])[:, None]
    segments = [
        [start + t * (end - start), start + t * (other - start)]
        for start, end, other in ((a, b, c), (b, c, a), (c, a, b))
        for t in parts
    ]
    axes.add_collection(LineCollection(segments, colors="#DDE0E5", linewidths=0.6, zorder=0))
    axes.fill(*CORNERS.T, facecolor="none", edgecolor=INK, linewidth=1.0, zorder=3)


def _lowest(points: Points) -> Points:
    """Return the lowest structure at each composition."""
    bins = np.rint(points.fractions * 1e5).astype(np.int64)
    order = np.lexsort((points.above, *bins.T))
    first = np.append(True, (bins[order][1:] != bins[order][:-1]).any(axis=1))[: len(order)]
    return points[order[first]]


def _dot_size(n_points: int) -> float:
    """Return the area, points squared, of dots that fill a triangle without covering it."""
    return float(np.clip(6000 / max(n_points, 1), 4, 36))


def label_ternary(axes: Axes, system: System) -> None:
    """Name the stable compounds, if there are too many those that gain most."""
    inner = np.flatnonzero(np.isfinite(system.stabilities))
    inner = inner[np.argsort(-system.stabilities[inner], kind="stable")][:NAMED]
    if inner.size == 0:
        return
    stable = system.stable.fractions @ CORNERS
    texts = [
        axes.text(
            stable[i, 0],
            stable[i, 1],
            formula_text(system.formulas[i]),
            fontsize=8,
            ha="center",
            va="center",
            path_effects=_HALO,
            zorder=6,
        )
        for i in inner
    ]
    lines = np.concatenate([stable[system.tie_lines], CORNERS[[[0, 1], [1, 2], [2, 0]]]])
    dots = np.unique(np.round(system.candidates.fractions, 5), axis=0) @ CORNERS
    _place(axes, texts, stable[inner], np.concatenate([stable, dots]), lines)


def _place(axes: Axes, texts: list[Text], points: Floats, obstacles: Floats, lines: Floats) -> None:
    """Move texts beside their points; far ones get a leader line."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    to_pixels = axes.transData
    boxes = [text.get_window_extent() for text in texts]
    sizes = np.array([(box.width + 3, box.height + 2) for box in boxes])
    near = 0.065 * figure.dpi
    anchors = to_pixels.transform(points)
    flat = to_pixels.transform(lines.reshape(-1, 2)).reshape(-1, 2, 2)
    centres = place_labels(anchors, sizes, to_pixels.transform(obstacles), flat, near)
    for text, centre, anchor, size in zip(texts, centres, anchors, sizes, strict=True):
        text.set_position(tuple(to_pixels.inverted().transform(centre)))
        gap = np.abs(centre - anchor) - size / 2
        if gap.max() > 1.5 * near:
            ends = to_pixels.inverted().transform(np.array([anchor, centre]))
            axes.plot(*ends.T, color=INK, linewidth=0.5, zorder=3.5)
