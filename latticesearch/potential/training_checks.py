"""What the labelings of a training set can be wrong about, found before anything is fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.lattice.parent import VACANCY
from latticesearch.potential.training_set import Energies, scatter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Labelings
    from latticesearch.potential.training_set import LabelledBatch, TrainingSet

    Floats = npt.NDArray[np.float64]

CONTRADICTION = 0.05
"""eV/site; two energies of one structure further apart cannot both be right."""

PER_CELL_SCATTER = 0.3
"""eV/site; energies that are per cell scatter more about the species' energies."""

PER_CELL_GAIN = 10.0
"""Energies are per cell if dividing by the number of sites makes them scatter this much less."""


def checked(training: TrainingSet, species: tuple[str, ...]) -> TrainingSet:
    """Return the training set with arrays of the right type, or complain about one batch."""
    labelings = tuple(_checked(part, species) for part in training.labelings)
    return replace(training, labelings=labelings, structures=tuple(training.structures))


def _checked(part: LabelledBatch, species: tuple[str, ...]) -> LabelledBatch:
    """Return the batch with arrays of the right type, or complain about what is in it."""
    n = len(part.batch)
    energies = np.asarray(part.energies, dtype=np.float64)
    weights = np.ones(n) if part.weights is None else np.asarray(part.weights, dtype=np.float64)
    if energies.shape != (n,) or weights.shape != (n,):
        raise InputError(
            f"{n} labelings need as many energies and weights, not {energies.shape} and "
            f"{weights.shape}"
        )
    if not np.isfinite(energies).all():
        bad = int(np.flatnonzero(~np.isfinite(energies))[0])
        raise InputError(
            f"the energy of {part.batch[bad].formula} ({part.batch[bad].key}) is {energies[bad]}: "
            "leave failed calculations out of the training set"
        )
    _check_positive(weights)
    unknown = [symbol for symbol in _symbols(part.batch) if symbol not in species]
    if unknown:
        raise InputError(
            f"the training set has {', '.join(unknown)}, the basis only {', '.join(species)}: "
            "make a basis of all species"
        )
    return replace(part, energies=energies, weights=weights)


def _check_positive(weights: Floats) -> None:
    """Complain about `weights`, (n,), that are not positive numbers."""
    if not (np.isfinite(weights).all() and (weights > 0.0).all()):
        raise InputError("weights of training energies must be positive: leave out what counts 0")


def checked_weights(training: TrainingSet, weights: npt.ArrayLike | None) -> Floats:
    """Return the weight of every configuration, (n,): its batch's times the one given here."""
    own = [part.weights for part in training.labelings if part.weights is not None]
    every = np.concatenate([*own, np.ones(len(training.structures))])
    if weights is None:
        return every
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != every.shape:
        raise InputError(
            f"{len(every)} training configurations need as many weights, not {given.shape}: one "
            "for each labeling, then one for each structure"
        )
    _check_positive(given)
    return every * given


def check_all(training: TrainingSet, species: tuple[str, ...]) -> None:
    """Complain about what only all data together can be wrong about."""
    n_data = len(training)
    if n_data < 2:
        raise InputError(f"{n_data} training energies: at least 2 are needed to fit anything")
    present = {symbol for part in training.labelings for symbol in _symbols(part.batch)}
    present.update(*(atoms.get_chemical_symbols() for atoms in training.structures))
    missing = [symbol for symbol in species if symbol not in present]
    if missing:
        raise InputError(
            f"no training structure contains {', '.join(missing)}: add some, or leave the species "
            "out of the basis"
        )
    if n_data <= len(species):
        raise InputError(
            f"{n_data} training energies for {len(species)} species fix no more than one energy "
            f"per species: at least {len(species) + 1} are needed, ten times as many are useful"
        )
    if VACANCY in species and training.structures:
        raise InputError(
            f"structures have no vacancies ({VACANCY}) as a species: train on labelings alone"
        )
    _check_per_site(training, species)
    _check_duplicates(training.labelings)


def _symbols(batch: Labelings) -> list[str]:
    """Return the species that occur in a batch."""
    occurring = np.flatnonzero(batch.counts.sum(axis=0))
    return [batch.supercell.parent.species[s] for s in occurring]


def _check_duplicates(batches: Sequence[LabelledBatch]) -> None:
    first: dict[tuple[int, str], float] = {}
    for part in batches:
        for key, energy in zip(part.batch.keys(), part.energies.tolist(), strict=True):
            known = first.setdefault((id(part.batch.supercell.parent), key), energy)
            if abs(known - energy) > CONTRADICTION:
                raise InputError(
                    f"the structure {key} has two energies, {known:.6f} and {energy:.6f} eV/site, "
                    f"more than {CONTRADICTION * 1e3:.0f} meV/site apart: remove the wrong one"
                )


def _check_per_site(training: TrainingSet, species: tuple[str, ...]) -> None:
    """Complain if energies make sense only after division by the number of sites."""
    known = Energies.of(replace(training, structures=()), species)
    sizes = [np.full(len(p.batch), p.batch.supercell.n_sites) for p in training.labelings]
    n_sites = np.concatenate([np.zeros(0), *sizes])
    if len(np.unique(n_sites)) < 2 or len(n_sites) <= len(species) + 2:
        return
    given = scatter(known.fractions, known.energies)
    divided = scatter(known.fractions, known.energies / n_sites)
    # Division makes everything smaller; only what it does to the scatter beyond that counts.
    if given > PER_CELL_SCATTER and given > PER_CELL_GAIN * divided * n_sites.mean():
        raise InputError(
            f"the energies scatter by {given:.3g} eV about the species' energies, but by "
            f"{divided:.3g} eV if divided by the number of sites: they are per cell, give them per "
            "site"
        )
