"""What is known about how well a potential fits: errors by kind, and weaknesses of the data."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.training_set import rms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from latticesearch.potential.mtp.outcome import Outcome
    from latticesearch.potential.mtp.regularisation import Regularisation
    from latticesearch.potential.training_set import Energies

    Floats = npt.NDArray[np.float64]

HEIGHTS = (1.0, 5.0, 20.0, 50.0)
"""meV per site; between these heights above the hull errors are reported together."""

INTERPOLATING = 0.7
"""Coefficients per energy above which a potential goes through its data whatever they are."""

OUTLIER = 8.0
"""Standard deviations, estimated from the median, from which an error is no accident."""

SMALLEST_OUTLIER = 1.0
"""meV per site; smaller deviations are not worth a word."""

MOST_OUTLIERS = 3
"""Deviating data that are named."""

DEEP = 25.0
"""eV per site: relative to free atoms, as from VASP, no metal's energy is lower than -15."""

HIGHEST_SCATTER = 1.0
"""eV per site about the species' energies; alloys and their vacancies scatter far less."""


@dataclass(frozen=True)
class GroupErrors:
    """Root mean square errors of some of the energies, meV per site.

    Parameters
    ----------
    name
        What they have in common.
    n
        How many there are.
    rmse
        Of the fit.
    left_out_rmse
        Estimated by leaving out one at a time.
    cross_validated_rmse
        Of potentials that were not trained on them; None without cross-validation.
    """

    name: str
    n: int
    rmse: float
    left_out_rmse: float
    cross_validated_rmse: float | None


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
    undetermined
        How many directions of the linear coefficients the data say nothing about.
    regularisation
        The ridges that were used.
    energy_rmse, energy_mae
        Of the training set, meV per site.
    left_out_rmse
        Root mean square error of energies not fitted to, estimated by leaving out one at a time
        from the linearised problem, meV per site.
    left_out_errors
        The errors behind it, meV per site: labelings in the order of the training set, then
        structures.
    cross_validated_rmse, cross_validated_force_rmse
        Of potentials trained without the data they are judged on, meV per site and eV/Å; None
        without cross-validation.
    cross_validated_errors
        The errors behind it, meV per site, in the order of `left_out_errors`.
    force_rmse, stress_rmse
        Of the training set, eV/Å and eV/Å³; None without forces or stresses.
    by_pair
        Energies of the configurations that contain two species, for each pair of species.
    by_height
        Energies by how far above the hull of the training set they are; empty without a hull.
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
    undetermined: int
    regularisation: Regularisation
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
    cross_validated_rmse: float | None = None
    cross_validated_force_rmse: float | None = None
    cross_validated_errors: tuple[float, ...] = ()
    by_pair: tuple[GroupErrors, ...] = ()
    by_height: tuple[GroupErrors, ...] = ()


class Errors(NamedTuple):
    """Errors of all energies, (n,), meV per site; ``cross_validated`` may be None."""

    fitted: Floats
    left_out: Floats
    cross_validated: Floats | None

    def group(self, name: str, members: npt.NDArray[np.bool_]) -> GroupErrors:
        """Return the root mean squares over `members`, (n,) bool."""
        cross_validated = self.cross_validated
        return GroupErrors(
            name,
            int(members.sum()),
            rms(self.fitted[members]),
            rms(self.left_out[members]),
            None if cross_validated is None else rms(cross_validated[members]),
        )


def errors_by_pair(
    known: Energies, errors: Errors, species: Sequence[str]
) -> Iterator[GroupErrors]:
    """Yield the errors of the configurations that contain both species of each pair."""
    for a, b in combinations(range(len(species)), 2):
        members = (known.fractions[:, a] > 0.0) & (known.fractions[:, b] > 0.0)
        if members.any():
            yield errors.group(f"{species[a]}-{species[b]}", members)


def errors_by_height(known: Energies, errors: Errors) -> Iterator[GroupErrors]:
    """Yield the errors of the configurations between two heights above the hull."""
    try:
        heights = 1e3 * known.heights()
    except InputError:  # no energies of the end members
        return
    edges = (0.0, *HEIGHTS, np.inf)
    for low, high in pairwise(edges):
        members = (heights >= low) & (heights < high)
        if members.any():
            name = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"
            yield errors.group(f"{name} meV above the hull", members)


def weaknesses(outcome: Outcome, known: Energies) -> Iterator[str]:
    """Yield one line for each reason to trust the fit less."""
    yield from unseen_pairs(outcome)
    if outcome.undetermined:
        yield (
            f"the data leave {outcome.undetermined} of {outcome.n_linear} directions of the linear "
            "coefficients open, the ridge sets them: larger or less symmetric cells would tell"
        )
    n_data, effective = len(known.energies), outcome.effective_parameters
    if effective > INTERPOLATING * outcome.n_rows:
        yield (
            f"{effective:.0f} coefficients follow {n_data} energies: the left-out error promises "
            "too much; lower the level or add data"
        )
    if outcome.spread > HIGHEST_SCATTER:
        yield (
            f"the energies scatter by {outcome.spread:.1f} eV per site about the species' "
            "energies: are they per site?"
        )
    yield from _deep_energies(known)
    yield from _outliers(known, 1e3 * outcome.energy_errors, 1e3 * outcome.left_out_errors)


def unfinished(outcome: Outcome, max_iterations: int) -> Iterator[str]:
    """Yield a line if the fit was stopped before it converged."""
    if outcome.iterations >= max_iterations:
        yield (
            f"the fit was stopped after {max_iterations} iterations, still getting better: allow "
            "more (max_iterations)"
        )


def unseen_pairs(outcome: Outcome) -> Iterator[str]:
    """Yield a line for each pair of species that are never neighbours."""
    species = outcome.form.species
    for centre, neighbour in np.argwhere(~outcome.seen_pairs):
        yield (
            f"no {species[neighbour]} within {outcome.form.max_dist:g} Å of any "
            f"{species[centre]} in the training set: their interaction is a guess"
        )


def _deep_energies(known: Energies) -> Iterator[str]:
    """Yield a line if energies look like totals of cells that all have one size.

    Cells of several sizes give themselves away and are refused. With one size only the magnitude
    tells, and some codes count the energies of the cores.
    """
    sizes = {part.batch.supercell.n_sites for part in known.training.labelings}
    typical = float(np.median(np.abs(known.energies)))
    if len(sizes) == 1 and typical > DEEP and typical / max(sizes) < DEEP:
        n_sites = max(sizes)
        yield (
            f"the energies are around {np.median(known.energies):.0f} eV per site in cells of "
            f"{n_sites} sites: if they are totals of the cells, divide them by {n_sites}"
        )


def _outliers(known: Energies, fitted: Floats, left_out: Floats) -> Iterator[str]:
    """Yield a line for the data that lie farthest from all others; errors (n,), meV per site.

    What is alone in its place, such as an end member, is badly predicted by the others however
    right it is. The geometric mean of both errors allows for that: it is the residual in units of
    the spread that a residual has there (studentised).
    """
    sizes = np.sqrt(np.abs(fitted * left_out))
    limit = max(OUTLIER * float(np.median(sizes)) / 0.6745, SMALLEST_OUTLIER)
    for k in np.argsort(-sizes)[:MOST_OUTLIERS]:
        if sizes[k] > limit:
            yield (
                f"a potential fitted to all others puts {known.name(int(k))} "
                f"{abs(left_out[k]):.1f} meV per site {'higher' if left_out[k] > 0 else 'lower'}: "
                "more than this form of potential describes, or another kind of energy"
            )
