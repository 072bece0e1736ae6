"""Training on many structures: Levenberg-Marquardt on summed normal equations.

As for few data, the linear coefficients are solved for exactly at every radial function (variable
projection), and radial functions are improved by Gauss-Newton steps on all coefficients together.
One pass over the data gives everything a step needs, so tens of passes are enough. The first steps,
far from the minimum, need only a part of the data.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import linalg

from latticesearch.errors import InputError
from latticesearch.lattice.parent import VACANCY
from latticesearch.potential.mtp.coefficients import START_SPREAD
from latticesearch.potential.mtp.offlattice.normal_equations import NormalEquations, configurations
from latticesearch.potential.mtp.outcome import (
    CONSTANT,
    SMALLEST_SPREAD,
    SPECIES_RIDGE,
    TINY,
    Outcome,
    moments_of_scalars,
    undetermined_directions,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from latticesearch.parallel import Communicator
    from latticesearch.potential.mtp.coefficients import MtpCoefficients
    from latticesearch.potential.mtp.offlattice.normal_equations import TrainingCell
    from latticesearch.potential.mtp.regularisation import Regularisation
    from latticesearch.potential.training_set import TrainingSet

    Floats = npt.NDArray[np.float64]

log = logging.getLogger(__name__)

STAGES = (0.1, 0.3)
"""Parts of the configurations that the first steps are made with."""

ROWS_PER_COEFFICIENT = 30
"""A part of the data with fewer rows than this says too little."""

CONVERGED_EARLY, CONVERGED = 1e-2, 1e-4
"""Relative decrease of the cost by the last step with a part of the data, and with all."""

EXACT = 1e-14
"""A cost smaller than this, relative to the first one, is rounding."""

FIRST_DAMPING, SMALLEST_DAMPING = 1e-2, 1e-9
"""Of the radial steps, relative to the diagonal of the normal matrix."""

DAMPING_DOWN, DAMPING_UP = 0.3, 5.0
"""Factors of the damping after a good and after a bad step."""

MAX_BAD_STEPS = 8
"""A step that fails this often, each time shorter, means that the minimum is found."""

STALE = 1.0
"""Solving for the linear coefficients may lower the cost by this part, relative to what is left,
before the derivatives, made with the old ones, are made anew."""


class _StreamedPoint(NamedTuple):
    """A potential with the best linear coefficients for its radial ones, and what a step needs.

    ``matrix`` and ``gradient`` are those of half the cost, penalties included; ``stale`` tells
    that the linear coefficients have moved far since the derivatives were made.
    """

    potential: MtpCoefficients
    matrix: Floats
    gradient: Floats
    cost: float
    stale: bool


@dataclass(frozen=True, eq=False)
class _Problem:
    """Sum of squared rows plus ``sum(strengths * (coefficients - centre)**2)``.

    Parameters
    ----------
    equations
        The rows.
    chosen
        Configurations that count, (n_configurations,); None for all.
    strengths, centre
        Of the ridges, (n_coefficients,).
    """

    equations: NormalEquations
    chosen: npt.NDArray[np.bool_] | None
    strengths: Floats
    centre: Floats

    def at(self, potential: MtpCoefficients) -> _StreamedPoint:
        """Evaluate at the radial coefficients of `potential`."""
        return self._fresh(self._settled(potential))

    def _fresh(self, point: _StreamedPoint) -> _StreamedPoint:
        return self._settled(point.potential) if point.stale else point

    def _settled(self, potential: MtpCoefficients) -> _StreamedPoint:
        """Return the normal equations after solving for the linear coefficients."""
        sums = self.equations.at(potential, self.chosen)
        shift = _coefficients(potential) - self.centre
        matrix = sums.products[:-1, :-1] + np.diag(self.strengths)
        gradient = sums.products[:-1, -1] + self.strengths * shift
        cost = float(sums.products[-1, -1] + self.strengths @ shift**2)
        n_linear = _n_linear(potential)
        change = np.zeros(len(gradient))
        change[:n_linear] = _solve(matrix[:n_linear, :n_linear], -gradient[:n_linear])
        gain = -float(gradient @ change)
        return _StreamedPoint(
            _moved(potential, change),
            matrix,
            gradient + matrix @ change,
            cost - gain,
            stale=gain > STALE * (cost - gain),
        )

    def step(self, point: _StreamedPoint, damping: float) -> tuple[_StreamedPoint | None, float]:
        """Return a point of lower cost (None if there is none) and the damping for the next."""
        diagonal = np.diag(point.matrix).copy()
        diagonal[: _n_linear(point.potential)] = 0.0  # these are solved for, not stepped
        diagonal = np.maximum(diagonal, TINY * diagonal.max())
        for _ in range(MAX_BAD_STEPS):
            change = _solve(point.matrix + np.diag(damping * diagonal), -point.gradient)
            trial = self._settled(_moved(point.potential, change))
            if trial.cost < point.cost:
                return self._fresh(trial), max(damping * DAMPING_DOWN, SMALLEST_DAMPING)
            damping *= DAMPING_UP
        return None, damping

    def solve(
        self, start: MtpCoefficients, damping: float, max_iterations: int, tolerance: float
    ) -> _Minimum:
        """Return the minimum reached from `start`."""
        point, iteration = self.at(start), 0
        floor = EXACT * point.cost
        while iteration < max_iterations:
            new, damping = self.step(point, damping)
            if new is None:
                break
            iteration += 1
            log.debug("step %d: cost %.6g, damping %.1e", iteration, new.cost, damping)
            finished = point.cost - new.cost < tolerance * point.cost or new.cost < floor
            point = new
            if finished:
                break
        return _Minimum(self, point, damping, iteration)


class _Minimum(NamedTuple):
    """The last point of a minimisation, its damping, and the number of steps."""

    problem: _Problem
    point: _StreamedPoint
    damping: float
    iterations: int


class _Reference(NamedTuple):
    """The species' own energies, (n_species,), eV, and how energies scatter about them, eV/atom."""

    energies: Floats
    spread: float


