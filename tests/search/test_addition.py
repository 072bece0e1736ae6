"""Atom addition: what it finds, and that it keeps to its budget."""

import numpy as np
import pytest

from latticesearch.errors import InputError
from latticesearch.lattice import Supercell
from latticesearch.search.addition import add_atoms, search_by_addition
from latticesearch.search.partial import distinct
from latticesearch.search.types import Budget
from tests.reference import search as reference
from tests.search.toy_model import ROCKSALT, ring_evaluator, toy_model


def search(evaluator, counts, budget=None, seed=0, **how):
    return search_by_addition(
        evaluator,
        np.array(counts),
        budget=Budget() if budget is None else budget,
        rng=np.random.default_rng(seed),
        **how,
    )


@pytest.mark.parametrize("seed", range(3))
def test_finds_the_minimum_of_every_composition_of_a_ring(seed):
    evaluator = ring_evaluator(10, seed=seed)
    for k in range(11):
        result = search(evaluator, [k, 10 - k])
        lowest = reference.minima(evaluator, [k, 10 - k])[0]
        assert result.energies[0] == pytest.approx(lowest, abs=1e-10)


def test_results_are_distinct_sorted_and_carry_their_own_energies():
    evaluator = ring_evaluator(9, 3, seed=2)
    counts = np.array([4, 3, 2])
    result = search(evaluator, counts)
    assert result.energies[0] == pytest.approx(reference.minima(evaluator, counts)[0], abs=1e-10)
    np.testing.assert_allclose(result.energies, evaluator.energies(result.labels), atol=1e-12)
    assert np.all(np.diff(result.energies) > -1e-9)
    assert len(np.unique(result.labels, axis=0)) == len(result.labels)
    assert (np.sort(result.labels, axis=1) == [0, 0, 0, 0, 1, 1, 1, 2, 2]).all()


def test_sublattices_and_spectators_are_respected():
    allowed = np.array([[1, 1, 0], [0, 1, 1]] * 4, dtype=bool)
    allowed[7] = [False, False, True]
    evaluator = ring_evaluator(8, 3, seed=1, allowed=allowed)
    counts = np.array([2, 4, 2])
    result = search(evaluator, counts, beam_width=16)
    assert allowed[np.arange(8), result.labels].all()
    assert result.energies[0] == pytest.approx(reference.minima(evaluator, counts)[0], abs=1e-10)


def test_vacancies_on_a_sublattice_of_a_crystal():
    evaluator = toy_model(ROCKSALT).evaluator(Supercell.from_matrix(ROCKSALT, [1, 2, 2]))
    counts = np.array([2, 2, 3, 1])
    result = search(evaluator, counts)
    assert result.energies[0] == pytest.approx(reference.minima(evaluator, counts)[0], abs=1e-9)


def test_impossible_counts_are_refused():
    allowed = np.array([[1, 0], [1, 1]] * 2, dtype=bool)
    with pytest.raises(InputError, match=r"counts \(1, 3\)"):
        search(ring_evaluator(4, allowed=allowed), [1, 3])


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 20, 50, 100, 300])
def test_the_budget_is_kept_and_something_is_found(limit):
    """Also where a level has more children than there are energies for."""
    evaluator, budget = ring_evaluator(12, seed=4), Budget(limit)
    result = search(evaluator, [5, 7], budget)
    assert 0 < result.evaluations <= limit
    assert result.evaluations == budget.used
    assert len(result.labels) > 0
    np.testing.assert_allclose(result.energies, evaluator.energies(result.labels), atol=1e-12)


@pytest.mark.parametrize("limit", [0, 1, 7, 40])
def test_a_beam_without_enough_energies_for_all_children_is_completed_at_random(limit):
    """A first level has 24 children; some are drawn, every level has its part."""
    evaluator, budget = ring_evaluator(12, seed=4), Budget(limit)
    counts, rng = np.array([5, 7]), np.random.default_rng(0)
    found = add_atoms(evaluator, counts, beam_width=4, budget=budget, rng=rng)
    assert budget.used <= limit
    assert 1 <= len(found) <= 4
    for labels in found:
        np.testing.assert_array_equal(np.bincount(labels), counts)


def test_a_budget_beyond_all_needs_changes_nothing():
    one = search(ring_evaluator(10, seed=1), [4, 6])
    other = search(ring_evaluator(10, seed=1), [4, 6], Budget(10**6))
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.evaluations == other.evaluations


def test_the_beam_holds_distinct_partial_cells():
    evaluator, rng = ring_evaluator(12, seed=2), np.random.default_rng(0)
    found = add_atoms(evaluator, np.array([5, 7]), beam_width=8, budget=Budget(), rng=rng)
    assert 1 < len(found) <= 8
    assert len(distinct(found, evaluator.supercell.site_permutations)) == len(found)


def test_the_same_search_gives_the_same_result():
    first, again = (search(ring_evaluator(12, seed=6), [5, 7]) for _ in range(2))
    np.testing.assert_array_equal(first.labels, again.labels)
    assert first.evaluations == again.evaluations


def test_what_is_booked_is_what_the_model_was_asked_for():
    """Each labeling, each partial cell and each swap counts once."""
    evaluator, asked = ring_evaluator(12, seed=4), []
    mean_field = evaluator.mean_field_energies

    def counted(occupations):  # of the toy model all energies are such
        asked.append(len(occupations))
        return mean_field(occupations)

    evaluator.mean_field_energies = counted
    result = search(evaluator, [5, 7], Budget(400))
    assert result.evaluations == sum(asked)
