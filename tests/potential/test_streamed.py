"""Training on normal equations summed up structure by structure."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from latticesearch.errors import InputError
from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.parallel import SerialComm
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.mtp.offlattice import evaluate
from latticesearch.potential.mtp.offlattice.design import design_rows
from latticesearch.potential.mtp.offlattice.normal_equations import NormalEquations, configurations
from latticesearch.potential.mtp.training import LabelledBatch, Regularisation, TrainingSet, fit
from tests.fake_comm import run_ranks

BASIS = MtpBasis(6, ("Ag", "Pd", "Au"), cutoff=4.2, min_dist=2.0, radial_size=4)


@pytest.fixture(scope="module")
def truth():
    parameters = np.random.default_rng(11).normal(size=BASIS.n_parameters)
    return BASIS.potential(0.5 * parameters)


def with_results(atoms, potential):
    found = evaluate(potential, atoms)
    results = {"energy": found.energy, "forces": found.forces}
    if atoms.pbc.all():
        results["stress"] = found.stress
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def rattled(seed, species=("Ag", "Pd", "Au"), *, n=2, pbc=True):
    rng = np.random.default_rng(seed)
    atoms = bulk("Ag", "fcc", a=4.0) * (2, 1, n)
    atoms.symbols = rng.choice(species, len(atoms))
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.04 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.rattle(0.12, rng=rng)
    atoms.pbc = pbc
    return atoms


def mixed_set(truth):
    """Binaries, elements, a cluster, a structure without forces, labelings; all weights differ."""
    structures = [rattled(1), rattled(2, ("Ag",)), rattled(3, ("Pd", "Au")), rattled(4, pbc=False)]
    structures = [with_results(atoms, truth) for atoms in structures]
    del structures[2].calc.results["forces"]
    parent = ParentLattice.from_prototype("fcc", 4.0, ("Pd", "Ag", "Au"))
    batch = Labelings(Supercell.from_matrix(parent, [1, 1, 2]), np.array([[0, 1], [2, 2]], np.int8))
    part = LabelledBatch(batch, np.array([-1.0, 0.5]), np.array([2.0, 1.0]))
    return TrainingSet((part,), tuple(structures), force_weight=0.3, stress_weight=0.7)


def naive_rows(potential, item):
    """Weighted rows of one configuration, and what the potential gives too much."""
    linear, radial = design_rows(potential, item.atoms)
    coefficients = np.concatenate([potential.species_coeffs, potential.moment_coeffs])
    n = linear.forces.shape[2]
    parts = [
        (item.factors[0], linear.energy[None], radial.energy[None], [item.energy]),
        (item.factors[1], linear.forces.reshape(-1, n), radial.forces, item.forces),
        (item.factors[2], linear.stress, radial.stress, item.stress),
    ]
    rows = []
    for factor, own, other, known in parts:
        if factor:
            residual = own @ coefficients - np.ravel(known)
            columns = [own, other.reshape(len(own), -1), residual[:, None]]
            rows.append(factor * np.hstack(columns))
    return np.concatenate(rows)


def test_normal_equations_are_products_of_rows(truth):
    training = mixed_set(truth)
    weights = np.array([2.0, 1.0, 1.0, 3.0, 0.5, 1.5])
    known = list(configurations(training, weights))
    equations = NormalEquations.of(truth, known, SerialComm())
    potential = BASIS.potential(np.random.default_rng(3).normal(size=BASIS.n_parameters))
    rows = [naive_rows(potential, item) for item in known]
    sums = equations.at(potential)
    expected = sum(part.T @ part for part in rows)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(sums.products, expected, rtol=1e-9, atol=1e-12 * scale)
    assert equations.n_rows == sum(map(len, rows))
    assert sums.squares.sum() == pytest.approx(sum((part[:, -1] ** 2).sum() for part in rows))
    energies, factors = equations.energy_rows(potential)
    np.testing.assert_allclose(energies, [part[0] for part in rows], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(factors, np.sqrt(weights / weights.mean()))
    chosen = np.array([True, False, True, False, False, True])
    expected = sum(part.T @ part for part, mine in zip(rows, chosen, strict=True) if mine)
    found = equations.at(potential, chosen).products
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * scale)


@pytest.mark.parametrize("level", [2, 10, 14])
def test_rows_of_other_levels(level):
    basis = MtpBasis(level, ("Ag", "Pd"), cutoff=4.1, min_dist=2.0, radial_size=3)
    potential = basis.potential(np.random.default_rng(level).normal(size=basis.n_parameters))
    atoms = with_results(rattled(5, ("Ag", "Pd"), n=1), potential)
    atoms.calc.results["energy"] += 0.3
    known = list(configurations(TrainingSet(structures=(atoms,)), np.ones(1)))
    rows = naive_rows(potential, known[0])
    found = NormalEquations.of(potential, known, SerialComm()).at(potential).products
    scale = np.abs(rows.T @ rows).max()
    np.testing.assert_allclose(found, rows.T @ rows, rtol=1e-8, atol=1e-11 * scale)


@pytest.fixture(scope="module")
def structures(truth):
    return tuple(with_results(rattled(seed), truth) for seed in range(40))


def test_a_known_potential_is_recovered(truth, structures):
    weak = Regularisation(linear=1e-10, radial=1e-10, growth=1.0)
    rng = np.random.default_rng(0)
    nearby = truth.with_parameters(
        truth.parameters * (1.0 + 0.2 * rng.normal(size=truth.n_parameters))
    )
    training = TrainingSet(structures=structures, force_weight=0.5)
    potential, report = fit(
        BASIS,
        training,
        regularisation=weak,
        initial=nearby,
        max_iterations=60,
        method="streamed",
    )
    unseen = rattled(77)
    found, expected, before = (evaluate(p, unseen) for p in (potential, truth, nearby))
    error = np.abs(found.forces - expected.forces).max()
    assert error < 1e-3 * np.abs(before.forces - expected.forces).max()
    assert report.energy_rmse < 1e-2


def test_report_and_errors_from_a_cold_start(truth, structures):
    training = TrainingSet(structures=structures, force_weight=0.2)
    potential, report = fit(BASIS, training, n_starts=2, method="streamed")
    found = [evaluate(potential, atoms) for atoms in structures]
    known = [atoms.calc.results for atoms in structures]
    errors = [
        1e3 * (a.energy - b["energy"]) / len(atoms)
        for a, b, atoms in zip(found, known, structures, strict=True)
    ]
    assert report.n_data == 40
    assert report.energy_rmse == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-6)
    assert report.left_out_rmse > report.energy_rmse
    assert 10 < report.effective_parameters < BASIS.n_parameters
    forces = np.concatenate([a.forces - b["forces"] for a, b in zip(found, known, strict=True)])
    assert report.force_rmse == pytest.approx(np.sqrt(np.mean(forces**2)))
    energies = np.array([a.calc.results["energy"] / len(a) for a in structures])
    assert report.energy_rmse < 0.2 * 1e3 * energies.std()
    again, _ = fit(BASIS, training, n_starts=2, method="streamed")
    assert np.array_equal(potential.parameters, again.parameters)


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_ranks_gives_the_same_potential(truth, size):
    training = mixed_set(truth)

    def train(comm):
        potential, report = fit(
            BASIS, training, n_starts=1, max_iterations=3, method="streamed", comm=comm
        )
        return potential.parameters, report.left_out_errors

    (alone,) = run_ranks(1, train)
    for parameters, errors in run_ranks(size, train):
        assert np.array_equal(parameters, alone[0])
        assert errors == alone[1]


def test_many_forces_choose_the_streamed_method(truth, structures, monkeypatch):
    monkeypatch.setattr("latticesearch.potential.mtp.training.fitting.MOST_DENSE_ROWS", 300)
    training = TrainingSet(structures=structures)
    automatic, _ = fit(BASIS, training, n_starts=1, max_iterations=1)
    streamed, _ = fit(BASIS, training, n_starts=1, max_iterations=1, method="streamed")
    assert np.array_equal(automatic.parameters, streamed.parameters)


def test_what_cannot_be_fitted_is_refused(truth, structures):
    with pytest.raises(InputError, match="method 'fast': must be"):
        fit(BASIS, TrainingSet(structures=structures), method="fast")
    lone = [Atoms(symbol, cell=[20, 20, 20], pbc=True) for symbol in (*BASIS.species, "Ag")]
    for atoms in lone:
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    with pytest.raises(InputError, match=r"no two atoms are within the cutoff of 4.2 Å"):
        fit(BASIS, TrainingSet(structures=tuple(lone)), method="streamed")
    parent = ParentLattice.from_prototype("fcc", 4.0, ("Ag", "X"))
    batch = Labelings(Supercell.from_matrix(parent, [1, 1, 2]), np.array([[0, 1]] * 4, np.int8))
    part = LabelledBatch(batch, np.full(4, -1.0))
    with pytest.raises(InputError, match=r"no vacancies \(X\) as a species: use method 'dense'"):
        fit(MtpBasis(4, ("Ag", "X"), 4.2), TrainingSet((part,)), method="streamed")
