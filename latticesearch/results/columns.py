"""The columns of the tables of a run: names, types, units and meanings, the same for every run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    name
        Its name; ``x_El`` stands for one column per element.
    kind
        "text", "number", "integer" (which may be missing), "flag" or "list".
    unit
        Unit, nothing where there is none.
    meaning
        What it says.
    """

    name: str
    kind: str
    unit: str
    meaning: str


FRACTIONS: Final = "x_El"
PER_ATOM: Final = "eV/atom"

_WHAT = (
    Column("key", "text", "", "canonical key; the name of a competing phase"),
    Column("formula", "text", "", "reduced formula in the order of the species, no vacancies"),
    Column("n_atoms", "integer", "", "atoms of the primitive cell"),
    Column(FRACTIONS, "number", "", "one column per element: atomic fraction"),
)

HULL: Final = (
    *_WHAT,
    Column("stable", "flag", "", "whether it is a vertex of the hull"),
    Column("formation_energy", "number", PER_ATOM, "of the oracle's energy"),
    Column("energy_above_hull", "number", PER_ATOM, "0 on the hull"),
    Column("depth", "number", PER_ATOM, "how far a vertex lies below the hull of all others"),
    Column("energy", "number", PER_ATOM, "the oracle's"),
    Column("total_energy", "number", "eV", "the oracle's, of the primitive cell"),
    Column("volume", "number", "Å³/atom", "of the relaxed structure"),
    Column("decomposition", "text", "", "what it falls into, in fractions of the atoms"),
    Column("verdict", "text", "", "what to trust: robust, within the error, tie"),
    Column("space_group", "text", "", "international symbol, of the ideal structure"),
    Column("prototype", "text", "", "Strukturbericht, else AFLOW label, where there is one"),
    Column("aflow", "text", "", "AFLOW label"),
    Column("pearson", "text", "", "Pearson symbol"),
    *(Column(name, "number", "Å", "of the relaxed conventional cell") for name in ("a", "b", "c")),
    *(
        Column(name, "number", "°", "of the relaxed conventional cell")
        for name in ("alpha", "beta", "gamma")
    ),
    Column("displacement", "number", "Å", "of the atoms from the sites, by relaxation"),
    Column("strain", "number", "", "of the cell's shape, by relaxation"),
    Column("moment", "number", "µB/atom", "mean final magnetic moment, where it is known"),
    Column("largest_moment", "number", "µB", "of the atom that has most"),
    Column("source", "text", "", "where its energy comes from"),
    Column("cif", "text", "", "its file in the run directory; empty where it has none"),
)
"""Of ``Run.hull``: a row per structure with an oracle energy near the hull, the stable ones first.

Columns that a run has not worked out yet are empty.
"""

CANDIDATES: Final = (
    *_WHAT,
    Column("hnf", "list", "", "nine integers: the supercell in units of the parent's vectors"),
    Column("labels", "list", "", "species of each site, an index into the run's species"),
    Column("energy", "number", PER_ATOM, "the best known: the oracle's, else the potential's"),
    Column("total_energy", "number", "eV", "the same, of the primitive cell"),
    Column("formation_energy", "number", PER_ATOM, "of `energy`"),
    Column("energy_above_hull", "number", PER_ATOM, "of `energy`, above the hull of the oracle's"),
    Column("predicted_energy", "number", PER_ATOM, "the potential's"),
    Column("oracle_energy", "number", PER_ATOM, "the oracle's; missing where there is none"),
    Column("volume", "number", "Å³/atom", "relaxed where it was computed, else of the lattice"),
    Column("grade", "number", "", "extrapolation grade; above 2 the potential extrapolates"),
    Column("round", "integer", "", "in which the structure became a candidate"),
    Column("oracle_round", "integer", "", "in which the oracle answered"),
    Column("source", "text", "", "how it became a candidate"),
    Column("energy_source", "text", "", "where `energy` comes from"),
    Column("origin", "text", "", "file or run of an energy from elsewhere"),
)
"""Of ``Run.candidates``: a row per structure that competes."""

ROUNDS: Final = (
    Column("round", "integer", "", "0 is the first training set"),
    Column("time", "text", "", "when it ended, UTC"),
    Column("asked", "integer", "", "structures the oracle was asked about"),
    Column("oracle_calls", "integer", "", "calculations so far, failed ones included"),
    Column("vertex", "integer", "", "asked because the prediction lies below the hull"),
    Column("near_hull", "integer", "", "asked because it lies as close as the error"),
    Column("grade", "integer", "", "asked because it is unlike everything computed"),
    Column("n_vertices", "integer", "", "stable structures"),
    Column("hull_change", "number", PER_ATOM, "largest change of the hull"),
    Column("near_hull_error", "number", PER_ATOM, "error of what was predicted near the hull"),
    Column("max_grade", "number", "", "largest grade near the hull"),
    Column("rmse", "number", PER_ATOM, "error of the fit on what it was fitted to"),
    Column("stop", "text", "", "why the campaign ended with this round"),
)
"""Of ``Run.rounds``: a row per round."""

FAILURES: Final = (
    Column("key", "text", "", "canonical key"),
    Column("formula", "text", "", "as above"),
    Column("status", "text", "", "failed, quarantined, or off the lattice"),
    Column("attempts", "integer", "", "calculations so far"),
    Column("round", "integer", "", "that asked last"),
    Column("seconds", "number", "s", "of the last attempt"),
    Column("error", "text", "", "why it failed"),
)
"""Of ``Run.failures``: a row per structure of which no energy is used."""


def typed(
    table: pd.DataFrame, columns: Sequence[Column], elements: Sequence[str] = ()
) -> pd.DataFrame:
    """Return a table with documented columns of documented types; what else it has comes last.

    Parameters
    ----------
    table
        Any of the columns, whatever their types: a column without values has none in a file.
    columns
        What is documented; what `table` lacks is empty.
    elements
        What ``x_El`` stands for.
    """
    result: dict[str, object] = {}
    for column in columns:
        fractions = [f"x_{symbol}" for symbol in elements]
        for name in fractions if column.name == FRACTIONS else [column.name]:
            result[name] = _column(table, name, column.kind)
    others = [name for name in table.columns if name not in result]
    return pd.DataFrame({**result, **{name: table[name] for name in others}}, index=table.index)


def _column(table: pd.DataFrame, name: str, kind: str) -> pd.Series:
    """Return one column in its type."""
    if name not in table:
        nothing = {"text": "", "flag": False, "number": float("nan")}.get(kind, pd.NA)
        given = pd.Series([nothing] * len(table), index=table.index, dtype="object")
    else:
        given = table[name]
    if kind == "text":
        return given.astype("object").where(given.notna(), "").astype("str")
    if kind == "integer":
        return pd.to_numeric(given).astype("Int64")
    if kind == "number":
        return given.astype("float64")
    return given.astype("bool") if kind == "flag" else given
