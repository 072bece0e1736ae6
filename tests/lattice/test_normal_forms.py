from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latticesearch.errors import InputError
from latticesearch.lattice.normal_forms import (
    hermite_normal_form,
    hermite_normal_forms,
    hnf_entries,
    hnf_from_entries,
    integer_matrix,
    is_superlattice,
)
from tests.reference import lattice as naive

rows = st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=3, max_size=5)


@given(rows)
@settings(deadline=None, max_examples=60)
def test_hermite_normal_form_is_the_one_that_contains_the_rows(generators):
    if np.linalg.matrix_rank(generators) < 3:
        with pytest.raises(InputError, match="spans no volume"):
            hermite_normal_form(generators)
        return
    form = hermite_normal_form(generators)
    assert np.array_equal(form, naive.hermite_normal_form(generators))


def test_row_operations_do_not_change_the_form():
    rng = np.random.default_rng(1)
    form = np.array([[2, 1, 3], [0, 3, 4], [0, 0, 5]])
    matrix = form
    for _ in range(30):
        i, j = rng.permutation(3)[:2]
        matrix = matrix.copy()
        matrix[i] += rng.integers(-2, 3) * matrix[j]
        matrix[j] *= -1
        assert np.array_equal(hermite_normal_form(matrix[rng.permutation(3)]), form)


def test_batch_has_the_shape_of_its_input():
    matrices = np.random.default_rng(0).integers(-4, 5, (4, 5, 3, 3))
    forms = hermite_normal_forms(matrices)
    assert forms.shape == matrices.shape
    singular = np.rint(np.linalg.det(matrices)) == 0
    assert np.array_equal(~forms.any(axis=(2, 3)), singular)


def test_entries_round_trip():
    form = np.array([[2, 1, 3], [0, 3, 4], [0, 0, 5]])
    assert hnf_entries(form).tolist() == [2, 1, 3, 3, 4, 5]
    assert np.array_equal(hnf_from_entries([2, 1, 3, 3, 4, 5]), form)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1, 0], [0, 1]], "3 x 3 integers"),
        ([[1, 0, 0], [0, 1, 0], [0, 0, np.nan]], "3 x 3 integers"),
        ([[1, 0, 0], [0, 1.5, 0], [0, 0, 1]], "no integers"),
        ([[1, 0, 0], [1, 0, 0], [0, 0, 1]], "no volume"),
    ],
)
def test_bad_matrices_are_refused(matrix, message):
    with pytest.raises(InputError, match=message):
        integer_matrix(matrix)


def test_three_numbers_mean_a_diagonal_matrix():
    assert np.array_equal(integer_matrix((2, 3, 4)), np.diag([2, 3, 4]))


def test_superlattices_are_those_that_add_no_vector():
    rng = np.random.default_rng(4)
    found = []
    for _ in range(300):
        small = rng.integers(-3, 4, size=(3, 3))
        if round(np.linalg.det(small)) == 0:
            continue
        large = rng.integers(-4, 5, size=(3, 3))
        if rng.random() < 0.5:
            large = rng.integers(-2, 3, size=(3, 3)) @ small
        joined = hermite_normal_form(np.vstack([small, large]))
        expected = (joined == hermite_normal_form(small)).all()
        assert is_superlattice(large, small) == expected
        found.append(expected)
    assert 50 < sum(found) < len(found) - 50
    eye = np.eye(3, dtype=np.int64)
    assert is_superlattice(
        np.array([2 * eye, eye])[:, None], np.array([eye, 2 * eye])
    ).tolist() == [
        [True, True],
        [True, False],
    ]
