from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from latticesearch.errors import InputError
from latticesearch.hull import Hull
from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.mtp.training import LabelledBatch, Regularisation, TrainingSet, fit
from latticesearch.potential.mtp.training.environments import (
    LatticeEnvironments,
    RadialCoordinates,
    _multiplicities,
)
from latticesearch.potential.mtp.training.varpro import SeparableProblem, solve
from latticesearch.potential.mtp.training.weighting import near_hull_weights
from tests.fake_comm import run_ranks
from tests.reference import mtp_lattice as reference

SHELLS = 3.2 * np.sqrt([0.75, 1.0, 2.0])  # of bcc with a = 3.2 Å


@pytest.fixture(scope="module")
def bcc():
    return ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))


@pytest.fixture(scope="module")
def cell(bcc):
    return Supercell.from_matrix(bcc, [[0, 2, 2], [2, 0, 2], [2, 2, 0]])


def random_labels(supercell, n, seed):
    """Labelings of all compositions, the pure ones first."""
    rng = np.random.default_rng(seed)
    fractions = np.concatenate([[0.0, 1.0], rng.random(n - 2)])
    return (rng.random((n, supercell.n_sites)) < fractions[:, None]).astype(np.int8)


def pair_energies(supercell, labels):
    """Energies per site, eV, of an Ising model of the first two shells: exactly a level-2 MTP."""
    spins = 2.0 * labels - 1.0
    energies = -11.0 - 0.5 * spins.mean(axis=1)
    for shell, strength in ((SHELLS[0], 0.010), (SHELLS[1], -0.004)):
        vectors = supercell.positions[:, None] - supercell.positions
        for shift in np.ndindex(3, 3, 3):
            moved = np.linalg.norm(vectors + (np.array(shift) - 1) @ supercell.cell, axis=2)
            bonds = np.abs(moved - shell) < 1e-3
            energies += strength * np.einsum("ni,ij,nj->n", spins, bonds, spins) / labels.shape[1]
    return energies


def labelled(supercell, n, seed):
    labels = random_labels(supercell, n, seed)
    return LabelledBatch(Labelings(supercell, labels), pair_energies(supercell, labels))


@pytest.fixture(scope="module")
def environments(bcc, cell):
    """A random potential with its environments of two cells, and the labelings."""
    basis = MtpBasis(10, ("Ta", "Mo"), cutoff=5.0, radial_size=5)
    rng = np.random.default_rng(7)
    potential = basis.potential(rng.normal(size=basis.n_parameters))
    radial = RadialCoordinates.at(SHELLS, np.sqrt([8.0, 6.0, 12.0]), potential)
    small = Supercell.from_matrix(bcc, [[1, 0, 1], [0, 1, 0], [0, 0, 3]])
    batches = [Labelings(s, random_labels(s, 5, 1)) for s in (cell, small)]
    return potential, radial, LatticeEnvironments.of(potential, radial, batches), batches


def coordinates_of(radial, radial_coeffs):
    return (radial_coeffs.swapaxes(1, 2) @ radial.from_coeffs.T).ravel()


def gradient(potential, batches):
    rows = [potential.evaluator(b.supercell).gradient_rows(b.labels) for b in batches]
    return np.split(np.concatenate(rows), [potential.radial_coeffs.size], axis=1)


def test_design_columns_are_those_of_the_evaluator(environments):
    potential, radial, design, batches = environments
    columns, _ = design.columns(coordinates_of(radial, potential.radial_coeffs))
    np.testing.assert_allclose(columns, gradient(potential, batches)[1], rtol=1e-9, atol=1e-9)


def test_design_slopes_are_those_of_the_evaluator(environments):
    potential, radial, design, batches = environments
    _, state = design.columns(coordinates_of(radial, potential.radial_coeffs))
    linear = np.concatenate([potential.species_coeffs, potential.moment_coeffs])
    rows = gradient(potential, batches)[0].reshape(len(columns := design.fractions), 2, 2, -1, 5)
    expected = (rows.swapaxes(2, 3) @ radial.to_coeffs).reshape(len(columns), -1)
    np.testing.assert_allclose(
        design.slopes(state, linear), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max()
    )


