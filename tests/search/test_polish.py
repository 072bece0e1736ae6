import numpy as np
import pytest

from latticesearch.search.polish import Allowance, descend, swap_pairs
from tests.search.toy_model import ring_evaluator


def labels_of(n_sites, k, seed=0):
    labels = np.zeros(n_sites, dtype=np.int8)
    labels[:k] = 1
    return np.random.default_rng(seed).permutation(labels)


def test_pairs_are_unlike_and_allowed():
    allowed = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=bool)
    pairs = swap_pairs(np.array([0, 1, 1, 2], dtype=np.int8), allowed)
    assert pairs.tolist() == [[0, 1]]
    pairs = swap_pairs(np.array([1, 1, 2, 2], dtype=np.int8), allowed)
    assert pairs.tolist() == []


@pytest.mark.parametrize("seed", range(4))
def test_descent_ends_where_no_swap_is_lower_and_counts_what_it_used(seed):
    evaluator = ring_evaluator(14, seed=seed)
    start = labels_of(14, 6, seed)
    allowance = Allowance()
    result = descend(evaluator, start, allowance=allowance, n_neighbours=5)
    pairs = swap_pairs(result.labels, evaluator.supercell.allowed)
    changes = evaluator.swap_energies(result.labels, pairs)
    assert changes.min() >= -1e-10
    assert allowance.used % len(pairs) == 0
    before, after = evaluator.energies(np.array([start, result.labels]))
    assert after <= before
    np.testing.assert_allclose(np.sort(changes)[:5], result.changes, atol=1e-12)
    np.testing.assert_allclose(
        evaluator.energies(result.neighbours), after + result.changes / 14, atol=1e-12
    )


def test_descent_stops_on_a_path_already_walked():
    evaluator = ring_evaluator(14, seed=1)
    visited = set()
    first = descend(evaluator, labels_of(14, 6), visited=visited)
    again = Allowance()
    # The same labeling turned around the ring is the same structure.
    second = descend(evaluator, np.roll(labels_of(14, 6), 3), visited=visited, allowance=again)
    assert first.is_new
    assert not second.is_new
    assert again.used == 0


def test_descent_keeps_within_its_allowance():
    allowance = Allowance(60)
    descend(ring_evaluator(14), labels_of(14, 6), allowance=allowance)
    assert allowance.used <= 60
