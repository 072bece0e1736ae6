"""The tables of a campaign: candidates, hull, rounds, failures; from arrays to data frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import spglib

from latticesearch.campaign.ties import levelled
from latticesearch.hull import Hull
from latticesearch.learning.acquisition import GRADE, NEAR_HULL, VERTEX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.learning import CandidateSet, Round
    from latticesearch.oracles import OracleResult

NEAR_STABLE = 0.025
"""eV/atom; computed structures up to this far above the hull are listed with the stable ones:
roughly thermal energy at room temperature."""

SYMPREC = 1e-3
"""Å; the decorated ideal lattice is exact, so this only has to beat rounding."""


@dataclass(frozen=True, eq=False)
class Tables:
    """What a campaign has found so far.

    Parameters
    ----------
    candidates
        One row per candidate, the columns of candidates.parquet.
    hull
        One row per stable or nearly stable structure, the columns of hull.csv; ``depth`` is how
        far a stable one lies below the hull of all others, eV/atom, NaN for the end members,
        which no mixture of others could replace.
    stable
        File names (without folder) and relaxed structures of the stable ones.
    """

    candidates: pd.DataFrame
    hull: pd.DataFrame
    stable: dict[str, Atoms]

    def same_stable(self, other: Tables | None) -> bool:
        """Tell whether the same structures are stable as in other tables, in the same order."""
        if other is None:
            return False
        mine, theirs = (t.hull[t.hull.cif != ""][["key", "cif"]] for t in (self, other))
        return mine.equals(theirs)


def space_group(atoms: Atoms) -> str:
    """Return the international symbol of the space group, e.g. "Pm-3m"."""
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    dataset = spglib.get_symmetry_dataset(cell, symprec=SYMPREC)
    return "P1" if dataset is None else str(dataset.international)


def make_tables(
    candidates: CandidateSet,
    true: Mapping[str, float],
    answers: Mapping[str, OracleResult],
    last: Round,
    oracle_rounds: Mapping[str, int],
    before: Tables | None = None,
) -> Tables:
    """Make all tables.

    Parameters
    ----------
    candidates
        All candidates.
    true
        Oracle energies by key, eV/atom.
    answers
        The oracle's results by key, for the relaxed structures.
    last
        The last round that predicted energies and grades.
    oracle_rounds
        In which round the oracle was asked, by key.
    before
        The tables of the round before: space groups found once are not searched again.
    """
    energies = np.array([true.get(key, np.nan) for key in candidates.keys])
    known = np.flatnonzero(np.isfinite(energies))
    known = known[np.argsort(np.asarray(candidates.n_atoms)[known], kind="stable")]
    x = candidates.compositions[known]
    hull = Hull(x, levelled(x, energies[known]))
    table = _candidates_table(candidates, energies, hull, last, oracle_rounds)
    table.loc[known[hull.vertices], "energy_above_hull"] = 0.0
    depths = dict(zip(known[hull.vertices].tolist(), hull.depths.tolist(), strict=True))
    table["depth"] = [depths.get(i, np.nan) for i in range(len(table))]
    near = table.iloc[known].query("energy_above_hull <= @NEAR_STABLE")
    known_groups = (
        {} if before is None else dict(zip(before.hull.key, before.hull.space_group, strict=True))
    )
    hull_table, structures = _hull_table(near, candidates, known_groups)
    stable = {
        Path(cif).name: _relaxed(answers.get(key), structures[key])
        for key, cif in zip(hull_table.key, hull_table.cif, strict=True)
        if cif
    }
    return Tables(table.drop(columns="depth"), hull_table, stable)


def _candidates_table(
    candidates: CandidateSet,
    true: npt.NDArray[np.float64],
    hull: Hull,
    last: Round,
    oracle_rounds: Mapping[str, int],
) -> pd.DataFrame:
    """Return one row per candidate."""
    n = len(candidates)
    predicted = _padded(last.predicted, n)
    best = np.where(np.isfinite(true), true, predicted)
    x = candidates.compositions
    table = {
        "key": candidates.keys,
        "formula": candidates.formulas,
        **{f"x_{s}": x[:, i] for i, s in enumerate(candidates.elements)},
        "n_atoms": candidates.n_atoms,
        "hnf": candidates.hnfs,
        "labels": candidates.labels,
        "energy": best,
        "formation_energy": hull.formation_energy(x, best),
        "energy_above_hull": hull.energy_above_hull(x, best),
        "predicted_energy": predicted,
        "oracle_energy": true,
        "oracle_round": pd.array([oracle_rounds.get(k) for k in candidates.keys], dtype="Int64"),
        "grade": _padded(last.grades, n),
        "round": candidates.rounds,
        "source": candidates.sources,
    }
    return pd.DataFrame(table)


def _padded(values: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.float64]:
    """Return `values` with NaN for candidates that came later, (n,)."""
    return np.concatenate([values, np.full(n - len(values), np.nan)])


def _hull_table(
    near: pd.DataFrame, candidates: CandidateSet, known_groups: Mapping[str, str]
) -> tuple[pd.DataFrame, dict[str, Atoms]]:
    """Return the table of the stable and nearly stable structures, sorted, and these by key."""
    fractions = [f"x_{s}" for s in candidates.elements]
    # Vertices only: what lies on a tie line within rounding adds nothing to the hull.
    stable_first = near.assign(is_stable=near.depth.notna())
    ordered = stable_first.sort_values(
        ["is_stable", *fractions, "energy_above_hull", "key"],
        ascending=[False, *[False] * len(fractions), True, True],
    )
    structures = {k: candidates.configuration(candidates.index(k)).to_atoms() for k in ordered.key}
    groups = [known_groups.get(k) or space_group(structures[k]) for k in ordered.key]
    names = _file_names(ordered, groups)
    hull = pd.DataFrame(
        {
            "formula": ordered.formula,
            "n_atoms": ordered.n_atoms,
            "space_group": groups,
            "formation_energy": ordered.formation_energy,
            "energy_above_hull": ordered.energy_above_hull,
            **{column: ordered[column] for column in fractions},
            "key": ordered.key,
            "cif": [f"stable/{name}" if name else "" for name in names],
            "depth": ordered.depth.replace(np.inf, np.nan),
        }
    ).reset_index(drop=True)
    return hull, structures


def _relaxed(answer: OracleResult | None, ideal: Atoms) -> Atoms:
    """Return the oracle's relaxed structure, or the ideal one where it gave none."""
    return ideal if answer is None or answer.atoms is None else answer.atoms


