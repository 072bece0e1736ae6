from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from latticesearch.errors import InputError
from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.mtp.offlattice import evaluate
from latticesearch.potential.mtp.training import (
    LabelledBatch,
    Regularisation,
    TrainingSet,
    fit,
)
from latticesearch.potential.mtp.training.environments import RadialCoordinates
from latticesearch.potential.mtp.training.structures import StructureRows, prepared

BASIS = MtpBasis(6, ("Ag", "Pd"), cutoff=4.2, min_dist=2.2, radial_size=4)


def rattled(seed, *, pbc=True):
    """Two to four atoms of strained, shaken Ag-Pd."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Ag", "fcc", a=4.0) * (2, 1, 1 + seed % 2)
    atoms.symbols = rng.choice(["Ag", "Pd"], len(atoms))
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.04 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.rattle(0.1, rng=rng)
    atoms.pbc = pbc
    return atoms


def with_results(atoms, potential):
    found = evaluate(potential, atoms)
    results = {"energy": found.energy, "forces": found.forces}
    if atoms.pbc.all():
        results["stress"] = found.stress
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture(scope="module")
def truth():
    rng = np.random.default_rng(11)
    return BASIS.potential(0.5 * rng.normal(size=BASIS.n_parameters))


def test_rows_are_what_the_potential_gives(truth):
    structures = [with_results(rattled(s, pbc=s != 1), truth) for s in range(3)]
    radial = RadialCoordinates.at(np.linspace(2.3, 4.1, 4), np.ones(4), truth)
    rows = StructureRows.of(truth, radial, prepared(structures, truth), 0.3, 2.0)
    matrix, state = rows.columns(radial.of(truth.radial_coeffs))
    linear = np.concatenate([truth.species_coeffs, truth.moment_coeffs])
    np.testing.assert_allclose(matrix @ linear, rows.targets, rtol=1e-9, atol=1e-12)
    energies = [atoms.calc.results["energy"] / len(atoms) for atoms in structures]
    assert rows.targets[rows.is_energy] == pytest.approx(energies)
    atoms = structures[0]
    forces = rows.targets[1 : 1 + 3 * len(atoms)]
    rms = np.sqrt(np.mean(atoms.calc.results["forces"] ** 2))
    assert np.linalg.norm(forces) == pytest.approx(0.3 * rms)
    # Energy, forces and stress of two structures; the one that is not periodic has no stress.
    sizes = [1 + 3 * len(atoms) + 6 * bool(atoms.pbc.all()) for atoms in structures]
    assert len(rows.targets) == sum(sizes)
    assert state.radial_coeffs == pytest.approx(truth.radial_coeffs)


def test_slopes_against_differences(truth):
    structures = [with_results(rattled(s), truth) for s in range(2)]
    radial = RadialCoordinates.at(np.linspace(2.3, 4.1, 4), np.ones(4), truth)
    rows = StructureRows.of(truth, radial, prepared(structures, truth), 0.3, 2.0)
    start = radial.of(truth.radial_coeffs)
    linear = np.concatenate([truth.species_coeffs, truth.moment_coeffs])
    slopes = rows.slopes(rows.columns(start)[1], linear)
    assert slopes.shape == (len(rows.targets), len(start))
    for k in range(0, len(start), 3):
        step = np.zeros_like(start)
        step[k] = 1e-5
        moved = [rows.columns(start + sign * step)[0] @ linear for sign in (1, -1)]
        np.testing.assert_allclose(slopes[:, k], (moved[0] - moved[1]) / 2e-5, atol=1e-7)


def test_a_potential_is_learned_from_forces_and_labelings_together(truth):
    structures = tuple(with_results(rattled(s), truth) for s in range(10))
    parent = ParentLattice.from_prototype("fcc", 4.0, ("Ag", "Pd"))
    supercell = Supercell.from_matrix(parent, [1, 1, 2])
    labels = np.array([[0, 0], [0, 1], [1, 1]], np.int8)
    batch = Labelings(supercell, labels)
    part = LabelledBatch(batch, truth.evaluator(supercell).energies(labels))
    rng = np.random.default_rng(0)
    nearby = truth.with_parameters(
        truth.parameters * (1 + 0.1 * rng.normal(size=truth.n_parameters))
    )
    training = TrainingSet((part,), structures, force_weight=1.0)
    weak = Regularisation(linear=1e-8, radial=1e-8)
    potential, report = fit(BASIS, training, regularisation=weak, initial=nearby, max_iterations=60)
    assert report.n_data == 13
    unseen = rattled(77)
    found, expected = evaluate(potential, unseen), evaluate(truth, unseen)
    before = evaluate(nearby, unseen)
    error = np.abs(found.forces - expected.forces).max()
    assert error < 0.02 * np.abs(before.forces - expected.forces).max()
    assert report.energy_rmse < 1.0
    assert report.force_rmse == pytest.approx(
        np.sqrt(
            np.mean(
                np.concatenate(
                    [
                        np.ravel(evaluate(potential, a).forces - a.calc.results["forces"])
                        for a in structures
                    ]
                )
                ** 2
            )
        )
    )
    assert report.stress_rmse < 1e-3


def test_structures_alone_from_cold_starts(truth):
    structures = tuple(with_results(rattled(s), truth) for s in range(8))
    potential, report = fit(BASIS, TrainingSet(structures=structures), n_starts=1)
    energies = np.array([a.calc.results["energy"] / len(a) for a in structures])
    errors = [evaluate(potential, a).energy / len(a) for a in structures] - energies
    assert report.energy_rmse == pytest.approx(1e3 * np.sqrt(np.mean(errors**2)), rel=1e-6)
    assert report.energy_rmse < 0.2 * 1e3 * energies.std()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda atoms: setattr(atoms, "calc", None), r"structure 1 \(\w+\) has no energy"),
        (
            lambda atoms: atoms.calc.results["forces"].__setitem__((0, 0), np.nan),
            r"the forces of training structure 1 .* not finite",
        ),
    ],
)
def test_structures_without_proper_results_are_refused(truth, spoil, message):
    structures = tuple(with_results(rattled(s), truth) for s in range(3))
    spoil(structures[1])
    with pytest.raises(InputError, match=message):
        fit(BASIS, TrainingSet(structures=structures))


def test_vacancies_and_structures_do_not_mix(truth):
    structures = tuple(with_results(rattled(s), truth) for s in range(3))
    parent = ParentLattice.from_prototype("fcc", 4.0, ("Ag", "Pd", "X"))
    supercell = Supercell.from_matrix(parent, [1, 1, 2])
    part = LabelledBatch(Labelings(supercell, np.array([[0, 2]], np.int8)), np.array([-1.0]))
    basis = MtpBasis(6, ("Ag", "Pd", "X"), cutoff=4.2)
    with pytest.raises(InputError, match=r"no vacancies \(X\) as a species"):
        fit(basis, TrainingSet((part,), structures))


def test_a_start_of_another_basis_is_refused(truth):
    structures = tuple(with_results(rattled(s), truth) for s in range(3))
    other = MtpBasis(8, ("Ag", "Pd"), cutoff=4.2, min_dist=2.2, radial_size=4).potential()
    with pytest.raises(InputError, match=r"9 basis functions, cutoff 4.2 Å\) is not of the basis"):
        fit(BASIS, TrainingSet(structures=structures), initial=other)
