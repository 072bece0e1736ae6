"""What to trust: how a structure's place on the hull compares with the errors made on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from latticesearch.report.tables import is_stable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import pandas as pd

TIE: Final = 1e-4
"""eV/atom: what is closer together than this, relaxations do not tell apart."""

END_MEMBER: Final = "end member"
NO_DIFFERENCE: Final = "tie"
WITHIN: Final = "within the error"
ROBUST: Final = "robust"
ABOVE: Final = "above the hull"

MEANINGS: Final = {
    END_MEMBER: "the diagram refers to it; it is there whatever its energy",
    NO_DIFFERENCE: "less than 0.1 meV/atom decide: another structure is as good",
    WITHIN: "the errors made on the way are as large as what decides",
    ROBUST: "stable by more than the errors made on the way",
    ABOVE: "not stable by more than the errors made on the way",
}
"""What the page says about each verdict."""

DEFAULT_TOLERANCE: Final = 0.001
"""eV/atom, as in the settings of a campaign that name none."""


def error_of(summary: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the larger of accepted and observed error near the hull, eV/atom.

    Parameters
    ----------
    summary
        near_hull_error, eV/atom or None.
    settings
        Sections of values; learning.tolerance.
    """
    given = (settings.get("learning") or {}).get("tolerance")
    found = summary.get("near_hull_error")
    tolerance = DEFAULT_TOLERANCE if given is None else float(given)
    return tolerance if found is None or not np.isfinite(found) else max(tolerance, float(found))


def verdicts(hull: pd.DataFrame, error: float) -> list[str]:
    """Return one verdict per row of a hull table.

    Parameters
    ----------
    hull
        Columns of hull.csv; energies eV/atom.
    error
        From `error_of`, eV/atom.
    """
    stable = is_stable(hull).to_numpy()
    above = hull["energy_above_hull"].to_numpy(dtype=np.float64)
    has_depth = "depth" in hull
    depth = hull["depth"].to_numpy(dtype=np.float64) if has_depth else np.full(len(hull), np.nan)
    margin = np.where(stable, depth, np.abs(above))
    names = np.select(
        [np.isnan(margin), margin < TIE, margin < error, stable],
        # A stable row without a depth is an end member that nothing could replace.
        [END_MEMBER if has_depth else "", NO_DIFFERENCE, WITHIN, ROBUST],
        default=ABOVE,
    )
    return [str(name) for name in names]


def not_computed(candidates: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return (n,) which candidates have no energy but a predicted one."""
    if "oracle_energy" not in candidates or candidates.empty:
        return np.zeros(len(candidates), dtype=np.bool_)
    missing: npt.NDArray[np.bool_] = candidates["oracle_energy"].isna().to_numpy()
    if "source" in candidates:
        # Rows of phases off the lattice and of data from elsewhere bring their energies.
        missing = missing & ~candidates["source"].isin(["competing", "own data"]).to_numpy()
    return missing


def open_candidates(candidates: pd.DataFrame, error: float) -> pd.DataFrame:
    """Return the candidates not computed whose prediction lies within the error of the hull.

    Parameters
    ----------
    candidates
        Columns of candidates.parquet; energies eV/atom.
    error
        From `error_of`, eV/atom.

    Returns
    -------
    DataFrame
        Their rows, the lowest above the hull first.
    """
    near = candidates["energy_above_hull"].to_numpy(dtype=np.float64) < error
    return candidates[not_computed(candidates) & near].sort_values("energy_above_hull")
