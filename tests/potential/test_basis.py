from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from latticesearch.errors import InputError
from latticesearch.potential.mtp.basis import MtpBasis, contractions, moment_lists
from latticesearch.potential.mtp.files import read_mtp
from tests.reference import mtp as reference
from tests.shipped import DATA


def neighbourhood(n_radial, n_neighbours=7, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n_neighbours, 3))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    return vectors, rng.normal(size=(n_neighbours, n_radial))


def basic_moments(alpha_index_basic, vectors, radial):
    powers = np.prod(vectors[:, None, :] ** alpha_index_basic[None, :, 1:], axis=2)
    return np.sum(radial[:, alpha_index_basic[:, 0]] * powers, axis=0)


def values(potential, vectors, radial):
    moments = basic_moments(potential.alpha_index_basic, vectors, radial)
    return reference.basis_values(potential, moments)


@pytest.mark.parametrize(
    ("level", "count"),
    [(2, 1), (4, 2), (6, 5), (8, 9), (10, 16), (12, 29), (16, 92), (20, 288)],
)
def test_number_of_basis_functions_is_that_of_the_published_lists(level, count):
    assert len(moment_lists(level).alpha_moment_mapping) == count


@pytest.mark.slow
@pytest.mark.parametrize(("level", "count"), [(24, 864), (28, 2455)])
def test_number_of_basis_functions_of_the_largest_levels(level, count):
    assert len(moment_lists(level).alpha_moment_mapping) == count


@pytest.mark.parametrize(
    "level", [*range(2, 25, 2), *(pytest.param(n, marks=pytest.mark.slow) for n in (26, 28))]
)
def test_number_of_contractions_by_burnside(level):
    counts = np.bincount([len(graph.mus) for graph in contractions(level)], minlength=5)
    expected = [reference.number_of_contractions(level, n) for n in (1, 2, 3, 4)]
    # A single moment can be contracted with nothing: only scalars, M_{mu,0}.
    assert counts[1:].tolist() == expected


@pytest.mark.parametrize("level", [8, 12, 16])
def test_products_equal_contractions_written_out(level):
    potential = MtpBasis(level, ("A",), 5.0).potential()
    vectors, radial = neighbourhood(potential.radial_coeffs.shape[2])
    expected = [reference.contract(graph, vectors, radial) for graph in contractions(level)]
    np.testing.assert_allclose(values(potential, vectors, radial), expected, rtol=1e-11)


def test_basis_functions_do_not_change_under_rotation_and_inversion():
    potential = MtpBasis(14, ("A",), 5.0).potential()
    vectors, radial = neighbourhood(potential.radial_coeffs.shape[2])
    rotation = -Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    expected = values(potential, vectors, radial)
    np.testing.assert_allclose(values(potential, vectors @ rotation, radial), expected, rtol=1e-10)


@pytest.mark.parametrize("level", [8, 10, 12, 16, 20])
def test_each_basis_function_is_one_of_mlip_and_the_reverse(level):
    theirs = read_mtp(DATA / "mtp" / f"random_level{level:02d}.mtp", tuple("ABCD"))
    ours = MtpBasis(level, tuple("ABCD"), 6.0).potential()
    assert np.array_equal(ours.alpha_index_basic, theirs.alpha_index_basic)
    samples = [neighbourhood(ours.radial_coeffs.shape[2], seed=seed) for seed in range(12)]
    columns = [
        np.array([values(potential, *sample) for sample in samples]) for potential in (ours, theirs)
    ]
    mine, other = (matrix / np.linalg.norm(matrix, axis=0) for matrix in columns)
    distances = np.abs(mine[:, :, None] - other[:, None, :]).max(axis=0)
    partner = distances.argmin(axis=1)
    assert sorted(partner) == list(range(len(partner)))
    assert distances.min(axis=1).max() < 1e-12
    assert np.sort(distances, axis=1)[:, 1].min() > 1e-6  # no other function is as close


def test_list_is_shorter_than_the_published_one():
    theirs = read_mtp(DATA / "mtp" / "random_level16.mtp", tuple("ABCD"))
    assert len(moment_lists(16).alpha_index_times) < len(theirs.alpha_index_times)


def test_parameters_are_counted_as_the_formulas_say():
    basis = MtpBasis(10, ("A", "B"), 5.0, radial_size=6)
    assert (basis.n_radial, basis.n_scalars) == (3, 16)
    assert basis.n_radial_parameters == 2 * 2 * 3 * 6
    assert basis.n_linear_parameters == 18
    assert basis.n_parameters == basis.potential().n_parameters == 90


def test_start_depends_on_the_seed_alone():
    basis = MtpBasis(8, ("A", "B"), 5.0)
    start = basis.potential(seed=1).parameters
    assert np.array_equal(start, basis.potential(seed=1).parameters)
    assert not np.array_equal(start, basis.potential(seed=2).parameters)
    assert np.all(np.isfinite(start))


def test_given_parameters_are_used_in_the_order_radial_species_moments():
    basis = MtpBasis(6, ("A", "B"), 5.0)
    parameters = np.arange(basis.n_parameters, dtype=float)
    potential = basis.potential(parameters)
    assert np.array_equal(potential.parameters, parameters)
    assert potential.species_coeffs[0] == basis.n_radial_parameters
    with pytest.raises(InputError, match=f"3 parameters given, the basis has {len(parameters)}"):
        basis.potential(np.zeros(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": 7}, "level 7: must be an even number from 2 to 28"),
        ({"level": 30}, "level 30"),
        ({"species": ("A", "A")}, "distinct"),
        ({"species": ()}, "at least one"),
        ({"cutoff": 1.5}, r"min_dist 2.0 Å must be 0 or more and below the cutoff 1.5"),
        ({"radial_size": 0}, "radial_size 0"),
    ],
)
def test_bad_input_is_refused(changes, message):
    basis = MtpBasis(8, ("A", "B"), 5.0)
    with pytest.raises(InputError, match=message):
        dataclasses.replace(basis, **changes)
