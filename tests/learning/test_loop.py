"""The loop on an exactly known world: it has to find the true hull with few questions."""

from __future__ import annotations

import numpy as np
import pytest

from latticesearch.enumeration import enumerate_labelings
from latticesearch.hull import Hull
from latticesearch.lattice import ParentLattice
from latticesearch.learning import CandidateSet, Fitted, LearningOptions, learn
from latticesearch.learning.loop import Answer
from tests.fake_comm import run_ranks
from tests.learning.pair_model import PairModel

SPECIES = ("Mo", "Ta", "W")


def make_candidates(max_sites=5):
    parent = ParentLattice.from_prototype("bcc", 3.2, SPECIES)
    candidates = CandidateSet(parent)
    for batch in enumerate_labelings(parent, max_index=max_sites):
        candidates.add(batch, "enumeration")
    return candidates


class World:
    """An oracle with known answers, and a model trained on what was asked."""

    def __init__(self, candidates, *, failing=(), noise=0.0):
        self.candidates, self.failing = candidates, set(failing)
        self.asked = []
        self.true = candidates.energies(PairModel.random(SPECIES))
        self.true += noise * np.random.default_rng(1).normal(size=len(self.true))

    def train(self, number, indices, energies):
        zero = PairModel.random(SPECIES)
        rows = self.candidates.learning_rows(zero)[list(indices)]
        penalty = 1e-6 * np.eye(rows.shape[1])
        weights = np.linalg.solve(rows.T @ rows + penalty, rows.T @ np.asarray(energies))
        hat = rows @ np.linalg.solve(rows.T @ rows + penalty, rows.T)
        residuals = rows @ weights - np.asarray(energies)
        return Fitted(PairModel(SPECIES, weights), residuals / (1.0 - np.diag(hat) + 1e-9))

    def explore(self, number, model, state):
        pass

    def label(self, number, choices, limit):
        indices = [c.index for c in choices]
        self.asked += indices
        energies = [np.nan if i in self.failing else self.true[i] for i in indices]
        return Answer(energies, len(indices))


def run(world, comm=None, **options):
    settings = LearningOptions(**{"budget": 120, "initial": 12, "per_round": 8, **options})
    start = PairModel.random(SPECIES, seed=9)
    return list(learn(world.candidates, world, start, settings, comm))


def true_vertices(world):
    usable = [i for i in range(len(world.true)) if i not in world.failing]
    hull = Hull(world.candidates.compositions[usable], world.true[usable])
    return {world.candidates.keys[usable[v]] for v in hull.vertices}


def test_the_true_hull_is_found_with_few_questions():
    world = World(make_candidates())
    rounds = run(world)
    assert rounds[-1].stop in {"the hull stands still", "no candidate left to check"}
    assert set(rounds[-1].vertices) == true_vertices(world)
    assert rounds[-1].calculations == len(world.asked) < len(world.candidates) / 3
    assert len(set(world.asked)) == len(world.asked)


def test_end_members_come_first():
    world = World(make_candidates(3))
    first = run(world)[0]
    assert [c.reason for c in first.choices[:4]] == ["end member"] * 3 + ["initial"]
    assert world.candidates.compositions[world.asked[:3]].max(axis=1).tolist() == [1, 1, 1]


def test_failures_are_asked_once_and_do_not_end_the_loop():
    clean = World(make_candidates())
    run(clean)
    deep = sorted(true_vertices(clean), key=lambda k: (len(k), k))[-2:]
    world = World(make_candidates(), failing={clean.candidates.index(k) for k in deep})
    rounds = run(world)
    assert set(rounds[-1].vertices) == true_vertices(world)
    assert len(set(world.asked)) == len(world.asked)


def test_a_failed_end_member_is_an_error_that_names_it():
    candidates = make_candidates(3)
    pure = int(np.flatnonzero(candidates.compositions[:, 1] == 1.0)[0])
    with pytest.raises(RuntimeError, match="end member Ta"):
        run(World(candidates, failing={pure}))


def test_the_budget_is_never_exceeded():
    world = World(make_candidates(), noise=0.03)
    rounds = run(world, budget=33)
    assert len(world.asked) == 33
    assert rounds[-1].stop == "the budget of oracle calculations is used up"


def test_the_number_of_ranks_changes_nothing():
    def on_rank(comm):
        world = World(make_candidates(4))
        rounds = run(world, comm)
        return world.asked, [r.vertices for r in rounds]

    serial = run_ranks(1, on_rank)[0]
    assert run_ranks(3, on_rank) == [serial] * 3
