"""Training sets of the results of a run, or of structure files, on the campaign's lattice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.campaign import factories
from latticesearch.errors import InputError
from latticesearch.lattice import Configuration, Labelings
from latticesearch.lattice.parent import VACANCY
from latticesearch.oracles import OracleJob
from latticesearch.oracles.recorded import RecordedOracle
from latticesearch.potential import LabelledBatch, TrainingSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from latticesearch.campaign.settings import Settings
    from latticesearch.lattice import ParentLattice
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


def energies_of_run(run: RunDirectory) -> KnownEnergies:
    """Return what the oracle of a run has answered."""
    energies, n_skipped = {}, 0
    for stored in run.store.by_key().values():
        result = stored.result
        if result.status != "done" or not result.on_lattice:
            n_skipped += 1
            continue
        assert result.energy is not None
        assert result.atoms is not None
        energies[stored.key] = result.energy / len(result.atoms)
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
            assert result.energy is not None
            energy = result.energy / len(job.atoms)
            energies[job.key] = min(energy, energies.get(job.key, np.inf))
    return KnownEnergies(energies, n_skipped)


def with_references(
    known: KnownEnergies, settings: Settings, parent: ParentLattice
) -> KnownEnergies:
    """Return the energies with the campaign's given ones of the pure elements, which win."""
    energies = dict(known.per_atom)
    for configuration in factories.end_members(parent):
        symbols = {parent.species[k] for k in np.flatnonzero(configuration.counts)} - {VACANCY}
        if len(symbols) == 1 and (symbol := symbols.pop()) in settings.oracle.references:
            energies[configuration.key] = settings.oracle.references[symbol]
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
    groups: dict[tuple[int, ...], list[tuple[Configuration, float]]] = {}
    for key in sorted(known.per_atom):
        one = Configuration.from_key(parent, key)
        per_site = known.per_atom[key] * one.n_atoms / one.supercell.n_sites
        name = tuple(int(v) for v in one.supercell.hnf.ravel())
        groups.setdefault(name, []).append((one, per_site))
    return TrainingSet(
        tuple(
            LabelledBatch(
                Labelings(group[0][0].supercell, np.array([c.labels for c, _ in group], np.int8)),
                np.array([energy for _, energy in group]),
            )
            for group in groups.values()
        )
    )
