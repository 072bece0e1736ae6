"""What is known already: the potential and the energies of a run, and energies in files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.campaign import factories
from latticesearch.campaign.answers import believed_energy
from latticesearch.campaign.settings import settings_of_record
from latticesearch.campaign.space import end_members
from latticesearch.errors import InputError
from latticesearch.lattice import Configuration
from latticesearch.learning import CandidateSet
from latticesearch.oracles import OracleJob
from latticesearch.oracles.recorded import RecordedOracle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from latticesearch.campaign.settings import Settings
    from latticesearch.lattice import ParentLattice
    from latticesearch.potential import Potential, TrainingSet
    from latticesearch.storage import RunDirectory


@dataclass(frozen=True)
class KnownEnergies:
    """Energies by canonical key.

    Parameters
    ----------
    per_atom
        eV/atom.
    n_skipped
        Results that cannot be used: failed, without energy, or off the lattice.
    """

    per_atom: Mapping[str, float]
    n_skipped: int


def settings_of_run(run: RunDirectory) -> Settings:
    """Return the settings that a run has at present."""
    return settings_of_record(run.read_settings(), run.path)


def potential_of_run(
    run: RunDirectory, settings: Settings, parent: ParentLattice
) -> Potential | None:
    """Return the current potential of a run; None where it has none yet.

    Raises
    ------
    InputError
        Potentials of this kind are trained, but have no text form that a run could keep.
    """
    kind = factories.potential_kind(settings)
    if (text := run.read_potential(suffix=kind.suffix)) is not None:
        return kind.parse(text, parent)
    start = factories.start_potential(settings, parent)
    if not hasattr(start, "fit"):
        return start
    if not hasattr(start, "text"):
        raise InputError(
            f"{run.path} keeps no potential: those of kind {kind.name} have no text form"
        )
    return None


def energies_of_run(run: RunDirectory) -> KnownEnergies:
    """Return what the oracle of a run has answered."""
    energies, n_skipped = {}, 0
    for stored in run.store.by_key().values():
        energy = believed_energy(stored.result)
        if np.isfinite(energy):
            energies[stored.key] = energy
        else:
            n_skipped += 1
    return KnownEnergies(energies, n_skipped)


def energies_of_files(
    files: Sequence[Path], parent: ParentLattice, select: Mapping[str, object] | None = None
) -> KnownEnergies:
    """Return the energies of the structures in files that are decorations of the lattice.

    Of several structures with one key the lowest energy counts.

    Raises
    ------
    InputError
        A file cannot be read or has no such structure.
    """
    energies: dict[str, float] = {}
    n_skipped = 0
    for file in files:
        table = RecordedOracle(file, parent, select=select)
        n_skipped += table.n_skipped
        configurations = [Configuration.from_key(parent, key) for key in table.keys]
        jobs = [
            OracleJob(key, configuration.to_atoms(), 1)
            for key, configuration in zip(table.keys, configurations, strict=True)
        ]
        for job, result in zip(jobs, table.run(jobs), strict=True):
            energy = believed_energy(result)
            energies[job.key] = min(energy, energies.get(job.key, np.inf))
    return KnownEnergies(energies, n_skipped)


def with_references(
    known: KnownEnergies, settings: Settings, parent: ParentLattice
) -> KnownEnergies:
    """Return the energies with the campaign's given ones of the pure elements, which win."""
    energies = dict(known.per_atom)
    for configuration in end_members(parent).canonical():
        symbols = configuration.symbols
        if len(symbols) == 1 and symbols[0] in settings.oracle.references:
            energies[configuration.key] = settings.oracle.references[symbols[0]]
    return KnownEnergies(energies, known.n_skipped)


def training_set(known: KnownEnergies, parent: ParentLattice) -> TrainingSet:
    """Return the energies as batches of labelings, eV per site, in the order of the keys.

    Raises
    ------
    InputError
        There are none.
    """
    if not known.per_atom:
        raise InputError("there are no energies to train on")
    candidates = CandidateSet(parent)
    keys = sorted(known.per_atom)
    candidates.add_configurations((Configuration.from_key(parent, key) for key in keys), "known")
    energies = [known.per_atom[key] for key in candidates.keys]
    return candidates.training_set(range(len(candidates)), energies)
