"""One training problem in units in which everything is of the order of one.

Energies are taken relative to the species' and divided by their spread, basis functions by theirs,
and radial functions are measured by their values at the distances that occur. So the same strength
of the ridges suits any alloy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from latticesearch.errors import InputError
from latticesearch.lattice.labelings import Labelings
from latticesearch.lattice.neighbours import parent_neighbours
from latticesearch.parallel import block_range, collective_errors
from latticesearch.potential.mtp.outcome import (
    CONSTANT,
    SMALLEST_SPREAD,
    SPECIES_RIDGE,
    TINY,
    Outcome,
    moments_of_scalars,
    undetermined_directions,
)
from latticesearch.potential.mtp.training.environments import LatticeEnvironments, RadialCoordinates
from latticesearch.potential.mtp.training.structures import StructureRows, prepared
from latticesearch.potential.mtp.training.varpro import Design, SeparableProblem, solve

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from latticesearch.parallel import Communicator
    from latticesearch.potential.mtp.coefficients import MtpCoefficients
    from latticesearch.potential.mtp.offlattice.evaluation import OffLatticeStructure
    from latticesearch.potential.mtp.regularisation import Regularisation
    from latticesearch.potential.mtp.training.varpro import Solution
    from latticesearch.potential.training_set import LabelledBatch, TrainingSet

    Floats = npt.NDArray[np.float64]

T = TypeVar("T")

START_NOISE = 0.1
"""Spread of the random part of the first radial functions, relative to the contrast."""

DECAY = 1.0
"""Radial functions are expected to fall off with this power of the distance."""

SHELL_DIGITS = 6
"""Decimals, Å, in which the distances of one shell agree."""

DISTANCE_BINS = 64
"""Intervals into which the distances of structures off the lattice are sorted."""

COMPARED = 0.92
"""Part of the left-out errors, the smaller ones, by which solutions are compared."""

CONVERGED = 1e-5
"""Relative decrease of the cost by the last step of a fit."""


class Rows(Design, Protocol):
    """A design with the values it is fitted to; all rows are weighted."""

    @property
    def targets(self) -> Floats:
        """Values, (n_rows,)."""

    @property
    def is_energy(self) -> npt.NDArray[np.bool_]:
        """Which rows are energies, (n_rows,)."""

    @property
    def energy_weights(self) -> Floats:
        """What multiplied the energies per site, (n_energies,)."""

    @property
    def seen_pairs(self) -> npt.NDArray[np.bool_]:
        """``seen_pairs[a, b]``: some a has a neighbour b, (n_species, n_species)."""


class Trial(NamedTuple):
    """The result of one start; `scales`, (n_linear,), are the units of the linear coefficients."""

    solution: Solution
    scales: Floats


class _LabelingRows:
    """The rows of labelings, one each: energies per site, (n_labelings,), eV."""

    def __init__(self, environments: LatticeEnvironments, energies: Floats) -> None:
        self.environments, self.targets = environments, energies
        self.energy_weights: Floats = np.ones(len(energies))
        self.is_energy = np.ones(len(energies), dtype=bool)
        self.seen_pairs = environments.seen_pairs

    def columns(self, coordinates: Floats) -> tuple[Floats, Floats]:
        return self.environments.columns(coordinates)

    def slopes(self, state: Floats, linear: Floats) -> Floats:
        return self.environments.slopes(state, linear)


class _Gathered:
    """The rows of all ranks, each of which works out its own."""

    def __init__(self, own: Rows, comm: Communicator) -> None:
        self.own, self.comm = own, comm
        self.targets: Floats = np.concatenate(comm.allgather(own.targets))
        self.energy_weights: Floats = np.concatenate(comm.allgather(own.energy_weights))
        self.is_energy = np.concatenate(comm.allgather(own.is_energy))
        self.seen_pairs: npt.NDArray[np.bool_] = np.any(comm.allgather(own.seen_pairs), axis=0)

    def columns(self, coordinates: Floats) -> tuple[Floats, Any]:
        with collective_errors(self.comm):
            matrix, state = self.own.columns(coordinates)
        return np.concatenate(self.comm.allgather(matrix)), state

    def slopes(self, state: Any, linear: Floats) -> Floats:
        with collective_errors(self.comm):
            matrix: Floats = self.own.slopes(state, linear)
        return np.concatenate(self.comm.allgather(matrix))


class _Weighted:
    """Rows multiplied by the root of the weight of their configuration, (n_configurations,)."""

    def __init__(self, part: Rows, weights: Floats) -> None:
        self.part = part
        roots = np.sqrt(weights)
        # The first row of each configuration is its energy.
        self.factors = roots[np.cumsum(part.is_energy) - 1]
        self.targets: Floats = self.factors * part.targets
        self.energy_weights: Floats = roots * part.energy_weights
        self.is_energy, self.seen_pairs = part.is_energy, part.seen_pairs

    def columns(self, coordinates: Floats) -> tuple[Floats, Any]:
        matrix, state = self.part.columns(coordinates)
        return self.factors[:, None] * matrix, state

    def slopes(self, state: Any, linear: Floats) -> Floats:
        matrix: Floats = self.factors[:, None] * self.part.slopes(state, linear)
        return matrix


class _Stack:
    """Rows of several designs, one below the other; shapes as in `Design`."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self.parts = parts

    def columns(self, coordinates: Floats) -> tuple[Floats, list[Any]]:
        matrices, states = zip(*(part.columns(coordinates) for part in self.parts), strict=True)
        return np.concatenate(matrices), list(states)

    def slopes(self, state: list[Any], linear: Floats) -> Floats:
        pairs = zip(self.parts, state, strict=True)
        return np.concatenate([part.slopes(old, linear) for part, old in pairs])


