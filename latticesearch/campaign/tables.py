"""The tables of a campaign: candidates, hull, rounds, failures; from arrays to data frames."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import spglib

from latticesearch.campaign.competing import formation_zero, hull_with_phases
from latticesearch.campaign.sources import COMPETING, OWN_DATA, PREDICTED, REUSED
from latticesearch.campaign.ties import levelled
from latticesearch.learning.choices import DILUTE, IMPROVEMENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.campaign.competing import CompetingPhases, Phase, ZeroKind
    from latticesearch.hull import FormationZero, Hull
    from latticesearch.learning import CandidateSet, Round
    from latticesearch.oracles import OracleResult

NEAR_STABLE = 0.025
"""eV/atom; computed structures up to this far above the hull are listed with the stable ones:
roughly thermal energy at room temperature."""

SYMPREC = 1e-3
"""Å; the decorated ideal lattice is exact, so this only has to beat rounding."""

COARSE = 1e-2
"""Å; relaxed structures have their symmetry to about this."""


@dataclass(frozen=True, eq=False)
class TrueEnergies:
    """What is known beside the potential, by key.

    Parameters
    ----------
    per_atom
        Energies, eV/atom.
    sources
        Where each comes from.
    rounds
        In which round the oracle answered.
    answers
        The results, for the relaxed structures.
    """

    per_atom: Mapping[str, float]
    sources: Mapping[str, str]
    rounds: Mapping[str, int]
    answers: Mapping[str, OracleResult]


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

    def surprising(self, limit: float) -> list[str]:
        """Return one line for each true formation energy beyond ±`limit`, eV/atom."""
        known = self.candidates[self.candidates.oracle_energy.notna()]
        large = known[known.formation_energy.abs() > limit]
        return [
            f"{row.formula} ({row.key}) has a formation energy of {row.formation_energy:.3g} "
            f"eV/atom, beyond ±{limit:g}: it is kept; see whether the end members and this "
            "structure are computed alike"
            for row in large.itertuples()
        ]

    @property
    def groups(self) -> dict[str, str]:
        """Space groups by key."""
        return dict(zip(self.hull.key, self.hull.space_group, strict=True))

    def same_stable(self, other: Tables | None) -> bool:
        """Tell whether the same structures are stable as in other tables, in the same order."""
        if other is None:
            return False
        mine, theirs = (t.hull[t.hull.cif != ""][["key", "cif"]] for t in (self, other))
        return mine.equals(theirs)


def space_group(atoms: Atoms, symprec: float = SYMPREC) -> str:
    """Return the international symbol of the space group within `symprec`, Å, e.g. "Pm-3m"."""
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    dataset = spglib.get_symmetry_dataset(cell, symprec=symprec)
    return "P1" if dataset is None else str(dataset.international)


def make_tables(
    candidates: CandidateSet,
    true: TrueEnergies,
    last: Round,
    phases: CompetingPhases,
    zero: ZeroKind,
    before: Tables | None = None,
) -> Tables:
    """Make all tables.

    Parameters
    ----------
    candidates
        All candidates.
    true
        What is known of some of them.
    last
        The last round that made a forecast.
    phases
        Compete with the candidates.
    zero
        What formation energies refer to.
    before
        The tables of the round before: space groups found once are not searched again.
    """
    energies = np.array([true.per_atom.get(key, np.nan) for key in candidates.keys])
    known = np.flatnonzero(np.isfinite(energies))
    # Of equal structures the first becomes the vertex: that of the smaller cell.
    known = known[np.argsort(candidates.n_atoms[known], kind="stable")]
    x = candidates.compositions
    hull = hull_with_phases(x[known], levelled(x[known], energies[known]), phases)
    start = formation_zero(zero, x[known], energies[known], phases, candidates.elements)
    table = _candidates_table(candidates, energies, hull, start, last)
    _say_sources(table, true)
    depths = np.full(len(known) + len(phases), np.nan)
    depths[hull.vertices] = hull.depths
    table["depth"] = np.nan
    table.loc[known, "depth"] = depths[: len(known)]
    # What was computed since is known not to be stable.
    table.loc[table.oracle_energy.notna() & table.depth.isna(), "p_stable"] = 0.0
    table.loc[table["depth"].notna(), "energy_above_hull"] = 0.0
    others = _phase_rows(phases, hull, start, depths[len(known) :])
    near = pd.concat([table.iloc[known], others] if len(others) else [table.iloc[known]])
    near = near.query("energy_above_hull <= @NEAR_STABLE")
    shapes = _shapes(near, candidates, phases, {} if before is None else before.groups)
    hull_table = _hull_table(near, candidates.elements, shapes)
    structures = zip(hull_table.key, hull_table.cif, strict=True)
    stable = {
        Path(cif).name: _relaxed(true.answers.get(key), shapes[key][1])
        for key, cif in structures
        if cif
    }
    return Tables(table.drop(columns="depth"), hull_table, stable)


def _phase_rows(
    phases: CompetingPhases, hull: Hull, zero: FormationZero, depths: npt.NDArray[np.float64]
) -> pd.DataFrame:
    """Return one row per competing phase, with the columns that hull.csv takes.

    Parameters
    ----------
    phases
        The phases, which are the last points of `hull`.
    hull
        Of candidates and phases.
    zero
        What formation energies refer to.
    depths
        Depth of each phase below the hull of all others, eV/atom; NaN where it is no vertex.
    """
    x, e = phases.compositions, phases.energies
    own = phases.phases
    return pd.DataFrame(
        {
            "key": phases.keys,
            "formula": [phase.formula for phase in own],
            **{f"x_{s}": x[:, i] for i, s in enumerate(phases.elements)},
            "n_atoms": [_n_atoms(phase) for phase in own],
            "energy": e,
            "formation_energy": zero.formation_energies(x, e),
            "energy_above_hull": hull.energies_above_hull[len(hull.energies) - len(own) :],
            "oracle_energy": e,
            "energy_source": COMPETING,
            "origin": [phase.origin for phase in own],
            "depth": depths,
            "p_stable": np.nan,
        }
    )


def phase_structures(phases: CompetingPhases) -> dict[str, Atoms | None]:
    """Return the structures of phases by what stands for their keys."""
    structures = [phase.atoms for phase in phases.phases]
    return dict(zip(phases.keys, structures, strict=True))


def _n_atoms(phase: Phase) -> int:
    """Return the atoms of a phase's cell, or of its formula unit where only that is known."""
    if phase.atoms is not None:
        return len(phase.atoms)
    return sum(int(n or 1) for n in re.findall(r"[A-Z][a-z]?(\d*)", phase.formula))


