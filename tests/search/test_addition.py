import numpy as np
import pytest

from latticesearch.errors import InputError
from latticesearch.search.greedy import greedy_search
from latticesearch.search.partial import distinct
from latticesearch.search.polish import Allowance
from tests.reference import search as reference
from tests.search.toy_model import ring_evaluator


@pytest.mark.parametrize("seed", range(3))
def test_finds_the_minimum_of_every_composition_of_a_ring(seed):
    evaluator = ring_evaluator(10, seed=seed)
    for k in range(11):
        counts = np.array([k, 10 - k])
        result = greedy_search(evaluator, counts)
        assert result.energies[0] == pytest.approx(
            reference.minima(evaluator, counts)[0], abs=1e-10
        )


def test_three_species_results_are_distinct_sorted_and_carry_their_own_energies():
    evaluator = ring_evaluator(9, 3, seed=2)
    counts = np.array([4, 3, 2])
    result = greedy_search(evaluator, counts, max_results=10)
    assert result.energies[0] == pytest.approx(reference.minima(evaluator, counts)[0], abs=1e-10)
    np.testing.assert_allclose(result.energies, evaluator.energies(result.labels), atol=1e-12)
    assert np.all(np.diff(result.energies) > -1e-9)
    assert len(distinct(result.labels, evaluator.supercell.site_permutations)) == 10
    assert (np.sort(result.labels, axis=1) == [0, 0, 0, 0, 1, 1, 1, 2, 2]).all()


def test_sublattices_and_spectators_are_respected():
    allowed = np.array([[1, 1, 0], [0, 1, 1]] * 4, dtype=bool)
    allowed[7] = [False, False, True]
    evaluator = ring_evaluator(8, 3, seed=1, allowed=allowed)
    counts = np.array([2, 4, 2])
    result = greedy_search(evaluator, counts, beam_width=16)
    assert allowed[np.arange(8), result.labels].all()
    assert result.energies[0] == pytest.approx(reference.minima(evaluator, counts)[0], abs=1e-10)


def test_impossible_counts_are_refused():
    allowed = np.array([[1, 0], [1, 1]] * 2, dtype=bool)
    with pytest.raises(InputError, match=r"counts \(1, 3\)"):
        greedy_search(ring_evaluator(4, allowed=allowed), np.array([1, 3]))


@pytest.mark.parametrize("limit", [1, 2, 5, 20, 50, 100, 300])
def test_allowance_is_kept_and_something_is_found(limit):
    evaluator = ring_evaluator(12, seed=4)
    allowance = Allowance(limit)
    result = greedy_search(evaluator, np.array([5, 7]), allowance=allowance)
    assert 0 < result.evaluations <= limit
    assert result.evaluations == allowance.used
    assert len(result.labels) > 0


class Counting:
    """Counts what an evaluator is asked for."""

    def __init__(self, evaluator):
        self._evaluator, self.supercell, self.asked = evaluator, evaluator.supercell, 0

    def energies(self, labels):
        self.asked += len(labels)
        return self._evaluator.energies(labels)

    def mean_field_energies(self, occupations):
        self.asked += len(occupations)
        return self._evaluator.mean_field_energies(occupations)

    def swap_energies(self, labels, pairs):
        self.asked += len(pairs)
        return self._evaluator.swap_energies(labels, pairs)


@pytest.mark.parametrize("limit", [40, np.inf])
def test_evaluations_are_what_the_model_was_asked_for(limit):
    evaluator = Counting(ring_evaluator(12, seed=4))
    result = greedy_search(evaluator, np.array([5, 7]), allowance=Allowance(limit))
    assert result.evaluations == evaluator.asked


def test_the_same_search_gives_the_same_result():
    counts = np.array([5, 7])
    first = greedy_search(ring_evaluator(12, seed=6), counts)
    again = greedy_search(ring_evaluator(12, seed=6), counts)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert first.evaluations == again.evaluations


def test_random_starts_find_what_a_narrow_beam_misses():
    narrow = widened = 0.0
    for seed in range(4):
        evaluator = ring_evaluator(12, 3, seed=seed)
        counts = np.array([4, 4, 4])
        alone = greedy_search(evaluator, counts, beam_width=1, restarts=0)
        helped = greedy_search(evaluator, counts, beam_width=1, restarts=6)
        assert helped.energies[0] <= alone.energies[0] + 1e-12
        assert helped.evaluations > alone.evaluations
        narrow, widened = narrow + alone.energies[0], widened + helped.energies[0]
    assert widened < narrow - 1e-6