@dataclass(frozen=True)
class StreamedFit:
    """How to fit to many structures.

    Parameters
    ----------
    form
        The form; its coefficients are the start if `warm`.
    warm
        Start from the form's own coefficients, with all data at once.
    ridges
        Strengths of the ridges.
    n_starts
        Number of starts that are tried on a part of the data.
    seed
        Of the starts and of the parts.
    max_iterations
        Most steps of each stage.
    comm
        Ranks that share the configurations.
    """

    form: MtpCoefficients
    warm: bool
    ridges: Regularisation
    n_starts: int
    seed: int
    max_iterations: int
    comm: Communicator

    def fit(self, training: TrainingSet, weights: Floats) -> tuple[MtpCoefficients, Outcome]:
        """Fit to data that have been checked; `weights` are (n_configurations,).

        Raises
        ------
        InputError
            Vacancies, atoms at one place, or no two atoms within the cutoff.
        """
        if VACANCY in self.form.species:
            raise InputError(
                f"this training has no vacancies ({VACANCY}) as a species: use method 'dense'"
            )
        known = list(configurations(training, weights))
        equations = NormalEquations.of(self.form, known, self.comm)
        if not np.isfinite(equations.closest):
            raise InputError(
                f"no two atoms are within the cutoff of {self.form.max_dist} Å: enlarge it"
            )
        reference = _reference(known, self.form.species)
        minimum = self._minimum(equations, reference)
        return minimum.point.potential, self._outcome(equations, reference, minimum)

    def _minimum(self, equations: NormalEquations, reference: _Reference) -> _Minimum:
        """Return the best minimum found, from a part of the data to all."""
        stages = [1.0] if self.warm else [*self._stages(equations), 1.0]
        potentials = self._starts(reference)
        damping = FIRST_DAMPING
        for part in stages:
            tolerance = CONVERGED if part == 1.0 else CONVERGED_EARLY
            found = []
            for potential in potentials:
                problem = self._problem(equations, reference, potential, part)
                found.append(problem.solve(potential, damping, self.max_iterations, tolerance))
            best = min(found, key=lambda minimum: minimum.point.cost)
            log.info("%d %% of the data: cost %.6g", round(100 * part), best.point.cost)
            potentials, damping = [best.point.potential], best.damping
        return best

    def _stages(self, equations: NormalEquations) -> list[float]:
        needed = ROWS_PER_COEFFICIENT * equations.n_coefficients
        return [part for part in STAGES if part * equations.n_rows > needed]

    def _starts(self, reference: _Reference) -> list[MtpCoefficients]:
        """Return the first potentials: radial function mu is mostly the polynomial mu."""
        if self.warm:
            return [self.form]
        shape = self.form.radial_coeffs.shape
        starts = []
        for index in range(self.n_starts):
            noise = np.random.default_rng([self.seed, index]).normal(size=shape)
            starts.append(
                replace(
                    self.form,
                    radial_coeffs=np.eye(*shape[2:]) + START_SPREAD * noise,
                    species_coeffs=reference.energies,
                    moment_coeffs=np.zeros_like(self.form.moment_coeffs),
                    is_start=False,
                )
            )
        return starts

    def _problem(
        self,
        equations: NormalEquations,
        reference: _Reference,
        start: MtpCoefficients,
        part: float,
    ) -> _Problem:
        """Return the problem of a part of the data, whose radial ridge pulls to `start`."""
        rows, factors = equations.energy_rows(start)
        n_species, n_linear = start.n_species, _n_linear(start)
        columns = rows[:, n_species:n_linear] / factors[:, None]
        scales = columns.std(axis=0) + CONSTANT * np.abs(columns).max(axis=0) + TINY
        growth = self.ridges.growth ** (moments_of_scalars(start) - 1.0)
        strengths = np.full(equations.n_coefficients, self.ridges.radial)
        strengths[:n_species] = SPECIES_RIDGE
        strengths[n_species:n_linear] = self.ridges.linear * growth * scales**2
        strengths[n_linear:] *= reference.spread**2
        strengths[:n_species] *= reference.spread**2
        centre = _coefficients(start)
        centre[:n_species], centre[n_species:n_linear] = reference.energies, 0.0
        return _Problem(equations, self._chosen(equations, part), strengths, centre)

    def _chosen(self, equations: NormalEquations, part: float) -> npt.NDArray[np.bool_] | None:
        """Return a part of each set of species, (n_configurations,) bool, None for all."""
        if part == 1.0:
            return None
        rng = np.random.default_rng([self.seed, equations.n_configurations])
        chosen = np.zeros(equations.n_configurations, dtype=bool)
        for members in equations.groups:
            order = rng.permutation(members)
            chosen[order[: max(round(part * len(members)), 1)]] = True
        return chosen

    def _outcome(
        self,
        equations: NormalEquations,
        reference: _Reference,
        minimum: _Minimum,
    ) -> Outcome:
        """Collect what a report needs."""
        potential = minimum.point.potential
        n_linear = _n_linear(potential)
        rows, factors = equations.energy_rows(potential)
        products = equations.at(potential).products[:-1, :-1]
        inverse = _inverse(products + np.diag(minimum.problem.strengths))
        leverages = np.einsum("rp,pr->r", rows[:, :-1], inverse @ rows[:, :-1].T)
        linear = products[:n_linear, :n_linear]
        scales = np.sqrt(np.diag(linear)) + TINY
        values = np.sqrt(np.maximum(linalg.eigvalsh(linear / np.outer(scales, scales)), 0.0))
        errors = rows[:, -1] / factors
        return Outcome(
            form=self.form,
            seen_pairs=equations.seen_pairs,
            spread=reference.spread,
            n_rows=equations.n_rows,
            n_linear=n_linear,
            energy_errors=errors,
            # A row of its own with all the weight has leverage 1: nothing else predicts it.
            left_out_errors=errors / np.maximum(1.0 - leverages, 1e-6),
            effective_parameters=float(np.einsum("pq,qp->", inverse, products)),
            undetermined=undetermined_directions(values, n_linear),
            iterations=minimum.iterations,
        )