class _Scaled:
    """A design whose columns are divided by `scales`, (n_linear,)."""

    def __init__(self, design: Design, scales: Floats) -> None:
        self.design, self.scales = design, scales

    def columns(self, coordinates: Floats) -> tuple[Floats, Any]:
        matrix, state = self.design.columns(coordinates)
        return matrix / self.scales, state

    def slopes(self, state: Any, linear: Floats) -> Floats:
        return self.design.slopes(state, linear / self.scales)


@dataclass(frozen=True, eq=False)
class TrainingProblem:
    """Data and form of one fit.

    Parameters
    ----------
    form
        The potential's form; its radial coefficients count where the data have no say.
    distances
        At which radial functions matter, (n_distances,), Å.
    radial
        Coordinates of the radial functions.
    design
        Rows of everything that is fitted to.
    energy_weights
        Factors of the rows that are energies, (n_energies,).
    is_energy
        Which rows are energies, (n_rows,).
    targets
        Weighted energies, forces and stresses relative to the species' energies, in units of
        `spread`, (n_rows,).
    references
        Energies of the species, (n_species,), eV.
    spread
        eV/site.
    seen_pairs
        Which species have which as neighbours somewhere, (n_species, n_species).
    """

    form: MtpCoefficients
    distances: Floats
    radial: RadialCoordinates
    design: Design
    energy_weights: Floats
    is_energy: npt.NDArray[np.bool_]
    targets: Floats
    references: Floats
    spread: float
    seen_pairs: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, form: MtpCoefficients, training: TrainingSet, weights: Floats, comm: Communicator
    ) -> TrainingProblem:
        """Prepare a training set that has been checked; `weights` are (n_configurations,).

        Every rank works out the rows of its share of the labelings and of the structures.
        """
        parts = [part for part in training.labelings if len(part.batch)]
        with collective_errors(comm):
            known = prepared(share(training.structures, comm), form)
        distances, counts = _distances(parts, [s for _, s in known], form.max_dist, comm)
        strength = np.sqrt(counts) * (distances / distances.min()) ** DECAY
        radial = RadialCoordinates.at(distances, strength, form)
        n_labelings = sum(len(part.batch) for part in parts)
        weights = weights / weights.mean()
        rows: list[Rows] = []
        if parts:
            labelings = _Gathered(_own_labelings(form, radial, parts, comm), comm)
            rows.append(_Weighted(labelings, weights[:n_labelings]))
        if training.structures:
            own = StructureRows.of(
                form, radial, known, training.force_weight, training.stress_weight
            )
            rows.append(_Weighted(_Gathered(own, comm), weights[n_labelings:]))
        design = _Stack(rows)
        is_energy = np.concatenate([part.is_energy for part in rows])
        energy_weights = np.concatenate([part.energy_weights for part in rows])
        targets = np.concatenate([part.targets for part in rows])
        nowhere = np.zeros(radial.n_coordinates * form.radial_coeffs[..., 0].size)
        species = design.columns(nowhere)[0][:, : form.n_species]
        references = np.linalg.lstsq(species, targets, rcond=1e-10)[0]
        rest = targets - species @ references
        spread = max(float(np.sqrt(np.mean(rest[is_energy] ** 2))), SMALLEST_SPREAD)
        return cls(
            form=form,
            distances=distances,
            radial=radial,
            design=design,
            energy_weights=energy_weights,
            is_energy=is_energy,
            targets=rest / spread,
            references=references,
            spread=spread,
            seen_pairs=np.any([part.seen_pairs for part in rows], axis=0),
        )

    def start(self, seed: int, index: int) -> Floats:
        """Return the first coordinates, (n_coordinates,), of start number `index`.

        Each radial function mu tells the species of neighbours apart in its own way; the first
        one does so alike at all distances.
        """
        n_species, _, n_radial, _ = self.form.radial_coeffs.shape
        rng = np.random.default_rng([seed, index])
        n = len(self.distances)
        profiles = rng.normal(size=(n_radial, n))
        profiles[0] = 1.0
        contrasts = rng.normal(size=(n_radial, n_species))
        contrasts -= contrasts.mean(axis=1, keepdims=True)
        contrasts /= np.sqrt((contrasts**2).mean(axis=1, keepdims=True)) + TINY
        values = START_NOISE * rng.normal(size=(n_species, n_radial, n_species, n))
        values += contrasts[:, :, None] * profiles[:, None, :]
        coordinates: Floats = values @ self.radial.from_values.T / np.sqrt(n)
        return coordinates.ravel()

    def solve(
        self, centre: Floats, start: Floats, ridges: Regularisation, max_iterations: int
    ) -> Trial:
        """Fit from `start`, while the radial ridge pulls to `centre`, both (n_coordinates,)."""
        n_species = self.form.n_species
        columns = self.design.columns(centre)[0][self.is_energy]
        # A basis function that is constant over the data must not be blown up to unit spread.
        scales = columns.std(axis=0) + CONSTANT * np.abs(columns).max(axis=0) + TINY
        scales[:n_species] = 1.0
        ridge = np.full(len(scales), SPECIES_RIDGE)
        ridge[n_species:] = ridges.linear * ridges.growth ** (moments_of_scalars(self.form) - 1.0)
        design = _Scaled(self.design, scales)
        problem = SeparableProblem(design, self.targets, ridge, ridges.radial, centre)
        solution = solve(problem, start, max_iterations=max_iterations, tolerance=CONVERGED)
        return Trial(solution, scales)

    def energy_errors(self, trial: Trial) -> Floats:
        """Return the errors of the energies fitted to, (n_energies,), eV per site."""
        errors: Floats = (
            trial.solution.residuals[self.is_energy] * self.spread / self.energy_weights
        )
        return errors

    def left_out_errors(self, trial: Trial) -> Floats:
        """Return the estimated errors were they not fitted to, (n_energies,), eV per site."""
        left_out = trial.solution.left_out_residuals[self.is_energy]
        errors: Floats = left_out * self.spread / self.energy_weights
        return errors

    def typical_left_out_error(self, trial: Trial) -> float:
        """Return the root mean square of the smaller left-out errors, eV per site.

        By this solutions are compared: what is far from all other data, such as the end members,
        cannot be predicted by any of them, and how badly it is not says little about the rest.
        """
        errors = np.sort(np.abs(self.left_out_errors(trial)))
        return float(np.sqrt(np.mean(errors[: max(int(COMPARED * len(errors)), 1)] ** 2)))

    def outcome(self, trial: Trial) -> Outcome:
        """Return what a report needs."""
        solution = trial.solution
        n_linear = len(solution.linear)
        return Outcome(
            form=self.form,
            seen_pairs=self.seen_pairs,
            spread=self.spread,
            n_rows=len(self.targets),
            n_linear=n_linear,
            energy_errors=self.energy_errors(trial),
            left_out_errors=self.left_out_errors(trial),
            effective_parameters=solution.effective_parameters,
            undetermined=undetermined_directions(solution.singular_values, n_linear),
            iterations=solution.iterations,
        )

    def potential(self, trial: Trial) -> MtpCoefficients:
        """Return the potential that a solution stands for."""
        linear = trial.solution.linear * self.spread / trial.scales
        linear[: self.form.n_species] += self.references
        coordinates = trial.solution.coordinates
        radial = self.radial.radial_coeffs(coordinates, self.form.radial_coeffs)
        return self.form.with_parameters(np.concatenate([radial.ravel(), linear]))


