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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.errors import InputError
from latticesearch.parallel import SerialComm, collective_errors
from latticesearch.potential.mtp.environments import LatticeEnvironments, RadialCoordinates
from latticesearch.potential.mtp.tables import parent_neighbours
from latticesearch.potential.mtp.varpro import SeparableProblem, solve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.lattice import Labelings
    from latticesearch.parallel import Communicator
    from latticesearch.potential.mtp.basis import MtpBasis
    from latticesearch.potential.mtp.model import MtpPotential
    from latticesearch.potential.mtp.varpro import Solution

    Floats = npt.NDArray[np.float64]

log = logging.getLogger(__name__)

CONTRADICTION = 0.05
"""eV/site; two energies of one structure further apart cannot both be right."""

SPECIES_RIDGE = 1e-8
"""Ridge of the species' energies: only decides where the compositions leave them open."""

SMALLEST_SPREAD = 1e-4
"""eV/site; energies that scatter less than this about the species' energies scatter by noise."""

START_NOISE = 0.3
"""Spread of the random part of the first radial functions, relative to the contrast."""

SHELL_DIGITS = 6
"""Decimals, Å, in which the distances of one shell agree."""

CONSTANT, TINY = 1e-3, 1e-12
"""Smallest scale of a column relative to its largest entry, and at all."""

