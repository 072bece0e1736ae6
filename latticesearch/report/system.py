"""What the figures need to know of a campaign's tables: phases, fractions of end members, hull."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from latticesearch.hull import hull_with
from latticesearch.report.tables import MEV, is_stable
from latticesearch.report.units import SAME, axis_label, formula_unit

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from latticesearch.report.units import FormulaUnit

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


MAX_ENDS: Final = 4
"""End members whose mixtures fill a body that can be drawn: a tetrahedron."""


@dataclass(frozen=True, eq=False)
class Points:
    """Structures as the figures see them.

    Parameters
    ----------
    fractions
        (n, m) fractions of the end members, by formula units where there are any, else by
        atoms; rows add up to 1.
    formation
        (n,) formation energies, meV per `System.unit`.
    above
        (n,) energies above the hull, meV/atom.
    computed
        (n,) whether the oracle computed the energy; else it is predicted.
    """

    fractions: Floats
    formation: Floats
    above: Floats
    computed: npt.NDArray[np.bool_]

    def __getitem__(self, rows: Integers | npt.NDArray[np.bool_]) -> Points:
        """Return the points `rows`."""
        return Points(
            self.fractions[rows], self.formation[rows], self.above[rows], self.computed[rows]
        )

    def __len__(self) -> int:
        return len(self.formation)


@dataclass(frozen=True, eq=False)
class System:
    """A campaign's hull and candidates in fractions of its end members.

    Parameters
    ----------
    names
        m formulas of the end members.
    candidates
        All candidates with an energy.
    stable
        The stable structures, end members included.
    formulas
        Their formulas.
    tie_lines
        (n_lines, 2) pairs of rows of `stable` that are in equilibrium.
    stabilities
        (n_stable,) meV/atom below the mixture of the other stable structures, infinite for end
        members.
    unit
        What formation energies are counted by: "atom", or the formula of a unit whose number of
        atoms changes along the diagram (CoO2 for LixCoO2).
    pseudo
        Whether the end members are compounds that share elements.
    axis
        Of two end members: what the fraction of the second one is, e.g. "x in Ti₁₋ₓHfₓN".
    frame
        Turns other rows of tables into points of the whole diagram; a face has none.
    """

    names: tuple[str, ...]
    candidates: Points
    stable: Points
    formulas: tuple[str, ...]
    tie_lines: Integers
    stabilities: Floats
    unit: str = "atom"
    pseudo: bool = False
    axis: str = ""
    frame: Frame | None = None

    def face(self, members: tuple[int, ...]) -> System:
        """Return the subsystem of some end members only."""
        others = [i for i in range(len(self.names)) if i not in members]
        inside = self.candidates.fractions[:, others].max(axis=1, initial=0.0) < 1e-6
        kept = np.flatnonzero(self.stable.fractions[:, others].max(axis=1, initial=0.0) < 1e-6)
        position = {int(row): i for i, row in enumerate(kept)}
        lines = [
            [position[a], position[b]]
            for a, b in self.tie_lines.tolist()
            if a in position and b in position
        ]
        return System(
            names=tuple(self.names[i] for i in members),
            candidates=_columns(self.candidates[inside], members),
            stable=_columns(self.stable[kept], members),
            formulas=tuple(self.formulas[i] for i in kept),
            tie_lines=np.array(lines, dtype=np.int64).reshape(-1, 2),
            stabilities=self.stabilities[kept],
            unit=self.unit,
            pseudo=self.pseudo,
        )


def make_system(candidates: pd.DataFrame, hull: pd.DataFrame) -> System | None:
    """Return the system that two tables describe.

    Parameters
    ----------
    candidates
        Columns of candidates.parquet; energies eV/atom.
    hull
        Columns of hull.csv.

    Returns
    -------
    System or None
        None where no structure is stable yet, or where the end members are more than a simplex
        (two sublattices mixed independently), which has no picture in a triangle.
    """
    stable = hull[is_stable(hull)].reset_index(drop=True)
    if stable.empty:
        return None
    columns = [name for name in stable.columns if name.startswith("x_")]
    x = stable[columns].to_numpy(dtype=np.float64)
    lower = hull_with(x, stable["formation_energy"].to_numpy(dtype=np.float64))
    if len(lower.end_members) != lower.dimension + 1 or lower.dimension == 0:
        return None
    unit = formula_unit(candidates, stable)
    ends = lower.end_members[_order(x[lower.end_members], unit)]
    frame = Frame(columns, x[ends], unit)
    usable = candidates[np.isfinite(candidates["formation_energy"].astype(float))]
    kept = lower.vertices
    names = tuple(str(name) for name in stable["formula"].iloc[ends])
    return System(
        names=names,
        candidates=frame.points(usable),
        stable=frame.points(stable.iloc[kept]),
        formulas=tuple(str(name) for name in stable["formula"].iloc[kept]),
        tie_lines=np.searchsorted(kept, lower.tie_lines).astype(np.int64),
        stabilities=MEV * lower.stabilities,
        unit=unit.formula if unit is not None and frame.varies else "atom",
        pseudo=bool((x[ends].max(axis=1) < 1.0).any()),
        axis=frame.axis(names) if len(ends) == 2 else "",
        frame=frame,
    )


def _order(x: Floats, unit: FormulaUnit | None) -> Integers:
    """Return the order of the end members with compositions `x`.

    The corner with most of the first element comes first, as the columns do; where an element is
    taken out, what is left without it comes first.
    """
    if unit is not None and len(x) == 2 and np.ptp(unit.atoms(x)) > SAME:
        return np.argsort(unit.atoms(x))
    return np.lexsort(-x.T[::-1])


@dataclass(frozen=True, eq=False)
class Frame:
    """Turns rows of tables into points of the diagram.

    Parameters
    ----------
    columns
        The k columns of atomic fractions.
    ends
        (m, k) compositions of the end members.
    unit
        What may be counted by instead of atoms.
    """

    columns: list[str]
    ends: Floats
    unit: FormulaUnit | None

    @property
    def varies(self) -> bool:
        """Whether formula units of the end members differ in their numbers of atoms."""
        return self.unit is not None and float(np.ptp(self.unit.atoms(self.ends))) > SAME

    def axis(self, names: tuple[str, ...]) -> str:
        """Return what the fraction of the second of two end members is."""
        if self.unit is None:
            return f"fraction of {names[1]}"
        return axis_label(self.ends * self.unit.atoms(self.ends)[:, None], self.unit.elements)

    def points(self, table: pd.DataFrame) -> Points:
        """Return the rows of a table."""
        x = table[self.columns].to_numpy(dtype=np.float64)
        fractions, scale = x @ np.linalg.pinv(self.ends), np.ones(len(x))
        if self.varies and self.unit is not None:
            fractions = fractions / self.unit.atoms(self.ends)
            fractions = fractions / fractions.sum(axis=1, keepdims=True)
            scale = self.unit.atoms(x)
        computed = np.ones(len(x), dtype=np.bool_)
        if "oracle_energy" in table:
            computed = np.isfinite(table["oracle_energy"].to_numpy(dtype=np.float64))
        return Points(
            fractions=fractions,
            formation=MEV * scale * table["formation_energy"].to_numpy(dtype=np.float64),
            above=MEV * table["energy_above_hull"].to_numpy(dtype=np.float64),
            computed=computed,
        )


def points_of(table: pd.DataFrame, system: System) -> Points:
    """Return the rows of a table as points of a whole system's diagram."""
    assert system.frame is not None
    return system.frame.points(table)


def _columns(points: Points, members: tuple[int, ...]) -> Points:
    chosen = points.fractions[:, list(members)]
    return Points(chosen, points.formation, points.above, points.computed)
