import numpy as np
import pytest

from latticesearch.enumeration import enumerate_labelings
from latticesearch.errors import InputError
from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.search import search
from latticesearch.search.plan import (
    WorkItem,
    affordable,
    feasible_counts,
    in_random_order,
    n_distinct,
)
from tests.fake_comm import run_ranks
from tests.search.toy_model import toy_model

FCC = ParentLattice.from_prototype("fcc", a=4.0, species=("Cu", "Pd"))
BCC = ParentLattice.from_prototype("bcc", a=3.2, species=("Mo", "Nb", "Ta"))
ROCKSALT = ParentLattice.from_prototype("rocksalt", a=4.3, species=(("Ti", "Hf"), ("N", "X")))


def lowest(pool):
    """Lowest energy per site of each composition."""
    result = {}
    for candidate in pool.candidates:
        name = tuple(np.round(candidate.configuration.composition, 9))
        result[name] = min(result.get(name, np.inf), candidate.energy)
    return result


def brute_force(model, parent, supercell):
    result = {}
    for batch in enumerate_labelings(parent, supercell=supercell, superperiodic=True):
        energies = model.evaluator(supercell).energies(batch.labels)
        for composition, energy in zip(batch.compositions, energies, strict=True):
            name = tuple(np.round(composition, 9))
            result[name] = min(result.get(name, np.inf), energy)
    return result


def same_pools(a, b):
    return a.entries == b.entries and a.evaluations == b.evaluations


@pytest.mark.parametrize(
    ("parent", "matrix"),
    [(FCC, [2, 2, 2]), (FCC, [[1, 0, 5], [0, 2, 1], [0, 0, 5]]), (BCC, [2, 2, 2])],
)
def test_greedy_search_of_a_supercell_against_all_its_labelings(parent, matrix):
    model = toy_model(parent)
    supercell = Supercell.from_matrix(parent, matrix)
    pool = search(model, parent, supercells=[supercell], mode="target", exhaustive_up_to=0)
    expected = brute_force(model, parent, supercell)
    found = lowest(pool)
    assert found.keys() == expected.keys()
    misses = [name for name, energy in expected.items() if found[name] > energy + 1e-9]
    assert all(found[name] >= expected[name] - 1e-9 for name in expected)
    assert len(misses) <= 0.05 * len(expected)
    assert {candidate.source for candidate in pool.candidates} == {"greedy"}


@pytest.mark.parametrize("parent", [FCC, ROCKSALT])
def test_exhaustive_search_is_brute_force(parent):
    model = toy_model(parent)
    max_sites = 5 * parent.n_basis
    pool = search(model, parent, max_sites=max_sites, exhaustive_up_to=max_sites)
    expected = {}
    n = 0
    for batch in enumerate_labelings(parent, max_index=5):
        energies = model.evaluator(batch.supercell).energies(batch.labels)
        n += len(batch)
        for composition, energy in zip(batch.compositions, energies, strict=True):
            name = tuple(np.round(composition, 9))
            expected[name] = min(expected.get(name, np.inf), energy)
    assert pool.evaluations == n
    found = lowest(pool)
    assert found.keys() == expected.keys()
    for name, energy in expected.items():
        assert found[name] == pytest.approx(energy, abs=1e-10)


def test_greedy_search_on_sublattices_with_vacancies():
    model = toy_model(ROCKSALT)
    supercell = Supercell.from_matrix(ROCKSALT, [1, 2, 2])
    pool = search(model, ROCKSALT, supercells=[[1, 2, 2]], exhaustive_up_to=0)
    expected = brute_force(model, ROCKSALT, supercell)
    found = lowest(pool)
    assert found.keys() == expected.keys()
    for name, energy in expected.items():
        assert found[name] == pytest.approx(energy, abs=1e-9)


def test_composition_limits():
    model = toy_model(BCC)
    limits = {"Mo": (0.2, 0.5), "Ta": 0.25}
    pool = search(model, BCC, max_sites=8, composition=limits, exhaustive_up_to=4)
    x = pool.compositions
    assert len(pool) > 0
    assert np.all((x[:, 0] >= 0.2 - 1e-9) & (x[:, 0] <= 0.5 + 1e-9))
    np.testing.assert_allclose(x[:, 2], 0.25)
    assert {candidate.source for candidate in pool.candidates} == {"screened", "exhaustive"}


