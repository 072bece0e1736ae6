"""The figure of a convergence test, and its table as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.ticker import MaxNLocator

from latticesearch.report.style import BLUE, GREY, ORANGE, figure_style, formula_text, new_figure
from latticesearch.report.style import render as rendered
from latticesearch.report.tables import MEV

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SMALLEST: Final = 0.01
"""meV/atom: the lower end of the logarithmic axis; smaller errors stand there."""
TITLES: Final = {"cutoff": "Cutoff (eV)", "rgkmax": "R·K_max", "kspacing": "Spacing (1/Å)"}


def convergence_png(table: pd.DataFrame, element: str, compound: str, basis_name: str) -> bytes:
    """Return the figure of errors over cutoff and spacing of k-points, as a PNG file.

    Parameters
    ----------
    table
        As of a convergence test: varied, value, is_campaign, element_error, formation_error
        (eV/atom).
    element, compound
        Formulas.
    basis_name
        "cutoff" or "rgkmax".
    """
    with figure_style():
        figure = new_figure(7.0, 3.0)
        axes = figure.subplots(1, 2, sharey=True)
        for axis, varied, name in zip(
            axes, ("basis", "kspacing"), (basis_name, "kspacing"), strict=True
        ):
            _draw(axis, table[table["varied"] == varied], element, compound)
            axis.set_xlabel(TITLES[name])
        axes[1].invert_xaxis()
        axes[0].set_ylabel("Distance from the finest (meV/atom)")
        axes[0].legend()
        return rendered(figure, "png")


def _draw(axis: Axes, rows: pd.DataFrame, element: str, compound: str) -> None:
    labels = {
        "element": (f"energy of {formula_text(element)}", GREY),
        "formation": (f"formation energy of {formula_text(compound)}", BLUE),
    }
    for name, (label, colour) in labels.items():
        # The finest is the zero of the others, and has no place on a logarithmic axis.
        errors = np.maximum(MEV * rows[f"{name}_error"].abs().to_numpy()[:-1], SMALLEST)
        axis.plot(rows["value"].to_numpy()[:-1], errors, "o-", color=colour, label=label)
    for value in rows.loc[rows["is_campaign"], "value"]:
        axis.axvline(value, color=ORANGE, lw=1, label="the campaign")
    axis.axhline(1.0, color=GREY, lw=0.6, ls=":")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(MaxNLocator(5))


def convergence_text(table: pd.DataFrame, element: str, compound: str, basis_name: str) -> str:
    """Return the table as lines of text, energies in meV/atom."""
    names = {"basis": basis_name, "kspacing": "kspacing"}
    lines = []
    for varied, name in names.items():
        rows = table[table["varied"] == varied]
        titles = (f"error of {element}", f"E_form {compound}")
        lines += [
            f"{name:>10}  {titles[0]:>14}  {titles[1]:>14}  {'error':>8}  {'seconds':>8}",
            f"{'':10}  {'meV/atom':>14}  {'meV/atom':>14}  {'meV/atom':>8}",
        ]
        for row in rows.to_dict("records"):
            mark = "  the campaign" if row["is_campaign"] else ""
            if row["error"]:
                mark += f"  failed: {row['error'][:60]}"
            lines.append(
                f"{row['value']:10g}  {MEV * row['element_error']:14.2f}  "
                f"{MEV * row['formation_energy']:14.2f}  {MEV * row['formation_error']:8.2f}  "
                f"{row['seconds']:8.1f}{mark}"
            )
        lines.append("")
    return "\n".join(lines[:-1])
