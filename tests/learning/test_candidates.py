from __future__ import annotations

import numpy as np

from latticesearch.enumeration import enumerate_labelings
from latticesearch.lattice import (
    Configuration,
    Labelings,
    ParentLattice,
    Supercell,
    labelings,
    smallest_images,
)
from latticesearch.learning import CandidateSet
from tests.fake_comm import run_ranks
from tests.learning.pair_model import PairModel


def bcc(species=("Mo", "Ta")):
    return ParentLattice.from_prototype("bcc", 3.2, species)


def batch(parent, matrix, *labels):
    return Labelings(Supercell.from_matrix(parent, matrix), np.array(labels, dtype=np.int8))


def test_the_same_crystal_is_one_candidate():
    parent = bcc()
    candidates = CandidateSet(parent)
    cell = [[1, 0, 0], [0, 1, 0], [0, 0, 2]]
    assert candidates.add(batch(parent, cell, [0, 1], [1, 0], [0, 0]), "a") == 2
    assert candidates.add(batch(parent, np.eye(3, dtype=int), [0], [1]), "b", 3) == 1
    assert candidates.sources == ["a", "a", "b"]
    assert candidates.rounds == [0, 0, 3]
    assert [candidates.index(k) for k in candidates.keys] == [0, 1, 2]
    assert [candidates.configuration(i).formula for i in range(3)] == ["MoTa", "Mo", "Ta"]


def test_vacancies_are_sites_without_atoms():
    parent = bcc(("Mo", "X"))
    candidates = CandidateSet(parent)
    cell = [[1, 0, 0], [0, 1, 0], [0, 0, 2]]
    assert candidates.add(batch(parent, cell, [0, 1], [1, 1], [0, 0]), "a") == 2
    assert candidates.elements == ("Mo",)
    np.testing.assert_array_equal(candidates.compositions, [[1.0], [1.0]])
    assert candidates.n_sites.tolist() == [2, 1]
    assert candidates.n_atoms.tolist() == [1, 1]
    model = PairModel.random(parent.species)
    per_site = [
        model.evaluator(c.batch.supercell).energies(c.batch.labels) for c in candidates.cells
    ]
    np.testing.assert_allclose(candidates.energies(model), np.concatenate(per_site) * [2.0, 1.0])


def test_subsets_remember_where_they_came_from():
    parent = bcc()
    candidates = CandidateSet(parent)
    candidates.add(batch(parent, np.eye(3, dtype=int), [0], [1]), "a")
    candidates.add(batch(parent, [[1, 0, 0], [0, 1, 0], [0, 0, 2]], [0, 1]), "a")
    wanted = [2, 0, 1]
    seen = {}
    for part, positions in candidates.subset(wanted):
        seen.update(zip(positions.tolist(), part.keys(), strict=True))
    assert [seen[i] for i in range(3)] == [candidates.keys[i] for i in wanted]


def test_energies_do_not_depend_on_the_number_of_ranks():
    def energies(comm):
        parent = bcc()
        candidates = CandidateSet(parent)
        cell = [[1, 0, 0], [0, 1, 0], [0, 0, 5]]
        labels = [[i >> s & 1 for s in range(5)] for i in range(32)]
        candidates.add(batch(parent, cell, *labels), "a")
        return candidates.energies(PairModel.random(parent.species), comm).tolist()

    serial = run_ranks(1, energies)[0]
    for result in run_ranks(4, energies):
        assert result == serial


def test_columns_are_in_the_order_of_the_candidates_whatever_their_cells():
    parent = bcc()
    candidates = CandidateSet(parent)
    cell = [[1, 0, 0], [0, 1, 0], [0, 0, 2]]
    candidates.add(batch(parent, cell, [0, 0], [1, 0], [1, 1]), "a")
    assert [len(members.batch) for members in candidates.cells] == [2, 1]
    assert candidates.formulas == ["Mo", "MoTa", "Ta"]
    assert candidates.n_atoms.tolist() == [1, 2, 1]
    assert candidates.labels == [[0], [0, 1], [1]]
    assert [len(hnf) for hnf in candidates.hnfs] == [9, 9, 9]
    np.testing.assert_array_equal(candidates.compositions, [[1, 0], [0.5, 0.5], [0, 1]])
    for i, configuration in enumerate(candidates.configurations()):
        assert configuration.key == candidates.keys[i]
        assert Configuration.from_key(parent, candidates.keys[i]).key == candidates.keys[i]
        np.testing.assert_array_equal(candidates.composition(i), candidates.compositions[i])


def test_a_candidate_is_canonicalised_once(monkeypatch):
    """From the search to the tables: labels become canonical, keys are written from them."""
    rows = []

    def counting(labels, permutations):
        rows.append(len(labels))
        return smallest_images(labels, permutations)

    monkeypatch.setattr(labelings, "smallest_images", counting)
    parent = bcc(("Mo", "Ta", "W"))
    found = [one for b in enumerate_labelings(parent, 4, 4) for one in b.canonical()]
    assert sum(rows) == len(found) > 90
    candidates = CandidateSet(parent)
    assert candidates.add_configurations(found, "search") == len(found)
    keys = [one.key for one in candidates.configurations()]
    assert keys == candidates.keys == [one.key for one in found]
    assert len(candidates.energies(PairModel.random(parent.species))) == len(found)
    assert sum(rows) == len(found)


def test_an_enumerated_batch_is_canonicalised_once(monkeypatch):
    rows = []

    def counting(labels, permutations):
        rows.append(len(labels))
        return smallest_images(labels, permutations)

    monkeypatch.setattr(labelings, "smallest_images", counting)
    parent = bcc(("Mo", "Ta", "W"))
    candidates = CandidateSet(parent)
    n = sum(candidates.add(b, "enumeration") for b in enumerate_labelings(parent, 1, 4))
    assert [one.key for one in candidates.configurations()] == candidates.keys
    assert sum(rows) == n == len(candidates)