def _file_names(ordered: pd.DataFrame, groups: Sequence[str]) -> list[str]:
    """Return rank-formula-group.cif for stable rows, nothing for the others."""
    width = len(str(int(ordered.is_stable.sum())))
    names = []
    for rank, (formula, group, stable) in enumerate(
        zip(ordered.formula, groups, ordered.is_stable, strict=True), start=1
    ):
        symbol = group.replace("/", "_").replace(" ", "")
        names.append(f"{rank:0{width}d}_{formula}_{symbol}.cif" if stable else "")
    return names


def round_row(outcome: Round, training_rmse: float | None = None) -> dict[str, Any]:
    """Return the row of one round: what the log, the report and the terminal show."""
    reasons = [c.reason for c in outcome.choices]
    return {
        "round": outcome.number,
        "asked": len(outcome.choices),
        "oracle_calls": outcome.calculations,
        "vertex": reasons.count(VERTEX),
        "near_hull": reasons.count(NEAR_HULL),
        "grade": reasons.count(GRADE),
        "n_vertices": len(outcome.vertices),
        "hull_change": _number(outcome.hull_change),
        "near_hull_error": _number(outcome.near_hull_error),
        "max_grade": _number(outcome.max_grade),
        "rmse": training_rmse,
        "stop": outcome.stop,
    }


def describe_round(row: Mapping[str, Any]) -> str:
    """Return one line about a round for the log."""
    text = f"round {row['round']}: {row['oracle_calls']} oracle calculations"
    if row["rmse"] is not None:
        text += f", fit error {1000 * row['rmse']:.2f} meV/atom"
    if row["near_hull_error"] is not None:
        text += f", near-hull error {1000 * row['near_hull_error']:.2f} meV/atom"
    text += f", {row['n_vertices']} stable"
    if row["hull_change"]:
        text += f", hull moved by {1000 * row['hull_change']:.2f} meV/atom"
    return text + (f"; {row['stop']}" if row["stop"] else "")


def summarise(
    tables: Tables,
    rounds: Sequence[Mapping[str, Any]],
    name: str,
    n_possible: int,
    seconds: float,
) -> dict[str, Any]:
    """Return the counts of a finished campaign.

    Parameters
    ----------
    tables
        Its tables.
    rounds
        Its rounds, from `round_row`.
    name
        Of the campaign.
    n_possible
        Structures in the whole space, whether looked at or not.
    seconds
        Wall time.
    """
    return {
        "name": name,
        "stable": int((tables.hull.cif != "").sum()),
        "candidates": len(tables.candidates),
        "possible": n_possible,
        "oracle_calls": rounds[-1]["oracle_calls"],
        "rounds": len(rounds),
        "stop": rounds[-1]["stop"],
        "near_hull_error": rounds[-1]["near_hull_error"],
        "seconds": round(seconds, 1),
    }


def _number(value: float) -> float | None:
    """Return None for NaN, which JSON cannot hold."""
    return None if np.isnan(value) else float(value)