def test_design_against_the_definition(bcc):
    small = Supercell.from_matrix(bcc, [[1, 0, 0], [0, 1, 1], [0, 0, 3]])
    potential = MtpBasis(8, ("Ta", "Mo"), cutoff=3.3, radial_size=2).potential(seed=3)
    radial = RadialCoordinates.at(SHELLS[:2], np.ones(2), potential)
    batch = Labelings(small, random_labels(small, 4, 5))
    design = LatticeEnvironments.of(potential, radial, [batch])
    start = radial.of(potential.radial_coeffs)
    columns, state = design.columns(start)
    expected = [reference.basis_row(potential, small, labels) for labels in batch.labels]
    np.testing.assert_allclose(columns[:, 2:], expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(columns[:, :2], [[0, 1], [1, 0], *columns[2:, :2]], atol=1e-15)
    linear = np.random.default_rng(1).normal(size=columns.shape[1])
    numeric = [
        (design.columns(start + step)[0] - design.columns(start - step)[0]) @ linear / 2e-5
        for step in 1e-5 * np.eye(len(start))
    ]
    slopes = design.slopes(state, linear)
    np.testing.assert_allclose(slopes, np.transpose(numeric), atol=1e-8 * np.abs(slopes).max())


def test_equivalent_sites_are_worked_out_once(cell):
    batch = Labelings(cell, random_labels(cell, 40, 3))
    counts = _multiplicities(batch)
    for row, labels in zip(counts, batch.labels, strict=True):
        smallest = reference.equivalent_sites(cell, labels)
        np.testing.assert_array_equal(row, np.bincount(smallest, minlength=16))
    assert (counts > 0).sum() < 0.6 * counts.size


def test_coordinates_are_the_values_at_the_shells():
    potential = MtpBasis(8, ("Mo", "Ta"), cutoff=5.0, radial_size=8).potential()
    radial = RadialCoordinates.at(SHELLS, np.ones(3), potential)
    assert radial.n_coordinates == 3
    np.testing.assert_allclose(radial.from_coeffs @ radial.to_coeffs, np.eye(3), atol=1e-10)
    # Fewer functions than distances: as many coordinates as functions, the same norm.
    radial = RadialCoordinates.at(np.linspace(2, 4, 20), np.ones(20), potential)
    assert radial.n_coordinates == 8
    np.testing.assert_allclose(radial.from_coeffs @ radial.to_coeffs, np.eye(8), atol=1e-8)


class Exponentials:
    """A(v) with the columns exp(-v_k t): a classical separable problem."""

    def __init__(self, times):
        self.times = times

    def columns(self, v):
        matrix = np.exp(-np.outer(self.times, v))
        return matrix, matrix

    def slopes(self, state, linear):
        return -self.times[:, None] * state * linear


def test_variable_projection_against_all_parameters_at_once():
    times = np.linspace(0.0, 3.0, 25)
    rng = np.random.default_rng(3)
    targets = 2 * np.exp(-0.5 * times) - np.exp(-2.5 * times) + 0.05 * rng.normal(size=25)
    ridge, radial, centre = np.array([1e-3, 1e-2]), 1e-2, np.array([0.3, 3.0])
    problem = SeparableProblem(Exponentials(times), targets, ridge, radial, centre)

    def residuals(x):
        fitted = np.exp(-np.outer(times, x[:2])) @ x[2:] - targets
        pull = np.sqrt(radial) * (x[:2] - centre)
        return np.concatenate([fitted, np.sqrt(ridge) * x[2:], pull])

    expected = least_squares(residuals, [*centre, 1.0, -1.0], xtol=1e-15, ftol=1e-15, gtol=1e-15).x
    found = solve(problem, centre, max_iterations=100, tolerance=1e-14)
    np.testing.assert_allclose([*found.coordinates, *found.linear], expected, rtol=1e-5)
    assert found.iterations < 30
    # Leaving one out of the linearised problem is nearly leaving it out of the problem itself.
    for row in (0, 12, 24):
        rest = np.arange(25) != row
        left = SeparableProblem(Exponentials(times[rest]), targets[rest], ridge, radial, centre)
        without = solve(left, centre, max_iterations=100, tolerance=1e-14)
        error = np.exp(-times[row] * without.coordinates) @ without.linear - targets[row]
        assert found.left_out_residuals[row] == pytest.approx(error, rel=0.1, abs=2e-3)


def test_a_pair_model_is_learned_from_few_data(cell):
    basis = MtpBasis(6, ("Mo", "Ta"), cutoff=5.0, radial_size=5)
    potential, report = fit(basis, TrainingSet((labelled(cell, 30, 2),)))
    test = labelled(cell, 60, 99)
    errors = potential.evaluator(cell).energies(test.batch.labels) - test.energies
    spread = test.energies.std()
    assert np.sqrt(np.mean(errors**2)) < 0.02 * spread
    assert report.n_data == 30
    assert report.n_parameters == potential.n_parameters
    assert report.effective_parameters < 20
    assert report.energy_rmse <= report.left_out_rmse < 20.0
    assert report.warnings == ()


def test_weak_regularisation_recovers_the_pair_model_exactly(bcc, cell):
    basis = MtpBasis(6, ("Mo", "Ta"), cutoff=5.0, radial_size=5)
    small = Supercell.from_matrix(bcc, [[1, 0, 0], [0, 1, 1], [0, 0, 3]])
    training = TrainingSet((labelled(cell, 40, 2), labelled(small, 6, 3)))
    weak = Regularisation(linear=1e-9, radial=1e-9)
    potential, report = fit(basis, training, regularisation=weak, max_iterations=200)
    larger = Supercell.from_matrix(bcc, [[0, 3, 2], [3, 0, 2], [2, 2, 0]])
    test = labelled(larger, 20, 5)
    errors = potential.evaluator(larger).energies(test.batch.labels) - test.energies
    assert np.abs(errors).max() < 2e-4
    assert report.energy_rmse < 0.05


def test_report_and_potential_agree(cell):
    basis = MtpBasis(8, ("Ta", "Mo"), cutoff=4.0, radial_size=8)
    part = labelled(cell, 25, 4)
    noisy = LabelledBatch(part.batch, part.energies + 1e-3 * np.sin(np.arange(25)))
    potential, report = fit(basis, TrainingSet((noisy,)), n_starts=1)
    errors = 1e3 * (potential.evaluator(cell).energies(part.batch.labels) - noisy.energies)
    assert report.energy_rmse == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-6)
    assert report.energy_mae == pytest.approx(np.mean(np.abs(errors)), rel=1e-6)
    assert report.energy_rmse > 0.1


