"""Models that are nothing but Python functions of labelings run through every compiled walk."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from latticesearch.errors import InputError
from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential import MtpBasis, evaluator_of
from latticesearch.potential.clusters import ClusterBasis, ClusterModel
from latticesearch.search import _row_kernels as rows
from latticesearch.search import _walk_kernels as kernels
from tests.potential.python_model import PythonModel
from tests.reference import walk

BCC = ParentLattice.from_prototype("bcc", a=3.2, species=("Mo", "Nb", "Ta"))
CELL = Supercell.from_matrix(BCC, [2, 2, 3])
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 1], dtype=np.int8)
CLUSTERS = ClusterModel.random(ClusterBasis.of(BCC, 5.0, 3.3), 0, pair=0.03, triplet=0.02)
MTP = MtpBasis(level=6, species=BCC.species, cutoff=4.0).potential(seed=2)
MODELS = pytest.mark.parametrize("model", [CLUSTERS, MTP], ids=["clusters", "mtp"])


def walk_of(model):
    evaluator = evaluator_of(model, CELL)
    state = evaluator.walk_state(LABELS)
    best = kernels.Best(LABELS.copy(), state.energy.copy())
    rules = kernels.SwapRules(np.arange(CELL.n_sites), np.ascontiguousarray(CELL.allowed))
    return evaluator, (evaluator.walk_tables, state), rules, best


def seed():
    return np.array([5], dtype=np.uint64)


def annealed(model):
    _, pair, rules, best = walk_of(model)
    used = kernels.anneal(pair, rules, kernels.Cooling(0.2, 0.01, 0.0, 1.0), best, 200, seed())
    return used, pair[1].labels, best


def descended(model):
    _, pair, rules, best = walk_of(model)
    used = kernels.descend(pair, rules, best, 10_000, seed())
    return used, pair[1].labels, best


def by_rows(model):
    _, pair, rules, best = walk_of(model)
    cooling = kernels.Cooling(0.2, 0.01, 0.0, 1.0)
    used = rows.anneal_rows(pair, rules, cooling, best, 200, seed())
    return used, pair[1].labels, best


def guided(model):
    _, pair, rules, best = walk_of(model)
    evaluator = CLUSTERS.evaluator(CELL)
    guide = (evaluator.walk_tables, evaluator.walk_state(LABELS))
    log = rows.AskedSwaps(np.zeros((100, 3), dtype=np.int64), np.zeros(100))
    cooling = kernels.Cooling(0.2, 0.01, 0.0, 1.0)
    used = rows.anneal_guided(pair, guide, rules, cooling, 0.01, best, log, seed())
    return used, pair[1].labels, best


WALKS = pytest.mark.parametrize("walked", [annealed, descended, by_rows, guided])


@WALKS
def test_a_walk_is_that_of_the_compiled_model(walked):
    used, labels, best = walked(PythonModel(CLUSTERS))
    used_by_twin, labels_of_twin, best_of_twin = walked(CLUSTERS)
    assert used == used_by_twin
    np.testing.assert_array_equal(labels, labels_of_twin)
    np.testing.assert_array_equal(best.labels, best_of_twin.labels)
    assert best.energy[0] == pytest.approx(best_of_twin.energy[0], abs=1e-10)


@WALKS
def test_an_error_of_the_model_ends_the_walk_and_is_raised_after_it(walked):
    model = PythonModel(CLUSTERS, fails_at=20, error=ZeroDivisionError("in the model"))
    used, labels, best = walked(model)
    assert model.asked <= 20 + CELL.n_sites  # one row may be under way
    assert used > 0
    energy = CLUSTERS.evaluator(CELL).energies(best.labels[None])[0] * CELL.n_sites
    assert best.energy[0] == pytest.approx(energy, abs=1e-10)
    assert sorted(labels) == sorted(LABELS)
    evaluator = evaluator_of(model, CELL)
    with pytest.raises(ZeroDivisionError, match="in the model"):
        evaluator.raise_pending()
    evaluator.raise_pending()  # once


def test_an_interrupt_is_not_lost():
    model = PythonModel(CLUSTERS, fails_at=20, error=KeyboardInterrupt())
    annealed(model)
    with pytest.raises(KeyboardInterrupt):
        evaluator_of(model, CELL).walk_state(LABELS)


def test_flips_and_swaps_are_differences_of_energies():
    evaluator = evaluator_of(PythonModel(CLUSTERS), CELL)
    state, twin = evaluator.walk_state(LABELS), LABELS.copy()
    rng = np.random.default_rng(0)

    def energy(labels):
        return evaluator.energies(labels[None])[0] * CELL.n_sites

    answers = np.empty(1)
    for _ in range(20):
        site, other = rng.integers(CELL.n_sites, size=2)
        species = np.int8(rng.integers(3))
        before = energy(twin)
        walk.ask_and_flip(
            evaluator.walk_tables, state, np.array([site]), np.array([species]), answers
        )
        twin[site] = species
        assert answers[0] == pytest.approx(energy(twin) - before, abs=1e-12)
        before = energy(twin)
        walk.ask_and_swap(evaluator.walk_tables, state, np.array([[site, other]]), answers)
        twin[[site, other]] = twin[[other, site]]
        assert answers[0] == pytest.approx(energy(twin) - before, abs=1e-12)
        np.testing.assert_array_equal(state.labels, twin)
        assert state.energy[0] == pytest.approx(energy(twin), abs=1e-12)


@MODELS
def test_derived_changes_are_those_of_the_compiled_model(model):
    evaluator, twin = evaluator_of(PythonModel(model), CELL), model.evaluator(CELL)
    pairs = np.array([[0, 1], [3, 4], [2, 2], [0, 3], [5, 7]])
    expected = twin.swap_energies(LABELS, pairs)
    np.testing.assert_allclose(evaluator.swap_energies(LABELS, pairs), expected, atol=1e-10)
    sites, species = np.array([0, 4, 11]), np.array([2, 1, 0], dtype=np.int8)
    expected = twin.flip_energies(LABELS, sites, species)
    np.testing.assert_allclose(
        evaluator.flip_energies(LABELS, sites, species), expected, atol=1e-10
    )


def test_mean_fields_are_exact_where_decided_and_near_the_average_elsewhere():
    evaluator, twin = evaluator_of(PythonModel(CLUSTERS), CELL), CLUSTERS.evaluator(CELL)
    rng = np.random.default_rng(1)
    occupations = rng.dirichlet(np.ones(3), size=(100, CELL.n_sites))
    decided = np.eye(3)[rng.integers(3, size=(5, CELL.n_sites))]
    labels = decided.argmax(axis=2).astype(np.int8)
    mean = evaluator.mean_field_energies(decided)
    np.testing.assert_allclose(mean, twin.energies(labels), atol=1e-12)
    exact = twin.mean_field_energies(occupations)
    drawn = evaluator.mean_field_energies(occupations)
    one = [[rng.choice(3, p=p) for p in row] for row in occupations]
    one = evaluator.energies(np.array(one, np.int8))
    assert np.std(drawn - exact) < 0.4 * np.std(one - exact)
    np.testing.assert_array_equal(drawn, evaluator.mean_field_energies(occupations))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.site_energies(LABELS[None]), "'python' has no energies of single sites"),
        (lambda e: e.gradient_rows(LABELS[None]), "'python' has no parameters"),
        (lambda e: e.site_gradient_rows(LABELS), "'python' has no parameters"),
        (lambda e: e.n_parameters, "'python' has no parameters"),
        (lambda e: e.energies(LABELS), "labels have the shape"),
        (lambda e: e.energies(LABELS[None] + 1), "labels run from 1 to 3"),
        (lambda e: e.swap_energies(LABELS, [[0, 12]]), "sites run from 0 to 12"),
        (lambda e: e.mean_field_energies(np.ones((1, 2, 3))), "occupations have the shape"),
    ],
)
def test_what_is_missing_or_wrong_is_said_in_one_line(call, message):
    evaluator = evaluator_of(PythonModel(CLUSTERS), CELL)
    with pytest.raises(InputError, match=message) as caught:
        call(evaluator)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda n: np.zeros((n, 2)), "energies of the shape"),
        (lambda n: np.full(n, np.nan), "gives nan for the labeling"),
    ],
)
def test_answers_that_are_no_energies_are_refused(answer, message):
    class Wrong(PythonModel):
        def evaluator(self, supercell):
            made = super().evaluator(supercell)
            made.energies = lambda labels: answer(len(labels))
            return made

    with pytest.raises(InputError, match=message):
        evaluator_of(Wrong(CLUSTERS), CELL).energies(LABELS[None])


def test_evaluators_are_made_once_and_by_identity():
    class Equal(PythonModel):
        def __eq__(self, other):
            return True

        __hash__ = None

    one, other = Equal(CLUSTERS), Equal(CLUSTERS)
    assert evaluator_of(one, CELL) is evaluator_of(one, CELL)
    assert evaluator_of(one, CELL) is not evaluator_of(other, CELL)
    assert evaluator_of(CLUSTERS, CELL) is CLUSTERS.evaluator(CELL)


CACHED = """
import numpy as np
from tests.potential import test_python_models as t
t.annealed(t.PythonModel(t.CLUSTERS))
print(sum(t.kernels.anneal.stats.cache_hits.values()))
"""


def test_walks_that_call_back_are_found_in_the_disk_cache():
    annealed(PythonModel(CLUSTERS))  # compiles what is not compiled yet
    again = subprocess.run(
        [sys.executable, "-c", CACHED], capture_output=True, text=True, check=True
    )
    assert again.stdout.strip() == "1"
