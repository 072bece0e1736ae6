"""Compiled walks against their twins, for two kinds of models."""

import itertools

import numpy as np
import pytest

from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.search import certify
from latticesearch.search._keeping_kernels import keep_lowest
from latticesearch.search.annealing import _kernels as kernels
from latticesearch.search.annealing import _partner_kernels as partners
from latticesearch.search.annealing.walks import rules_of
from latticesearch.search.polish import Allowance, swap_pairs
from latticesearch.search.strategies import POLISHES, polish_random
from tests.reference import search as reference
from tests.search.toy_model import toy_model

BCC = ParentLattice.from_prototype("bcc", a=3.2, species=("Mo", "Nb", "Ta"))
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
    return evaluator, (evaluator.walk_tables, state), rules_of(evaluator), best


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
    assert 90 <= used == len(visited) < 90 + cell.n_sites
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


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("by_rows", [False, True])
def test_the_fluctuation_is_that_of_the_energies_read(model, by_rows):
    evaluator, pair, rules, best = walk_of(model)
    n = 1 if by_rows else 5  # the first partners of a site are one turn
    spread, asked = partners.fluctuation(pair, rules, 0.2, best, (8, n), by_rows, seed())
    twin = reference.anneal_rows if by_rows else reference.anneal
    rng, labels, visited, read = reference.SplitMix(5), LABELS, [], []
    for _ in range(8):
        visited += list(twin(evaluator, labels, np.full(n, 0.2), rng))
        labels = visited[-1]
        read.append(evaluator.energies(labels[None])[0] * CELL.n_sites)
    assert asked == len(visited)
    assert spread == pytest.approx(np.std(read[2:]), abs=1e-9)
    assert spread > 0.0
    assert best.energy[0] <= min(read) + 1e-9


def test_guided_annealing_walks_like_its_twin_and_notes_what_it_asked():
    evaluator, pair, rules, best = walk_of(MTP)
    guide = MODELS[0].evaluator(CELL)
    start = LABELS.copy()
    log = partners.Log(np.zeros((60, 3), dtype=np.int64), np.zeros(60))
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
        if guide.swap_energies(lowest, swap_pairs(lowest, cell.allowed)).min() > 1e-6:
            yield guide, lowest


def test_a_frozen_guide_ends_the_walk():
    cell = Supercell.from_matrix(BCC, [[1, 0, 1], [0, 1, 3], [0, 0, 7]])
    guide, lowest = next(strict_minima(cell))
    _, pair, rules, best = walk_of(MTP, lowest, cell)
    state = guide.walk_state(lowest)
    log = partners.Log(np.zeros((10, 3), dtype=np.int64), np.zeros(10))
    cooling = kernels.Cooling(1e-9, 1e-9, 0.0, 1.0)
    used = partners.anneal_guided(
        pair, (guide.walk_tables, state), rules, cooling, 0.0, best, log, seed()
    )
    assert used == 0


def RNG():  # noqa: N802 - stands for a new generator
    return np.random.default_rng(3)


@pytest.mark.parametrize("model", MODELS)
def test_a_descent_ends_where_no_swap_is_lower(model):
    evaluator, pair, rules, best = walk_of(model)
    used = kernels.descend(pair, rules, best, 10_000, seed())
    pairs = swap_pairs(best.labels, CELL.allowed)
    assert evaluator.swap_energies(best.labels, pairs).min() >= -1e-9
    assert len(pairs) <= used < 10_000
    limited = walk_of(model)
    assert kernels.descend(*limited[1:], 7, seed()) == 7


def test_the_lowest_of_each_composition_are_kept():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=(400, 5)).astype(np.int8)
    energies = np.round(rng.normal(size=400), 1)  # many ties
    weights = 6 ** np.arange(3, dtype=np.int64)
    codes = np.unique(weights[labels].sum(axis=1))
    heaps = np.full((len(codes), 4), np.inf)
    kept = [
        rows[keep_lowest(labels[rows], energies[rows], weights, codes, heaps)]
        for rows in np.arange(400).reshape(4, 100)
    ]
    kept = set(np.concatenate(kept).tolist())
    for i, code in enumerate(codes):
        rows = np.flatnonzero(weights[labels].sum(axis=1) == code)
        lowest = np.sort(energies[rows])[:4]
        np.testing.assert_allclose(np.sort(heaps[i])[: len(lowest)], lowest)
        assert set(rows[energies[rows] <= lowest[-1]]) <= kept
    assert len(kept) < 400


@pytest.mark.parametrize("name", sorted(POLISHES))
@pytest.mark.parametrize("parent", [BCC, B2])
def test_every_polish_finds_the_minimum_of_a_small_cell(name, parent):
    cell = Supercell.from_matrix(parent, [2, 2, 2] if parent is BCC else [1, 2, 2])
    evaluator = toy_model(parent, seed=4).evaluator(cell)
    counts = np.array([3, 3, 2]) if parent is BCC else np.array([2, 4, 2])
    allowance = Allowance(4000)
    result = polish_random(evaluator, counts, name, allowance, RNG())
    assert result.evaluations == allowance.used <= 4000
    assert cell.allowed[np.arange(8), result.labels].all()
    assert (np.sort(result.labels, axis=1) == np.repeat(np.arange(3), counts)).all()
    np.testing.assert_allclose(result.energies, evaluator.energies(result.labels), atol=1e-10)
    lowest = reference.minima(evaluator, counts)[0]
    assert result.energies[0] == pytest.approx(lowest, abs=1e-10)
