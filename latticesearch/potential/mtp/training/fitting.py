"""Training of moment tensor potentials.

With few data, such as energies of labelings, robustness counts. The linear coefficients are solved
for exactly inside (variable projection), the values of the radial functions at the shells of the
lattice are iterated outside, both under a ridge in units in which everything is of the order of
one. Several deterministic starts, each under a strong and a weak ridge; the solution that predicts
left out energies best is kept. For many structures with forces see `streamed`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar, cast

import numpy as np

from latticesearch.errors import InputError
from latticesearch.parallel import SerialComm, gather_blocks, one_thread
from latticesearch.potential.mtp.offlattice.evaluation import evaluate
from latticesearch.potential.mtp.offlattice.streamed import StreamedFit
from latticesearch.potential.mtp.offlattice.structure_checks import check_structures
from latticesearch.potential.mtp.regularisation import Regularisation
from latticesearch.potential.mtp.training import fit_report as report
from latticesearch.potential.mtp.training.cross_validation import cross_validate
from latticesearch.potential.mtp.training.problem import TrainingProblem, share
from latticesearch.potential.training_checks import check_all, checked, checked_weights
from latticesearch.potential.training_set import Energies, rms

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.parallel import Communicator
    from latticesearch.potential.mtp.coefficients import MtpCoefficients
    from latticesearch.potential.mtp.outcome import Outcome
    from latticesearch.potential.mtp.training.cross_validation import CrossValidated
    from latticesearch.potential.mtp.training.fit_report import FitReport
    from latticesearch.potential.mtp.training.problem import Trial
    from latticesearch.potential.training_set import TrainingSet

    MethodName = Literal["auto", "dense", "streamed"]
    Floats = npt.NDArray[np.float64]

    Model = TypeVar("Model", bound=MtpCoefficients)
    Made_co = TypeVar("Made_co", bound=MtpCoefficients, covariant=True)

    class Form(Protocol[Made_co]):
        """What is fixed before training: `MtpBasis`."""

        @property
        def species(self) -> tuple[str, ...]:
            """Symbols."""

        @property
        def n_parameters(self) -> int:
            """Number of coefficients."""

        def potential(self, parameters: Floats) -> Made_co:
            """Return a potential of this form with coefficients, (n_parameters,)."""


log = logging.getLogger(__name__)


AUTOMATIC = (Regularisation(), Regularisation(linear=1e-4, radial=1e-2))
"""Among these, from strong to weak, a fit picks by the left-out error. Measured on Nb-Mo-Ta-W with
25 to 200 energies at levels 8 to 16, the pick is within 10 % of the best of 14 tried."""


MOST_DENSE_ROWS = 10_000
"""Energies, force and stress components that are still fitted with all rows in memory."""


class _Method(NamedTuple):
    """How to fit, whatever the data."""

    name: MethodName

    form: MtpCoefficients
    ridges: tuple[Regularisation, ...]
    initial: MtpCoefficients | None
    n_starts: int
    seed: int
    max_iterations: int
    comm: Communicator


class _Fitted(NamedTuple):
    """A potential and what its fit tells."""

    potential: MtpCoefficients
    outcome: Outcome
    regularisation: Regularisation


@one_thread()
def fit(  # noqa: PLR0913 - two arguments and options that are given by name
    basis: Form[Model],
    training: TrainingSet,
    *,
    weights: npt.ArrayLike | None = None,
    regularisation: Regularisation | None = None,
    initial: Model | None = None,
    n_starts: int = 3,
    seed: int = 0,
    max_iterations: int = 40,
    folds: int = 0,
    method: MethodName = "auto",
    comm: Communicator | None = None,
) -> tuple[Model, FitReport]:
    """Train a moment tensor potential.

    Parameters
    ----------
    basis
        Level, species, cutoff and radial size.
    training
        Energies to fit to.
    weights
        Importance of each configuration, (n,), labelings first, then structures; multiplies the
        batches' own weights. See `near_hull_weights`.
    regularisation
        Strengths of the ridges. If None, a strong and a weak setting are tried and the one that
        predicts left out energies better is kept.
    initial
        A potential of this basis to start from and to stay near to, such as that of the previous
        round of active learning; one start instead of several.
    n_starts
        Number of starts without `initial`; the one with the smallest left-out error is kept.
    seed
        Of the starts and the folds.
    max_iterations
        Of each start.
    folds
        Number of folds of a cross-validation for the report, each as long as the fit itself;
        0 for none.
    method
        "dense" keeps all rows in memory and picks start and ridge by left-out errors: for few data.
        "streamed" sums up normal equations, starts with a part of the data and picks the start by
        the error there: for thousands of structures. "auto" takes the latter from some 10,000
        energies, force and stress components on.
    comm
        Ranks that share the configurations; the same training set on all of them. The result is
        the same, to the last bit, for any number of them.

    Raises
    ------
    InputError
        Too few data, energies that are not finite or obviously not per site, species missing in
        the data or in the basis, or one structure with two energies more than 50 meV per site
        apart.
    """
    started = time.monotonic()
    training = checked(training, basis.species)
    check_structures(training.structures, basis.species)
    check_all(training, basis.species)
    every = checked_weights(training, weights)
    if method not in {"auto", "dense", "streamed"}:
        raise InputError(f"method {method!r}: must be 'auto', 'dense' or 'streamed'")
    how = _Method(
        name=method,
        form=_form(basis, initial),
        ridges=AUTOMATIC if regularisation is None else (regularisation,),
        initial=initial,
        n_starts=n_starts,
        seed=seed,
        max_iterations=max_iterations,
        comm=comm or SerialComm(),
    )
    fitted = _train(how, training, every)

    def train(part: TrainingSet, indices: npt.NDArray[np.intp]) -> MtpCoefficients:
        return _train(how, part, every[indices]).potential

    validated = cross_validate(training, train, folds, seed) if folds else None
    for line in report.unseen_pairs(fitted.outcome):
        log.warning("%s", line)
    figures = _report(how, fitted, training, validated)
    # Whatever its class, a fit gives the form other numbers: it is still one of the same class.
    return cast("Model", fitted.potential), replace(figures, seconds=time.monotonic() - started)


def _train(method: _Method, training: TrainingSet, weights: Floats) -> _Fitted:
    """Fit to data that have been checked; `weights` are (n_configurations,)."""
    if method.name == "streamed" or (method.name == "auto" and _is_large(training)):
        ridges = method.ridges[-1]  # many data need no strong ones
        streamed = StreamedFit(
            form=method.form,
            warm=method.initial is not None,
            ridges=ridges,
            n_starts=method.n_starts,
            seed=method.seed,
            max_iterations=method.max_iterations,
            comm=method.comm,
        )
        return _Fitted(*streamed.fit(training, weights), ridges)
    problem = TrainingProblem.of(method.form, training, weights, method.comm)
    if method.initial is None:
        starts = [problem.start(method.seed, index) for index in range(method.n_starts)]
    else:
        starts = [problem.radial.of(method.initial.radial_coeffs)]
    tried: list[tuple[Trial, Regularisation]] = []
    for start in starts:
        coordinates = start
        for ridges in method.ridges:  # from strong to weak: each goes on where the last one ended
            trial = problem.solve(start, coordinates, ridges, method.max_iterations)
            tried.append((trial, ridges))
            coordinates = trial.solution.coordinates
    best, ridges = min(tried, key=lambda pair: problem.typical_left_out_error(pair[0]))
    return _Fitted(problem.potential(best), problem.outcome(best), ridges)


def _is_large(training: TrainingSet) -> bool:
    """Return whether there are too many rows to keep them."""
    rows = (1 + 3 * len(a) * ("forces" in a.calc.results) for a in training.structures)
    return sum(rows) > MOST_DENSE_ROWS


def _form(basis: Form[Model], initial: Model | None) -> Model:
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


def _report(
    method: _Method, fitted: _Fitted, training: TrainingSet, validated: CrossValidated | None
) -> FitReport:
    """Collect the figures of merit, all but the time."""
    outcome = fitted.outcome
    species = method.form.species
    known = Energies.of(training, species)
    errors = report.Errors(
        1e3 * outcome.energy_errors,
        1e3 * outcome.left_out_errors,
        None if validated is None else 1e3 * validated.energies,
    )
    force_rmse, stress_rmse = _other_errors(fitted.potential, training, method.comm)
    return report.FitReport(
        n_data=len(training),
        n_parameters=fitted.potential.n_parameters,
        effective_parameters=outcome.effective_parameters,
        undetermined=outcome.undetermined,
        regularisation=fitted.regularisation,
        energy_rmse=rms(errors.fitted),
        energy_mae=float(np.mean(np.abs(errors.fitted))),
        left_out_rmse=rms(errors.left_out),
        left_out_errors=tuple(errors.left_out.tolist()),
        force_rmse=force_rmse,
        stress_rmse=stress_rmse,
        cross_validated_rmse=None
        if errors.cross_validated is None
        else rms(errors.cross_validated),
        cross_validated_force_rmse=None if validated is None else validated.force_rmse,
        cross_validated_errors=()
        if errors.cross_validated is None
        else tuple(errors.cross_validated.tolist()),
        by_pair=tuple(report.errors_by_pair(known, errors, species)),
        by_height=tuple(report.errors_by_height(known, errors)),
        iterations=outcome.iterations,
        n_starts=1 if method.initial is not None else method.n_starts,
        seconds=0.0,
        warnings=(
            *report.weaknesses(outcome, known),
            *report.unfinished(outcome, method.max_iterations),
        ),
    )


def _other_errors(
    potential: MtpCoefficients, training: TrainingSet, comm: Communicator
) -> tuple[float | None, float | None]:
    """Return the root mean square errors of forces, eV/Å, and stresses, eV/Å³; None without."""
    forces, stresses = [], []
    for atoms in share(training.structures, comm):
        found, known = evaluate(potential, atoms), atoms.calc.results
        if known.get("forces") is not None:
            forces.append(np.ravel(found.forces - known["forces"]))
        if known.get("stress") is not None and atoms.pbc.all():
            stresses.append(found.stress - known["stress"])
    forces, stresses = gather_blocks(forces, comm), gather_blocks(stresses, comm)
    return (
        rms(np.concatenate(forces)) if forces else None,
        rms(np.concatenate(stresses)) if stresses else None,
    )
