"""Average voltages of a battery electrode: what it costs to take an ion out, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from latticesearch.report.tables import is_stable
from latticesearch.report.units import SAME, formula_unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

CHARGES: Final = {"Li": 1, "Na": 1, "K": 1, "Rb": 1, "Cs": 1, "Mg": 2, "Ca": 2, "Zn": 2, "Al": 3}
"""Ions that electrodes give away, and the electrons that go with each."""


@dataclass(frozen=True)
class Step:
    """Two stable structures that follow each other when ions are taken out.

    Parameters
    ----------
    first, second
        Formulas.
    ions
        (2,) ions per formula unit of both.
    voltage
        V against the metal; relative to the mean of all steps where its energy is not known.
    """

    first: str
    second: str
    ions: tuple[float, float]
    voltage: float


@dataclass(frozen=True)
class Voltages:
    """The steps of an electrode, and what they refer to.

    Parameters
    ----------
    ion
        Symbol of the ion.
    unit
        Formula of what stays.
    absolute
        Whether the energy of the metal is known.
    steps
        From the emptiest to the fullest structure.
    """

    ion: str
    unit: str
    absolute: bool
    steps: tuple[Step, ...]


def average_voltages(
    candidates: pd.DataFrame, hull: pd.DataFrame, settings: Mapping[str, Any]
) -> Voltages | None:
    """Return the voltages between neighbouring stable structures.

    Parameters
    ----------
    candidates
        Columns of candidates.parquet.
    hull
        Columns of hull.csv, with `energy`, eV/atom.
    settings
        Sections of values; oracle.references may give the energy of the metal.

    Returns
    -------
    Voltages or None
        None where no ion of `CHARGES` alone comes and goes.
    """
    if "energy" not in hull:
        return None
    columns = [name for name in hull.columns if name.startswith("x_")]
    stable = hull[is_stable(hull)]
    unit = formula_unit(candidates, stable)
    if unit is None:
        return None
    x = stable[columns].to_numpy(dtype=np.float64)
    counts = x * unit.atoms(x)[:, None]
    moving = [e for e, n in zip(unit.elements, np.ptp(counts, axis=0), strict=True) if n > SAME]
    if len(moving) != 1 or moving[0] not in CHARGES:
        return None
    energies = unit.atoms(x) * stable["energy"].to_numpy(dtype=np.float64)
    order = np.argsort(counts[:, unit.elements.index(moving[0])])
    ions = counts[order, unit.elements.index(moving[0])]
    metal = _reference(moving[0], settings)
    slopes = np.diff(energies[order]) / np.diff(ions)
    zero = float((np.diff(ions) * slopes).sum() / np.ptp(ions)) if metal is None else metal
    volts = (zero - slopes) / CHARGES[moving[0]]
    names = stable["formula"].iloc[order].tolist()
    steps = [
        Step(names[i], names[i + 1], (float(ions[i]), float(ions[i + 1])), float(v))
        for i, v in enumerate(volts)
    ]
    return Voltages(moving[0], unit.formula, metal is not None, tuple(steps))


def _reference(ion: str, settings: Mapping[str, Any]) -> float | None:
    """Return the energy of the metal, eV/atom, None where it is not known."""
    found = ((settings.get("oracle") or {}).get("references") or {}).get(ion)
    return None if found is None else float(found)
