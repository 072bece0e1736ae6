"""What a table says about each structure besides its energy, worked out once per structure.

Symmetry and prototype are those of the ideal structure on the parent lattice, which is exact;
lattice parameters and volume those of the relaxed one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import pandas as pd
import spglib
from ase.geometry import cell_to_cellpar, find_mic
from scipy.optimize import linprog

from latticesearch.report.prototypes import SYMPREC, pearson_symbol, prototype_of
from latticesearch.report.tables import is_stable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from ase import Atoms

    Floats = npt.NDArray[np.float64]

OF_THE_KEY: Final = ("prototype", "aflow", "pearson")
"""Columns that follow from the key alone, so an earlier table may be asked for them."""

PARAMETERS: Final = ("a", "b", "c", "alpha", "beta", "gamma")
"""Columns of the conventional cell of the relaxed structure: Å and degrees."""

MOMENTS: Final = ("moment", "largest_moment")
"""Columns of magnetism."""

LARGEST_STRAIN: Final = 0.4
"""Cells that differ by more are not the same cell in the same orientation."""

LARGEST_DISPLACEMENT: Final = 1.5
"""Å: atoms farther away are not the same atoms; recorded structures have their own order."""


class Structures(Protocol):
    """Gives the structures behind the keys of a table."""

    def ideal(self, key: str) -> Atoms | None:
        """Return the structure on the parent lattice, None where the key is no such structure."""

    def relaxed(self, key: str) -> Atoms | None:
        """Return the relaxed structure, None where there is none."""

    def moments(self, key: str) -> Sequence[float]:
        """Return the magnetic moments of its atoms, Bohr magnetons; nothing where unknown."""


def structure_columns(
    hull: pd.DataFrame, structures: Structures, before: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the columns that describe the structures of a hull table.

    Parameters
    ----------
    hull
        Columns of hull.csv; rows without a key get empty cells.
    structures
        Where they are.
    before
        An earlier table with such columns: prototypes found once are not searched again.

    Returns
    -------
    DataFrame
        With the index of `hull`: prototype, aflow, pearson; a, b, c (Å), alpha, beta, gamma (°),
        volume (Å³/atom), displacement (Å), strain; where any is known moment and largest_moment
        (Bohr magnetons per atom, and of the atom that has most).
    """
    known = _known(before)
    keys = hull["key"] if "key" in hull else pd.Series("", index=hull.index)
    rows = [_describe(key, structures, known) for key in keys]
    names = [*OF_THE_KEY, *PARAMETERS, "volume", "displacement", "strain"]
    # Most campaigns have no moments, and need no columns of them.
    names += [name for name in MOMENTS if any(name in row for row in rows)]
    return pd.DataFrame(rows, index=hull.index, columns=names)


def _known(before: pd.DataFrame | None) -> dict[str, dict[str, str]]:
    """Return what an earlier table says of each key."""
    if before is None or not {"key", *OF_THE_KEY} <= set(before.columns):
        return {}
    table = before[["key", *OF_THE_KEY]].fillna("")
    return {
        str(row["key"]): {str(k): v for k, v in row.items()}
        for row in table.to_dict("records")
        if row["pearson"]
    }


def _describe(
    key: object, structures: Structures, known: dict[str, dict[str, str]]
) -> dict[str, Any]:
    ideal = structures.ideal(key) if isinstance(key, str) and key else None
    if ideal is None:
        return dict.fromkeys(OF_THE_KEY, "")
    names = known.get(str(key)) or _names(ideal)
    relaxed = structures.relaxed(str(key))
    geometry = _geometry(ideal if relaxed is None else relaxed)
    moments = _magnetism(structures.moments(str(key)))
    return {**names, **geometry, **_moved(ideal, relaxed), **moments}


def _magnetism(moments: Sequence[float]) -> dict[str, float]:
    if not len(moments):
        return {}
    mean, largest = float(np.mean(moments)), float(np.abs(moments).max())
    return dict(zip(MOMENTS, (mean, largest), strict=True))


