from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.neighborlist import neighbor_list

from latticesearch.errors import InputError
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.mtp.files import read_mtp
from latticesearch.potential.mtp.offlattice import (
    OffLatticeStructure,
    evaluate,
    site_gradient_rows,
)
from latticesearch.potential.mtp.offlattice import _pair_kernels as _kernels
from latticesearch.potential.mtp.offlattice.design import design_rows
from latticesearch.potential.mtp.radial import chebyshev_basis
from tests.reference import mtp as reference
from tests.shipped import DATA, read_atoms, read_json

VOIGT = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]

# Rounding of a double-precision implementation, see the meta data of the golden values.
ENERGY_TOLERANCE = 3e-14
FORCE_TOLERANCE = 1e-13
VIRIAL_TOLERANCE = 1e-12
SITE_TOLERANCE = 1e-12


def random_potential(level=8, species=("Nb", "Ta"), seed=0):
    basis = MtpBasis(level, species, 5.0)
    rng = np.random.default_rng(seed)
    return basis.potential(0.3 * rng.normal(size=basis.n_parameters))


def rattled(seed=1):
    atoms = bulk("Nb", "bcc", 3.3, cubic=True) * (2, 1, 1)
    atoms.symbols[1:3] = "Ta"
    atoms.rattle(0.1, seed=seed)
    return atoms


def virial(evaluation, atoms):
    tensor = np.empty((3, 3))
    for value, (i, j) in zip(evaluation.stress, VOIGT, strict=True):
        tensor[i, j] = tensor[j, i] = -value * atoms.get_volume()
    return tensor


@pytest.mark.parametrize("name", ["MoTaNbTi", "Mo", "Ni", "Cu", "Li"])
def test_published_potentials_give_the_golden_values(name, shared_data):
    golden = json.loads((shared_data / "mtp" / "golden.json").read_text())
    about = golden["potentials"][name]
    potential = read_mtp(shared_data / "mtp" / about["file"], about["species"])
    entries = [entry for entry in golden["entries"] if entry["potential"] == name]
    assert len(entries) >= 4
    for entry in entries:
        symbols = [potential.species[kind] for kind in entry["types"]]
        atoms = Atoms(symbols, positions=entry["positions"], cell=entry["cell"], pbc=True)
        structure = OffLatticeStructure.from_atoms(atoms, potential)
        result = evaluate(potential, structure)
        assert np.diff(structure.starts).tolist() == entry["n_neighbors"]
        assert abs(result.energy / entry["energy"] - 1) <= ENERGY_TOLERANCE
        assert np.abs(result.forces - entry["forces"]).max() <= FORCE_TOLERANCE
        assert np.abs(virial(result, atoms) - entry["virial"]).max() <= VIRIAL_TOLERANCE
        assert np.abs(result.site_energies - entry["site_energies"]).max() <= SITE_TOLERANCE


@pytest.mark.parametrize("level", ["08", "10", "12", "16", "20"])
def test_all_levels_give_the_golden_values(level):
    golden = read_json("mtp/golden_levels.json.gz")["levels"][level]
    potential = read_mtp(DATA / "mtp" / f"random_level{level}.mtp", ("Nb", "Mo", "Ta", "W"))
    structures = list(read_atoms("mtp/levels_structures.in.gz", potential.species))
    assert len(structures) == 60
    for k, atoms in enumerate(structures):
        result = evaluate(potential, atoms)
        expected = np.array(golden["virial"][k]).reshape(3, 3)
        assert abs(result.energy / golden["energy"][k] - 1) <= ENERGY_TOLERANCE
        assert np.abs(result.forces - golden["forces"][k]).max() <= FORCE_TOLERANCE
        assert np.abs(virial(result, atoms) - expected).max() <= VIRIAL_TOLERANCE
        assert np.abs(result.site_energies - golden["site_energies"][k]).max() <= SITE_TOLERANCE