def test_weights_pull_the_fit_towards_heavy_data(cell):
    basis = MtpBasis(2, ("Mo", "Ta"), cutoff=3.0, radial_size=1)
    part = labelled(cell, 30, 6)
    weights = np.where(np.arange(30) < 15, 100.0, 0.01)
    _, flat = fit(basis, TrainingSet((part,)))
    heavy, report = fit(basis, TrainingSet((LabelledBatch(part.batch, part.energies, weights),)))
    errors = np.abs(heavy.evaluator(cell).energies(part.batch.labels) - part.energies)
    assert errors[:15].mean() < errors[15:].mean()
    assert report.energy_rmse > flat.energy_rmse


def test_same_potential_for_any_number_of_ranks_and_every_time(bcc, cell):
    """More ranks than structures, too."""
    basis = MtpBasis(6, ("Mo", "Ta"), cutoff=4.0, radial_size=3)
    small = Supercell.from_matrix(bcc, [[1, 0, 0], [0, 1, 1], [0, 0, 3]])
    training = TrainingSet((labelled(cell, 3, 8), labelled(small, 2, 1)))

    def trained(comm=None):
        return fit(basis, training, n_starts=3, seed=4, folds=2, comm=comm)

    potential, report = trained()
    for size in (1, 2, 6):
        for again, other in run_ranks(size, trained):
            np.testing.assert_array_equal(again.parameters, potential.parameters)
            assert replace(other, seconds=report.seconds) == report
    assert not np.allclose(fit(basis, training, seed=5)[0].parameters, potential.parameters)


def test_a_warm_start_goes_on_from_the_potential(cell):
    basis = MtpBasis(8, ("Mo", "Ta"), cutoff=5.0, radial_size=5)
    first, report = fit(basis, TrainingSet((labelled(cell, 30, 2),)))
    more = TrainingSet((labelled(cell, 30, 2), labelled(cell, 20, 3)))
    again, warm = fit(basis, more, initial=first)
    assert warm.n_starts == 1
    assert report.n_starts == 3
    assert warm.energy_rmse < 0.1  # meV/site; the energies scatter by some 30
    shift = np.abs(again.radial_coeffs - first.radial_coeffs).max()
    assert 0.0 < shift < 0.3 * np.abs(first.radial_coeffs).max()


