"""The annealing loop: guided or not, with a number of energies or a deadline."""

import math

import numpy as np
import pytest

from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.search.addition import search_by_addition
from latticesearch.search.annealing import anneal, anneal_plainly
from latticesearch.search.guides import Guides
from latticesearch.search.partial import random_labeling
from latticesearch.search.types import Budget, Task
from tests.potential.python_model import PythonModel
from tests.reference import search as reference
from tests.search.cases import HandClock, SlowModel, problem_of
from tests.search.toy_model import BCC, FCC, ROCKSALT, toy_model

B2 = ParentLattice.from_prototype("b2", a=3.0, species=(("Mo", "Nb"), ("Nb", "Ta")))
BUDGETS = (1, 2, 3, 5, 30, 300, 3000)


def run(model, parent, matrix, counts, budget, *, is_guided=True, seed=0):
    task = Task(Supercell.from_matrix(parent, matrix), np.array(counts))
    problem, _ = problem_of(model, parent, supercells=[task.cell])
    guides = Guides.of_large_cells(parent) if is_guided else None
    rng = np.random.default_rng(seed)
    return task, anneal(task, problem.evaluator, budget=budget, rng=rng, guides=guides)


def assert_sound(model, task, result):
    """Distinct labelings of the composition, with the energies that the model gives them."""
    labels, allowed = result.labels, task.cell.allowed
    assert len(np.unique(labels, axis=0)) == len(labels) >= 1
    assert allowed[np.arange(task.cell.n_sites), labels].all()
    for row in labels:
        np.testing.assert_array_equal(np.bincount(row, minlength=allowed.shape[1]), task.counts)
    energies = model.evaluator(task.cell).energies(labels)
    np.testing.assert_allclose(result.energies, energies, atol=1e-9)
    assert (np.diff(result.energies) > -1e-9).all()


@pytest.mark.parametrize("is_guided", [True, False])
@pytest.mark.parametrize(
    ("parent", "matrix", "counts"),
    [(BCC, [2, 2, 2], [3, 3, 2]), (B2, [1, 2, 2], [2, 4, 2]), (ROCKSALT, [1, 2, 2], [2, 2, 3, 1])],
)
def test_the_minimum_of_a_small_cell_is_found(parent, matrix, counts, is_guided):
    model, budget = toy_model(parent, seed=4), Budget(3000)
    task, result = run(model, parent, matrix, counts, budget, is_guided=is_guided)
    assert_sound(model, task, result)
    lowest = reference.minima(model.evaluator(task.cell), task.counts)[0]
    assert result.energies[0] == pytest.approx(lowest, abs=1e-9)
    assert result.evaluations == budget.used


@pytest.mark.parametrize("is_guided", [True, False])
@pytest.mark.parametrize("limit", BUDGETS)
@pytest.mark.parametrize("kind", ["clusters", "mtp", "python"])
def test_a_budget_is_never_exceeded(kind, limit, is_guided):
    """Whatever the model answers together: swaps one by one, or all of a site."""
    model = toy_model(BCC)
    if kind == "mtp":
        model = MtpBasis(level=6, species=BCC.species, cutoff=4.0).potential(seed=2)
    if kind == "python":
        model = PythonModel(model)
        limit = min(limit, 300)  # calls of Python are slow
    budget = Budget(limit)
    task, result = run(model, BCC, [2, 3, 4], [8, 8, 8], budget, is_guided=is_guided)
    assert 1 <= result.evaluations == budget.used <= limit
    assert_sound(model, task, result)


@pytest.mark.parametrize("is_guided", [True, False])
def test_the_model_is_asked_no_oftener_than_is_booked(is_guided):
    model, budget = PythonModel(toy_model(BCC)), Budget(200)
    run(model, BCC, [2, 2, 3], [4, 4, 4], budget, is_guided=is_guided)
    assert model.asked <= budget.used <= 200


@pytest.mark.parametrize("is_guided", [True, False])
def test_a_pure_cell_is_what_it_is_and_costs_one_energy(is_guided):
    model = toy_model(BCC)
    _, result = run(model, BCC, [2, 3, 4], [0, 24, 0], Budget(50), is_guided=is_guided)
    np.testing.assert_array_equal(result.labels, np.ones((1, 24)))
    assert result.evaluations == 1


def test_a_cell_whose_swaps_change_nothing_is_searched_all_the_same():
    """Two atoms of two kinds: every swap gives an equivalent labeling."""
    model = toy_model(FCC)
    task, result = run(model, FCC, [1, 1, 2], [1, 1], Budget(300))
    assert_sound(model, task, result)


