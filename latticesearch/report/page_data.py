"""What the page knows of a campaign, as JSON: every row that matters, and a sample of the others.

Text from elsewhere (names, messages, file names) enters the page here and nowhere else, and the
page shows it as text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import spglib
from ase.data import atomic_numbers, covalent_radii

from latticesearch.report.prototypes import SYMPREC
from latticesearch.report.system import MAX_ENDS, points_of
from latticesearch.report.tables import MEV, is_stable
from latticesearch.report.verdicts import MEANINGS, not_computed
from latticesearch.storage.cif import cif_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.report.structure_data import Structures
    from latticesearch.report.system import System

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

MAX_FULL: Final = 2000
"""Rows that the page has in full: those of the hull table, what lies nearest among the others."""

MAX_THIN: Final = 3000
"""Of all other rows, points that the diagrams show."""

MAX_STRUCTURES: Final = 2_500_000
"""Characters of structures besides those of the hull table, so that the page stays below 8 MB."""

MAX_FINE: Final = 300
"""Candidates that may be stable and are shown in their conventional cells: spglib takes a while."""

NUMBERS: Final = {
    "energy": 5,
    "grade": 3,
    "p_stable": 3,
    "volume": 3,
    "displacement": 3,
    "strain": 4,
    "moment": 3,
    "largest_moment": 3,
    **dict.fromkeys(("a", "b", "c"), 4),
    **dict.fromkeys(("alpha", "beta", "gamma"), 2),
}
"""Columns of numbers that are passed on, and their decimals."""

ENERGIES: Final = {"formation_energy": "ef", "energy_above_hull": "above", "depth": "depth"}
"""Columns that become meV/atom, and their short names."""

TEXTS: Final = (
    *("key", "formula", "space_group", "prototype", "aflow", "pearson", "decomposition"),
    *("verdict", "lattice", "cif"),
)
"""Columns of text that are passed on."""

KINDS: Final = ("computed", "predicted", "own data", "competing")
"""Where an energy comes from."""

_DIGITS: Final = 2
"""Decimals of energies, meV/atom."""


def page_data(
    candidates: pd.DataFrame,
    hull: pd.DataFrame,
    system: System | None,
    opened: pd.Index,
    structures: Structures | None,
) -> dict[str, Any]:
    """Return what the scripts of the page work with.

    Parameters
    ----------
    candidates
        Columns of candidates.parquet; energies eV/atom.
    hull
        Columns of hull.csv, and those of `structure_columns`, `verdict` and `decomposition`.
    system
        The diagram; None where there is none.
    opened
        Labels of the candidates that are not computed and may be stable.
    structures
        Where structures are; None shows none.
    """
    table, n_hull = _merged(candidates, hull)
    full, thin = _chosen(table, n_hull, opened)
    rows = table.iloc[full]
    pictures = _Pictures(structures, _symbols(hull))
    shown = set(opened)
    fine = set(opened[:MAX_FINE])
    indices = [
        pictures.add(key, of_hull=i < n_hull, fine=i < n_hull or label in fine)
        for i, key, label in zip(full.tolist(), rows["key"], rows["row"], strict=True)
    ]
    return {
        **_diagram(system),
        "elements": [_element(symbol) for symbol in pictures.symbols],
        "rows": {
            **_columns(rows),
            **_places(rows, system),
            "x": rows[_fractions(rows)].to_numpy(dtype=np.float64).round(5).tolist(),
            "structure": indices,
            "inHull": [i < n_hull for i in full.tolist()],
            "open": [label in shown for label in rows["row"]],
        },
        "thin": {**_columns(table.iloc[thin], brief=True), **_places(table.iloc[thin], system)},
        "counts": {
            "candidates": len(candidates),
            "rows": len(full),
            "thin": len(thin),
            "open": len(opened),
        },
        "structures": pictures.found,
        "operations": list(pictures.operations),
        "verdicts": MEANINGS,
    }


def json_text(data: object) -> str:
    """Return JSON that may stand inside a script element: no text in it can end the element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _merged(candidates: pd.DataFrame, hull: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the rows of the hull table, then all other candidates, and the number of the first.

    The column `row` is the label of each candidate, -1 for what is no candidate.
    """
    if "key" not in hull or "key" not in candidates:
        return hull.assign(row=-1, kind="computed", stable=is_stable(hull)), len(hull)
    missing = [name for name in candidates.columns if name not in hull.columns]
    unique = candidates[candidates["key"].notna()].drop_duplicates("key")
    labels = pd.Series(unique.index, index=unique["key"])
    first = hull.join(unique.set_index("key")[missing], on="key")
    first = first.assign(row=hull["key"].map(labels).fillna(-1), kind=_kinds(first, KINDS[0]))
    others = candidates[~candidates["key"].isin(hull["key"].dropna())]
    others = others[np.isfinite(others["formation_energy"].astype(float))]
    others = others.assign(row=others.index, kind=_kinds(others, KINDS[1]))
    table = pd.concat([first.astype(object), others.astype(object)], ignore_index=True)
    stable = np.zeros(len(table), dtype=np.bool_)
    stable[: len(hull)] = is_stable(hull)
    return table.assign(stable=stable), len(hull)


def _kinds(table: pd.DataFrame, default: str) -> list[str]:
    """Return where each energy comes from, one of `KINDS`."""
    sources = table["source"].tolist() if "source" in table else [""] * len(table)
    guessed = np.full(len(table), default)
    if "oracle_energy" in table and default == KINDS[1]:
        guessed = np.where(not_computed(table), KINDS[1], KINDS[0])
    return [s if s in KINDS[2:] else str(g) for s, g in zip(sources, guessed, strict=True)]


def _chosen(table: pd.DataFrame, n_hull: int, opened: pd.Index) -> tuple[Integers, Integers]:
    """Return the rows that the page has in full, and the sample of the others."""
    above = table["energy_above_hull"].to_numpy(dtype=np.float64)
    turn = np.where(table["kind"] == KINDS[1], 4, 3)
    turn[table["row"].isin(opened).to_numpy()] = 2
    if "next" in table:
        turn[(pd.to_numeric(table["next"]).fillna(0) > 0).to_numpy()] = 1
    turn[:n_hull] = 0
    order = np.lexsort((above, turn))
    # The hull table keeps its own order.
    order[:n_hull] = np.arange(n_hull)
    full = order[:MAX_FULL]
    return full, _thinned(table, np.sort(order[MAX_FULL:]))


def _thinned(table: pd.DataFrame, rows: Integers) -> Integers:
    """Return rows that look like all: one per small box of composition and energy."""
    if len(rows) == 0:
        return rows
    columns = _fractions(table)
    part = table.iloc[rows]
    energy = part["formation_energy"].to_numpy(dtype=np.float64)
    above = part["energy_above_hull"].to_numpy(dtype=np.float64)
    scale = max(float(np.ptp(np.quantile(energy, [0.01, 0.9]))), 1e-6) / 60
    boxes = np.rint(
        np.column_stack([100 * part[columns].to_numpy(dtype=np.float64), energy / scale])
    )
    order = np.argsort(above, kind="stable")
    kept = order[np.sort(np.unique(boxes[order], axis=0, return_index=True)[1])]
    if len(kept) > MAX_THIN:
        low, high = kept[: MAX_THIN // 2], kept[MAX_THIN // 2 :]
        even = np.linspace(0, len(high) - 1, MAX_THIN - len(low)).astype(int)
        kept = np.concatenate([low, high[even]])
    return rows[kept]


def _columns(rows: pd.DataFrame, *, brief: bool = False) -> dict[str, list[Any]]:
    """Return columns by short name; those that hold nothing are left out."""
    found: dict[str, list[Any]] = {
        short: _rounded(MEV * rows[name].to_numpy(dtype=np.float64), _DIGITS)
        for name, short in ENERGIES.items()
        if name in rows
    }
    found |= {"formula": _texts(rows["formula"]), "kind": rows["kind"].tolist()}
    if brief:
        return found
    found |= {name: _texts(rows[name]) for name in TEXTS if name in rows}
    for name, digits in NUMBERS.items():
        if name in rows:
            found[name] = _rounded(pd.to_numeric(rows[name], errors="coerce"), digits)
    if "next" in rows:
        found["next"] = _rounded(pd.to_numeric(rows["next"], errors="coerce"), 0)
    if {"predicted_energy", "energy"} <= set(rows.columns):
        shift = pd.to_numeric(rows["predicted_energy"]) - pd.to_numeric(rows["energy"])
        known = shift.where(rows["kind"] != KINDS[1])
        found["error"] = _rounded(MEV * known.to_numpy(dtype=np.float64), _DIGITS)
    found["atoms"] = [None if pd.isna(n) else int(n) for n in rows["n_atoms"]]
    found["stable"] = rows["stable"].tolist()
    needed = {"formula", "ef", "above", "kind", "stable"}
    empty = {name for name, cells in found.items() if all(c in {None, ""} for c in cells)}
    return {name: cells for name, cells in found.items() if name not in empty - needed}


def _places(rows: pd.DataFrame, system: System | None) -> dict[str, list[Any]]:
    """Return where rows stand in the diagram: fractions of end members, energy per unit."""
    if system is None or len(rows) == 0:
        return {"y": [], "e": []}
    points = points_of(rows, system)
    return {"y": points.fractions.round(5).tolist(), "e": _rounded(points.formation, _DIGITS)}


def _diagram(system: System | None) -> dict[str, Any]:
    if system is None:
        return {"ends": None}
    return {
        "ends": list(system.names),
        "tieLines": system.tie_lines.tolist(),
        "corners": system.stable.fractions.round(5).tolist(),
        "levels": _rounded(system.stable.formation, _DIGITS),
        "gains": _rounded(np.where(np.isfinite(system.stabilities), system.stabilities, np.nan), 2),
        "unit": system.unit,
        "axis": system.axis,
        "pseudo": system.pseudo,
        "manyEnds": len(system.names) > MAX_ENDS,
    }


def _fractions(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name.startswith("x_")]


def _symbols(hull: pd.DataFrame) -> list[str]:
    return [name.removeprefix("x_") for name in _fractions(hull)]


def _element(symbol: str) -> dict[str, Any]:
    number = atomic_numbers.get(symbol, 0)
    return {"symbol": symbol, "radius": round(float(covalent_radii[number]), 2)}


class _Pictures:
    """Collects the structures that the page can show.

    Parameters
    ----------
    structures
        Where they are.
    symbols
        Of the elements, in the order of the columns.
    """

    def __init__(self, structures: Structures | None, symbols: Sequence[str]) -> None:
        self._structures, self.symbols = structures, list(symbols)
        self._room = MAX_STRUCTURES
        self.found: list[dict[str, Any]] = []
        self.operations: dict[str, int] = {}

    def add(self, key: object, *, of_hull: bool, fine: bool) -> int | None:
        """Keep a structure; return its place, None where there is none or no room for it.

        Parameters
        ----------
        key
            Of the structure.
        of_hull
            It stands in the hull table: always kept, with its CIF file.
        fine
            Show the conventional cell instead of the one that was computed.
        """
        if self._structures is None or not isinstance(key, str) or not key or self._room < 0:
            return None
        relaxed = self._structures.relaxed(key)
        atoms = self._structures.ideal(key) if relaxed is None else relaxed
        if atoms is None:
            return None
        shown, group = _conventional(atoms) if fine else (atoms, "")
        record = self._record(shown) | {"group": group}
        if of_hull:
            record["cif"] = self._cif(atoms)
        else:
            self._room -= len(json.dumps(record))
        self.found.append({**record, "relaxed": relaxed is not None})
        return len(self.found) - 1

    def _record(self, atoms: Atoms) -> dict[str, Any]:
        for symbol in atoms.get_chemical_symbols():
            if symbol not in self.symbols:
                self.symbols.append(symbol)
        return {
            "cell": atoms.cell.array.round(4).ravel().tolist(),
            "species": [self.symbols.index(s) for s in atoms.get_chemical_symbols()],
            "positions": (atoms.get_scaled_positions() + 0.0).round(5).ravel().tolist(),
        }

    def _cif(self, atoms: Atoms) -> list[Any]:
        """Return a file as head, number of its list of operations, and tail.

        Structures of one space group share the list, which is the longest part.
        """
        head, mark, rest = cif_bytes(atoms).decode().partition("_operation_xyz\n")
        operations, loop, tail = rest.partition("loop_\n")
        number = self.operations.setdefault(operations, len(self.operations))
        return [head + mark, number, loop + tail]


def _conventional(atoms: Atoms) -> tuple[Atoms, str]:
    """Return a structure in its conventional cell, and the space group."""
    from ase import Atoms

    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    dataset = spglib.get_symmetry_dataset(cell, symprec=SYMPREC)
    if dataset is None:
        return atoms, ""
    standard = Atoms(
        dataset.std_types,
        cell=dataset.std_lattice,
        scaled_positions=dataset.std_positions,
        pbc=True,
    )
    return standard, str(dataset.international)


def _rounded(values: Iterable[float] | Floats, digits: int) -> list[float | int | None]:
    """Return numbers as JSON has them: short, and None for what is not finite."""
    array = np.asarray(values, dtype=np.float64)
    good = np.isfinite(array)
    numbers = (np.round(np.where(good, array, 0.0), digits) + 0.0).tolist()
    short = [int(v) if v == int(v) else v for v in numbers]
    return [v if ok else None for v, ok in zip(short, good.tolist(), strict=True)]


def _texts(values: Iterable[object]) -> list[str]:
    return [value if isinstance(value, str) else "" for value in values]