def test_radial_basis_is_that_of_the_formula():
    distances = np.array([1.5, 2.0, 3.1, 4.999, 5.0, 5.1])  # below min_dist and beyond the cutoff
    values, slopes = chebyshev_basis(distances, 2.0, 5.0, 6)
    x = (2 * distances - 7.0) / 3.0
    expected = [
        [reference.chebyshev(b, t) * max(5.0 - r, 0.0) ** 2 for b in range(6)]
        for t, r in zip(x, distances, strict=True)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-13, atol=1e-15)
    step = 1e-6
    above, below = (chebyshev_basis(distances + s, 2.0, 5.0, 6)[0] for s in (step, -step))
    np.testing.assert_allclose(slopes, (above - below) / (2 * step), atol=1e-6)


def test_site_energies_equal_the_naive_twin():
    potential, atoms = random_potential(level=8), rattled()
    types = np.array([potential.species.index(symbol) for symbol in atoms.symbols])
    expected = reference.site_energies(potential, atoms.cell.array, atoms.positions, types)
    np.testing.assert_allclose(evaluate(potential, atoms).site_energies, expected, rtol=1e-12)


def test_forces_and_stress_are_derivatives_of_the_energy():
    potential, atoms = random_potential(level=12), rattled()
    result = evaluate(potential, atoms)
    step = 1e-5

    def energy(shift, strain):
        moved = atoms.copy()
        moved.positions += shift
        moved.set_cell(moved.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        return evaluate(potential, moved).energy

    for atom, axis in [(0, 0), (1, 2), (3, 1)]:
        shift = np.zeros((4, 3))
        shift[atom, axis] = step
        slope = (energy(shift, 0 * np.eye(3)) - energy(-shift, 0 * np.eye(3))) / (2 * step)
        assert result.forces[atom, axis] == pytest.approx(-slope, abs=1e-8)
    for value, (i, j) in zip(result.stress, VOIGT, strict=True):
        strain = np.zeros((3, 3))
        strain[i, j] += step / 2
        strain[j, i] += step / 2
        slope = (energy(0.0, strain) - energy(0.0, -strain)) / (2 * step)
        assert value == pytest.approx(slope / atoms.get_volume(), abs=1e-10)


def test_result_does_not_depend_on_the_images_the_positions_are_given_in():
    potential, atoms = random_potential(), rattled()
    drifted = atoms.copy()
    drifted.positions += np.array([[2, -1, 0], [0, 0, 3], [0, 5, 0], [-7, 0, 1]]) @ atoms.cell.array
    a, b = evaluate(potential, atoms), evaluate(potential, drifted)
    np.testing.assert_allclose(b.site_energies, a.site_energies, rtol=1e-12)
    np.testing.assert_allclose(b.forces, a.forces, atol=1e-12)
    np.testing.assert_allclose(b.stress, a.stress, atol=1e-14)


def test_supercell_has_the_energies_of_the_primitive_cell():
    potential = random_potential()
    one = evaluate(potential, bulk("Nb", "bcc", 3.3))
    many = evaluate(potential, bulk("Nb", "bcc", 3.3) * (2, 3, 2))
    np.testing.assert_allclose(many.site_energies, one.site_energies[0], rtol=1e-13)
    np.testing.assert_allclose(many.stress, one.stress, atol=1e-15)


def test_atoms_beyond_one_vector_have_the_forces_of_the_small_cell():
    potential, atoms = random_potential(level=10, species=("Nb", "Mo", "Ta")), rattled()
    atoms.symbols[3] = "Mo"
    one, many = evaluate(potential, atoms), evaluate(potential, atoms * (3, 3, 1))
    np.testing.assert_allclose(many.site_energies, np.tile(one.site_energies, 9), rtol=1e-12)
    np.testing.assert_allclose(many.forces, np.tile(one.forces, (9, 1)), atol=1e-12)
    np.testing.assert_allclose(many.stress, one.stress, atol=1e-14)


def test_pairs_are_those_of_ase_ordered_by_centre_and_species():
    potential = random_potential(species=("Nb", "Mo", "Ta"))
    atoms = rattled() * (2, 1, 1)
    atoms.symbols[5] = "Mo"
    atoms.positions[4] += 7 * atoms.cell.array[2]
    structure = OffLatticeStructure.from_atoms(atoms, potential)
    i, j, vectors = neighbor_list("ijD", atoms, 5.0)

    def rows(*parts):
        return sorted(map(tuple, np.round(np.column_stack(parts), 9).tolist()))

    found = rows(structure.centres, structure.neighbours, structure.vectors)
    assert found == rows(i, j, vectors)
    order = structure.centres * 3 + structure.types[structure.neighbours]
    assert (np.diff(order) >= 0).all()
    assert np.array_equal(structure.starts, np.searchsorted(structure.centres, np.arange(9)))
    np.testing.assert_allclose(
        structure.distances, np.linalg.norm(structure.vectors, axis=1), rtol=1e-15
    )


def test_neighbours_of_another_cutoff_are_refused():
    structure = OffLatticeStructure.from_atoms(rattled(), random_potential())
    other = MtpBasis(8, ("Nb", "Ta"), 5.5).potential(seed=0)
    with pytest.raises(InputError, match=r"max_dist=5\.0.*max_dist=5\.5.*find them anew"):
        evaluate(other, structure)


def test_molecules_and_lone_atoms_have_no_stress():
    potential = random_potential(species=("O", "H"))
    result = evaluate(potential, molecule("H2O"))
    assert np.isnan(result.stress).all()
    np.testing.assert_allclose(result.forces.sum(axis=0), 0.0, atol=1e-13)
    alone = evaluate(potential, Atoms("H"))
    assert alone.energy == potential.species_coeffs[1]
    assert not alone.forces.any()
    linear, radial = design_rows(potential, Atoms("H"))
    assert linear.energy.tolist() == [0.0, 1.0, *np.zeros(9)]
    assert not radial.energy.any()
    assert site_gradient_rows(potential, Atoms("H")).sum() == 1.0


def test_slab_periodic_in_two_directions_sees_no_images_in_the_third():
    potential = random_potential()
    slab = bulk("Nb", "bcc", 3.3, cubic=True)
    slab.pbc = (True, True, False)
    vacuum = slab.copy()
    vacuum.cell[2, 2] += 20.0
    vacuum.pbc = True
    expected = evaluate(potential, vacuum)
    result = evaluate(potential, slab)
    np.testing.assert_allclose(result.site_energies, expected.site_energies, rtol=1e-13)
    np.testing.assert_allclose(result.forces, expected.forces, atol=1e-14)


def five_point(function, parameters, k, step=1e-3):
    """Derivative by parameter k, exact for polynomials of degree 4 (the energy's degree)."""
    values = []
    for n in (-2, -1, 1, 2):
        moved = parameters.copy()
        moved[k] += n * step
        values.append(function(moved))
    return [(a - 8 * b + 8 * c - d) / (12 * step) for a, b, c, d in zip(*values, strict=True)]


@pytest.mark.parametrize("level", [8, 12])
def test_gradient_and_design_rows_are_derivatives_by_the_coefficients(level):
    potential, atoms = random_potential(level), rattled()
    structure = OffLatticeStructure.from_atoms(atoms, potential)
    rows = site_gradient_rows(potential, atoms)
    linear, radial = design_rows(potential, structure)
    design = [np.concatenate(parts, axis=-1) for parts in zip(radial, linear, strict=True)]

    def observe(parameters):
        result = evaluate(potential.with_parameters(parameters), structure)
        return [result.site_energies, np.array(result.energy), result.forces, result.stress]

    parameters = potential.parameters
    chosen = [*range(0, potential.radial_coeffs.size, 5), *range(-12, 0)]
    for k in chosen:
        expected = five_point(observe, parameters, k)
        found = [rows[:, k], *(part[..., k] for part in design)]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_linear_rows_times_coefficients_are_the_result_itself():
    potential, atoms = random_potential(level=10), rattled()
    linear, _ = design_rows(potential, atoms)
    coefficients = potential.parameters[potential.radial_coeffs.size :]
    result = evaluate(potential, atoms)
    assert linear.energy @ coefficients == pytest.approx(result.energy, rel=1e-13)
    np.testing.assert_allclose(linear.forces @ coefficients, result.forces, atol=1e-14)
    np.testing.assert_allclose(linear.stress @ coefficients, result.stress, atol=1e-15)


def test_gradient_rows_of_a_species_that_is_absent_are_zero():
    potential = random_potential(species=("Nb", "Ta", "W"))
    rows = site_gradient_rows(potential, rattled())
    radial = rows[:, : potential.radial_coeffs.size].reshape(4, *potential.radial_coeffs.shape)
    assert not radial[:, 2].any()
    assert not radial[:, :, 2].any()
    assert not radial[0, 1].any()  # atom 0 is Nb: rows of Ta centres do not touch it
    assert radial[0, 0, 1].any()


def test_moment_products_equal_the_naive_twin_and_their_derivatives():
    potential = random_potential(level=10)
    times, n_basic = potential.alpha_index_times, len(potential.alpha_index_basic)
    basic = np.random.default_rng(2).normal(size=n_basic)
    moments = np.concatenate([basic, np.zeros(potential.n_moments - n_basic)])
    _kernels.multiply_moments(times, moments)
    expected = reference.basis_values(potential, basic)
    np.testing.assert_allclose(moments[potential.alpha_moment_mapping], expected, rtol=1e-13)

    tangents = np.eye(potential.n_moments, n_basic)
    _kernels.tangents_of_moments(times, moments, tangents)
    adjoints = np.zeros(potential.n_moments)
    adjoints[potential.alpha_moment_mapping] = potential.moment_coeffs
    once = adjoints.copy()
    seconds = np.zeros((potential.n_moments, n_basic))
    _kernels.second_derivatives(times, moments, tangents, adjoints, seconds)
    _kernels.differentiate_moments(times, moments, once)
    np.testing.assert_allclose(adjoints, once, rtol=1e-14)
    by_tangents = potential.moment_coeffs @ tangents[potential.alpha_moment_mapping]
    np.testing.assert_allclose(once[:n_basic], by_tangents, rtol=1e-11, atol=1e-13)
    hessian = seconds[:n_basic]
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-11, atol=1e-13)

    def energy(point):
        return [np.array(reference.basis_values(potential, point) @ potential.moment_coeffs)]

    for k in range(0, n_basic, 4):
        assert once[k] == pytest.approx(five_point(energy, basic, k)[0], rel=1e-9, abs=1e-10)