CONVERGED = 1e-5
"""Relative decrease of the cost by the last step of a fit."""


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
        Structures with calculated energies, and forces and stress if they have them.
    """

    labelings: tuple[LabelledBatch, ...] = ()
    structures: tuple[Atoms, ...] = ()


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
        Number of energies, forces and stresses fitted to.
    n_parameters
        Number of coefficients of the potential.
    effective_parameters
        How many of them the data determine rather than the ridges.
    energy_rmse, energy_mae
        Of the training set, meV per site.
    left_out_rmse
        Root mean square error of energies not fitted to, estimated by leaving out one at a time
        from the linearised problem, meV per site.
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
    iterations: int
    n_starts: int
    seconds: float
    warnings: tuple[str, ...] = ()


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
    batches = [_checked(part, basis.species) for part in training.labelings]
    _check_all(batches, basis.species)
    problem = _Problem.of(basis, batches, regularisation or Regularisation(), initial)
    keys = [None] if initial is not None else list(range(n_starts))
    mine = keys[comm.rank :: comm.size]
    with collective_errors(comm):
        found = [(k, problem.solve(problem.start(seed, k), max_iterations)) for k in mine]
    everything = [item for part in comm.allgather(found) for item in part]
    best = min(everything, key=lambda item: (problem.left_out_rmse(item[1]), item[0] or 0))[1]
    potential = problem.potential(best)
    report = problem.report(best, len(keys), time.monotonic() - started)
    for warning in report.warnings:
        log.warning("%s", warning)
    return potential, report


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
    symbols = part.batch.supercell.parent.species
    present = [s for s, n in zip(symbols, part.batch.counts.sum(axis=0), strict=True) if n]
    unknown = [symbol for symbol in present if symbol not in species]
    if unknown:
        raise InputError(
            f"the training set has {', '.join(unknown)}, the basis only {', '.join(species)}: "
            "make a basis of all species"
        )
    return replace(part, energies=energies, weights=weights)


def _check_all(batches: Sequence[LabelledBatch], species: tuple[str, ...]) -> None:
    """Complain about what only all batches together can be wrong about."""
    n_data = sum(len(part.batch) for part in batches)
    if n_data < 2:
        raise InputError(f"{n_data} training energies: at least 2 are needed to fit anything")
    present = {
        symbol
        for part in batches
        for symbol, n in zip(
            part.batch.supercell.parent.species, part.batch.counts.sum(axis=0), strict=True
        )
        if n
    }
    missing = [symbol for symbol in species if symbol not in present]
    if missing:
        raise InputError(
            f"no training structure contains {', '.join(missing)}: add some, or leave the species "
            "out of the basis"
        )
    _check_duplicates(batches)


def _check_duplicates(batches: Sequence[LabelledBatch]) -> None:
    first: dict[str, float] = {}
    for part in batches:
        for key, energy in zip(part.batch.keys(), part.energies.tolist(), strict=True):
            known = first.setdefault(key, energy)
            if abs(known - energy) > CONTRADICTION:
                raise InputError(
                    f"the structure {key} has two energies, {known:.6f} and {energy:.6f} eV/site, "
                    f"more than {CONTRADICTION * 1e3:.0f} meV/site apart: remove the wrong one"
                )


class _Trial(NamedTuple):
    """The result of one start; `scales` are the units of the linear coefficients."""

    solution: Solution
    scales: Floats


class _Weighted:
    """A `Design` whose rows are multiplied by weights, (n_rows,)."""

    def __init__(self, design: LatticeEnvironments, weights: Floats, scales: Floats) -> None:
        self._design, self._weights, self._scales = design, weights[:, None], scales

    def columns(self, coordinates: Floats) -> tuple[Floats, Floats]:
        matrix, state = self._design.columns(coordinates)
        return self._weights * matrix / self._scales, state

    def slopes(self, state: Floats, linear: Floats) -> Floats:
        return self._weights * self._design.slopes(state, linear / self._scales)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Data and form of one fit in the units of `Regularisation`.

    ``targets * spread + fractions @ references`` are the energies per site.
    """

    basis: MtpBasis
    form: MtpPotential
    radial: RadialCoordinates
    environments: LatticeEnvironments
    regularisation: Regularisation
    initial: MtpPotential | None
    energies: Floats
    root_weights: Floats
    references: Floats
    spread: float

    @classmethod
    def of(
        cls,
        basis: MtpBasis,
        batches: Sequence[LabelledBatch],
        regularisation: Regularisation,
        initial: MtpPotential | None,
    ) -> _Problem:
        form = basis.potential(np.zeros(basis.n_parameters)) if initial is None else initial
        distances, multiplicities = _shells(batches, form.max_dist)
        radial = RadialCoordinates.at(distances, np.sqrt(multiplicities), form)
        environments = LatticeEnvironments.of(form, radial, [part.batch for part in batches])
        energies = np.concatenate([part.energies for part in batches])
        weights = np.sqrt(np.concatenate([part.weights for part in batches]))
        weights /= np.sqrt(np.mean(weights**2))
        references = np.linalg.lstsq(
            weights[:, None] * environments.fractions, weights * energies, rcond=1e-10
        )[0]
        rest = weights * (energies - environments.fractions @ references)
        spread = max(float(np.sqrt(np.mean(rest**2))), SMALLEST_SPREAD)
        return cls(
            basis,
            form,
            radial,
            environments,
            regularisation,
            initial,
            energies,
            weights,
            references,
            spread,
        )

    @property
    def targets(self) -> Floats:
        """Weighted energies to fit to, of unit spread."""
        excess: Floats = self.energies - self.environments.fractions @ self.references
        return self.root_weights * excess / self.spread

    def start(self, seed: int, index: int | None) -> Floats:
        """Return the first coordinates: those of `initial`, or start number `index`."""
        if self.initial is not None:
            return self._coordinates(self.initial.radial_coeffs)
        n_species, n_radial = len(self.basis.species), self.basis.n_radial
        rng = np.random.default_rng([seed, 0 if index is None else index])
        width = self.radial.n_coordinates
        profiles = rng.normal(size=(n_radial, width))
        profiles[0] = 1.0
        contrast = _contrasts(rng, n_radial, n_species)
        start = START_NOISE * rng.normal(size=(n_species, n_radial, n_species, width))
        start += contrast[:, :, None] * profiles[:, None, :]
        scaled: Floats = start / np.sqrt(width)
        return scaled.ravel()

    def solve(self, start: Floats, max_iterations: int) -> _Trial:
        """Fit from one start."""
        n_species = len(self.basis.species)
        columns = self.environments.columns(start)[0]
        # A basis function that is constant over the data must not be blown up to unit spread.
        scales = columns.std(axis=0) + CONSTANT * np.abs(columns).max(axis=0) + TINY
        scales[:n_species] = 1.0
        ridge = np.full(len(scales), self.regularisation.linear)
        ridge[:n_species] = SPECIES_RIDGE
        design = _Weighted(self.environments, self.root_weights, scales)
        problem = SeparableProblem(design, self.targets, ridge, self.regularisation.radial, start)
        solution = solve(problem, start, max_iterations=max_iterations, tolerance=CONVERGED)
        return _Trial(solution, scales)

    def left_out_rmse(self, trial: _Trial) -> float:
        """Return the estimated error of energies not fitted to, eV per site."""
        errors = trial.solution.left_out_residuals * self.spread / self.root_weights
        return float(np.sqrt(np.mean(errors**2)))

    def potential(self, trial: _Trial) -> MtpPotential:
        """Return the potential that a solution stands for."""
        n_species = len(self.basis.species)
        linear = trial.solution.linear * self.spread / trial.scales
        linear[:n_species] += self.references
        old = self.form.radial_coeffs
        change = trial.solution.coordinates - self._coordinates(old)
        shape = (n_species, self.basis.n_radial, n_species, self.radial.n_coordinates)
        radial = old + (change.reshape(shape) @ self.radial.to_coeffs.T).swapaxes(1, 2)
        return self.form.with_parameters(np.concatenate([radial.ravel(), linear]))

    def report(self, trial: _Trial, n_starts: int, seconds: float) -> FitReport:
        """Return the figures of merit of a solution."""
        errors = 1e3 * trial.solution.residuals * self.spread / self.root_weights
        return FitReport(
            n_data=len(self.energies),
            n_parameters=self.form.n_parameters,
            effective_parameters=trial.solution.effective_parameters,
            energy_rmse=float(np.sqrt(np.mean(errors**2))),
            energy_mae=float(np.mean(np.abs(errors))),
            left_out_rmse=1e3 * self.left_out_rmse(trial),
            iterations=trial.solution.iterations,
            n_starts=n_starts,
            seconds=seconds,
            warnings=tuple(self._unseen_pairs()),
        )

    def _coordinates(self, radial_coeffs: Floats) -> Floats:
        """Return the coordinates, flat, of radial coefficients."""
        return (radial_coeffs.swapaxes(1, 2) @ self.radial.from_coeffs.T).ravel()

    def _unseen_pairs(self) -> Iterator[str]:
        """Yield a line for each pair of species that are never neighbours."""
        species = self.basis.species
        for centre, sums in zip(species, self.environments.geometry, strict=True):
            blocks = sums.reshape(len(species), -1)
            for neighbour, block in zip(species, blocks, strict=True):
                if not block.any():
                    yield (
                        f"no {neighbour} within {self.form.max_dist:g} Å of any {centre} in the "
                        "training set: their interaction is a guess"
                    )


