"""The policy: what is enumerated, screened and walked, by the limit and the cost of an energy."""

import math

import pytest

from latticesearch.errors import InputError
from latticesearch.search import policy, search
from latticesearch.search.driver import OLD_MODES, carry_out
from latticesearch.search.policy import METHODS, make_plan
from latticesearch.search.types import Budget
from tests.fake_comm import run_ranks
from tests.potential.python_model import PythonModel
from tests.search.cases import HandClock, problem_of, same_pools, sources
from tests.search.toy_model import BCC, FCC, toy_model

CHEAP, DEAR = 1e-6, 1.0


@pytest.fixture
def cost(monkeypatch):
    """Say what an energy and a swap cost, s, instead of measuring it."""

    def say(energy, swap=1e-6):
        monkeypatch.setattr(policy, "seconds_per_energy", lambda *_, **__: energy)
        monkeypatch.setattr(policy, "_seconds_per_swap", lambda *_: swap)

    return say


def plan_of(budget=None, method="auto", model=None, parent=FCC, **how):
    how = how or {"max_sites": 8}
    problem, blocks = problem_of(model or toy_model(parent), parent, **how)
    return make_plan(problem, blocks, budget or Budget(), method), blocks, problem


def n_labelings(blocks):
    return sum(block.n_labelings(None) for block in blocks)


def test_a_cheap_model_without_limit_is_enumerated():
    plan, blocks, _ = plan_of()
    assert plan.enumerated == blocks
    assert not plan.screened
    assert not plan.walked


def test_cells_too_large_to_enumerate_are_walked():
    plan, blocks, _ = plan_of(parent=BCC, supercells=[[1, 1, 4], [4, 4, 4]])
    assert plan.enumerated == blocks[:1]
    assert plan.walked == blocks[1:]


def test_small_cells_come_first_and_every_block_has_one_method():
    for budget in (Budget(), Budget(30), Budget(3000), Budget(10**6)):
        plan, blocks, _ = plan_of(budget, max_sites=12)
        parts = [*plan.enumerated, *plan.screened, *plan.walked]
        assert sorted(map(id, parts)) == sorted(map(id, blocks))
        largest = max((block.n_sites for block in plan.enumerated), default=0)
        others = plan.screened + plan.walked
        assert all(block.n_sites > largest for block in others)


@pytest.mark.parametrize("n", [1, 10, 100, 1000, 10_000])
def test_a_number_of_energies_leaves_enumeration_a_part_of_it(n):
    plan, blocks, _ = plan_of(Budget(n), max_sites=12)
    assert n_labelings(plan.enumerated) < n
    # The more there are, the more is enumerated; the rest is ranked by surrogates first.
    assert plan.enumerated == blocks[: len(plan.enumerated)]
    assert plan.screened


