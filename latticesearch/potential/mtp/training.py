"""Training of moment tensor potentials from energies of labelings: robust with few data.

The linear coefficients are solved for exactly inside (variable projection), the values of the
radial functions at the shells of the lattice are iterated outside, both under a ridge in units in
which everything is of the order of one. Several deterministic starts; the one that predicts left
out energies best is kept.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.errors import InputError
from latticesearch.lattice.parent import VACANCY
from latticesearch.parallel import SerialComm, collective_errors
from latticesearch.potential.mtp.offlattice import evaluate
from latticesearch.potential.mtp.problem import TrainingProblem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.lattice import Labelings
    from latticesearch.parallel import Communicator
    from latticesearch.potential.mtp.basis import MtpBasis
    from latticesearch.potential.mtp.model import MtpPotential
    from latticesearch.potential.mtp.problem import Trial

    Floats = npt.NDArray[np.float64]

log = logging.getLogger(__name__)

CONTRADICTION = 0.05
"""eV/site; two energies of one structure further apart cannot both be right."""


@dataclass(frozen=True, eq=False)
class LabelledBatch:
    """Labelings with known energies.

    Parameters
    ----------
    batch
        n labelings of one supercell.
    energies
        (n,), eV per site (vacancies are sites).
    weights
        Importance of each, (n,); all one if None.
    """

    batch: Labelings
    energies: Floats
    weights: Floats | None = None


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What a potential is trained on.

    Parameters
    ----------
    labelings
        Energies on the ideal lattice (of relaxed structures, if the potential is to know
        nothing but the lattice).
    structures
        Structures with the results of a calculator: energy, forces and stress where known.
    force_weight
        Å: the root mean square error of a structure's forces, eV/Å, times this counts like an
        error of its energy, eV/atom.
    stress_weight
        The root mean square error of a structure's stress times its volume per atom, eV/atom,
        times this counts like an error of its energy.
    """

    labelings: tuple[LabelledBatch, ...] = ()
    structures: tuple[Atoms, ...] = ()
    force_weight: float = 0.1
    stress_weight: float = 0.1


@dataclass(frozen=True)
class Regularisation:
    """Strengths of the two ridges, for energies scaled to unit spread.

    Parameters
    ----------
    linear
        On the coefficients of the basis functions, each scaled by its spread in the training set.
    radial
        On the radial functions' distance from where they started, in units in which the moments
        have unit spread on a random lattice.
    """

    linear: float = 1e-2
    radial: float = 1e-2


@dataclass(frozen=True)
class FitReport:
    """How well a potential fits.

    Parameters
    ----------
    n_data
        Number of energies fitted to.
    n_parameters
        Number of coefficients of the potential.
    effective_parameters
        How many of them the data determine rather than the ridges.
    energy_rmse, energy_mae
        Of the training set, meV per site.
    left_out_rmse
        Root mean square error of energies not fitted to, estimated by leaving out one at a time
        from the linearised problem, meV per site.
    left_out_errors
        The errors behind it, meV per site: labelings in the order of the training set, then
        structures.
    force_rmse, stress_rmse
        Of the training set, eV/Å and eV/Å³; None without forces or stresses.
    iterations
        Of the start that was kept.
    n_starts
        How many were tried.
    seconds
        Wall time.
    warnings
        One line for each weakness of the data.
    """

    n_data: int
    n_parameters: int
    effective_parameters: float
    energy_rmse: float
    energy_mae: float
    left_out_rmse: float
    force_rmse: float | None
    stress_rmse: float | None
    iterations: int
    n_starts: int
    seconds: float
    warnings: tuple[str, ...] = ()
    left_out_errors: tuple[float, ...] = ()