def _shells(batches: Sequence[LabelledBatch], cutoff: float) -> tuple[Floats, Floats]:
    """Return the distances between sites within `cutoff` and how many neighbours are there."""
    parents = {id(part.batch.supercell.parent): part.batch.supercell.parent for part in batches}
    distances = [np.zeros(0)]
    n_centres = 0
    for parent in parents.values():
        for centre in range(len(parent.basis)):
            distances.append(np.linalg.norm(parent_neighbours(parent, centre, cutoff)[2], axis=1))
            n_centres += 1
    every = np.concatenate(distances)
    _, first, counts = np.unique(every.round(SHELL_DIGITS), return_index=True, return_counts=True)
    if not len(first):
        raise InputError(
            f"no two sites of the lattice are within the cutoff of {cutoff} Å: enlarge it"
        )
    return every[first], counts / n_centres


def _contrasts(rng: np.random.Generator, n_radial: int, n_species: int) -> Floats:
    """Return how the first radial functions tell species apart, (n_radial, n_species)."""
    contrasts = rng.normal(size=(n_radial, n_species))
    contrasts -= contrasts.mean(axis=1, keepdims=True)
    spread = np.sqrt((contrasts**2).mean(axis=1, keepdims=True))
    contrasts /= np.maximum(spread, TINY)
    return contrasts
