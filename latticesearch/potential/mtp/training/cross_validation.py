"""How well potentials predict what they were not trained on: k-fold cross-validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.mtp.lattice import lattice_evaluator
from latticesearch.potential.mtp.offlattice.evaluation import evaluate
from latticesearch.potential.training_set import Energies, rms

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from latticesearch.potential.mtp.coefficients import MtpCoefficients
    from latticesearch.potential.training_set import TrainingSet

    Floats = npt.NDArray[np.float64]


class CrossValidated(NamedTuple):
    """Errors of unseen energies, (n,), eV per site, and of unseen forces, eV/Å (None without)."""

    energies: Floats
    force_rmse: float | None


def cross_validate(
    training: TrainingSet,
    train: Callable[[TrainingSet, npt.NDArray[np.intp]], MtpCoefficients],
    folds: int,
    seed: int,
) -> CrossValidated:
    """Train on all folds but one, predict that one, and so on.

    Labelings of one crystal are in one fold, so that nothing is predicted from itself.

    Parameters
    ----------
    training
        A training set that has been checked.
    train
        Returns the potential of a part of the training set, given with its indices, (n,).
    folds
        2 or more.
    seed
        Of the random folds.

    Raises
    ------
    InputError
        Fewer different configurations than folds, or fewer folds than 2.
    """
    groups = _groups(training)
    n_groups = int(groups.max()) + 1
    if not 2 <= folds <= n_groups:
        raise InputError(
            f"{folds} folds: cross-validation needs 2 or more, and no more than the {n_groups} "
            "different configurations of the training set"
        )
    fold_of = np.random.default_rng(seed).permutation(n_groups)[groups] % folds
    errors, force_errors = np.zeros(len(groups)), [np.zeros(0)]
    for fold in range(folds):
        unseen = np.flatnonzero(fold_of == fold)
        seen = np.flatnonzero(fold_of != fold)
        potential = train(training.subset(seen), seen)
        errors[unseen], forces = _errors(potential, training.subset(unseen))
        force_errors.append(forces)
    forces = np.concatenate(force_errors)
    return CrossValidated(errors, rms(forces) if len(forces) else None)


def _groups(training: TrainingSet) -> npt.NDArray[np.int64]:
    """Return a number for each configuration, (n,), the same for the same crystal."""
    numbers: dict[object, int] = {}
    names: list[object] = []
    for part in training.labelings:
        parent = id(part.batch.supercell.parent)
        keys = part.batch.keys()
        names += [(parent, key) for key in keys]
    names += list(range(len(training.structures)))
    return np.array([numbers.setdefault(name, len(numbers)) for name in names])


def _errors(potential: MtpCoefficients, unseen: TrainingSet) -> tuple[Floats, Floats]:
    """Return the errors of energies, (n,), eV per site, and of all force components, eV/Å."""
    energies = [
        lattice_evaluator(potential, part.batch.supercell).energies(part.batch.labels)
        for part in unseen.labelings
    ]
    forces = [np.zeros(0)]
    for atoms in unseen.structures:
        found = evaluate(potential, atoms)
        energies.append(np.array([found.energy / len(atoms)]))
        known = atoms.calc.results.get("forces")
        if known is not None:
            forces.append(np.ravel(found.forces - known))
    return (
        np.concatenate(energies) - Energies.of(unseen, potential.species).energies,
        np.concatenate(forces),
    )
