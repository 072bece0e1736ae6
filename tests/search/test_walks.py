"""Compiled walks against their twins, for two kinds of models."""

import itertools

import numpy as np
import pytest

from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.search import _row_kernels as partners
from latticesearch.search import _walk_kernels as kernels
from latticesearch.search import certify
from latticesearch.search.types import Budget
from latticesearch.search.walk import Walk
from tests.reference import search as reference
from tests.search.toy_model import BCC, ring_evaluator, toy_model

B2 = ParentLattice.from_prototype("b2", a=3.0, species=(("Mo", "Nb"), ("Nb", "Ta")))
MTP = MtpBasis(level=6, species=BCC.species, cutoff=4.0).potential(seed=2)
CELL = Supercell.from_matrix(BCC, [2, 2, 3])
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 1], dtype=np.int8)
MODELS = [toy_model(BCC), MTP]
SPLIT = toy_model(B2)


def walk_of(model, labels=LABELS, cell=CELL):
    evaluator = model.evaluator(cell)
    state = evaluator.walk_state(labels)
    best = kernels.Best(labels.copy(), state.energy.copy())
    return evaluator, (evaluator.walk_tables, state), rules_of(cell), best


def rules_of(cell):
    open_sites = np.flatnonzero(cell.allowed.sum(axis=1) > 1).astype(np.int64)
    return kernels.SwapRules(open_sites, np.ascontiguousarray(cell.allowed))


def seed(value=5):
    return np.array([value], dtype=np.uint64)


def test_random_numbers_are_those_of_the_twin():
    state, twin = seed(123), reference.SplitMix(123)
    for _ in range(50):
        assert int(kernels.random_bits(state)) == twin.bits()
        assert kernels.random_below(state, 17) == twin.below(17)
        assert kernels.random_unit(state) == twin.unit()


@pytest.mark.parametrize("model", MODELS)
def test_annealing_walks_like_its_twin(model):
    evaluator, pair, rules, best = walk_of(model)
    used = kernels.anneal(pair, rules, kernels.Cooling(0.2, 0.01, 0.0, 1.0), best, 60, seed())
    temperatures = 0.2 * (0.01 / 0.2) ** (np.arange(60) / 60)
    visited = reference.anneal(evaluator, LABELS, temperatures, reference.SplitMix(5))
    assert used == 60
    np.testing.assert_array_equal(pair[1].labels, visited[-1])
    energies = evaluator.energies(np.vstack([LABELS, visited])) * CELL.n_sites
    assert best.energy[0] == pytest.approx(energies.min(), abs=1e-10)
    assert evaluator.energies(best.labels[None])[0] * CELL.n_sites == pytest.approx(
        energies.min(), abs=1e-10
    )


@pytest.mark.parametrize(("model", "parent"), [(MODELS[0], BCC), (MTP, BCC), (SPLIT, B2)])
def test_annealing_by_rows_walks_like_its_twin(model, parent):
    cell = CELL if parent is BCC else Supercell.from_matrix(B2, [2, 1, 3])
    labels = LABELS if parent is BCC else np.array([0, 1, 0, 1, 1, 0, 1, 2, 2, 1, 2, 1], np.int8)
    evaluator, pair, rules, best = walk_of(model, labels, cell)
    used = partners.anneal_rows(pair, rules, kernels.Cooling(0.2, 0.01, 0.0, 1.0), best, 90, seed())
    temperatures = 0.2 * (0.01 / 0.2) ** (np.arange(90) / 90)
    visited = reference.anneal_rows(evaluator, labels, temperatures, reference.SplitMix(5))
    assert used == len(visited) == 90
    np.testing.assert_array_equal(pair[1].labels, visited[-1])
    energies = evaluator.energies(np.vstack([labels, visited])) * cell.n_sites
    assert best.energy[0] == pytest.approx(energies.min(), abs=1e-10)
    assert cell.allowed[np.arange(cell.n_sites), pair[1].labels].all()


def test_both_annealings_keep_the_boltzmann_distribution():
    """Of all labelings of a small cell, at one temperature."""
    cell = Supercell.from_matrix(BCC, [1, 2, 3])
    labels = np.array([0, 0, 1, 1, 2, 2], dtype=np.int8)
    evaluator, pair, rules, best = walk_of(MODELS[0], labels, cell)
    every = np.unique(list(itertools.permutations(labels.tolist())), axis=0).astype(np.int8)
    energies = evaluator.energies(every) * cell.n_sites
    temperature = float(energies.std())
    weights = np.exp(-(energies - energies.min()) / temperature)
    expected = float(weights @ energies / weights.sum())
    cooling, random_state = kernels.Cooling(temperature, temperature, 0.0, 1.0), seed()
    for anneal in (kernels.anneal, partners.anneal_rows):
        seen = []
        for _ in range(8000):
            anneal(pair, rules, cooling, best, 12, random_state)
            seen.append(pair[1].energy[0])
        # Every reading is nearly independent: six standard errors, and as many for correlations.
        assert np.mean(seen) == pytest.approx(expected, abs=12 * energies.std() / np.sqrt(8000))
        spread = np.sqrt(weights @ (energies - expected) ** 2 / weights.sum())
        assert np.std(seen) == pytest.approx(spread, rel=0.1)


def test_a_walk_by_rows_ends_where_nothing_can_be_swapped():
    alike = np.zeros(CELL.n_sites, dtype=np.int8)
    _, pair, rules, best = walk_of(MODELS[0], alike)
    cooling = kernels.Cooling(0.2, 0.01, 0.0, 1.0)
    assert partners.anneal_rows(pair, rules, cooling, best, 50, seed()) == 0


