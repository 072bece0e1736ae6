"""The report of a campaign: one HTML file that needs no other."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from latticesearch.report.document import document
from latticesearch.report.page_data import page_data
from latticesearch.report.structure_data import decompositions, structure_columns
from latticesearch.report.system import make_system
from latticesearch.report.tables import MEV, duration, is_stable, mev, text_of
from latticesearch.report.verdicts import (
    END_MEMBER,
    MEANINGS,
    error_of,
    open_candidates,
    verdicts,
)
from latticesearch.report.voltages import average_voltages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from latticesearch.report.details import Details
    from latticesearch.report.structure_data import Structures
    from latticesearch.report.system import System
    from latticesearch.report.voltages import Voltages

MAX_ROWS: Final = 200
"""Rows of a table in the page that no script sorts; the files of the run directory hold all."""

MAX_OPEN: Final = 30
"""Candidates that may be stable on paper; the others are in candidates.parquet."""

BEST: Final = 10
"""Structures shown where none but end members is stable."""

CAPTIONS: Final = {
    "hull": "Formation energies over composition. Lines join phases in equilibrium.",
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
    "little where another one could take its place; end members have none."
)
"""What stands below the tables of stable structures."""

TRIANGLE_CAPTION: Final = (
    "Compositions of all candidates, coloured by the lowest energy above the hull found at each; "
    "red: stable, the most stable are named; black lines join phases in equilibrium; grey lines "
    "are 25 % apart."
)

PSEUDO_NOTE: Final = (
    " The end members are compounds: the diagram is a section through that of the elements, and "
    "what is stable in it may fall into phases outside of it."
)


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, unit, and how its cells look."""

    title: str
    unit: str = ""
    kind: str = ""
    """Class of the cells: "number", "long", "key", or nothing."""


@dataclass(frozen=True, eq=False)
class Found:
    """What the sections of the page are about; parameters as of `write_report`.

    Parameters
    ----------
    opened
        Candidates that are not computed and may be stable.
    error
        eV/atom, from `error_of`.
    system
        The diagram; None where there is none.
    voltages
        None where no ion is taken out.
    pictures
        SVG files by name, for paper and for readers without scripts.
    """

    candidates: pd.DataFrame
    hull: pd.DataFrame
    summary: Mapping[str, Any]
    rounds: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    opened: pd.DataFrame
    error: float
    system: System | None
    voltages: Voltages | None
    pictures: Mapping[str, bytes]
    details: Details | None = None


def write_report(
    candidates: pd.DataFrame,
    hull: pd.DataFrame,
    summary: Mapping[str, Any],
    rounds: Sequence[Mapping[str, Any]],
    failures: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    *,
    structures: Structures | None = None,
    details: Details | None = None,
) -> tuple[str, dict[str, bytes]]:
    """Draw the figures and write the page of a campaign.

    Parameters
    ----------
    candidates
        Columns of candidates.parquet; energies eV/atom. `p_stable` and `next` are shown where
        they are there.
    hull
        Columns of hull.csv, best with those of `describe_hull`.
    summary
        name, stable, candidates, oracle_calls, rounds, failures, stop, near_hull_error, seconds;
        zero: what formation energies refer to.
    rounds
        One mapping per round: round, oracle_calls, n_vertices, hull_change, near_hull_error, rmse
        (eV/atom, None where unknown), max_grade.
    failures
        One mapping per structure without an energy: key, formula, error, attempts.
    settings
        The resolved settings, sections of values.
    structures
        The structures behind the keys; without them the page shows none.
    details
        How the energies were computed, for a paper.

    Returns
    -------
    html
        The page, which needs no other file and no network.
    figures
        Contents of the files NAME.png and NAME.svg.
    """
    # Matplotlib takes a while to import, and most verbs draw nothing.
    from latticesearch.report.figures import figure_files

    system = make_system(candidates, hull)
    files = figure_files(candidates, rounds, system)
    error = error_of(summary, settings)
    if "verdict" not in hull:
        hull = hull.assign(verdict=verdicts(hull, error))
    found = Found(
        *(candidates, hull, summary, rounds, failures, settings),
        opened=open_candidates(candidates, error),
        error=error,
        system=system,
        voltages=average_voltages(candidates, hull, settings),
        pictures={name[:-4]: data for name, data in files.items() if name.endswith(".svg")},
        details=details,
    )
    name = text_of(summary.get("name")) or "campaign"
    return document(name, _body(name, found), _data(found, structures)), files


