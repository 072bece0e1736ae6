"""What is known already: the potential and the energies of a run, and those that are given."""

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

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from latticesearch.campaign.settings import Settings
    from latticesearch.lattice import ParentLattice
    from latticesearch.potential import Potential, TrainingSet
    from latticesearch.storage import RunDirectory, StoredResult


AGREEING = 0.002
"""eV/atom; two calculations of one structure by one code differ by less."""


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


def results_of_run(run: RunDirectory) -> dict[str, StoredResult]:
    """Return what a run knows by key: what it has computed, else what it took from elsewhere."""
    computed, others = run.store.by_key(), run.known.by_key()
    done = {key: stored for key, stored in computed.items() if stored.status == "done"}
    return {**computed, **others, **done}


def energies_of_run(run: RunDirectory) -> KnownEnergies:
    """Return the energies that a run knows, computed or taken from elsewhere."""
    results = results_of_run(run).values()
    energies = believed_energies(results)
    return KnownEnergies(energies, len(results) - len(energies))


def believed_energies(results: Iterable[StoredResult]) -> dict[str, float]:
    """Return the energies of the results that have one and are on the lattice, eV/atom by key."""
    energies = {stored.key: believed_energy(stored.result) for stored in results}
    return {key: energy for key, energy in energies.items() if np.isfinite(energy)}


def reference_energies(settings: Settings, parent: ParentLattice) -> dict[str, float]:
    """Return the energies of end members that the settings give, eV/atom by key.

    Of a pure element there may be several end members: the other sites of some are vacant.
    """
    given = settings.oracle.references
    ends = end_members(parent).canonical()
    return {
        one.key: given[one.symbols[0]]
        for one in ends
        if len(one.symbols) == 1 and one.symbols[0] in given
    }


def with_references(
    known: KnownEnergies, settings: Settings, parent: ParentLattice
) -> KnownEnergies:
    """Return the energies with the campaign's given ones of the pure elements, which win."""
    energies = {**known.per_atom, **reference_energies(settings, parent)}
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