def test_the_same_seed_gives_the_same_result_and_another_another():
    model = toy_model(BCC)
    first, again, other = (
        run(model, BCC, [2, 3, 4], [8, 8, 8], Budget(500), seed=seed)[1] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.labels, again.labels)
    assert first.evaluations == again.evaluations
    assert not np.array_equal(first.labels[0], other.labels[0])


def test_guides_learn_what_the_walk_asks():
    model = toy_model(BCC)
    task = Task(Supercell.from_matrix(BCC, [2, 3, 4]), np.array([8, 8, 8]))
    guides = Guides.of_large_cells(BCC)
    problem, _ = problem_of(model, BCC, supercells=[task.cell])
    rng = np.random.default_rng(0)
    anneal(task, problem.evaluator, budget=Budget(1000), rng=rng, guides=guides)
    assert all(surrogate.normal.number > 300 for surrogate in guides.every)


@pytest.mark.parametrize("is_guided", [True, False])
@pytest.mark.parametrize("seconds", [1e-9, 1.0, 10.0])
def test_a_deadline_ends_the_loop(is_guided, seconds):
    """Every reading of this clock takes a tenth of a second; what was found is returned."""
    model, clock = toy_model(BCC), HandClock(per_reading=0.1)
    budget = clock.budget(seconds)
    budget.limit = 10**5
    task, result = run(model, BCC, [2, 3, 4], [8, 8, 8], budget, is_guided=is_guided)
    assert_sound(model, task, result)
    assert budget.used < 10**5
    # A few readings after the last piece, and no piece begun in vain.
    assert clock.now < seconds + 2.0


def test_later_deadlines_are_used():
    """An energy of this model takes ten microseconds of a clock that nothing else moves."""
    spent = []
    for seconds in (0.05, 0.25):
        clock = HandClock()
        model = SlowModel(toy_model(BCC), clock, 1e-5)
        budget = clock.budget(seconds)
        budget.limit = 2 * int(seconds / 1e-5)  # energies that there may be time for
        task, result = run(model, BCC, [2, 2, 3], [4, 4, 4], budget, is_guided=False)
        assert_sound(model.model, task, result)
        spent.append(clock.now)
        assert 0.5 * seconds < clock.now < 1.3 * seconds
    assert spent[1] > 3 * spent[0]


@pytest.mark.parametrize("limit", BUDGETS)
def test_the_plain_annealing_of_comparisons_keeps_to_its_budget(limit):
    model, counts = toy_model(BCC), np.array([8, 8, 8])
    evaluator = model.evaluator(Supercell.from_matrix(BCC, [2, 3, 4]))
    rng, budget = np.random.default_rng(0), Budget(limit)
    start = random_labeling(evaluator.supercell.allowed, counts, rng)
    best = anneal_plainly(evaluator, start, budget, rng)
    assert budget.used <= max(limit, 2)  # the start, and one swap that sets the temperature
    energy = evaluator.energies(best.labels[None])[0] * 24
    assert best.energy[0] == pytest.approx(energy, abs=1e-9)


def test_guided_annealing_finds_lower_energies_than_plain_annealing():
    """At equal numbers of energies, in the mean over seeds."""
    model = MtpBasis(level=6, species=BCC.species, cutoff=4.0).potential(seed=5)
    cell, counts = Supercell.from_matrix(BCC, 3 * BCC.conventional), np.array([18, 18, 18])
    evaluator, guided, plain = model.evaluator(cell), [], []
    for seed in range(3):
        budget = Budget(3000)
        task, result = run(model, BCC, cell.hnf, counts, budget, seed=seed)
        assert_sound(model, task, result)
        guided.append(result.energies[0])
        rng = np.random.default_rng(seed)
        start = random_labeling(cell.allowed, counts, rng)
        plain.append(anneal_plainly(evaluator, start, Budget(3000), rng).energy[0] / cell.n_sites)
    assert np.mean(guided) <= np.mean(plain) + 1e-9


def test_addition_and_annealing_agree_on_the_ground_state_of_a_cell():
    model = toy_model(FCC, seed=3)
    task, result = run(model, FCC, [2, 2, 3], [6, 6], Budget(3000))
    added = search_by_addition(
        model.evaluator(task.cell), task.counts, budget=Budget(), rng=np.random.default_rng(0)
    )
    assert added.energies[0] == pytest.approx(result.energies[0], abs=1e-9)
    assert math.isfinite(added.energies[0])
