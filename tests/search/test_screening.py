"""Screening: the hull, and the best of each composition, with a part of the energies."""

import pytest

from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.search import search
from latticesearch.search.driver import carry_out
from latticesearch.search.screening import screen
from latticesearch.search.types import Budget
from tests.fake_comm import run_ranks
from tests.potential.python_model import PythonModel
from tests.search.cases import (
    assert_same_vertices,
    hull_of_all,
    problem_of,
    same_pools,
    sources,
)
from tests.search.toy_model import BCC, FCC, toy_model


@pytest.mark.parametrize("kind", ["clusters", "mtp", "python"])
def test_the_whole_hull_is_found_with_an_eighth_of_the_energies(kind):
    model = toy_model(BCC)
    if kind == "mtp":
        model = MtpBasis(level=8, species=BCC.species, cutoff=4.0).potential(seed=1)
    truth, n = hull_of_all(model, BCC, max_index=7)
    if kind == "python":
        model = PythonModel(model)
    pool = search(model, BCC, max_sites=7, budget=n // 8)
    assert pool.evaluations <= n // 8
    assert_same_vertices(pool, truth)
    assert sources(pool) == {"exhaustive", "screened"}


def screened(model, monkeypatch, max_sites, budget=None, taught=100, **how):
    """A search that enumerates little and screens the rest, whatever an energy costs."""
    monkeypatch.setattr("latticesearch.search.policy.TAUGHT", taught)
    problem, blocks = problem_of(model, FCC, max_sites=max_sites, **how)
    return carry_out(problem, blocks, budget or Budget(), "screening")[0]


def test_without_a_budget_the_best_of_every_composition_is_found(monkeypatch):
    model = toy_model(FCC)
    pool = screened(model, monkeypatch, 9)
    everything = search(model, FCC, max_sites=9, method="enumerate")
    assert pool.evaluations < everything.evaluations / 3
    assert pool.entries.keys() == everything.entries.keys()
    misses = sum(
        pool.entries[name][0].rounded > rows[0].rounded + 1e-9
        for name, rows in everything.entries.items()
    )
    assert misses <= 0.05 * len(pool.entries)


@pytest.mark.parametrize("budget", [1, 2, 5, 30, 300])
def test_a_screening_that_knows_nothing_begins_with_the_elements(monkeypatch, budget):
    limit = Budget(budget)
    monkeypatch.setattr("latticesearch.search.policy.ENUMERATION_SHARE", 0.0)
    pool = screened(toy_model(FCC), monkeypatch, 6, limit)
    assert sources(pool) == {"screened"}
    assert pool.evaluations == limit.used <= budget
    if budget > 1:
        assert (1, 0) in pool.entries
        assert (0, 1) in pool.entries


def test_rows_that_do_not_fit_into_memory_are_made_again(monkeypatch):
    model = toy_model(FCC)
    kept = screened(model, monkeypatch, 7, Budget(150), taught=30)
    monkeypatch.setattr(screen, "MEMORY", 1000)
    again = screened(model, monkeypatch, 7, Budget(150), taught=30)
    assert same_pools(kept, again)
    assert "screened" in sources(kept)


@pytest.mark.parametrize("size", [2, 3])
def test_a_model_with_nothing_but_energies_is_screened_alike_on_any_number_of_ranks(
    monkeypatch, size
):
    def run(comm=None):
        model = PythonModel(toy_model(FCC))
        return search(model, FCC, max_sites=7, budget=150, method="screening", comm=comm)

    serial = run()
    assert "screened" in sources(serial)
    assert all(same_pools(pool, serial) for pool in run_ranks(size, run))
