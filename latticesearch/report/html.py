"""The report of a campaign: one HTML file that needs no other."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from latticesearch.report.figures import draw_figures
from latticesearch.report.style import fix_layout, render
from latticesearch.report.tables import duration, is_stable, mev, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

MAX_ROWS: Final = 200
"""Rows of a table in the page; the files of the run directory hold all."""

CAPTIONS: Final = {
    "hull": "Formation energies relative to the end members. Lines join phases in equilibrium.",
    "faces": "The triangles of all threes of end members, with the structures that lie in them.",
    "phases": (
        "Formation energies of the stable compounds, and how far each lies below the best "
        "mixture of the other stable phases: its gain in the phase diagram, never less than its "
        "depth in the table, for which unstable structures count, too."
    ),
    "learning": "Progress with the number of oracle calculations, one point per round.",
    "predictions": (
        "Errors of the predicted energies of structures the oracle computed. The last potential "
        "was trained on most of them; the error of checked predictions, above, is the honest one."
    ),
}
"""What stands below each figure."""

DEPTH_NOTE: Final = (
    "Depth: how far a structure lies below the hull of all other computed structures, which is "
    "little where another one could take its place; pure elements have none."
)
"""What stands below the table of stable structures."""

TRIANGLE_CAPTION: Final = (
    "Compositions of all candidates, coloured by the lowest energy above the hull found at each; "
    "red: stable, the most stable are named; black lines join phases in equilibrium; grey lines "
    "are 25 % apart."
)


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, unit, and how its cells look."""

    title: str
    unit: str = ""
    kind: str = ""
    """Class of the cells: "number", "long", "key", or nothing."""


def write_report(
    candidates: pd.DataFrame,
    hull: pd.DataFrame,
    summary: Mapping[str, Any],
    rounds: Sequence[Mapping[str, Any]],
    failures: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
) -> tuple[str, dict[str, bytes]]:
    """Draw the figures and write the page of a campaign.

    Parameters
    ----------
    candidates
        Columns of candidates.parquet; energies eV/atom.
    hull
        Columns of hull.csv.
    summary
        name, stable, candidates, oracle_calls, rounds, failures, stop, seconds.
    rounds
        One mapping per round: round, oracle_calls, n_vertices, hull_change, near_hull_error, rmse
        (eV/atom, None where unknown), max_grade.
    failures
        One mapping per structure without an energy: key, formula, error, attempts.
    settings
        The resolved settings, sections of values.

    Returns
    -------
    html
        The page, with its figures inside.
    figures
        Contents of the files NAME.png and NAME.svg.
    """
    drawn = draw_figures(candidates, hull, rounds)
    for figure in drawn.values():
        fix_layout(figure)
    files = {
        f"{name}.{kind}": render(figure, kind)
        for name, figure in drawn.items()
        for kind in ("png", "svg")
    }
    pictures = {name[:-4]: data for name, data in files.items() if name.endswith(".svg")}
    return report_html(hull, summary, rounds, failures, settings, pictures), files


def report_html(
    hull: pd.DataFrame,
    summary: Mapping[str, Any],
    rounds: Sequence[Mapping[str, Any]],
    failures: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    pictures: Mapping[str, bytes],
) -> str:
    """Return the page; arguments as in `write_report`, `pictures` SVG files by name."""
    name = escape(text_of(summary.get("name")) or "campaign")
    style = resources.files("latticesearch.report").joinpath("report.css").read_text("utf-8")
    stable = hull[is_stable(hull)]
    near = hull[~is_stable(hull)]
    triangle = sum(column.startswith("x_") for column in hull.columns) == 3
    parts = [
        f"<h1>{name}</h1>",
        _stop_line(summary),
        _cards(summary),
        _section("Stable structures", _picture("hull", pictures, triangle=triangle), _hull(stable)),
        _section("Compounds", _picture("phases", pictures), _picture("faces", pictures)),
        _section(f"Within reach of the hull ({len(near)})", _hull(near) if len(near) else ""),
        _section("Course of the search", _picture("learning", pictures), _rounds(rounds)),
        _section("Predictions", _picture("predictions", pictures)),
        _section(f"Structures without an energy ({len(failures)})", _failures(failures)),
        _section("Settings", _settings(settings)),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name} - latticesearch</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _section(title: str, *contents: str) -> str:
    """Return a heading with contents, nothing if there are none."""
    inner = "\n".join(content for content in contents if content)
    return f"<h2>{escape(title)}</h2>\n{inner}" if inner else ""


def _stop_line(summary: Mapping[str, Any]) -> str:
    stop = text_of(summary.get("stop"))
    return f'<p class="quiet">Stopped: {escape(stop)}.</p>' if stop else ""


def _cards(summary: Mapping[str, Any]) -> str:
    """Return the counts of the campaign as a row of cards."""
    cards = []
    for key, title in (
        ("stable", "stable structures"),
        ("candidates", "candidates"),
        ("oracle_calls", "oracle calculations"),
        ("rounds", "rounds"),
        ("failures", "without an energy"),
        ("near_hull_error", "near-hull error (meV/atom)"),
        ("seconds", "wall time"),
    ):
        value = summary.get(key)
        if value is None:
            continue
        text = text_of(value)
        if key == "near_hull_error":
            text = mev(float(value), 2)
        elif key == "seconds":
            text = duration(float(value))
        warn = ' class="warn"' if key == "failures" and value else ""
        cards.append(f"<li{warn}><b>{escape(text)}</b><span>{title}</span></li>")
    return f'<ul class="cards">{"".join(cards)}</ul>'


