"""What a run's potential says of any structure that is a decoration of its parent lattice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from ase import Atoms

from latticesearch.campaign import factories
from latticesearch.campaign.competing import formation_zero, hull_with_phases
from latticesearch.campaign.known import potential_of_run, settings_of_run
from latticesearch.errors import InputError
from latticesearch.lattice import Configuration, MappingFailure, match_to_lattice
from latticesearch.learning import CandidateSet
from latticesearch.learning.posterior import expected_errors
from latticesearch.learning.selection import training_grades

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import numpy.typing as npt

    from latticesearch.campaign.settings import Settings
    from latticesearch.lattice import ParentLattice
    from latticesearch.storage import RunDirectory

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NamedFrame:
    """A structure and where it comes from.

    Parameters
    ----------
    atoms
        The structure.
    file
        Its file; empty where it has none.
    index
        Position in the file.
    """

    atoms: Atoms
    file: str = ""
    index: int = 0

    @property
    def origin(self) -> str:
        """File and position in one word."""
        return f"{self.file or 'structure'}#{self.index}"


def frames_of(source: Atoms | str | os.PathLike[str]) -> list[NamedFrame]:
    """Return the structures of a file that ASE reads, or one structure.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    if isinstance(source, Atoms):
        return [NamedFrame(source)]
    from ase.io import read

    path = Path(source)
    try:
        frames = read(path, index=":", parallel=False)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"cannot read a structure from {path}: {reason}") from error
    return [NamedFrame(atoms, str(path), i) for i, atoms in enumerate(frames)]


def predict(run: RunDirectory, frames: Sequence[NamedFrame]) -> pd.DataFrame:
    """Return energies, errors to expect and heights above the hull of structures.

    Parameters
    ----------
    run
        A run with a potential.
    frames
        Structures, relaxed or not; each is mapped to the parent lattice.

    Returns
    -------
    DataFrame
        One row per structure, in the order given: file, frame (position in the file), formula,
        n_atoms; energy, formation_energy, energy_above_hull, uncertainty (the potential's error
        to expect), eV/atom; grade; oracle_energy (eV/atom, NaN where it was not computed);
        nearest (formula and key of the computed structure that is most like it); key; reason (why
        it is not on the lattice, in which case the numbers are NaN).

    Raises
    ------
    InputError
        The run has no potential yet, or no structure is on its lattice.
    """
    settings = settings_of_run(run)
    parent = factories.parent_lattice(settings)
    matches = [match_to_lattice(frame.atoms, parent) for frame in frames]
    found = [m.configuration.canonical() for m in matches if not isinstance(m, MappingFailure)]
    if not found:
        raise InputError(_nowhere(run.path, frames, matches[0]))
    table = _said(run, settings, parent, found)
    origin = {"file": [f.file for f in frames], "frame": [f.index for f in frames]}
    off = [i for i, match in enumerate(matches) if isinstance(match, MappingFailure)]
    table.index = pd.Index([i for i in range(len(frames)) if i not in off])
    result = pd.DataFrame(origin).join(table)
    result["reason"] = [str(m) if i in off else "" for i, m in enumerate(matches)]
    for i in off:
        atoms = frames[i].atoms
        result.loc[i, "formula"] = atoms.get_chemical_formula("metal", empirical=True)
        result.loc[i, "n_atoms"] = len(atoms)
        result.loc[i, ["nearest", "key"]] = ""
    return result.astype({"n_atoms": "int64"})


def _nowhere(path: Path, frames: Sequence[NamedFrame], why: object) -> str:
    """Return the line about structures of which none is on the lattice."""
    if len(frames) == 1:
        return f"{frames[0].origin} is no decoration of the lattice of {path}: {why}"
    return (
        f"none of the {len(frames)} structures is a decoration of the lattice of {path}; "
        f"{frames[0].origin}: {why}"
    )


def _said(
    run: RunDirectory,
    settings: Settings,
    parent: ParentLattice,
    found: Sequence[Configuration],
) -> pd.DataFrame:
    """Return what is said of structures that are on the lattice, a row for each."""
    potential = potential_of_run(run, settings, parent)
    table = run.read_candidates()
    if potential is None or table is None:
        raise InputError(f"{run.path} has no potential yet; see latticesearch status {run.path}")
    known = table[table.oracle_energy.notna()].set_index("key").oracle_energy
    candidates = _candidates(parent, [*known.index], found)
    rows = np.array([candidates.index(one.key) for one in found])
    training = np.array([candidates.index(key) for key in known.index])
    energies = candidates.energies(potential)[rows]
    features = candidates.learning_rows(potential)
    phases, x = factories.phases(settings, parent), candidates.compositions
    true = known.to_numpy()
    hull = hull_with_phases(x[training], true, phases)
    kind = settings.competing.formation_energy
    zero = formation_zero(kind, x[training], true, phases, candidates.elements)
    nearest = _nearest(features, training)[rows]
    return pd.DataFrame(
        {
            "formula": [one.formula for one in found],
            "n_atoms": [one.n_atoms for one in found],
            "energy": energies,
            "formation_energy": zero.formation_energies(x[rows], energies),
            "energy_above_hull": hull.energy_above_hull(x[rows], energies),
            "uncertainty": _uncertainty(run, features, x, training)[rows],
            "grade": training_grades(features, training)[rows],
            "oracle_energy": [known.get(one.key, np.nan) for one in found],
            "nearest": [f"{candidates.formulas[i]} {candidates.keys[i]}" for i in nearest],
            "key": [one.key for one in found],
        }
    )


def _candidates(
    parent: ParentLattice, keys: Sequence[str], configurations: Sequence[Configuration]
) -> CandidateSet:
    """Return the computed structures of a run and those asked about, each once."""
    candidates = CandidateSet(parent)
    computed = (Configuration.from_key(parent, key) for key in keys)
    candidates.add_configurations([*computed, *configurations], "given")
    return candidates


def _uncertainty(
    run: RunDirectory, features: Floats, x: Floats, training: npt.NDArray[np.intp]
) -> Floats:
    """Return the error to expect of each prediction, (n,) eV/atom; NaN where nothing was fitted."""
    fits = [event for event in run.events() if event["event"] == "fit"]
    left_out = fits[-1]["figures"].get("left_out") if fits else None
    if left_out is None:
        return np.full(len(x), np.nan)
    return expected_errors(features, x, training, np.full(len(training), float(left_out)))


def _nearest(features: Floats, training: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return (n,) which training structure is most like each by its features."""
    spread = features.std(axis=0)
    scaled = features / np.where(spread > 0.0, spread, 1.0)
    known = scaled[training]
    squares = (scaled**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2.0 * scaled @ known.T
    nearest: npt.NDArray[np.intp] = training[squares.argmin(axis=1)]
    return nearest
