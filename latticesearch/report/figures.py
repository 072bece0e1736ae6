"""All figures of a campaign."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from latticesearch.report.diagrams import (
    above_norm,
    draw_binary,
    draw_ternary,
    label_binary,
    label_ternary,
)
from latticesearch.report.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RULE,
    VERMILLION,
    figure_style,
    fix_layout,
    formula_text,
    new_figure,
    render,
)
from latticesearch.report.system import make_system
from latticesearch.report.tables import MEV

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from latticesearch.report.system import System

    Floats = npt.NDArray[np.float64]

MAX_BARS: Final = 30
"""Stable structures shown as bars; the others stand in the table."""


_KINDS: Final = (
    ("binary", BLUE),
    ("ternary", ORANGE),
    ("quaternary", GREEN),
    ("quinary", PURPLE),
    ("more components", GREY),
)
"""Names and colours of compounds by their number of end members, from two."""


def figure_files(
    candidates: pd.DataFrame, rounds: Sequence[Mapping[str, Any]], system: System | None
) -> dict[str, bytes]:
    """Return all figures as the contents of the files NAME.png and NAME.svg.

    Parameters
    ----------
    candidates, rounds
        As for `draw_figures`.
    system
        What `make_system` makes of these tables.
    """
    drawn = _figures(candidates, rounds, system)
    for figure in drawn.values():
        fix_layout(figure)
    return {
        f"{name}.{kind}": render(figure, kind)
        for name, figure in drawn.items()
        for kind in ("png", "svg")
    }


def draw_figures(
    candidates: pd.DataFrame, hull: pd.DataFrame, rounds: Sequence[Mapping[str, Any]]
) -> dict[str, Figure]:
    """Draw all figures that a campaign's tables have the numbers for.

    Parameters
    ----------
    candidates
        Columns of candidates.parquet; energies eV/atom.
    hull
        Columns of hull.csv.
    rounds
        One mapping per round: round, oracle_calls, n_vertices, hull_change, near_hull_error, rmse
        (eV/atom, None where unknown), missing (a probability).

    Returns
    -------
    dict
        Figures by name: "hull", "faces" (four or more end members), "phases" (three or more),
        "learning", "predictions".
    """
    return _figures(candidates, rounds, make_system(candidates, hull))


def _figures(
    candidates: pd.DataFrame, rounds: Sequence[Mapping[str, Any]], system: System | None
) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    with figure_style():
        if system is not None:
            figures |= _hull_figures(system)
        if len(rounds) > 1:
            figures["learning"] = learning_figure(rounds)
        if {"predicted_energy", "oracle_energy"} <= set(candidates.columns):
            both = candidates[["predicted_energy", "oracle_energy"]].notna().all(axis=1)
            if both.sum() > 2:
                figures["predictions"] = predictions_figure(candidates[both])
    return figures


def _hull_figures(system: System) -> dict[str, Figure]:
    n_members = len(system.names)
    if n_members == 2:
        return {"hull": binary_hull_figure(system)}
    figures = {}
    if n_members == 3:
        figures["hull"] = ternary_hull_figure(system)
    elif n_members > 3:
        figures["hull"] = pairs_figure(system)
        if n_members < 6:
            figures["faces"] = faces_figure(system)
    if np.isfinite(system.stabilities).any():
        figures["phases"] = phases_figure(system)
    return figures


def binary_hull_figure(system: System) -> Figure:
    """Draw formation energies over composition, and the hull, of two end members."""
    with figure_style():
        figure = new_figure(6.4, 4.4)
        axes = figure.add_subplot()
        draw_binary(axes, system)
        axes.set_ylabel(f"formation energy ({_energy_unit(system)})")
        axes.set_xlabel(system.axis)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, handletextpad=0.3)
        label_binary(axes, system)
    return figure


def _energy_unit(system: System) -> str:
    return "meV/atom" if system.unit == "atom" else f"meV per {formula_text(system.unit)}"


def ternary_hull_figure(system: System) -> Figure:
    """Draw the triangle of compositions of three end members, with the tie lines."""
    with figure_style():
        figure = new_figure(6.6, 5.6)
        axes = figure.add_subplot()
        norm = above_norm(system)
        shown = draw_ternary(axes, system, norm)
        if shown is not None:
            bar = figure.colorbar(shown, ax=axes, shrink=0.6, aspect=25, pad=0.02, extend="max")
            bar.set_label("lowest energy above hull (meV/atom)")
            bar.outline.set_linewidth(0.6)
        label_ternary(axes, system)
    return figure


def pairs_figure(system: System) -> Figure:
    """Draw the hulls of all pairs of four or more end members."""
    with figure_style():
        pairs = list(itertools.combinations(range(len(system.names)), 2))
        columns = 3 if len(pairs) < 10 else 4
        rows = math.ceil(len(pairs) / columns)
        figure = new_figure(7.6 if columns == 3 else 9.0, 2.2 * rows + 0.4)
        # Each with its own scale: a weak binary would be a flat line on that of a strong one.
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, pair in itertools.zip_longest(grid.flat, pairs):
            if pair is None:
                axes.set_axis_off()
                continue
            face = system.face(pair)
            draw_binary(axes, face, small=True)
            label_binary(axes, face, small=True)
        figure.supylabel(f"formation energy ({_energy_unit(system)})", fontsize=9)
        shown: dict[str, Artist] = {}
        for axes in grid.flat:
            handles, labels = axes.get_legend_handles_labels()
            shown |= dict(zip(labels, handles, strict=True))
        figure.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=len(shown))
    return figure


def faces_figure(system: System) -> Figure:
    """Draw the triangles of all threes of four or more end members."""
    with figure_style():
        faces = list(itertools.combinations(range(len(system.names)), 3))
        columns = 2 if len(faces) == 4 else 4
        rows = math.ceil(len(faces) / columns)
        side = 3.2 if columns == 2 else 2.1
        figure = new_figure(side * columns + 0.9, 0.95 * side * rows)
        grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.12})
        norm = above_norm(system)
        shown = None
        for axes, face in itertools.zip_longest(grid.flat, faces):
            if face is None:
                axes.set_axis_off()
                continue
            shown = draw_ternary(axes, system.face(face), norm, small=True) or shown
        if shown is not None:
            bar = figure.colorbar(
                shown, ax=grid.ravel().tolist(), shrink=0.6, aspect=30, extend="max"
            )
            bar.set_label("lowest energy above hull (meV/atom)")
    return figure


def phases_figure(system: System) -> Figure:
    """Draw formation energy and stability of the stable compounds as bars."""
    with figure_style():
        inner = np.flatnonzero(np.isfinite(system.stabilities))
        chosen = inner[np.argsort(-system.stabilities[inner], kind="stable")][:MAX_BARS]
        chosen = chosen[np.argsort(system.stable.formation[chosen], kind="stable")]
        n_members = (system.stable.fractions[chosen] > 1e-6).sum(axis=1)
        kinds = np.minimum(n_members - 2, len(_KINDS) - 1)
        colours = [_KINDS[kind][1] for kind in kinds]
        figure = new_figure(6.4, 1.1 + 0.2 * len(chosen))
        left, right = figure.subplots(1, 2, sharey=True)
        rows = np.arange(len(chosen))
        left.barh(rows, system.stable.formation[chosen], color=colours, height=0.7)
        right.barh(rows, system.stabilities[chosen], color=colours, height=0.7)
        left.set_yticks(rows, [formula_text(system.formulas[i]) for i in chosen])
        left.set_ylim(len(chosen) - 0.4, -0.6)
        left.invert_xaxis()
        left.set_xlabel("formation energy (meV/atom)")
        right.set_xlabel("gain over competing phases (meV/atom)")
        right.tick_params(left=False)
        if len(chosen) < len(inner):
            left.set_title(f"the {len(chosen)} most stable of {len(inner)}", loc="left")
        for axes in (left, right):
            axes.grid(axis="x", color=RULE, linewidth=0.6)
            axes.set_axisbelow(True)
        handles = [Patch(color=_KINDS[k][1], label=_KINDS[k][0]) for k in np.unique(kinds)]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def learning_figure(rounds: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw how hull, errors and what may be missing change with the oracle's calculations."""
    with figure_style():
        figure = new_figure(7.0, 4.6)
        grid = figure.subplots(2, 2, sharex=True)
        calls = _values(rounds, "oracle_calls")
        fit, near = (MEV * _values(rounds, key) for key in ("rmse", "near_hull_error"))
        missing = 100.0 * _values(rounds, "missing")
        _curves(grid[0, 0], calls, {"": _values(rounds, "n_vertices")}, (BLUE,))
        _curves(grid[0, 1], calls, {"": MEV * _values(rounds, "hull_change")}, (VERMILLION,))
        errors = {"of checked predictions": near, "of the fit": fit}
        _curves(grid[1, 0], calls, errors, (ORANGE, GREY))
        _curves(grid[1, 1], calls, {"": missing}, (GREEN,))
        grid[0, 0].set_ylabel("stable structures")
        grid[0, 0].yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        grid[0, 1].set_ylabel("hull moved by (meV/atom)")
        grid[1, 0].set_ylabel("r.m.s. error (meV/atom)")
        grid[1, 1].set_ylabel("chance to miss something (%)")
        for axes in grid[1]:
            axes.set_xlabel("oracle calculations")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    return figure