def _own_labelings(
    form: MtpCoefficients,
    radial: RadialCoordinates,
    parts: Sequence[LabelledBatch],
    comm: Communicator,
) -> _LabelingRows:
    """Return the rows of this rank's block of all labelings."""
    own = block_range(sum(len(part.batch) for part in parts), comm)
    batches, energies, start = [], [], 0
    for part in parts:
        stop = start + len(part.batch)
        mine = slice(max(own.start, start) - start, max(min(own.stop, stop) - start, 0))
        batches.append(Labelings(part.batch.supercell, part.batch.labels[mine]))
        energies.append(part.energies[mine])
        start = stop
    with collective_errors(comm):
        environments = LatticeEnvironments.of(form, radial, batches)
    return _LabelingRows(environments, np.concatenate(energies))


def share(items: Sequence[T], comm: Communicator) -> Sequence[T]:
    """Return this rank's block of `items`."""
    own = block_range(len(items), comm)
    return items[own.start : own.stop]


def _distances(
    parts: Sequence[LabelledBatch],
    structures: Sequence[OffLatticeStructure],
    cutoff: float,
    comm: Communicator,
) -> tuple[Floats, Floats]:
    """Return distances between neighbours, (n,), Å, and how many a site has at each, (n,)."""
    distances, counts = _shells(parts, cutoff)
    pairs = np.concatenate([np.zeros(0), *(1.0 / s.inverses for s in structures)])
    ends = comm.allgather((pairs.min(), pairs.max()) if len(pairs) else None)
    if any(ends):
        known = [end for end in ends if end is not None]
        interval = (min(low for low, _ in known), max(high for _, high in known))
        own, edges = np.histogram(pairs, DISTANCE_BINS, interval)
        found = np.sum(comm.allgather(own), axis=0)
        n_atoms = sum(comm.allgather(sum(structure.n_atoms for structure in structures)))
        middles = 0.5 * (edges[1:] + edges[:-1])
        distances = np.concatenate([distances, middles[found > 0]])
        counts = np.concatenate([counts, found[found > 0] / n_atoms])
    if not len(distances):
        raise InputError(f"no two sites are within the cutoff of {cutoff} Å: enlarge it")
    return distances, counts


def _shells(parts: Sequence[LabelledBatch], cutoff: float) -> tuple[Floats, Floats]:
    """Return distances of the lattices' shells, (n,), Å, and how many a site has there, (n,)."""
    parents = {id(part.batch.supercell.parent): part.batch.supercell.parent for part in parts}
    vectors = [
        parent_neighbours(parent, centre, cutoff)[2]
        for parent in parents.values()
        for centre in range(len(parent.basis))
    ]
    every = np.linalg.norm(np.concatenate([np.zeros((0, 3)), *vectors]), axis=1)
    _, first, counts = np.unique(every.round(SHELL_DIGITS), return_index=True, return_counts=True)
    return every[first], counts / max(len(vectors), 1)
