"""The loop on an exactly known world: it has to find the true hull with few questions."""

from __future__ import annotations

import numpy as np
import pytest

from latticesearch.enumeration import enumerate_labelings
from latticesearch.hull import Hull, hull_with
from latticesearch.lattice import ParentLattice
from latticesearch.learning import Beginning, CandidateSet, Fitted, LearningOptions, learn
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

    explores = False

    def __init__(self, candidates, *, failing=(), noise=0.0):
        self.candidates, self.failing = candidates, set(failing)
        self.asked = []
        self.true = candidates.energies(PairModel.random(SPECIES))
        self.true += noise * np.random.default_rng(1).normal(size=len(self.true))

    def train(self, number, indices, energies):
        if len(indices) <= len(SPECIES):
            return None
        zero = PairModel.random(SPECIES)
        rows = self.candidates.learning_rows(zero)[list(indices)]
        penalty = 1e-6 * np.eye(rows.shape[1])
        weights = np.linalg.solve(rows.T @ rows + penalty, rows.T @ np.asarray(energies))
        hat = rows @ np.linalg.solve(rows.T @ rows + penalty, rows.T)
        residuals = rows @ weights - np.asarray(energies)
        return Fitted(PairModel(SPECIES, weights), residuals / (1.0 - np.diag(hat) + 1e-9))

    def explore(self, number, model, draw, hull):
        raise AssertionError

    def label(self, number, choices, limit):
        indices = [c.index for c in choices]
        self.asked += indices
        energies = [np.nan if i in self.failing else self.true[i] for i in indices]
        return Answer(energies, len(indices))


class Hidden(World):
    """A world that begins with the end members and finds the rest by a search that knows all."""

    explores = True

    def __init__(self, candidates):
        super().__init__(candidates)
        self.all, self.candidates = candidates, make_candidates(1)
        self.guides = []

    def explore(self, number, model, draw, hull):
        self.guides.append(model)
        for batch, _ in self.all.cells:
            energies = draw.evaluator(batch.supercell).energies(batch.labels)
            best = np.argsort(energies.round(9), kind="stable")[:2]
            found = (batch[int(i)] for i in best)
            self.candidates.add_configurations(found, "search", number)

    def label(self, number, choices, limit):
        keys = [self.candidates.keys[c.index] for c in choices]
        self.asked += keys
        return Answer([self.true[self.all.index(key)] for key in keys], len(keys))


def run(world, comm=None, known=None, **options):
    settings = LearningOptions(**{"budget": 120, **options})
    return list(learn(world.candidates, world, settings, comm, known))


def true_hull(world):
    usable = [i for i in range(len(world.true)) if i not in world.failing]
    return Hull(world.candidates.compositions[usable], world.true[usable])


def error_of(world):
    """Return how far the hull of what was asked is from the true one, eV/atom."""
    asked = [i for i in world.asked if i not in world.failing]
    own, true = Hull(world.candidates.compositions[asked], world.true[asked]), true_hull(world)
    return (own.energy(true.compositions) - true.energy(true.compositions)).max()


def test_the_true_hull_is_found_with_few_questions():
    world = World(make_candidates())
    rounds = run(world)
    assert rounds[-1].end.kind == "converged"
    assert error_of(world) <= 0.001
    assert rounds[-1].calculations == len(world.asked) < len(world.candidates) / 3
    assert len(set(world.asked)) == len(world.asked)


def test_nothing_but_the_end_members_comes_first():
    world = World(make_candidates(3))
    first = run(world)[0]
    assert [c.reason for c in first.choices] == ["end member"] * 3
    assert world.candidates.compositions[world.asked[:3]].max(axis=1).tolist() == [1, 1, 1]


def test_failures_are_asked_once_and_do_not_end_the_loop():
    clean = World(make_candidates())
    run(clean)
    deep = clean.asked[3:5]
    world = World(make_candidates(), failing=deep)
    rounds = run(world)
    assert set(deep) < set(world.asked)
    assert error_of(world) <= 0.001
    assert len(set(world.asked)) == len(world.asked)
    assert np.isnan(rounds[-1].forecast.stable[deep]).all()


def test_a_failed_end_member_is_an_error_that_names_it():
    candidates = make_candidates(3)
    pure = int(np.flatnonzero(candidates.compositions[:, 1] == 1.0)[0])
    with pytest.raises(RuntimeError, match="end member Ta"):
        run(World(candidates, failing={pure}))


def test_the_budget_is_never_exceeded_and_the_end_says_what_would_come_next():
    world = World(make_candidates(), noise=0.002)
    rounds = run(world, budget=13)
    assert len(world.asked) == 13
    assert rounds[-1].end.kind == "budget"
    assert 0.0 < rounds[-1].end.missing <= 1.0
    following = [c.index for c in rounds[-1].following]
    assert len(set(following) - set(world.asked)) == 10
    assert rounds[-1].following[0].worth > 0.0
    assert all(not r.following for r in rounds[:-1])


def test_energies_that_nothing_describes_end_as_such():
    world = World(make_candidates(4), noise=0.2)
    assert run(world, budget=40)[-1].end.kind == "model"
    world = World(make_candidates(3), noise=0.2)
    assert run(world)[-1].end.kind == "complete"
    assert len(world.asked) == len(world.candidates)


def test_rounds_may_be_limited():
    rounds = run(World(make_candidates()), max_rounds=2)
    assert [len(r.choices) for r in rounds] == [3, 4, 4, 0]
    assert "rounds are used up" in rounds[-1].stop


def test_competing_phases_take_away_what_lies_above_them():
    plain = World(make_candidates())
    run(plain)
    deepest = int(np.argmin(true_hull(plain).formation_energies))
    x = plain.candidates.compositions[[deepest]]
    competing = x, plain.true[[deepest]] - 0.5
    world = World(make_candidates())
    rounds = run(world, known=Beginning(competing=competing))
    assert rounds[-1].end.kind == "converged"
    x = world.candidates.compositions
    true = hull_with(x, world.true, competing)
    own = hull_with(x[world.asked], world.true[world.asked], competing)
    assert (own.energy(x) - true.energy(x)).max() <= 0.001
    assert deepest not in world.asked
    assert len(world.asked) < len(plain.asked)


def test_what_a_search_finds_competes_from_the_first_round_on():
    world = Hidden(make_candidates(4))
    rounds = run(world)
    assert world.guides[0] is None
    assert len(rounds[1].choices) == 4
    assert len(world.candidates) > 20
    assert rounds[-1].end.kind == "converged"


def test_the_number_of_ranks_changes_nothing():
    def on_rank(comm):
        world = World(make_candidates(4))
        rounds = run(world, comm)
        return world.asked, [r.vertices for r in rounds], rounds[-1].end.kind

    serial = run_ranks(1, on_rank)[0]
    assert run_ranks(3, on_rank) == [serial] * 3