def test_guided_annealing_walks_like_its_twin_and_notes_what_it_asked():
    evaluator, pair, rules, best = walk_of(MTP)
    guide = MODELS[0].evaluator(CELL)
    start = LABELS.copy()
    log = partners.AskedSwaps(np.zeros((60, 3), dtype=np.int64), np.zeros(60))
    used = partners.anneal_guided(
        pair,
        (guide.walk_tables, guide.walk_state(LABELS)),
        rules,
        kernels.Cooling(0.2, 0.05, 0.0, 1.0),
        0.1,
        best,
        log,
        seed(),
    )
    temperatures = 0.2 * (0.05 / 0.2) ** (np.arange(60) / 60)
    visited = reference.anneal_guided(
        evaluator, LABELS, temperatures, reference.SplitMix(5), guide, 0.1
    )
    assert used == 60
    np.testing.assert_array_equal(pair[1].labels, visited[-1])
    for (i, j, carried_out), change, after in zip(log.swaps, log.changes, visited, strict=True):
        asked = evaluator.swap_energies(start, np.array([[i, j]]))[0]
        assert change == pytest.approx(asked, abs=1e-10)
        if carried_out:
            start[[i, j]] = start[[j, i]]
        np.testing.assert_array_equal(start, after)


def strict_minima(cell):
    """Models and ground states that no swap leads to an equivalent of."""
    for k in range(20):
        guide = toy_model(BCC, seed=k).evaluator(cell)
        lowest = certify(guide, np.array([3, 2, 2])).labels
        if guide.swap_energies(lowest, reference.swap_pairs(lowest, cell.allowed)).min() > 1e-6:
            yield guide, lowest


def test_a_frozen_guide_ends_the_walk():
    cell = Supercell.from_matrix(BCC, [[1, 0, 1], [0, 1, 3], [0, 0, 7]])
    guide, lowest = next(strict_minima(cell))
    _, pair, rules, best = walk_of(MTP, lowest, cell)
    state = guide.walk_state(lowest)
    log = partners.AskedSwaps(np.zeros((10, 3), dtype=np.int64), np.zeros(10))
    cooling = kernels.Cooling(1e-9, 1e-9, 0.0, 1.0)
    used = partners.anneal_guided(
        pair, (guide.walk_tables, state), rules, cooling, 0.0, best, log, seed()
    )
    assert used == 0


@pytest.mark.parametrize("model", MODELS)
def test_a_descent_ends_where_no_swap_is_lower(model):
    evaluator, pair, rules, best = walk_of(model)
    used = kernels.descend(pair, rules, best, 10_000, seed())
    pairs = reference.swap_pairs(best.labels, CELL.allowed)
    assert evaluator.swap_energies(best.labels, pairs).min() >= -1e-9
    assert len(pairs) <= used < 10_000
    limited = walk_of(model)
    assert kernels.descend(*limited[1:], 7, seed()) == 7


@pytest.mark.parametrize("seeds", range(4))
def test_a_descent_of_a_model_in_python_ends_there_too_and_books_what_it_asked(seeds):
    evaluator, budget = ring_evaluator(14, seed=seeds), Budget()
    start = np.random.default_rng(seeds).permutation(np.repeat([0, 1], [8, 6])).astype(np.int8)
    walk = Walk(evaluator, start, budget, seed())
    best = walk.here()
    walk.descend(best)
    pairs = reference.swap_pairs(best.labels, evaluator.supercell.allowed)
    assert evaluator.swap_energies(best.labels, pairs).min() >= -1e-10
    before, after = evaluator.energies(np.array([start, best.labels]))
    assert after <= before
    assert after * 14 == pytest.approx(best.energy[0], abs=1e-12)
    assert budget.used > len(pairs)
    limited = Budget(60)
    walk = Walk(evaluator, start, limited, seed())
    walk.descend(walk.here())
    assert limited.used <= 60


def test_a_walk_asks_only_until_its_labeling_cannot_change():
    alike = np.ones(CELL.n_sites, dtype=np.int8)
    budget = Budget()
    walk = Walk(MODELS[0].evaluator(CELL), alike, budget, seed())
    swaps, changes = walk.sample(7)
    assert len(swaps) == len(changes) == 0
    assert budget.used == 1  # the labeling itself


def test_what_is_asked_after_the_deadline_is_booked():
    budget = Budget(deadline=1.0, clock=lambda: 2.0)
    walk = Walk(MODELS[0].evaluator(CELL), LABELS, budget, seed())
    walk.sample(7)
    assert budget.used == 8
    assert budget.left == 0.0


def test_a_walk_under_a_surrogate_is_free_and_finds_its_minimum():
    cell = Supercell.from_matrix(BCC, [2, 2, 2])
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2], dtype=np.int8)
    guide, budget = toy_model(BCC, seed=3), Budget()
    walk = Walk(MTP.evaluator(cell), labels, budget, seed())
    found = walk.anneal_free(labels, guide, 0.4, 200)
    lowest = reference.minima(guide.evaluator(cell), np.array([3, 3, 2]))[0]
    assert guide.evaluator(cell).energies(found[None])[0] == pytest.approx(lowest, abs=1e-9)
    np.testing.assert_array_equal(walk.labels, labels)
    assert budget.used == 1