def noisy(part, seed):
    noise = 2e-3 * np.random.default_rng(seed).normal(size=len(part.energies))
    return LabelledBatch(part.batch, part.energies + noise, part.weights)


def test_cross_validation_predicts_what_was_not_seen(cell):
    basis = MtpBasis(6, ("Mo", "Ta"), cutoff=4.0, radial_size=3)
    part = noisy(labelled(cell, 40, 2), 1)
    twice = LabelledBatch(part.batch, part.energies + 1e-4)  # the same crystals once more
    training = TrainingSet((part, twice))
    _, report = fit(basis, training, folds=4, seed=7)
    errors = np.array(report.cross_validated_errors)
    assert errors.shape == (80,)
    assert report.cross_validated_rmse == pytest.approx(np.sqrt(np.mean(errors**2)))
    # Both copies are predicted by a potential that saw neither.
    np.testing.assert_allclose(errors[:40] - errors[40:], 0.1, atol=1e-6)
    assert report.energy_rmse < 0.9 * report.cross_validated_rmse
    assert report.cross_validated_rmse == pytest.approx(report.left_out_rmse, rel=0.5)
    n_crystals = len(set(part.batch.keys()))
    for folds in (1, n_crystals + 1):
        with pytest.raises(InputError, match=rf"^{folds} folds: .* the {n_crystals} different"):
            fit(basis, training, folds=folds)


