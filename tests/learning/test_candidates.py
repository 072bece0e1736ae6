from __future__ import annotations

import numpy as np

from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.learning import CandidateSet
from latticesearch.learning.candidates import by_supercell
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
    np.testing.assert_array_equal(candidates.sites_per_atom, [2.0, 1.0])
    model = PairModel.random(parent.species)
    per_site = [model.evaluator(b.supercell).energies(b.labels) for b in candidates.batches]
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


def test_configurations_are_grouped_by_supercell():
    parent = bcc()
    candidates = CandidateSet(parent)
    candidates.add(batch(parent, np.eye(3, dtype=int), [0], [1]), "a")
    candidates.add(batch(parent, [[1, 0, 0], [0, 1, 0], [0, 0, 2]], [0, 1]), "a")
    groups = by_supercell([candidates.configuration(i) for i in (0, 2, 1)])
    assert [len(g) for g in groups] == [2, 1]
