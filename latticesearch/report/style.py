"""How figures look, and how they become bytes."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
GREEN: Final = "#009E73"
VERMILLION: Final = "#D55E00"
PURPLE: Final = "#AA4499"
INK: Final = "#222222"
GREY: Final = "#8A8A8A"
PALE: Final = "#B9BFC9"
RULE: Final = "#E4E6EA"
"""Okabe & Ito's colours, which people with any kind of colour vision tell apart, and greys."""

DPI: Final = 200
"""Of PNG files, and of point clouds inside SVG files."""

_SETTINGS: Final[Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures are the same everywhere
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "latticesearch",  # equal figures give equal files
}

_SUBSCRIPTS: Final = {ord("0") + n: chr(0x2080 + n) for n in range(10)}

_FORMULA: Final = re.compile(r"(?:[A-Z][a-z]?\d*)+")


def figure_style() -> AbstractContextManager[None]:
    """Return the context in which figures are drawn and rendered."""
    return mpl.rc_context(_SETTINGS)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, inches, that needs no screen."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def fix_layout(figure: Figure) -> None:
    """Arrange a figure now, so that no file of it arranges it anew (twice each)."""
    with figure_style():
        figure.draw_without_rendering()
    # None, not "none": for a place holder, too, each file would be drawn twice.
    figure.set_layout_engine(None)


def render(figure: Figure, kind: str) -> bytes:
    """Return a figure as the bytes of a file, `kind` "png" or "svg"."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with figure_style():
        figure.savefig(buffer, format=kind, dpi=DPI, facecolor="white", metadata=metadata)
    return buffer.getvalue()


def formula_text(formula: str) -> str:
    """Return a formula with subscripts, e.g. "Mo3Ta" as "Mo\u2083Ta".

    The digits are letters of the font: typeset as mathematics, every formula would be parsed anew
    for each file.
    """
    if not _FORMULA.fullmatch(formula):
        return formula.replace("$", r"\$")
    return formula.translate(_SUBSCRIPTS)
