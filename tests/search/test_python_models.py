"""Models that offer nothing but the energies of labelings go through every method."""

import pytest

from latticesearch.errors import InputError
from latticesearch.lattice import Supercell
from latticesearch.search import policy, search
from latticesearch.search.driver import carry_out
from latticesearch.search.policy import METHODS
from latticesearch.search.types import Budget
from tests.fake_comm import run_ranks
from tests.potential.python_model import PythonModel
from tests.search.cases import (
    HandClock,
    SlowModel,
    assert_same_vertices,
    hull_of_all,
    problem_of,
    same_pools,
)
from tests.search.toy_model import FCC, toy_model

CELL = {"supercells": [[2, 2, 2]]}


@pytest.fixture(scope="module")
def truth():
    cell = Supercell.from_matrix(FCC, [2, 2, 2])
    return hull_of_all(toy_model(FCC), FCC, supercell=cell, superperiodic=True)


@pytest.fixture(autouse=True)
def cost(monkeypatch):
    """No test depends on how fast this machine is."""
    monkeypatch.setattr(policy, "_seconds", lambda function, _: function() is not None and 1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_hull(method, truth):
    pool = search(PythonModel(toy_model(FCC)), FCC, method=method, seed=1, **CELL)
    assert_same_vertices(pool, truth[0])


@pytest.mark.parametrize("method", METHODS)
def test_with_a_budget_too(method, truth):
    pool = search(PythonModel(toy_model(FCC)), FCC, method=method, budget=6000, **CELL)
    assert pool.evaluations <= 6000
    assert_same_vertices(pool, truth[0])


@pytest.mark.parametrize("method", METHODS)
def test_with_a_time_too(method, truth):
    """Each energy takes a tenth of a millisecond of a clock that nothing else moves."""
    clock = HandClock()
    model = SlowModel(toy_model(FCC), clock, 1e-4)
    problem, blocks = problem_of(model, FCC, **CELL)
    pool, _ = carry_out(problem, blocks, clock.budget(2.0), method)
    assert_same_vertices(pool, truth[0])


@pytest.mark.parametrize("method", ["auto", "screening"])
def test_a_dear_model_finds_the_hull_with_fewer_energies(method, monkeypatch):
    """Where an energy takes a second, surrogates choose what is asked."""
    monkeypatch.setattr(policy, "_seconds", lambda *_: 8.0)
    monkeypatch.setattr(policy, "TAUGHT", 40)
    hull, n = hull_of_all(toy_model(FCC), FCC, max_index=6)
    pool = search(PythonModel(toy_model(FCC)), FCC, max_sites=6, method=method, seed=1)
    assert_same_vertices(pool, hull)
    assert pool.evaluations < n


def test_a_model_in_python_gives_the_pool_of_the_compiled_one():
    model, how = toy_model(FCC), {"max_sites": 6, "method": "enumerate"}
    assert same_pools(search(model, FCC, **how), search(PythonModel(model), FCC, **how))


class ModelError(Exception):
    """What a model of other people raises."""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails_at", [1, 20, 60])
@pytest.mark.parametrize("limit", [{}, {"budget": 400}])
def test_what_the_model_raises_reaches_the_user(method, fails_at, limit):
    model = PythonModel(toy_model(FCC), fails_at, ModelError("no licence"))
    with pytest.raises(ModelError, match="no licence"):
        search(model, FCC, supercells=[[2, 2, 3]], method=method, **limit)


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupt_ends_a_search(method):
    model = PythonModel(toy_model(FCC), 60, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        search(model, FCC, supercells=[[2, 2, 3]], method=method)


@pytest.mark.parametrize("cells", [{"supercells": [[2, 2, 3]]}, {"max_sites": 7}], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_fails_on_one_rank_ends_all_of_them(method, cells):
    """None waits for the other."""

    def run(comm):
        fails_at = 20 if comm.rank else None
        model = PythonModel(toy_model(FCC), fails_at, ModelError("no licence"))
        try:
            search(model, FCC, **cells, method=method, budget=4000, comm=comm)
        except ModelError:
            return "ended"
        return "was not asked so often"

    # On a busy machine the other rank may do all the work before this one has begun.
    outcomes = [run_ranks(2, run)]
    while outcomes[-1] != ["ended", "ended"] and len(outcomes) < 10:
        outcomes.append(run_ranks(2, run))
    assert all(len(set(one)) == 1 for one in outcomes)
    assert outcomes[-1] == ["ended", "ended"]


@pytest.mark.parametrize("method", METHODS)
def test_answers_that_are_no_energies_are_refused_in_one_line(method):
    class Broken(PythonModel):
        def evaluator(self, supercell):
            inner = super().evaluator(supercell)
            energies = inner.energies
            inner.energies = lambda labels: energies(labels)[:, None]
            return inner

    with pytest.raises(InputError, match="one number each is needed") as caught:
        search(Broken(toy_model(FCC)), FCC, supercells=[[2, 2, 2]], method=method)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "enumerate"])
@pytest.mark.parametrize("budget", [1, 2, 3, 5, 30, 300])
def test_a_budget_is_never_exceeded(method, budget):
    pool = search(PythonModel(toy_model(FCC)), FCC, max_sites=9, method=method, budget=budget)
    assert 0 < pool.evaluations <= budget


@pytest.mark.parametrize("method", ["addition", "annealing"])
@pytest.mark.parametrize("budget", [1, 30, 300])
def test_the_model_is_asked_no_oftener_than_the_budget_says(method, budget):
    model = PythonModel(toy_model(FCC))
    problem, blocks = problem_of(model, FCC, supercells=[[2, 2, 3]])
    pool, _ = carry_out(problem, blocks, Budget(budget), method)
    assert model.asked <= budget
    assert pool.evaluations <= budget
