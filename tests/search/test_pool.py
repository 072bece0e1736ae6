import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latticesearch.errors import InputError
from latticesearch.lattice import Configuration, Labelings, ParentLattice, Supercell
from latticesearch.parallel import SerialComm
from latticesearch.search.pool import CandidatePool
from latticesearch.search.types import SearchResult, Task
from tests.fake_comm import run_ranks
from tests.search.toy_model import FCC, toy_model

CELLS = [Supercell.from_matrix(FCC, m) for m in ([1, 1, 4], [1, 2, 2], [1, 1, 2])]
MODEL = toy_model(FCC)


def pool_of(cell, labels, limit=3, source="greedy"):
    batch = Labelings(cell, np.array(labels, dtype=np.int8).reshape(-1, cell.n_sites))
    energies = MODEL.evaluator(cell).energies(batch.labels)
    return CandidatePool.from_labelings(
        batch, energies, source=source, max_per_composition=limit, evaluations=len(batch)
    )


def all_of(cell):
    return list(itertools.product((0, 1), repeat=cell.n_sites))


def test_best_distinct_structures_per_composition():
    pool = pool_of(CELLS[0], all_of(CELLS[0]), limit=2)
    keys = [candidate.key for candidate in pool.candidates]
    assert len(set(keys)) == len(keys) == len(pool)
    by_composition = {}
    for candidate in pool.candidates:
        name = tuple(candidate.configuration.composition)
        by_composition.setdefault(name, []).append(candidate.energy)
    assert sorted(by_composition) == [(x, 1 - x) for x in (0, 0.25, 0.5, 0.75, 1)]
    assert all(energies == sorted(energies) for energies in by_composition.values())
    assert all(len(energies) <= 2 for energies in by_composition.values())
    # The lowest of all 16 labelings with two atoms of each kind, by brute force.
    half = [labels for labels in all_of(CELLS[0]) if sum(labels) == 2]
    lowest = MODEL.evaluator(CELLS[0]).energies(np.array(half)).min()
    assert by_composition[0.5, 0.5][0] == pytest.approx(lowest, abs=1e-12)


def test_a_structure_found_in_two_supercells_is_one_candidate():
    layered = pool_of(CELLS[2], [[0, 1]]).merge(pool_of(CELLS[0], [[0, 1, 0, 1]]))
    assert len(layered) == 1
    assert layered.evaluations == 2
    assert layered.candidates[0].supercell.n_sites == 2
    assert layered.energies[0] == pytest.approx(MODEL.evaluator(CELLS[2]).energies([[0, 1]])[0])


labelings = st.lists(
    st.tuples(st.sampled_from([0, 1]), st.lists(st.sampled_from([0, 1]), min_size=4, max_size=4)),
    min_size=0,
    max_size=6,
)


def merged(found):
    pool = CandidatePool.empty(FCC, 2)
    for cell, labels in found:
        pool = pool.merge(pool_of(CELLS[cell], [labels], limit=2))
    return pool


@settings(deadline=None, max_examples=30)
@given(labelings, labelings, labelings)
def test_merge_is_associative_and_commutative(a, b, c):
    a, b, c = merged(a), merged(b), merged(c)
    left, right = a.merge(b).merge(c), c.merge(b.merge(a))
    assert left.entries == right.entries
    assert left.evaluations == right.evaluations
    assert left.merge(left).entries == left.entries


def test_reduction_gives_every_rank_the_pool_of_all():
    labels = all_of(CELLS[1])
    serial = pool_of(CELLS[1], labels)
    pools = run_ranks(3, lambda comm: pool_of(CELLS[1], labels[comm.rank :: 3]).reduce(comm))
    for pool in pools:
        assert pool.entries == serial.entries
        assert pool.evaluations == serial.evaluations
        np.testing.assert_array_equal(pool.compositions, serial.compositions)
        np.testing.assert_array_equal(pool.energies, serial.energies)