def fit(
    basis: MtpBasis,
    training: TrainingSet,
    *,
    regularisation: Regularisation | None = None,
    initial: MtpPotential | None = None,
    n_starts: int = 3,
    seed: int = 0,
    max_iterations: int = 40,
    comm: Communicator | None = None,
) -> tuple[MtpPotential, FitReport]:
    """Train a moment tensor potential.

    Parameters
    ----------
    basis
        Level, species, cutoff and radial size.
    training
        Energies to fit to.
    regularisation
        Strengths of the ridges.
    initial
        A potential of this basis to start from and to stay near to; one start instead of several.
    n_starts
        Number of starts without `initial`; the one with the smallest left-out error is kept.
    seed
        Of the starts.
    max_iterations
        Of each start.
    comm
        Ranks that share the starts; the result is the same for any number of them.

    Raises
    ------
    InputError
        Fewer than two data, energies that are not finite, species missing in the data or in the
        basis, or one structure with two energies more than 50 meV per site apart.
    """
    started = time.monotonic()
    comm = comm or SerialComm()
    form = _form(basis, initial)
    labelings = tuple(_checked(part, basis.species) for part in training.labelings)
    training = replace(training, labelings=labelings)
    _check_all(training, basis.species)
    problem = TrainingProblem.of(form, training)
    if initial is None:
        starts = [problem.start(seed, index) for index in range(n_starts)]
    else:
        starts = [problem.radial.of(initial.radial_coeffs)]
    ridges = regularisation or Regularisation()
    indices = range(comm.rank, len(starts), comm.size)
    with collective_errors(comm):
        trials = [(k, problem.solve(starts[k], ridges, max_iterations)) for k in indices]
    found = sorted((item for part in comm.allgather(trials) for item in part), key=itemgetter(0))
    best = min((trial for _, trial in found), key=problem.left_out_rmse)
    potential = problem.potential(best)
    warnings = tuple(_unseen_pairs(problem))
    for warning in warnings:
        log.warning("%s", warning)
    return potential, FitReport(
        **_errors(problem, best, potential, training),
        n_parameters=potential.n_parameters,
        effective_parameters=best.solution.effective_parameters,
        iterations=best.solution.iterations,
        n_starts=len(starts),
        seconds=time.monotonic() - started,
        warnings=warnings,
    )


def _form(basis: MtpBasis, initial: MtpPotential | None) -> MtpPotential:
    """Return a potential of the basis; `initial` if it is one."""
    form = basis.potential(np.zeros(basis.n_parameters))
    if initial is None:
        return form
    same = (
        initial.species == form.species
        and initial.radial_coeffs.shape == form.radial_coeffs.shape
        and np.array_equal(initial.alpha_index_times, form.alpha_index_times)
        and (initial.min_dist, initial.max_dist) == (form.min_dist, form.max_dist)
    )
    if not same:
        raise InputError(
            f"the potential to start from ({', '.join(initial.species)}, "
            f"{len(initial.moment_coeffs)} basis functions, cutoff {initial.max_dist:g} Å) is not "
            f"of the basis ({', '.join(form.species)}, {len(form.moment_coeffs)} basis functions, "
            f"cutoff {form.max_dist:g} Å): start without it"
        )
    return initial


def _errors(
    problem: TrainingProblem, trial: Trial, potential: MtpPotential, training: TrainingSet
) -> dict[str, Any]:
    """Return the figures of merit that compare with the data."""
    errors = 1e3 * problem.energy_errors(trial)
    forces, stresses = [], []
    for atoms in training.structures:
        found, known = evaluate(potential, atoms), atoms.calc.results
        if known.get("forces") is not None:
            forces.append(np.ravel(found.forces - known["forces"]))
        if known.get("stress") is not None and atoms.pbc.all():
            stresses.append(found.stress - known["stress"])
    return {
        "n_data": len(errors),
        "energy_rmse": _rms(errors),
        "energy_mae": float(np.mean(np.abs(errors))),
        "left_out_rmse": 1e3 * problem.left_out_rmse(trial),
        "left_out_errors": tuple((1e3 * problem.left_out_errors(trial)).tolist()),
        "force_rmse": _rms(np.concatenate(forces)) if forces else None,
        "stress_rmse": _rms(np.concatenate(stresses)) if stresses else None,
    }


def _rms(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _unseen_pairs(problem: TrainingProblem) -> Iterator[str]:
    """Yield a line for each pair of species that are never neighbours."""
    species = problem.form.species
    for centre, neighbour in np.argwhere(~problem.seen_pairs):
        yield (
            f"no {species[neighbour]} within {problem.form.max_dist:g} Å of any "
            f"{species[centre]} in the training set: their interaction is a guess"
        )


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
    if not (np.isfinite(weights).all() and (weights > 0.0).all()):
        raise InputError("weights of training energies must be positive: leave out what counts 0")
    unknown = [symbol for symbol in _symbols(part.batch) if symbol not in species]
    if unknown:
        raise InputError(
            f"the training set has {', '.join(unknown)}, the basis only {', '.join(species)}: "
            "make a basis of all species"
        )
    return replace(part, energies=energies, weights=weights)


def _check_all(training: TrainingSet, species: tuple[str, ...]) -> None:
    """Complain about what only all data together can be wrong about."""
    n_data = sum(len(part.batch) for part in training.labelings) + len(training.structures)
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
    if VACANCY in species and training.structures:
        raise InputError(
            f"structures have no vacancies ({VACANCY}) as a species: train on labelings alone"
        )
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