def describe_hull(
    candidates: pd.DataFrame,
    hull: pd.DataFrame,
    summary: Mapping[str, Any],
    settings: Mapping[str, Any],
    structures: Structures,
    before: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return a hull table with all that is known of its structures; done once, at the end.

    Parameters
    ----------
    candidates, hull, summary, settings, structures
        As for `write_report`.
    before
        An earlier table: prototypes found once are not searched again.

    Returns
    -------
    DataFrame
        `hull` with energy (eV/atom), verdict, decomposition, and what `structure_columns` says.
    """
    described = structure_columns(hull, structures, before)
    more: dict[str, Any] = {
        "verdict": verdicts(hull, error_of(summary, settings)),
        "decomposition": decompositions(hull),
    }
    if "energy" not in hull and {"key", "energy"} <= set(candidates.columns):
        energies = candidates.drop_duplicates("key").set_index("key")["energy"]
        more["energy"] = hull["key"].map(energies)
    return hull.drop(columns=described.columns, errors="ignore").join(described).assign(**more)


def _data(found: Found, structures: Structures | None) -> dict[str, Any]:
    """Return what the scripts of the page work with."""
    data = page_data(found.candidates, found.hull, found.system, found.opened.index, structures)
    return data | {
        "error": round(MEV * found.error, 3),
        "zero": text_of(found.summary.get("zero")) or "end members",
        "rounds": [_curve_point(row) for row in found.rounds],
        "voltages": None if found.voltages is None else asdict(found.voltages),
    }


def _curve_point(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers of a round that curves show, energies in meV/atom."""
    scales = {"hull_change": MEV, "near_hull_error": MEV, "rmse": MEV}
    point = {}
    for key in ("oracle_calls", "n_vertices", "max_grade", *scales):
        value = row.get(key)
        good = value is not None and np.isfinite(value)
        point[key] = float(value) * scales.get(key, 1.0) if good and value is not None else None
    return point


def _body(name: str, found: Found) -> str:
    """Return the sections of the page, those that have something to say."""
    n_open = len(found.opened)
    parts = [
        f"<h1>{escape(name)}</h1>",
        _stop_line(found.summary),
        _cards(found.summary, n_open),
        _section("Phase diagram", _diagram(found)),
        _section("Structures", _structures(found)),
        _section("What to trust", _trust(found)),
        _section("The next calculations", _next(found.candidates)),
        _section("Voltage", _voltage(found.voltages)),
        _section("Compounds", _picture("phases", found.pictures), kind="paper"),
        _section("Course of the search", _course(found)),
        _section("Predictions", _predictions(found)),
        _section(
            f"Structures without an energy ({len(found.failures)})", _failures(found.failures)
        ),
        _section("Computational details", found.details.html() if found.details else ""),
        _section("Settings", _settings(found.settings)),
    ]
    return "\n".join(part for part in parts if part)


def _diagram(found: Found) -> str:
    """Return the place of the interactive diagram, and what stands for it on paper."""
    n_ends = 0 if found.system is None else len(found.system.names)
    caption = TRIANGLE_CAPTION if n_ends == 3 else CAPTIONS["hull"]
    note = PSEUDO_NOTE if found.system is not None and found.system.pseudo else ""
    place = (
        '<div class="split live"><div><div id="hull-controls" class="controls"></div>'
        '<div id="hull" class="plot"></div><p id="hull-caption" class="quiet small"></p></div>'
        '<aside id="structure" aria-live="polite"></aside></div>'
    )
    papers = _picture("hull", found.pictures, caption + note) + _picture("faces", found.pictures)
    quiet = f'<p class="quiet live">{escape(note.strip())}</p>' if note else ""
    return place + quiet + papers


def _structures(found: Found) -> str:
    """Return the place of the table that sorts, and tables for readers without scripts."""
    stable, near = found.hull[is_stable(found.hull)], found.hull[~is_stable(found.hull)]
    fallback = _hull(stable)
    if len(near):
        fallback += f"<h3>Within reach of the hull ({len(near)})</h3>{_hull(near)}"
    has_depth = "depth" in stable and bool(np.isfinite(stable["depth"]).any())
    note = f'<p class="quiet small">{DEPTH_NOTE}</p>' if has_depth else ""
    return (
        f'<div id="structures" class="live"></div><div class="still">{fallback}</div>'
        f"{note}{_best(found)}"
    )


def _best(found: Found) -> str:
    """Return the lowest structures where the hull has end members only, as in a narrow window."""
    verdict = found.hull["verdict"]
    if not (verdict == END_MEMBER).any() or (verdict != END_MEMBER).any():
        return ""
    others = found.candidates[~found.candidates["key"].isin(found.hull["key"])]
    if "oracle_energy" in others:
        others = others[others["oracle_energy"].notna()]
    if others.empty:
        return ""
    return (
        "<h3>The best structures that are not stable</h3>"
        "<p>No compound lies on the hull or near it; these lie lowest.</p>"
        f"{_hull(others.nsmallest(BEST, 'energy_above_hull'))}"
    )


def _trust(found: Found) -> str:
    """Return how sure the hull is, and the list of what might change it."""
    if found.hull.empty:
        return ""
    counts = found.hull.loc[is_stable(found.hull), "verdict"].value_counts()
    items = "".join(
        f"<li><b>{counts[name]}</b> {escape(name)}: {escape(meaning)}</li>"
        for name, meaning in MEANINGS.items()
        if name in counts
    )
    limit = f"{MEV * found.error:.2g} meV/atom"
    text = (
        f"<p>Of the stable structures, with an error of {limit} (the larger of the accepted and "
        f"the observed error near the hull):</p><ul>{items}</ul>{_open_line(found, limit)}"
    )
    if found.opened.empty:
        return text
    still = _hull(found.opened, MAX_OPEN)
    return f'{text}<div id="open" class="live"></div><div class="still">{still}</div>'


def _open_line(found: Found, limit: str) -> str:
    n = len(found.opened)
    if n == 0:
        return f"<p>No candidate that was not computed is predicted within {limit} of the hull.</p>"
    noun, verb = ("candidate", "has") if n == 1 else ("candidates", "have")
    return (
        f"<p><b>{n} {noun}</b> that {'was' if n == 1 else 'were'} not computed {verb} a prediction "
        f"within {limit} of the hull, or below it: these may still change it.</p>"
    )


def _next(candidates: pd.DataFrame) -> str:
    """Return the calculations that would come next, where somebody chose them."""
    if "next" not in candidates:
        return ""
    rank = candidates["next"].astype(float).fillna(0.0)
    chosen = candidates.assign(next=rank)[rank > 0].sort_values("next")
    if chosen.empty:
        return ""
    return f'<div id="next" class="live"></div><div class="still">{_hull(chosen)}</div>'


def _voltage(voltages: Voltages | None) -> str:
    """Return the steps of an electrode."""
    if voltages is None or not voltages.steps:
        return ""
    columns = [
        Column("From"),
        Column("To"),
        Column(f"{voltages.ion} per {voltages.unit}", "", "number"),
        Column("Voltage", "V", "number"),
    ]
    rows = [
        [
            formula_html(step.first),
            formula_html(step.second),
            f"{step.ions[0]:.3g} to {step.ions[1]:.3g}",
            f"{step.voltage:.3f}",
        ]
        for step in voltages.steps
    ]
    zero = f"against {voltages.ion} metal"
    if not voltages.absolute:
        zero = (
            f"relative to their mean; oracle.references with the energy of {voltages.ion} metal "
            "makes them absolute"
        )
    note = f'<p class="quiet small">Average voltages between stable structures, {escape(zero)}.</p>'
    return f'<div id="voltage" class="plot low live"></div>{_table(columns, rows, len(rows))}{note}'


def _course(found: Found) -> str:
    """Return the curves and the table of rounds."""
    if not found.rounds:
        return ""
    curves = '<div id="learning" class="grid live"></div>' if len(found.rounds) > 1 else ""
    table = f"<details><summary>All rounds</summary>{_rounds(found.rounds)}</details>"
    return curves + _picture("learning", found.pictures) + table


def _predictions(found: Found) -> str:
    if "predictions" not in found.pictures:
        return ""
    caption = f'<p class="quiet small live">{escape(CAPTIONS["predictions"])}</p>'
    place = f'<div id="predictions" class="plot low live"></div>{caption}'
    return place + _picture("predictions", found.pictures)


def _section(title: str, *contents: str, kind: str = "") -> str:
    """Return a heading with contents, nothing if there are none; `kind` is a class."""
    inner = "\n".join(content for content in contents if content)
    attribute = f' class="{kind}"' if kind else ""
    return f"<section{attribute}><h2>{escape(title)}</h2>\n{inner}</section>" if inner else ""


def _stop_line(summary: Mapping[str, Any]) -> str:
    stop = text_of(summary.get("stop"))
    return f'<p class="quiet">Stopped: {escape(stop)}.</p>' if stop else ""


def _cards(summary: Mapping[str, Any], n_open: int) -> str:
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
    cards.append(f"<li><b>{n_open}</b><span>not computed, but within the error</span></li>")
    return f'<ul class="cards">{"".join(cards)}</ul>'


def _picture(name: str, pictures: Mapping[str, bytes], caption: str = "") -> str:
    """Return a figure for paper and for readers without scripts, nothing where there is none."""
    if name not in pictures:
        return ""
    text = escape(caption or CAPTIONS.get(name, ""))
    # As an image its identifiers cannot collide with those of the other figures.
    data = base64.b64encode(pictures[name]).decode("ascii")
    return (
        f'<figure class="paper"><img alt="{text}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _hull(table: pd.DataFrame, most: int = MAX_ROWS) -> str:
    """Return the table of stable or nearly stable structures, at most so many."""
    words = [name for name in ("prototype", "verdict") if name in table]
    fractions = [column for column in table.columns if column.startswith("x_")]
    has_depth = "depth" in table.columns and bool(np.isfinite(table["depth"]).any())
    has_moment = "moment" in table.columns and bool(table["moment"].notna().any())
    columns = [
        Column("Formula"),
        Column("Space group"),
        Column("Atoms", "", "number"),
        Column("Formation energy", "meV/atom", "number"),
        Column("Above hull", "meV/atom", "number"),
        *([Column("Depth", "meV/atom", "number")] if has_depth else []),
        *([Column("Moment", "µB/atom", "number")] if has_moment else []),
        *(Column(name.removeprefix("x_"), "fraction", "number") for name in fractions),
        *(Column(name.capitalize()) for name in words),
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
            *([f"{row['moment']:.2f}"] if has_moment else []),
            *(f"{row[name]:.4g}" for name in fractions),
            *(escape(text_of(row[name])) for name in words),
            _link(text_of(row.get("cif")), text_of(row.get("key"))),
        ]
        for row in table.head(most).to_dict("records")
    ]
    return _table(columns, rows, len(table))


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