def _reference(known: Sequence[TrainingCell], species: tuple[str, ...]) -> _Reference:
    """Return the species' energies that explain the energies best."""
    symbols = [item.atoms.get_chemical_symbols() for item in known]
    fractions = np.array([[s.count(symbol) / len(s) for symbol in species] for s in symbols])
    energies = np.array([item.energy / len(item.atoms) for item in known])
    own = np.linalg.lstsq(fractions, energies, rcond=1e-10)[0]
    spread = float(np.sqrt(np.mean((energies - fractions @ own) ** 2)))
    return _Reference(own, max(spread, SMALLEST_SPREAD))


def _n_linear(potential: MtpCoefficients) -> int:
    return potential.n_species + len(potential.moment_coeffs)


def _coefficients(potential: MtpCoefficients) -> Floats:
    """Return all coefficients, (n_parameters,): species, basis functions, radial."""
    return np.roll(potential.parameters, _n_linear(potential))


def _moved(potential: MtpCoefficients, change: Floats) -> MtpCoefficients:
    """Return the potential with coefficients changed by `change`, as `_coefficients`."""
    return potential.with_parameters(potential.parameters + np.roll(change, -_n_linear(potential)))


def _inverse(matrix: Floats) -> Floats:
    """Return the inverse of a positive semidefinite matrix, (n, n), zero where it says nothing."""
    scales = 1.0 / np.sqrt(np.diag(matrix) + TINY * np.diag(matrix).max())
    result: Floats = np.asarray(linalg.pinvh(matrix * np.outer(scales, scales), rtol=1e-14))
    return result * np.outer(scales, scales)


def _solve(matrix: Floats, right: Floats) -> Floats:
    """Solve a positive semidefinite system, (n, n) and (n,), scaled so that its diagonal is one."""
    scales = 1.0 / np.sqrt(np.diag(matrix) + TINY * np.diag(matrix).max())
    scaled = matrix * np.outer(scales, scales)
    try:
        result: Floats = linalg.solve(scaled, scales * right, assume_a="pos")
    except linalg.LinAlgError:
        return _inverse(matrix) @ right
    scaled_back: Floats = result * scales
    return scaled_back
