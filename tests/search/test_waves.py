"""Waves of walks: a first look everywhere, then where it pays; or rounds that grow."""

import math

import numpy as np
import pytest

from latticesearch.search import policy
from latticesearch.search.blocks import tasks_of
from latticesearch.search.driver import carry_out
from latticesearch.search.policy import make_plan
from latticesearch.search.pool import CandidatePool
from latticesearch.search.types import Budget
from latticesearch.search.waves import Waves
from tests.fake_comm import run_ranks
from tests.search.cases import HandClock, SlowModel, problem_of
from tests.search.toy_model import BCC, FCC, toy_model

HALF = {"supercells": [[1, 2, 4], [2, 2, 3]], "composition": {"Cu": (0.4, 0.6)}}
TICK = 1e-4
"""Seconds of a clock that each energy takes."""


@pytest.fixture
def clock():
    """A clock that energies move; what the policy measures is read from it, too."""
    return HandClock()


@pytest.mark.parametrize("method", ["auto", "addition", "annealing"])
@pytest.mark.parametrize("seconds", [1e-3, 0.7])
def test_a_time_ends_a_search_with_what_was_found(clock, method, seconds):
    model = SlowModel(toy_model(FCC), clock, TICK)
    problem, blocks = problem_of(model, FCC, **HALF)
    pool, _ = carry_out(problem, blocks, clock.budget(seconds), method)
    assert len(pool)
    # One piece of work is begun at least, and none is given up in the middle: a few hundred
    # energies of each cell at most.
    assert clock.now < seconds + 2000 * TICK


@pytest.mark.parametrize("method", ["addition", "annealing"])
def test_the_time_is_used(clock, method):
    model = SlowModel(toy_model(FCC), clock, TICK)
    problem, blocks = problem_of(model, FCC, **HALF)
    carry_out(problem, blocks, clock.budget(1.0), method)
    assert clock.now > 0.8


def test_rounds_grow_and_come_ever_closer_to_the_hull(clock, monkeypatch):
    model = SlowModel(toy_model(FCC), clock, TICK)
    problem, blocks = problem_of(model, FCC, **HALF)
    waves, original = [], Waves._wave

    def wave(self, tasks, energies, number, end=math.inf, copies=1):
        waves.append((len(tasks), float(np.mean(energies)), number))
        return original(self, tasks, energies, number, end, copies)

    monkeypatch.setattr(Waves, "_wave", wave)
    carry_out(problem, blocks, clock.budget(5.0), "addition")
    n_tasks, energies, numbers = (list(column) for column in zip(*waves, strict=True))
    assert len(waves) > 2
    assert numbers == sorted(numbers)
    assert n_tasks == sorted(n_tasks, reverse=True)
    assert n_tasks[0] == len(tasks_of(blocks))
    assert max(energies) > energies[0]


@pytest.mark.parametrize("method", ["auto", "annealing"])
def test_all_ranks_end_a_search_for_a_time_with_one_pool(monkeypatch, method):
    """Each rank reads a clock of its own, which moves as it is read."""
    monkeypatch.setattr(policy, "_seconds", lambda *_: 1e-3)
    model = toy_model(FCC)

    def run(comm):
        problem, blocks = problem_of(model, FCC, comm=comm, **HALF)
        budget = Budget(deadline=1.0 + comm.rank, clock=HandClock(per_reading=0.01))
        return carry_out(problem, blocks, budget, method)[0]

    first, second = run_ranks(2, run)
    assert len(first)
    assert first.entries == second.entries


@pytest.mark.parametrize("method", ["addition", "annealing"])
def test_counted_energies_go_to_all_and_then_to_what_is_near_the_hull(monkeypatch, method):
    problem, blocks = problem_of(toy_model(FCC), FCC, **HALF)
    waves, original = [], Waves._wave

    def wave(self, tasks, energies, number, *how):
        waves.append((tasks, energies))
        return original(self, tasks, energies, number, *how)

    monkeypatch.setattr(Waves, "_wave", wave)
    pool, _ = carry_out(problem, blocks, Budget(20_000), method)
    (first, looks), (close, shares) = waves
    assert len(set(first)) == len(tasks_of(blocks))
    assert set(close) < set(first)
    assert min(shares) > max(looks)
    assert sum(looks) <= 20_000
    assert sum(looks) / 10 < pool.evaluations <= 20_000


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("method", ["auto", "addition", "annealing"])
def test_a_budget_for_few_tasks_is_not_left_to_those_without_a_choice(seed, method):
    """An element has one labeling: it costs one energy, and the rest goes to alloys."""
    problem, blocks = problem_of(toy_model(FCC), FCC, supercells=[[4, 4, 4]], seed=seed)
    pool, _ = carry_out(problem, blocks, Budget(1000), method)
    assert 500 < pool.evaluations <= 1000
    assert any(len(set(candidate.labels)) == 2 for candidate in pool.candidates)


@pytest.mark.parametrize("seed", [0, 5])
def test_rounds_are_not_left_to_elements_either(monkeypatch, seed):
    """They stand on the hull whatever else is found."""
    monkeypatch.setattr(policy, "_seconds", lambda *_: 1e-3)
    clock = HandClock(per_reading=1e-3)
    problem, blocks = problem_of(toy_model(FCC), FCC, supercells=[[2, 2, 3]], seed=seed)
    pool, plan = carry_out(problem, blocks, clock.budget(1.2), "annealing")
    assert plan.walked == blocks
    assert clock.now >= 1.2
    assert len(pool.entries) > 2


@pytest.mark.parametrize("method", ["addition", "annealing"])
def test_a_search_for_a_time_ends_where_nothing_is_left_to_search(monkeypatch, method):
    monkeypatch.setattr(policy, "_seconds", lambda *_: 1e-3)
    problem, blocks = problem_of(toy_model(FCC), FCC, supercells=[[1, 1, 1], [1, 1, 2]],
                                 composition={"Cu": (0.9, 1.0)})  # fmt: skip
    clock = HandClock(per_reading=1e-3)
    pool, _ = carry_out(problem, blocks, clock.budget(1000.0), method)
    assert len(pool) == 1
    assert clock.now < 10.0


def test_a_budget_for_few_looks_at_few_tasks_that_the_seed_chooses():
    chosen = []
    for seed in (0, 0, 1):
        problem, blocks = problem_of(toy_model(BCC), BCC, supercells=[[2, 2, 3]], seed=seed)
        budget = Budget(500)
        plan = make_plan(problem, blocks, budget, "annealing")
        waves = Waves(problem, plan, None, budget, CandidatePool.empty(BCC, 16))
        tasks, energies = waves._first_look(tasks_of(plan.walked))
        assert 0 < sum(energies) <= 500
        assert len(tasks) < len(tasks_of(blocks))
        chosen.append([task.counts.tolist() for task in tasks])
    assert chosen[0] == chosen[1] != chosen[2]