def test_errors_by_pair_and_height_add_up_to_all(bcc):
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta", "W"))
    supercell = Supercell.from_matrix(parent, [[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    rng = np.random.default_rng(1)
    labels = np.concatenate([np.repeat([[0], [1], [2]], 2, axis=1), rng.integers(0, 3, (40, 2))])
    labels = np.unique(labels, axis=0).astype(np.int8)
    energies = -9.0 - labels.sum(axis=1) + 0.02 * rng.normal(size=len(labels))
    training = TrainingSet((LabelledBatch(Labelings(supercell, labels), energies),))
    basis = MtpBasis(4, ("W", "Mo", "Ta"), cutoff=3.0, radial_size=2)
    _, report = fit(basis, training, regularisation=Regularisation(10.0), folds=3)
    pure = (labels == labels[:, :1]).all(axis=1).sum()
    assert {group.name for group in report.by_pair} == {"W-Mo", "W-Ta", "Mo-Ta"}
    assert sum(group.n for group in report.by_pair) == len(labels) - pure
    assert sum(group.n for group in report.by_height) == len(labels)
    for kind in ("rmse", "left_out_rmse", "cross_validated_rmse"):
        squares = [group.n * getattr(group, kind) ** 2 for group in report.by_height]
        total = getattr(report, "energy_rmse" if kind == "rmse" else kind)
        assert np.sum(squares) == pytest.approx(len(labels) * total**2)


def test_a_datum_that_fits_to_nothing_is_named(cell):
    part = labelled(cell, 60, 2)
    wrong = part.energies.copy()
    wrong[17] -= 0.04
    basis = MtpBasis(6, ("Mo", "Ta"), cutoff=4.0, radial_size=3)
    _, report = fit(basis, TrainingSet((LabelledBatch(part.batch, wrong),)))
    lines = [line for line in report.warnings if "fitted to all others" in line]
    assert part.batch[17].key in lines[0]
    assert "higher" in lines[0]


def test_exact_data_are_not_called_wrong(cell):
    part = labelled(cell, 60, 2)
    basis = MtpBasis(6, ("Mo", "Ta"), cutoff=4.0, radial_size=3)
    _, report = fit(basis, TrainingSet((part,)))
    assert not any("fitted to all others" in line for line in report.warnings)


def test_what_the_data_do_not_tell_is_reported(cell):
    level = MtpBasis(12, ("Mo", "Ta"), cutoff=3.0, radial_size=2)  # a shell of eight: few moments
    _, report = fit(level, TrainingSet((labelled(cell, 40, 2),)))
    assert report.undetermined > 0
    assert any("directions of the linear coefficients" in line for line in report.warnings)
    _, report = fit(level, TrainingSet((labelled(cell, 40, 2),)), max_iterations=2)
    assert any("stopped after 2 iterations" in line for line in report.warnings)
    weak = Regularisation(1e-9, 1e-9, growth=1.0)
    _, report = fit(level, TrainingSet((labelled(cell, 8, 2),)), regularisation=weak)
    assert any("coefficients follow 8 energies" in line for line in report.warnings)


def test_radial_coefficients_the_lattice_cannot_see_stay(cell):
    basis = MtpBasis(6, ("Mo", "Ta"), cutoff=4.0, radial_size=6)
    rng = np.random.default_rng(0)
    initial = basis.potential(rng.normal(size=basis.n_parameters))
    final, _ = fit(basis, TrainingSet((labelled(cell, 20, 1),)), initial=initial)
    radial = RadialCoordinates.at(SHELLS[:2], np.ones(2), initial)
    invisible = np.eye(6) - radial.to_coeffs @ radial.from_coeffs
    change = final.radial_coeffs - initial.radial_coeffs
    assert np.abs(change).max() > 1e-2
    np.testing.assert_allclose(change @ invisible.T, 0.0, atol=1e-9)


def test_vacancies_and_several_sublattices():
    parent = ParentLattice.from_prototype("rocksalt", 4.3, (("Ti", "Hf"), ("N", "X")))
    supercell = Supercell.from_matrix(parent, [1, 2, 2])
    rng = np.random.default_rng(0)
    labels = np.concatenate([rng.integers(0, 2, (20, 4)), rng.integers(2, 4, (20, 4))], axis=1)
    counts = np.stack([(labels == s).mean(axis=1) for s in range(4)], axis=1)
    energies = counts @ [-9.0, -11.0, -8.0, 0.0] + counts[:, 0] * counts[:, 2]
    basis = MtpBasis(6, ("Ti", "Hf", "N", "X"), cutoff=4.4, radial_size=4)
    part = LabelledBatch(Labelings(supercell, labels), energies)
    potential, report = fit(basis, TrainingSet((part,)))
    assert report.energy_rmse < 10.0
    errors = potential.evaluator(supercell).energies(part.batch.labels) - energies
    assert 1e3 * np.sqrt(np.mean(errors**2)) == pytest.approx(report.energy_rmse, rel=1e-5)


def test_pairs_never_seen_are_reported(bcc):
    ternary = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta", "W"))
    supercell = Supercell.from_matrix(ternary, [[1, 0, 1], [0, 1, 1], [0, 0, 2]])
    labels = np.array([[0, 0], [1, 1], [2, 2], [0, 1], [0, 2]], np.int8)
    basis = MtpBasis(4, ("Mo", "Ta", "W"), cutoff=3.0, radial_size=2)
    part = LabelledBatch(Labelings(supercell, labels), -np.arange(5.0))
    _, report = fit(basis, TrainingSet((part,)))
    assert [w for w in report.warnings if "no Ta within 3 Å of any W" in w]
    assert len([w for w in report.warnings if "interaction is a guess" in w]) == 2


def broken(cell, **changes):
    part = labelled(cell, 6, 1)
    fields = {"batch": part.batch, "energies": part.energies, "weights": None, **changes}
    return LabelledBatch(**fields)


@pytest.mark.parametrize(
    ("changes", "species", "message"),
    [
        ({"energies": np.array([1.0, np.nan, 1, 1, 1, 1])}, ("Mo", "Ta"), r"of Ta \(.*\) is nan"),
        ({"energies": np.ones(5)}, ("Mo", "Ta"), r"6 labelings need as many energies"),
        ({"weights": np.array([1.0, 1, 1, 1, 1, 0])}, ("Mo", "Ta"), r"must be positive"),
        ({}, ("Mo", "W"), r"training set has Ta, the basis only Mo, W"),
        ({}, ("Mo", "Ta", "W"), r"no training structure contains W"),
    ],
)
def test_bad_training_sets_are_refused(cell, changes, species, message):
    basis = MtpBasis(4, species, cutoff=3.0)
    with pytest.raises(InputError, match=message):
        fit(basis, TrainingSet((broken(cell, **changes),)))


def test_contradictory_energies_are_refused_close_ones_are_not(cell):
    part = labelled(cell, 6, 1)
    moved = Labelings(cell, part.batch.labels[:, cell.translation_permutations[3]])
    basis = MtpBasis(4, ("Mo", "Ta"), cutoff=3.0)
    fit(basis, TrainingSet((part, LabelledBatch(moved, part.energies + 0.04))))
    with pytest.raises(InputError, match=r"the structure s\d+-\S+ has two energies"):
        fit(basis, TrainingSet((part, LabelledBatch(moved, part.energies + 0.06))))


def test_energies_per_cell_are_refused(bcc, cell):
    small = Supercell.from_matrix(bcc, [[1, 0, 0], [0, 1, 1], [0, 0, 3]])
    parts = (labelled(cell, 10, 1), labelled(small, 6, 2))
    per_cell = tuple(LabelledBatch(p.batch, p.energies * p.batch.supercell.n_sites) for p in parts)
    basis = MtpBasis(4, ("Mo", "Ta"), cutoff=3.0)
    with pytest.raises(InputError, match=r"scatter by .* eV .* they are per cell"):
        fit(basis, TrainingSet(per_cell))
    # Of one size only, the magnitude makes them suspicious.
    deep = LabelledBatch(parts[0].batch, per_cell[0].energies - 11.0 * cell.n_sites)
    _, report = fit(basis, TrainingSet((deep,)))
    assert any(f"divide them by {cell.n_sites}" in line for line in report.warnings)
    keys = parts[0].batch.keys()
    strange = np.array([0.3 * np.sin(keys.index(key)) for key in keys])
    one = LabelledBatch(parts[0].batch, 16.0 * (parts[0].energies + strange))
    _, report = fit(basis, TrainingSet((one,)))
    assert any("are they per site?" in line for line in report.warnings)


def test_energies_that_only_determine_the_species_are_refused(cell):
    part = labelled(cell, 2, 1)
    with pytest.raises(InputError, match=r"2 training energies for 2 species .* at least 3"):
        fit(MtpBasis(4, ("Mo", "Ta"), cutoff=3.0), TrainingSet((part,)))


def test_weights_for_the_hull(cell):
    part = labelled(cell, 30, 6)
    training = TrainingSet((part,))
    weights = near_hull_weights(training, width=0.02, least=0.2)
    fractions = part.batch.counts / 16
    heights = Hull(fractions, part.energies).energies_above_hull
    np.testing.assert_allclose(weights, 0.2 + 0.8 * np.exp(-heights / 0.02))
    assert weights.max() == 1.0
    basis = MtpBasis(2, ("Mo", "Ta"), cutoff=3.0, radial_size=1)
    ridge = Regularisation(growth=1.0)
    one, report = fit(basis, training, weights=weights, regularisation=ridge)
    same, _ = fit(basis, TrainingSet((replace(part, weights=weights),)), regularisation=ridge)
    np.testing.assert_array_equal(one.parameters, same.parameters)
    _, flat = fit(basis, training, regularisation=ridge)
    assert report.by_height[0].rmse < flat.by_height[0].rmse
    with pytest.raises(InputError, match="30 training configurations need as many weights"):
        fit(basis, training, weights=weights[1:])
    with pytest.raises(InputError, match="the width must be positive"):
        near_hull_weights(training, width=0.0)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_data_are_refused(cell, n):
    part = LabelledBatch(Labelings(cell, np.zeros((n, 16), np.int8)), np.zeros(n))
    with pytest.raises(InputError, match=rf"{n} training energies: at least 2"):
        fit(MtpBasis(4, ("Mo",), cutoff=3.0), TrainingSet((part,)))


def test_a_cutoff_below_the_first_shell_is_refused(cell):
    with pytest.raises(InputError, match=r"within the cutoff of 2.5 Å: enlarge"):
        fit(MtpBasis(4, ("Mo", "Ta"), cutoff=2.5), TrainingSet((labelled(cell, 6, 1),)))


def test_energies_that_are_all_equal_are_fitted(cell):
    part = labelled(cell, 6, 1)
    flat = LabelledBatch(part.batch, np.full(6, -11.0))
    potential, report = fit(MtpBasis(6, ("Mo", "Ta"), cutoff=3.0), TrainingSet((flat,)))
    assert report.energy_rmse < 1e-6
    assert potential.evaluator(cell).energies(part.batch.labels) == pytest.approx(-11.0)