def test_more_energies_enumerate_no_less():
    sizes = [len(plan_of(Budget(10**k), max_sites=10)[0].enumerated) for k in range(7)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == 10


def test_counted_energies_of_large_cells_are_spent_by_guided_walks():
    plan, _, _ = plan_of(Budget(5000), parent=BCC, supercells=[[4, 4, 4]])
    assert plan.walked
    assert plan.is_guided


def test_a_dear_model_is_screened_instead_of_enumerated(cost):
    model = PythonModel(toy_model(BCC))
    cost(CHEAP)
    cheap, blocks, _ = plan_of(model=model, parent=BCC, max_sites=9)
    assert cheap.enumerated == blocks
    cost(DEAR)
    dear, blocks, _ = plan_of(model=model, parent=BCC, max_sites=9)
    assert dear.enumerated
    assert dear.screened
    assert n_labelings(dear.enumerated) < n_labelings(blocks) / 2


def test_a_time_enumerates_what_there_is_time_for_and_walks_the_rest(cost):
    cost(CHEAP)
    clock = HandClock()
    long, blocks, _ = plan_of(clock.budget(3600.0), max_sites=12)
    assert long.enumerated == blocks
    short, _, _ = plan_of(clock.budget(1e-3), max_sites=12)
    assert len(short.enumerated) < len(blocks)
    assert n_labelings(short.enumerated) * CHEAP < 1e-3
    assert short.walked
    assert not short.screened


def test_a_guide_pays_where_swaps_are_dear_and_time_is_the_limit(cost):
    how = {"parent": BCC, "supercells": [[4, 4, 4]]}
    for seconds, is_guided in ((1.0, True), (1e-9, False)):
        cost(CHEAP, swap=seconds)
        plan, _, _ = plan_of(HandClock().budget(10.0), **how)
        assert plan.is_guided == is_guided
        assert plan.seconds_per_swap == pytest.approx(seconds)


def test_a_model_in_python_is_guided_without_a_limit_too(cost):
    cost(CHEAP)
    how = {"parent": BCC, "supercells": [[4, 4, 4]]}
    guided, _, problem = plan_of(model=PythonModel(toy_model(BCC)), **how)
    plain, _, _ = plan_of(**how)
    assert guided.is_guided
    assert not plain.is_guided
    assert problem.evaluator(guided.walked[0].supercells[0]).is_compiled is False


@pytest.mark.parametrize("limit", [Budget(50), Budget()])
@pytest.mark.parametrize(
    ("method", "part"),
    [("enumerate", "enumerated"), ("addition", "walked"), ("annealing", "walked")],
)
def test_a_method_by_name_takes_all_cells(method, part, limit):
    plan, blocks, _ = plan_of(limit, method)
    assert getattr(plan, part) == blocks
    assert plan.method == method


def test_screening_by_name_enumerates_what_teaches_and_screens_the_rest():
    plan, blocks, _ = plan_of(None, "screening", max_sites=14)
    assert plan.enumerated
    assert plan.screened
    assert not plan.walked
    assert n_labelings(plan.enumerated) <= policy.TAUGHT < n_labelings(blocks)


@pytest.mark.parametrize("method", ["enumerate", "addition", "annealing", "screening"])
def test_what_was_found_says_by_which_method(method):
    names = {"enumerate": "exhaustive", "addition": "greedy", "annealing": "annealing"}
    model = toy_model(FCC)
    pool = search(model, FCC, supercells=[[1, 2, 3]], method=method)
    assert sources(pool) == {names.get(method, "exhaustive")}
    counted = search(model, FCC, supercells=[[2, 2, 3]], method=method, budget=200)
    assert sources(counted) <= {"exhaustive", "greedy", "guided", "screened"}
    assert len(counted)


def test_all_ranks_have_one_plan(monkeypatch):
    """What is measured is measured on one rank, whatever the others would have met."""
    model, readings = toy_model(FCC), iter([1e-6, 1e-3, 1.0, 1e-5] * 10)
    monkeypatch.setattr(policy, "_seconds", lambda *_: next(readings))

    def n_enumerated(comm):
        problem, blocks = problem_of(model, FCC, max_sites=12, comm=comm)
        budget = Budget(deadline=1.0, clock=lambda: 0.0)
        return len(make_plan(problem, blocks, budget, "auto").enumerated)

    assert len(set(run_ranks(3, n_enumerated))) == 1


@pytest.mark.parametrize("old", sorted(OLD_MODES))
def test_old_modes_warn_and_go_on(old):
    model = toy_model(FCC)
    method = OLD_MODES[old]
    assert method in METHODS
    with pytest.warns(FutureWarning, match=f'mode="{old}" is called method="{method}" now'):
        pool = search(model, FCC, supercells=[[1, 2, 3]], mode=old, seed=1)
    assert same_pools(pool, search(model, FCC, supercells=[[1, 2, 3]], method=method, seed=1))


@pytest.mark.parametrize(
    ("keyword", "value"), [("polish", "tempering"), ("beam_width", 2), ("exhaustive_up_to", 4)]
)
def test_keywords_that_the_policy_decides_now_warn_and_change_nothing(keyword, value):
    model = toy_model(FCC)
    with pytest.warns(FutureWarning, match=f"{keyword} is decided by the search"):
        pool = search(model, FCC, max_sites=4, **{keyword: value})
    assert same_pools(pool, search(model, FCC, max_sites=4))


def test_the_warning_points_at_the_caller():
    with pytest.warns(FutureWarning) as caught:
        search(toy_model(FCC), FCC, max_sites=3, exhaustive_up_to=2)
    assert [record.filename for record in caught] == [__file__]


def test_unknown_keywords_are_a_type_error():
    with pytest.raises(TypeError, match=r"search\(\) got an unexpected keyword argument 'budgets'"):
        search(toy_model(FCC), FCC, max_sites=3, budgets=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "best"}, "mode is 'best'; it must be one of portfolio, .*target"),
        ({"method": "magic"}, "method is 'magic'; it must be one of auto, .*annealing"),
    ],
)
def test_unknown_methods_are_refused_with_those_there_are(arguments, message):
    with pytest.raises(InputError, match=message):
        search(toy_model(FCC), FCC, max_sites=3, **arguments)


def test_a_plan_can_be_made_and_carried_out_with_a_budget_of_ones_own():
    problem, blocks = problem_of(toy_model(FCC), FCC, max_sites=6)
    budget = Budget()
    pool, plan = carry_out(problem, blocks, budget)
    assert plan.enumerated == blocks
    assert budget.used == pool.evaluations == n_labelings(blocks)
    assert budget.left == math.inf
