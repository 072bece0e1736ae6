"""What the figures need to know of a campaign's tables: phases, fractions of end members, hull."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.hull import Hull
from latticesearch.report.tables import MEV, is_stable

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Points:
    """Structures as the figures see them.

    Parameters
    ----------
    fractions
        (n, m) fractions of the end members; rows add up to 1.
    formation
        (n,) formation energies, meV/atom.
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
    """

    names: tuple[str, ...]
    candidates: Points
    stable: Points
    formulas: tuple[str, ...]
    tie_lines: Integers
    stabilities: Floats

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
    lower = Hull(x, stable["formation_energy"].to_numpy(dtype=np.float64))
    if len(lower.end_members) != lower.dimension + 1 or lower.dimension == 0:
        return None
    # The corner with most of the first element comes first, as the columns do.
    ends = lower.end_members[np.lexsort(-x[lower.end_members].T[::-1])]
    usable = candidates[np.isfinite(candidates["formation_energy"].astype(float))]
    kept = lower.vertices
    return System(
        names=tuple(str(name) for name in stable["formula"].iloc[ends]),
        candidates=_points(usable, columns, x[ends]),
        stable=_points(stable.iloc[kept], columns, x[ends]),
        formulas=tuple(str(name) for name in stable["formula"].iloc[kept]),
        tie_lines=np.searchsorted(kept, lower.tie_lines).astype(np.int64),
        stabilities=MEV * lower.stabilities,
    )


def _points(table: pd.DataFrame, columns: list[str], ends: Floats) -> Points:
    """Return the rows of a table; `ends` are the (m, k) compositions of the end members."""
    x = table[columns].to_numpy(dtype=np.float64)
    computed = np.ones(len(x), dtype=np.bool_)
    if "oracle_energy" in table:
        computed = np.isfinite(table["oracle_energy"].to_numpy(dtype=np.float64))
    return Points(
        fractions=x @ np.linalg.pinv(ends),
        formation=MEV * table["formation_energy"].to_numpy(dtype=np.float64),
        above=MEV * table["energy_above_hull"].to_numpy(dtype=np.float64),
        computed=computed,
    )


def _columns(points: Points, members: tuple[int, ...]) -> Points:
    chosen = points.fractions[:, list(members)]
    return Points(chosen, points.formation, points.above, points.computed)