@pytest.mark.parametrize("size", [2, 3])
def test_the_same_pool_on_any_number_of_ranks(size):
    model = toy_model(FCC)

    def run(comm=None):
        return search(
            model,
            FCC,
            max_sites=7,
            exhaustive_up_to=4,
            budget=5000,
            seed=3,
            beam_width=2,
            comm=comm,
        )

    serial = run()
    assert all(same_pools(pool, serial) for pool in run_ranks(size, run))


@pytest.mark.parametrize("budget", [1, 10, 200, 3000, 50_000])
@pytest.mark.parametrize("cells", [{"max_sites": 9}, {"supercells": [[2, 2, 3]]}])
def test_budget_is_never_exceeded(budget, cells):
    pool = search(toy_model(FCC), FCC, budget=budget, **cells)
    assert 0 < pool.evaluations <= budget
    assert len(pool) > 0


def test_a_tight_budget_is_used_up_and_depends_on_the_seed():
    model = toy_model(FCC)
    pools = [
        search(model, FCC, max_sites=12, mode="target", budget=6000, exhaustive_up_to=4, seed=s)
        for s in (0, 0, 1)
    ]
    assert same_pools(pools[0], pools[1])
    assert pools[0].entries != pools[2].entries
    assert all(pool.evaluations > 5000 for pool in pools)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "max_sites or supercells"),
        ({"max_sites": 4, "supercells": [[2, 2, 2]]}, "max_sites or supercells"),
        ({"max_sites": 0}, "nothing to search"),
        ({"supercells": []}, "nothing to search"),
        ({"max_sites": 4, "budget": 0}, "budget is 0"),
        ({"max_sites": 4, "beam_width": 0}, "beam_width is 0"),
        ({"max_sites": 4, "seconds": -1.0}, "seconds is -1"),
        ({"max_sites": 4, "seconds": float("nan")}, "seconds is nan"),
        ({"max_sites": 4, "composition": {"Cu": 0.3}}, r"Cu.*0\.3"),
        ({"max_sites": 4, "composition": {"Cu": 0.75, "Pd": 0.75}}, "Cu"),
        ({"max_sites": 4, "composition": {"Au": 0.5}}, "Au"),
        ({"supercells": [[2, 0, 2]]}, "volume|singular|determinant|positive"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        search(toy_model(FCC), FCC, **arguments)
    assert "\n" not in str(caught.value)


def test_counts_of_a_cell():
    supercell = Supercell.from_matrix(BCC, [1, 1, 4])
    assert len(feasible_counts(supercell)) == 15
    assert feasible_counts(supercell, {"Mo": 0.5, "Nb": (0.25, 1.0)}).tolist() == [
        [2, 1, 1],
        [2, 2, 0],
    ]
    rocksalt = Supercell.from_matrix(ROCKSALT, [1, 1, 2])
    assert len(feasible_counts(rocksalt)) == 9


def test_number_of_labelings_of_a_supercell():
    for parent, matrix in ((FCC, [2, 2, 2]), (BCC, [1, 2, 3]), (ROCKSALT, [1, 2, 2])):
        supercell = Supercell.from_matrix(parent, matrix)
        found = enumerate_labelings(parent, supercell=supercell, superperiodic=True)
        assert n_distinct(supercell) == sum(len(batch) for batch in found)


def items_of(*matrices):
    cells = [Supercell.from_matrix(FCC, matrix) for matrix in matrices]
    return [WorkItem(cell, counts) for cell in cells for counts in feasible_counts(cell)]


def test_random_order_is_a_permutation_that_prefers_symmetric_cells():
    items = items_of([1, 1, 8], [2, 2, 2])
    first = []
    for seed in range(200):
        order = in_random_order(items, seed)
        assert len({item.seed_key for item in order}) == len(items)
        first.append(len(order[0].supercell.point_operations))
    # 48 operations against 12: four draws out of five.
    weights = [len(item.supercell.point_operations) for item in items]
    expected = sum(w for w in weights if w == 48) / sum(weights)
    assert np.mean(np.array(first) == 48) == pytest.approx(expected, abs=0.1)


def test_items_beyond_the_budget_wait():
    items = items_of([2, 2, 2])
    total = sum(item.cost(2) for item in items)
    assert affordable(items, 2, total) == items
    assert affordable(items, 2, total - 1) == items[:-1]
    assert affordable(items, 2, 0) == items[:1]
