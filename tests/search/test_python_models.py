"""Models that offer nothing but the energies of labelings go through every method."""

import pytest

from latticesearch.errors import InputError
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


@pytest.fixture(scope="module")
def truth():
    return hull_of_all(toy_model(FCC), FCC, 6)


@pytest.fixture(autouse=True)
def cost(monkeypatch):
    """No test depends on how fast this machine is."""
    monkeypatch.setattr(policy, "_seconds", lambda function: function() is not None and 1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_hull(method, truth):
    pool = search(PythonModel(toy_model(FCC)), FCC, max_sites=6, method=method, seed=1)
    assert_same_vertices(pool, truth[0])


@pytest.mark.parametrize("method", METHODS)
def test_with_a_budget_too(method, truth):
    """Screening, and what is enumerated, with half of all energies; walks ask some of them twice."""
    hull, n = truth
    is_walk = method in {"addition", "annealing"}
    budget = 30 * n if is_walk else n if method == "enumerate" else n // 2
    pool = search(PythonModel(toy_model(FCC)), FCC, max_sites=6, method=method, budget=budget)
    assert pool.evaluations <= budget
    assert_same_vertices(pool, hull)


@pytest.mark.parametrize("method", METHODS)
def test_with_a_time_too(method, truth):
    """Each energy takes a tenth of a millisecond of a clock that nothing else moves."""
    clock = HandClock()
    model = SlowModel(toy_model(FCC), clock, 1e-4)
    problem, blocks = problem_of(model, FCC, max_sites=6)
    pool, _ = carry_out(problem, blocks, clock.budget(2.0), method)
    assert_same_vertices(pool, truth[0])


@pytest.mark.parametrize("method", METHODS)
def test_a_dear_model_finds_the_hull_with_fewer_energies(method, truth, monkeypatch):
    """Where an energy takes a second, the policy screens; a method by name stays what it is."""
    monkeypatch.setattr(policy, "_seconds", lambda function: 8.0)
    monkeypatch.setattr(policy, "TAUGHT", 40)
    pool = search(PythonModel(toy_model(FCC)), FCC, max_sites=6, method=method, seed=1)
    assert_same_vertices(pool, truth[0])
    if method in {"auto", "screening"}:
        assert pool.evaluations < truth[1]


@pytest.mark.parametrize("method", METHODS)
def test_a_model_in_python_gives_the_pool_of_the_compiled_one(method):
    """At equal numbers of energies, where no mean field takes part."""
    if method in {"addition", "annealing", "screening"}:
        pytest.skip("mean fields and site energies are other numbers where a model has them")
    model = toy_model(FCC)
    how = {"max_sites": 6, "method": method}
    assert same_pools(search(model, FCC, **how), search(PythonModel(model), FCC, **how))


class ModelError(Exception):
    """What a model of other people raises."""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails_at", [1, 40, 150])
@pytest.mark.parametrize("limit", [{}, {"budget": 400}])
def test_what_the_model_raises_reaches_the_user(method, fails_at, limit):
    model = PythonModel(toy_model(FCC), fails_at, ModelError("no licence"))
    with pytest.raises(ModelError, match="no licence"):
        search(model, FCC, supercells=[[2, 2, 3]], method=method, **limit)


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupt_ends_a_search(method):
    model = PythonModel(toy_model(FCC), 150, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        search(model, FCC, supercells=[[2, 2, 3]], method=method)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_fails_on_one_rank_ends_all_of_them(method):
    """None waits for the other."""

    def run(comm):
        fails_at = 150 if comm.rank else None
        model = PythonModel(toy_model(FCC), fails_at, ModelError("no licence"))
        with pytest.raises(ModelError, match="no licence"):
            search(model, FCC, supercells=[[2, 2, 3]], method=method, budget=4000, comm=comm)
        return "ended"

    assert run_ranks(2, run) == ["ended", "ended"]


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