def test_unknown_species_is_an_input_error():
    atoms = rattled()
    atoms.symbols[0] = "Mo"
    with pytest.raises(InputError, match="knows Nb, Ta, but the structure contains Mo"):
        evaluate(random_potential(), atoms)


def test_atoms_at_one_place_are_an_input_error():
    atoms = Atoms("Nb2", positions=[[0, 0, 0], [0, 0, 0]], cell=[4, 4, 4], pbc=True)
    with pytest.raises(InputError, match="atoms 0 and 1 are at the same place"):
        evaluate(random_potential(), atoms)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_positions_that_are_not_finite_are_an_input_error(bad):
    atoms = rattled()
    atoms.positions[1, 1] = bad
    with pytest.raises(InputError, match="not finite"):
        evaluate(random_potential(), atoms)


def test_calculator_hands_ase_what_evaluate_returns():
    potential, atoms = random_potential(), rattled()
    expected = evaluate(potential, atoms)
    atoms.calc = potential.calculator()
    assert atoms.get_potential_energy() == expected.energy
    assert np.array_equal(atoms.get_potential_energies(), expected.site_energies)
    assert np.array_equal(atoms.get_forces(), expected.forces)
    assert np.array_equal(atoms.get_stress(), expected.stress)
    atoms.positions[0, 0] += 0.1
    assert atoms.get_potential_energy() == evaluate(potential, atoms).energy != expected.energy


def test_calculator_has_no_stress_for_molecules():
    atoms = molecule("H2O")
    atoms.calc = random_potential(species=("O", "H")).calculator()
    assert np.isfinite(atoms.get_potential_energy())
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_calculator_warns_once_of_distances_below_min_dist(caplog):
    atoms = Atoms("Nb2", positions=[[0, 0, 0], [0, 0, 1.5]])
    atoms.calc = random_potential().calculator()
    atoms.get_potential_energy()
    atoms.positions[1, 2] = 1.6
    atoms.get_potential_energy()
    assert caplog.text.count("closer than the potential's min_dist") == 1


def test_calculator_refuses_unknown_species():
    atoms = bulk("W", "bcc", 3.2)
    atoms.calc = random_potential().calculator()
    with pytest.raises(InputError, match="contains W"):
        atoms.get_potential_energy()