def test_energies_per_atom_leave_vacancies_out():
    parent = ParentLattice.from_prototype("fcc", a=4.0, species=("Cu", "X"))
    cell = Supercell.from_matrix(parent, [1, 1, 4])
    batch = Labelings(cell, np.array([[0, 0, 0, 1], [1, 1, 1, 1]], dtype=np.int8))
    pool = CandidatePool.from_labelings(
        batch, np.array([-3.0, 0.5]), source="greedy", max_per_composition=1, evaluations=2
    )
    assert pool.compositions.tolist() == [[0.0, 1.0], [0.75, 0.25]]
    np.testing.assert_allclose(pool.energies, [0.5, -4.0])


def test_energies_that_are_no_numbers_are_refused():
    batch = Labelings(CELLS[2], np.array([[0, 1]], dtype=np.int8))
    with pytest.raises(InputError, match="not finite"):
        CandidatePool.from_labelings(
            batch, np.array([np.nan]), source="x", max_per_composition=1, evaluations=1
        )


def test_an_empty_pool_has_empty_arrays():
    pool = CandidatePool.empty(FCC, 4)
    assert pool.compositions.shape == (0, 2)
    assert pool.energies.shape == (0,)
    assert pool.candidates == ()


def test_candidates_can_be_rebuilt_from_their_keys():
    for candidate in pool_of(CELLS[0], all_of(CELLS[0])).candidates:
        again = Configuration.from_key(FCC, candidate.key)
        assert again.key == candidate.configuration.key
        np.testing.assert_array_equal(again.labels, candidate.labels)


def test_batches_at_once_are_a_merger_of_pools_one_by_one():
    rng = np.random.default_rng(5)
    start = CandidatePool.empty(FCC, 3)
    parts, pool = [], start
    for matrix in ([1, 1, 4], [1, 2, 2], [1, 1, 2], [1, 1, 4]):
        cell = Supercell.from_matrix(FCC, matrix)
        labels = rng.integers(0, 2, size=(12, cell.n_sites)).astype(np.int8)
        energies = np.round(rng.normal(size=12), 1)
        parts.append((Labelings(cell, labels), energies))
        one = CandidatePool.from_labelings(
            *parts[-1], source="x", max_per_composition=3, evaluations=12, spent=2
        )
        pool = pool.merge(one)
    once = start.with_batches(parts, source="x", evaluations=48, spent=2)
    assert once.entries == pool.entries
    assert once.evaluations == pool.evaluations
    again = once.with_batches(parts, source="x", evaluations=0, spent=2)
    assert again.entries == once.entries


def test_what_is_near_a_hull_stays_whatever_the_number_of_lower_ones():
    batch = Labelings(CELLS[0], np.array([[0, 0, 1, 1], [0, 1, 0, 1]], dtype=np.int8))
    near = CandidatePool.empty(FCC, 1).with_batches(
        [(batch, np.array([1.0, 2.0]))], source="x", evaluations=2, is_near=True
    )
    assert near.energies.tolist() == [1.0, 2.0]
    far = CandidatePool.empty(FCC, 1).with_batches(
        [(batch, np.array([1.0, 2.0]))], source="x", evaluations=2
    )
    assert far.energies.tolist() == [1.0]
    # What is near in one pool is near in a merger, in whatever order.
    assert near.merge(far).entries == far.merge(near).entries == near.entries
    assert near.merge(far).reduce(SerialComm()).entries == near.entries


def test_results_of_tasks_enter_with_what_each_was_charged():
    task = Task(CELLS[0], np.array([2, 2]))
    labels = np.array([[0, 0, 1, 1], [0, 1, 0, 1]], dtype=np.int8)
    result = SearchResult.of(labels, np.array([0.3, 0.1]), 40)
    assert result.energies.tolist() == [0.1, 0.3]
    pool = CandidatePool.empty(FCC, 4).with_results([(task, result)] * 2, "guided")
    assert pool.evaluations == 80
    assert [c.evaluations for c in pool.candidates] == [40, 40]
    assert [c.energy for c in pool.candidates] == [0.1, 0.3]
    assert all((c.found_in == task.cell.hnf).all() for c in pool.candidates)
