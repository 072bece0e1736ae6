import numpy as np
import pytest

from latticesearch.search.partial import (
    UNDECIDED,
    children,
    complete_at_random,
    distinct,
    fill_forced,
    is_feasible,
    mean_field_occupations,
)
from tests.reference import search as reference
from tests.search.toy_model import ring

EVERYWHERE = np.ones((6, 3), dtype=bool)
# Two sublattices that share species 1, and one spectator site.
OVERLAPPING = np.array([[1, 1, 0]] * 3 + [[0, 1, 1]] * 3 + [[0, 0, 1]], dtype=bool)


def random_partials(counts, allowed, n, seed):
    """Partial cells made by erasing parts of complete ones."""
    rng = np.random.default_rng(seed)
    start = np.full(len(allowed), UNDECIDED)
    complete = reference.completions(start, counts, allowed)
    rows = np.array([complete[i] for i in rng.integers(len(complete), size=n)], dtype=np.int8)
    rows[rng.random(rows.shape) < 0.6] = UNDECIDED
    return rows


CASES = [(np.array([2, 3, 1]), EVERYWHERE), (np.array([2, 3, 2]), OVERLAPPING)]


def test_mean_field_is_the_average_over_all_completions():
    counts = np.array([2, 3, 1])
    rows = random_partials(counts, EVERYWHERE, 20, 0)
    found = mean_field_occupations(rows, counts, EVERYWHERE)
    for row, occupations in zip(rows, found, strict=True):
        expected = reference.mean_field_occupations(row, counts, EVERYWHERE)
        np.testing.assert_allclose(occupations, expected, atol=1e-12)


def test_mean_field_on_overlapping_sublattices_keeps_sums_and_restrictions():
    counts, allowed = CASES[1]
    rows = random_partials(counts, allowed, 20, 1)
    occupations = mean_field_occupations(rows, counts, allowed)
    np.testing.assert_allclose(occupations.sum(axis=2), 1.0, atol=1e-12)
    # Where species are forced the iteration converges slowly.
    np.testing.assert_allclose(occupations.sum(axis=1), [counts] * len(rows), atol=2e-2)
    assert not occupations[:, ~allowed].any()


@pytest.mark.parametrize(("counts", "allowed"), CASES)
def test_children_are_the_one_step_extensions_that_can_be_completed(counts, allowed):
    for row in random_partials(counts, allowed, 10, 2):
        found = children(row[None], counts, allowed)
        expected = reference.children(row, counts, allowed)
        expected = fill_forced(
            np.array(sorted(expected), dtype=np.int8).reshape(-1, len(row)), counts, allowed
        )
        assert {tuple(r) for r in found} == {tuple(r) for r in expected}


@pytest.mark.parametrize(("counts", "allowed"), CASES)
def test_feasible_means_that_a_completion_exists(counts, allowed):
    rng = np.random.default_rng(3)
    rows = rng.integers(-1, 3, size=(200, len(allowed))).astype(np.int8)
    permitted = [
        all(label == UNDECIDED or allowed[i, label] for i, label in enumerate(row)) for row in rows
    ]
    rows = rows[np.array(permitted)]
    expected = [bool(reference.completions(row, counts, allowed)) for row in rows]
    assert is_feasible(rows, counts, allowed).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_forced_sites_are_filled_and_no_others():
    counts = np.array([1, 5, 0])
    row = np.array([[0, UNDECIDED, 1, UNDECIDED, 1, 1]], dtype=np.int8)
    assert fill_forced(row, counts, EVERYWHERE).tolist() == [[0, 1, 1, 1, 1, 1]]
    row[0, 0] = UNDECIDED
    assert fill_forced(row, counts, EVERYWHERE).tolist() == row.tolist()


def test_distinct_agrees_with_its_twin():
    cell = ring(7, 3)
    labels = np.random.default_rng(4).integers(-1, 3, size=(60, 7)).astype(np.int8)
    expected = np.unique(reference.smallest_images(labels, cell.site_permutations), axis=0)
    found = distinct(labels, cell.site_permutations)
    np.testing.assert_array_equal(np.unique(found, axis=0), expected)
    assert len(found) == len(expected) < 60
    np.testing.assert_array_equal(found, distinct(labels[::-1], cell.site_permutations))


@pytest.mark.parametrize(("counts", "allowed"), CASES)
def test_random_completion_keeps_decisions_and_counts(counts, allowed):
    rows = random_partials(counts, allowed, 10, 5)
    for seed, row in enumerate(rows):
        complete = complete_at_random(row, counts, allowed, np.random.default_rng(seed))
        assert np.array_equal(np.bincount(complete, minlength=3), counts)
        assert np.array_equal(complete[row != UNDECIDED], row[row != UNDECIDED])
        assert allowed[np.arange(len(row)), complete].all()


def test_random_completions_are_equally_likely():
    counts, allowed = np.array([2, 2, 1]), np.ones((5, 3), dtype=bool)
    row = np.array([UNDECIDED, 1, UNDECIDED, UNDECIDED, UNDECIDED], dtype=np.int8)
    rng = np.random.default_rng(3)
    found = [complete_at_random(row, counts, allowed, rng).tobytes() for _ in range(2400)]
    every = {labels.tobytes() for labels in reference.completions(row, counts, allowed)}
    assert set(found) == every
    numbers = np.array([found.count(name) for name in every])
    mean = 2400 / len(every)
    # Chi-squared with 11 degrees of freedom: 31 is exceeded once in a thousand.
    assert ((numbers - mean) ** 2 / mean).sum() < 31
