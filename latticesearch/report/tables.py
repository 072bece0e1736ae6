"""Tables of text for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

MEV: Final = 1000.0
"""meV per eV."""

STABLE: Final = 1e-9
"""eV/atom: vertices of the hull have 0 exactly; this allows for a file in between."""

_HEADER: Final = ("formula", "space group", "atoms", "E_form", "E_hull", "depth", "file")
_UNITS: Final = ("", "", "", "meV/atom", "meV/atom", "meV/atom", "")
_SHARED: Final = frozenset({"stable", "oracle_calls", "possible"})
_LATTICE: Final = "lattice"
_LEFT: Final = frozenset({"formula", "space group", _LATTICE, "file"})


def hull_table(hull: pd.DataFrame) -> str:
    """Return the stable and nearly stable structures as lines of text.

    Parameters
    ----------
    hull
        Columns of hull.csv; energies eV/atom. A joint hull has the column ``lattice``, too.

    Returns
    -------
    str
        A line of names, a line of units, and one line per structure, energies in meV/atom. The
        depth says how far a stable structure lies below the hull of all others; end members
        have none.
    """
    if hull.empty:
        return "no structure has been computed yet"
    rows = [_HEADER, _UNITS, *(_hull_row(row) for row in hull.to_dict("records"))]
    if "moment" in hull and hull["moment"].notna().any():
        moments = ["moment", "µB/atom", *(_decimal(one) for one in hull["moment"])]
        rows = [(*row[:-1], one, row[-1]) for row, one in zip(rows, moments, strict=True)]
    if _LATTICE in hull:
        lattices = [_LATTICE, "", *map(text_of, hull[_LATTICE])]
        rows = [(*row[:2], name, *row[2:]) for row, name in zip(rows, lattices, strict=True)]
    return _aligned(rows)


END_MEMBERS = "end members"
"""What formation energies are relative to unless something else is said."""


def summary_text(hull: pd.DataFrame, summary: Mapping[str, Any], path: Path | str) -> str:
    """Return what the terminal shows at the end of a campaign.

    Parameters
    ----------
    hull
        Columns of hull.csv; energies eV/atom.
    summary
        name, stable, candidates, possible, oracle_calls, rounds, failures, stop, next (what would
        be computed next: formula, worth in eV/atom), near_hull_error (eV/atom or None), seconds,
        zero (what formation energies are relative to; said unless it is the end members); what is
        missing is left out.
    path
        The run directory.

    Returns
    -------
    str
        The table of stable structures and a few lines of counts.
    """
    stable = hull[is_stable(hull)]
    lines = [hull_table(stable), ""]
    if near := len(hull) - len(stable):
        lines.append(f"{near} more computed structures lie near the hull (hull.csv)")
    zero = summary.get("zero", END_MEMBERS)
    if END_MEMBERS not in zero:
        lines.append(f"formation energies {zero}")
    lines.append(summary_line(summary))
    if summary.get("stop"):
        lines.append(f"stopped: {summary['stop']}")
    if summary.get("next"):
        lines.append(next_line(summary["next"]))
    if summary.get("failures"):
        lines.append(f"{_count(summary['failures'], 'structure')} without an energy (report.html)")
    lines.append(f"results: {path}")
    return "\n".join(lines)


def next_line(following: Sequence[Mapping[str, Any]]) -> str:
    """Return the line about calculations that would come next: formula, worth in eV/atom."""
    names = [f"{one['formula']} ({mev(one['worth'], 2)})" for one in following]
    return (
        f"the next {len(names)} would be, with what each is expected to lower the hull by, "
        f"meV/atom: {', '.join(names)}"
    )


def summary_line(summary: Mapping[str, Any]) -> str:
    """Return one line with the counts of a campaign; `summary` as in `summary_text`."""
    calls, possible = summary.get("oracle_calls"), summary.get("possible")
    if calls is not None and possible is not None:
        share = f"{_count(calls, 'oracle calculation')} out of {_count(possible, 'structure')}"
        rest = summary_line({k: v for k, v in summary.items() if k not in _SHARED})
        return f"{_count(summary['stable'], 'stable structure')}; {share}; {rest}"
    parts = [
        _count(summary[key], noun)
        for key, noun in (
            ("stable", "stable structure"),
            ("candidates", "candidate"),
            ("oracle_calls", "oracle calculation"),
            ("rounds", "round"),
        )
        if summary.get(key) is not None
    ]
    error = summary.get("near_hull_error")
    if error is not None and np.isfinite(error):
        parts.append(f"near-hull error {MEV * error:.1f} meV/atom")
    if summary.get("seconds") is not None:
        parts.append(duration(summary["seconds"]))
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a time for people, e.g. "42 s", "3 min 5 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def is_stable(hull: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows of a hull table make the hull.

    Where the table says so these are its vertices: of what is as low, the smaller cell.
    """
    if "stable" in hull:
        return hull["stable"].astype(bool)
    return hull["energy_above_hull"].abs() <= STABLE


def mev(energy: float, decimals: int = 1) -> str:
    """Return an energy, eV, as text in meV; "-0.0" is written "0.0"."""
    return "" if not np.isfinite(energy) else f"{round(MEV * energy, decimals) + 0.0:.{decimals}f}"


def text_of(value: object) -> str:
    """Return a cell of a table as text, nothing for what is missing."""
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    return "" if missing else str(value)


def _decimal(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"


def _hull_row(row: Mapping[Any, Any]) -> tuple[str, ...]:
    return (
        text_of(row["formula"]),
        text_of(row.get("space_group")),
        text_of(row["n_atoms"]),
        mev(row["formation_energy"]),
        mev(row["energy_above_hull"]),
        mev(row.get("depth", float("nan")), 2),
        text_of(row.get("cif")),
    )


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines with columns of equal width; numbers stand to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = [name in _LEFT for name in rows[0]]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if to_left else cell.rjust(width)
            for cell, width, to_left in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in rows
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