def _candidates_table(
    candidates: CandidateSet,
    true: npt.NDArray[np.float64],
    hull: Hull,
    zero: FormationZero,
    last: Round,
) -> pd.DataFrame:
    """Return one row per candidate."""
    n, forecast = len(candidates), last.forecast
    nothing = np.full(n, np.nan)
    best = nothing if forecast is None else _padded(forecast.best, n)
    best = np.where(np.isfinite(true), true, best)
    following = nothing.copy()
    for place, choice in enumerate(last.following, start=1):
        following[choice.index] = place
    x = candidates.compositions
    table = {
        "key": candidates.keys,
        "formula": candidates.formulas,
        **{f"x_{s}": x[:, i] for i, s in enumerate(candidates.elements)},
        "n_atoms": candidates.n_atoms,
        "hnf": candidates.hnfs,
        "labels": candidates.labels,
        "energy": best,
        "formation_energy": zero.formation_energies(x, best),
        "energy_above_hull": hull.energy_above_hull(x, best),
        "predicted_energy": nothing if forecast is None else _padded(forecast.predicted, n),
        "expected_energy": nothing if forecast is None else _padded(forecast.expected, n),
        "uncertainty": nothing if forecast is None else _padded(forecast.spreads, n),
        "oracle_energy": true,
        "p_stable": nothing if forecast is None else _padded(forecast.stable, n),
        "next": following,
        "grade": nothing if forecast is None else _padded(forecast.grades, n),
        "round": candidates.rounds,
        "source": candidates.sources,
    }
    return pd.DataFrame(table)


def _say_sources(table: pd.DataFrame, true: TrueEnergies) -> None:
    """Add what the energies of candidates come from, and the rounds in which they came."""
    table["oracle_round"] = pd.array([true.rounds.get(k) for k in table.key], dtype="Int64")
    sources = [true.sources.get(key, PREDICTED).partition(":") for key in table.key]
    table["energy_source"] = [word for word, *_ in sources]
    table["origin"] = [rest.strip() for *_, rest in sources]
    # What others have computed is marked in the column that everybody looks at.
    foreign = table.energy_source.isin([OWN_DATA, REUSED])
    table.loc[foreign, "source"] = table.energy_source[foreign]


