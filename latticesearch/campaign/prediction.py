"""What a run's potential says of any structure that is a decoration of its parent lattice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from latticesearch.campaign import factories
from latticesearch.campaign.known import potential_of_run, settings_of_run
from latticesearch.errors import InputError
from latticesearch.hull import Hull
from latticesearch.lattice import Configuration, map_to_lattice
from latticesearch.learning import CandidateSet
from latticesearch.learning.acquisition import training_grades

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.lattice import ParentLattice
    from latticesearch.storage import RunDirectory


def predict(run: RunDirectory, frames: Sequence[Atoms]) -> pd.DataFrame:
    """Return energies, grades and heights above the hull of structures.

    Parameters
    ----------
    run
        A run with a potential.
    frames
        Structures, relaxed or not; each is mapped to the parent lattice.

    Returns
    -------
    DataFrame
        One row per structure that is on the lattice, in the order given: frame (position among
        `frames`), formula, n_atoms, energy, energy_above_hull (eV/atom), grade, oracle_energy
        (NaN where it was not computed), key.

    Raises
    ------
    InputError
        The run has no potential yet, or no structure is on its lattice.
    """
    settings = settings_of_run(run)
    parent = factories.parent_lattice(settings)
    potential = potential_of_run(run, settings, parent)
    table = run.read_candidates()
    if potential is None or table is None:
        raise InputError(f"{run.path} has no potential yet; see latticesearch status {run.path}")
    found = [
        (i, match.configuration.canonical())
        for i, frame in enumerate(frames)
        if (match := map_to_lattice(frame, parent)) is not None
    ]
    if not found:
        raise InputError(
            f"none of the {len(frames)} structures is a decoration of the lattice of {run.path}"
        )
    known = table[table.oracle_energy.notna()].set_index("key").oracle_energy
    candidates = _candidates(parent, [*known.index], [c for _, c in found])
    rows = [candidates.index(c.key) for _, c in found]
    energies = candidates.energies(potential)
    training = np.array([candidates.index(key) for key in known.index])
    grades = training_grades(candidates.learning_rows(potential), training)
    hull = Hull(candidates.compositions[training], known.to_numpy())
    above = hull.energy_above_hull(candidates.compositions[rows], energies[rows])
    return _table(found, energies[rows], above, grades[rows], known)


def _candidates(
    parent: ParentLattice, keys: Sequence[str], configurations: Sequence[Configuration]
) -> CandidateSet:
    """Return the computed structures of a run and those asked about, each once."""
    candidates = CandidateSet(parent)
    computed = (Configuration.from_key(parent, key) for key in keys)
    candidates.add_configurations([*computed, *configurations], "given")
    return candidates


def _table(
    found: Sequence[tuple[int, Configuration]],
    energies: npt.NDArray[np.float64],
    above: npt.NDArray[np.float64],
    grades: npt.NDArray[np.float64],
    known: pd.Series[float],
) -> pd.DataFrame:
    """Return one row per structure."""
    return pd.DataFrame(
        {
            "frame": [i for i, _ in found],
            "formula": [c.formula for _, c in found],
            "n_atoms": [c.n_atoms for _, c in found],
            "energy": energies,
            "energy_above_hull": above,
            "grade": grades,
            "oracle_energy": [known.get(c.key, np.nan) for _, c in found],
            "key": [c.key for _, c in found],
        }
    )