def _names(ideal: Atoms) -> dict[str, str]:
    dataset = spglib.get_symmetry_dataset(_cell(ideal), symprec=SYMPREC)
    prototype = prototype_of(ideal)
    pearson = "" if dataset is None else pearson_symbol(dataset)
    return {"prototype": prototype.name, "aflow": prototype.aflow, "pearson": pearson}


def _cell(atoms: Atoms) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    return atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers


def _geometry(atoms: Atoms) -> dict[str, float]:
    """Return parameters of the conventional cell and volume per atom."""
    dataset = spglib.get_symmetry_dataset(_cell(atoms), symprec=SYMPREC)
    lattice = atoms.cell.array if dataset is None else dataset.std_lattice
    parameters = dict(zip(PARAMETERS, cell_to_cellpar(lattice).tolist(), strict=True))
    return {**parameters, "volume": float(atoms.get_volume()) / len(atoms)}


def _moved(ideal: Atoms, relaxed: Atoms | None) -> dict[str, float]:
    """Return how far atoms and cell went from the parent lattice.

    Displacement: root mean square distance of the atoms from the sites of the relaxed cell.
    Strain: norm of the change of shape of the cell, its change of size left out.
    """
    nothing = {"displacement": float("nan"), "strain": float("nan")}
    if relaxed is None or not np.array_equal(ideal.numbers, relaxed.numbers):
        return nothing
    # Singular values are the stretches along the principal axes, whatever the rotation.
    stretches = np.linalg.svd(np.linalg.solve(ideal.cell.array, relaxed.cell.array))[1]
    shape = stretches / stretches.prod() ** (1 / 3) - 1.0
    if np.abs(shape).max() > LARGEST_STRAIN:
        return nothing
    moved = (relaxed.get_scaled_positions() - ideal.get_scaled_positions()) @ relaxed.cell.array
    vectors = find_mic(moved - moved[0], relaxed.cell.array)[0]
    distances = np.linalg.norm(vectors - vectors.mean(axis=0), axis=1)
    if distances.max() > LARGEST_DISPLACEMENT:
        return nothing
    return {
        "displacement": float(np.sqrt((distances**2).mean())),
        "strain": float(np.linalg.norm(shape)),
    }


def decompositions(hull: pd.DataFrame) -> list[str]:
    """Return what each structure of a hull table falls into, e.g. "0.6 Cu3Pt + 0.4 Pd".

    Parameters
    ----------
    hull
        Columns of hull.csv.

    Returns
    -------
    list of str
        Fractions of the atoms. Of a stable structure: what it would fall into if it were not
        there; nothing for end members.
    """
    columns = [name for name in hull.columns if name.startswith("x_")]
    x = hull[columns].to_numpy(dtype=np.float64)
    stable = np.flatnonzero(is_stable(hull))
    energies = hull["formation_energy"].to_numpy(dtype=np.float64)
    formulas = [str(name) for name in hull["formula"]]
    texts = []
    for i in range(len(hull)):
        others = stable[stable != i]
        fractions = _fractions(x[others], energies[others], x[i])
        texts.append(_sum_of(fractions, [formulas[k] for k in others]))
    return texts


def _fractions(x: Floats, energies: Floats, wanted: Floats) -> Floats:
    """Return the (n,) fractions of the mixture of lowest energy with a composition.

    Empty where no mixture has it. A linear programme: a hull without each structure, one after
    the other, takes minutes in six dimensions.
    """
    if len(x) == 0:
        return np.empty(0)
    answer = linprog(energies, A_eq=x.T, b_eq=wanted, bounds=(0, None), method="highs")
    return np.empty(0) if answer.x is None else np.asarray(answer.x, dtype=np.float64)


def _sum_of(fractions: Floats, formulas: Sequence[str]) -> str:
    return " + ".join(
        f"{fraction:.3g} {formulas[i]}" for i, fraction in enumerate(fractions) if fraction > 1e-6
    )