def _values(rounds: Sequence[Mapping[str, Any]], key: str) -> Floats:
    """Return one number per round, NaN where there is none."""
    values = [row.get(key) for row in rounds]
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _curves(
    axes: Axes, calls: Floats, curves: Mapping[str, Floats], colours: Sequence[str]
) -> None:
    """Draw named curves; rounds without a value are bridged.

    Of rounds after equally many calculations the last one is shown.
    """
    highest = 0.0
    for (name, values), colour, marker in zip(curves.items(), colours, "os", strict=False):
        known = list({calls[k]: k for k in np.flatnonzero(np.isfinite(values))}.values())
        if known:
            axes.plot(
                calls[known],
                values[known],
                marker,
                linestyle="-",
                markersize=4,
                linewidth=1.4,
                color=colour,
                label=name,
                clip_on=False,
            )
            highest = max(highest, float(values[known].max()))
    axes.set_ylim(0, 1.1 * highest if highest > 0 else 1)
    axes.grid(color=RULE, linewidth=0.6)
    if not axes.lines:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color=GREY)
    elif len(curves) > 1:
        axes.legend(loc="best")


def predictions_figure(table: pd.DataFrame) -> Figure:
    """Draw errors of the predictions over the energy above the hull.

    Parameters
    ----------
    table
        Candidates with both a predicted and an oracle energy, eV/atom.
    """
    with figure_style():
        figure = new_figure(6.4, 3.2)
        axes = figure.add_subplot()
        error = MEV * (table["predicted_energy"] - table["oracle_energy"]).to_numpy(dtype=float)
        above = MEV * table["energy_above_hull"].to_numpy(dtype=float)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.scatter(above, error, s=16, color=BLUE, alpha=0.7, linewidths=0, rasterized=True)
        axes.set_xlabel("energy above hull (meV/atom)")
        axes.set_ylabel("predicted - oracle (meV/atom)")
        size = float(np.sqrt(np.mean(error**2)))
        axes.set_title(f"{len(error)} computed structures, r.m.s. error {size:.2f} meV/atom")
        axes.set_ylim(-1.15 * np.abs(error).max() - 1e-3, 1.15 * np.abs(error).max() + 1e-3)
        axes.grid(color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure


__all__ = [
    "binary_hull_figure",
    "draw_figures",
    "faces_figure",
    "figure_files",
    "learning_figure",
    "pairs_figure",
    "phases_figure",
    "predictions_figure",
    "ternary_hull_figure",
]