def _padded(values: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.float64]:
    """Return `values` with NaN for candidates that came later, (n,)."""
    return np.concatenate([values, np.full(n - len(values), np.nan)])


def _shapes(
    near: pd.DataFrame,
    candidates: CandidateSet,
    phases: CompetingPhases,
    known: Mapping[str, str],
) -> dict[str, tuple[str, Atoms | None]]:
    """Return space group and structure of each row by key: ideal ones, and those of phases.

    A phase of which only the formula is known has neither.
    """
    of_phase = phase_structures(phases)
    found: dict[str, tuple[str, Atoms | None]] = {}
    for key in near.key:
        if key in of_phase:
            atoms, precision = of_phase[key], COARSE
        else:
            atoms = candidates.configuration(candidates.index(key)).to_atoms()
            precision = SYMPREC
        group = known.get(key) or ("" if atoms is None else space_group(atoms, precision))
        found[key] = (group, atoms)
    return found


def _hull_table(
    near: pd.DataFrame,
    elements: Sequence[str],
    shapes: Mapping[str, tuple[str, Atoms | None]],
) -> pd.DataFrame:
    """Return the table of the stable and nearly stable structures, sorted."""
    fractions = [f"x_{s}" for s in elements]
    # Vertices only: what lies on a tie line within rounding adds nothing to the hull.
    stable_first = near.assign(is_stable=near.depth.notna())
    ordered = stable_first.sort_values(
        ["is_stable", *fractions, "energy_above_hull", "key"],
        ascending=[False, *[False] * len(fractions), True, True],
    )
    groups = [shapes[key][0] for key in ordered.key]
    names = cif_names(ordered, [group or "unknown" for group in groups])
    there = [shapes[key][1] is not None for key in ordered.key]
    return pd.DataFrame(
        {
            "formula": ordered.formula,
            "n_atoms": ordered.n_atoms,
            "space_group": groups,
            "formation_energy": ordered.formation_energy,
            "energy_above_hull": ordered.energy_above_hull,
            **{column: ordered[column] for column in fractions},
            "key": ordered.key,
            "cif": [
                f"stable/{name}" if name and has else ""
                for name, has in zip(names, there, strict=True)
            ],
            "depth": ordered.depth.replace(np.inf, np.nan),
            "stable": ordered.is_stable,
            "p_stable": ordered.p_stable,
            "source": ordered.energy_source,
        }
    ).reset_index(drop=True)


def _relaxed(answer: OracleResult | None, ideal: Atoms | None) -> Atoms:
    """Return the oracle's relaxed structure, or the ideal one where it gave none."""
    assert ideal is not None
    return ideal if answer is None or answer.atoms is None else answer.atoms


def cif_names(ordered: pd.DataFrame, groups: Sequence[str]) -> list[str]:
    """Return rank_formula_group.cif for stable rows, nothing for the others.

    Parameters
    ----------
    ordered
        Columns formula and is_stable; the stable ones come first.
    groups
        Space groups, one per row.
    """
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
        "improvement": reasons.count(IMPROVEMENT),
        "dilute": reasons.count(DILUTE),
        "n_vertices": len(outcome.vertices),
        "hull_change": _number(outcome.hull_change),
        "near_hull_error": _number(outcome.near_hull_error),
        "missing": _number(outcome.missing),
        "distance": _number(outcome.distance),
        "rmse": training_rmse,
        "stop": outcome.stop,
    }


def describe_round(row: Mapping[str, Any]) -> str:
    """Return one line about a round for the log."""
    text = f"round {row['round']}: {row['oracle_calls']} oracle calculations"
    if row["rmse"] is not None:
        text += f", fit error {1000 * row['rmse']:.2f} meV/atom"
    if row["near_hull_error"] is not None:
        text += f", checked error {1000 * row['near_hull_error']:.2f} meV/atom"
    text += f", {row['n_vertices']} stable"
    if row["hull_change"]:
        text += f", hull moved by {1000 * row['hull_change']:.2f} meV/atom"
    if row["missing"] is not None:
        text += f", before it {100 * row['missing']:.0f} % likely to miss something"
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
        "stable": int(tables.hull.stable.sum()),
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