def _picture(name: str, pictures: Mapping[str, bytes], *, triangle: bool = False) -> str:
    """Return a figure inside the page, nothing where there is none."""
    if name not in pictures:
        return ""
    caption = escape(TRIANGLE_CAPTION if triangle else CAPTIONS.get(name, ""))
    # As an image its identifiers cannot collide with those of the other figures.
    data = base64.b64encode(pictures[name]).decode("ascii")
    return (
        f'<figure><img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _hull(table: pd.DataFrame) -> str:
    """Return the table of stable or nearly stable structures."""
    fractions = [column for column in table.columns if column.startswith("x_")]
    has_depth = "depth" in table.columns and bool(np.isfinite(table["depth"]).any())
    columns = [
        Column("Formula"),
        Column("Space group"),
        Column("Atoms", "", "number"),
        Column("Formation energy", "meV/atom", "number"),
        Column("Above hull", "meV/atom", "number"),
        *([Column("Depth", "meV/atom", "number")] if has_depth else []),
        *(Column(name.removeprefix("x_"), "fraction", "number") for name in fractions),
        Column("Structure"),
    ]
    rows = [
        [
            formula_html(text_of(row["formula"])),
            escape(text_of(row.get("space_group"))),
            escape(text_of(row["n_atoms"])),
            mev(row["formation_energy"], 2),
            mev(row["energy_above_hull"], 2),
            *([mev(row["depth"], 2)] if has_depth else []),
            *(f"{row[name]:.4g}" for name in fractions),
            _link(text_of(row.get("cif")), text_of(row.get("key"))),
        ]
        for row in table.head(MAX_ROWS).to_dict("records")
    ]
    note = f'<p class="quiet">{DEPTH_NOTE}</p>' if has_depth else ""
    return _table(columns, rows, len(table)) + note


def _link(file: str, key: str) -> str:
    """Return a link to a structure's file, or its key where there is no file."""
    if file:
        return f'<a href="{escape(file)}">{escape(file.rsplit("/", 1)[-1])}</a>'
    return f"<code>{escape(key)}</code>"


def _rounds(rounds: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of rounds."""
    columns = [
        Column(title, unit, "number")
        for title, unit in (
            ("Round", ""),
            ("Oracle calculations", ""),
            ("Stable", ""),
            ("Hull moved", "meV/atom"),
            ("Fit error", "meV/atom"),
            ("Checked error", "meV/atom"),
            ("Largest grade", ""),
        )
    ]
    rows = [
        [
            *(escape(text_of(row.get(key))) for key in ("round", "oracle_calls", "n_vertices")),
            *(_mev(row.get(key)) for key in ("hull_change", "rmse", "near_hull_error")),
            "" if row.get("max_grade") is None else f"{row['max_grade']:.3g}",
        ]
        for row in rounds
    ]
    return _table(columns, rows, len(rows)) if rows else ""


def _mev(value: float | None) -> str:
    return "" if value is None else mev(float(value), 2)


def _failures(failures: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of failures, or the good news."""
    if not failures:
        return "<p>Every structure that was asked for has an energy.</p>"
    columns = [
        Column("Formula"),
        Column("Reason", "", "long"),
        Column("Attempts", "", "number"),
        Column("Key"),
    ]
    rows = [
        [
            formula_html(text_of(row.get("formula"))),
            escape(text_of(row.get("error"))),
            escape(text_of(row.get("attempts"))),
            f"<code>{escape(text_of(row.get('key')))}</code>",
        ]
        for row in failures[:MAX_ROWS]
    ]
    return _table(columns, rows, len(failures))


def _settings(settings: Mapping[str, Any]) -> str:
    """Return the settings as one table per section."""
    if not settings:
        return ""
    rows = [
        [f"<code>{escape(key)}</code>", f"<code>{escape(value)}</code>"]
        for key, value in _flat(settings)
    ]
    table = _table([Column("Key"), Column("Value", "", "long")], rows, len(rows))
    return f"<details><summary>All values, defaults included</summary>{table}</details>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yield dotted names and values of nested settings."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, text_of(value)


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]], total: int) -> str:
    """Return a table of cells that are HTML already."""
    if not rows:
        return "<p>None.</p>"
    head = "".join(
        f"<th{_class(column)}>{escape(column.title)}<small>{escape(column.unit)}</small></th>"
        for column in columns
    )
    body = "\n".join(
        "<tr>"
        + "".join(f"<td{_class(c)}>{cell}</td>" for c, cell in zip(columns, row, strict=True))
        + "</tr>"
        for row in rows
    )
    more = total - len(rows)
    note = f'<p class="quiet">{more} more in the files of the run directory.</p>' if more else ""
    table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>{note}'


def _class(column: Column) -> str:
    return f' class="{column.kind}"' if column.kind else ""


def formula_html(formula: str) -> str:
    """Return a formula with subscripts, escaped, e.g. "Mo3Ta" as "Mo<sub>3</sub>Ta"."""
    return re.sub(r"(?<=[A-Za-z])(\d+)", r"<sub>\1</sub>", escape(formula))
