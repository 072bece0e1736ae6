"""Surrogates that learn from energies and from swaps."""

import numpy as np
import pytest

from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.potential.clusters import ClusterModel
from latticesearch.potential.clusters.lattice import feature_evaluator
from latticesearch.potential.clusters.nested import columns_within
from latticesearch.potential.clusters.surrogate import Normal
from latticesearch.search.guides import WIDEST, Guides
from tests.search.toy_model import BCC, ROCKSALT


def random_labels(cell, n, seed=0):
    weights = np.random.default_rng(seed).random((n, *cell.allowed.shape)) * cell.allowed
    return weights.argmax(axis=2).astype(np.int8)


@pytest.mark.parametrize("parent", [BCC, ROCKSALT])
def test_a_surrogate_learns_a_model_of_its_own_form_from_energies_and_from_swaps(parent):
    guides = Guides.of(parent)
    surrogate = guides.surrogates[1]
    truth = ClusterModel.random(surrogate.basis, 1, pair=0.05, triplet=0.02)
    for matrix in ([1, 2, 4], [2, 2, 3], [1, 1, 5]):
        cell = Supercell.from_matrix(parent, matrix)
        labels = random_labels(cell, 150)
        guides.learn_energies(Labelings(cell, labels), truth.evaluator(cell).energies(labels))
    model, error = surrogate.model()
    cell = Supercell.from_matrix(parent, [2, 2, 3])
    labels = random_labels(cell, 20, seed=1)
    spread = truth.evaluator(cell).energies(labels).std()
    off = model.evaluator(cell).energies(labels) - truth.evaluator(cell).energies(labels)
    assert np.abs(off).max() < 0.05 * spread
    assert error < 0.01
    swaps = np.array([[0, 1, 0], [2, 5, 1], [1, 7, 1], [3, 4, 0]])
    swaps = np.concatenate([swaps] * 30)
    start = labels[0]
    rows = truth.evaluator(cell).swap_gradient_rows(start, swaps)
    before = surrogate.normal.number
    guides.learn_swaps(cell, start, swaps, rows @ truth.coefficients)
    assert surrogate.normal.number == before + len(swaps)


@pytest.mark.parametrize("parent", [BCC, ROCKSALT])
@pytest.mark.parametrize("matrix", [[1, 1, 2], [2, 2, 3]])
def test_surrogates_learn_the_same_together_as_alone(parent, matrix):
    reaches = ((2.05, 0.0), (2.05, 1.25), (2.05, 2.05), (1.5, 1.5))
    cell, rng = Supercell.from_matrix(parent, matrix), np.random.default_rng(3)
    labels, energies = random_labels(cell, 12), rng.normal(size=12)
    swaps = np.array([(*rng.permutation(cell.n_sites)[:2], k % 2) for k in range(40)])
    changes = rng.normal(size=len(swaps))
    together = Guides.of(parent, reaches)
    alone = [Guides.of(parent, (reach,)) for reach in reaches]
    widest = together.surrogates[2].basis
    for surrogate in together.surrogates:
        columns = columns_within(surrogate.basis, widest)
        rows = [
            feature_evaluator(basis, cell).gradient_rows(labels)
            for basis in (surrogate.basis, widest)
        ]
        np.testing.assert_allclose(rows[0], rows[1][:, columns], atol=1e-12)
    assert columns_within(widest, together.surrogates[1].basis) is None
    assert columns_within(together.surrogates[1].basis, together.surrogates[3].basis) is None
    for guides in (together, *alone):
        guides.learn_energies(Labelings(cell, labels), energies, 0.5)
        guides.learn_swaps(cell, labels[0], swaps, changes)
    for surrogate, single in zip(together.surrogates, alone, strict=True):
        expected = single.surrogates[0].normal
        upper = np.triu_indices(len(expected.vector))
        np.testing.assert_allclose(
            surrogate.normal.matrix[upper], expected.matrix[upper], atol=1e-9
        )
        np.testing.assert_allclose(surrogate.normal.vector, expected.vector, atol=1e-9)


def test_normal_equations_give_the_damped_least_squares_of_all_rows():
    rng = np.random.default_rng(0)
    rows, targets = rng.normal(size=(30, 7)) * 10.0 ** np.arange(7), rng.normal(size=30)
    rows[:, 3] = 0.0
    damped = np.arange(7) > 2
    normal = Normal.empty(7)
    for part, order in ((slice(0, 12), "C"), (slice(12, 12), "C"), (slice(12, 30), "F")):
        normal.add(np.array(rows[part], order=order), targets[part])
    size = np.linalg.norm(rows, axis=0)
    below = np.diag(np.where(damped, np.sqrt(1e-2), 1e-6) * size)
    expected = np.linalg.lstsq(np.vstack([rows, below]), np.append(targets, np.zeros(7)))[0]
    coefficients, error = normal.solve(damped, ridge=1e-2)
    np.testing.assert_allclose(coefficients * size, expected * size, atol=1e-8)
    assert coefficients[3] == 0.0
    assert error == pytest.approx(np.sqrt(np.mean((rows @ expected - targets) ** 2)))
    twice = normal.plus(normal).plus(normal, -1.0)
    np.testing.assert_allclose(twice.solve(damped, 1e-2)[0] * size, expected * size, atol=1e-8)
    normal.add(rows, np.full(30, np.nan))
    with pytest.raises(np.linalg.LinAlgError, match=r"7 coefficients .* 60 equations"):
        normal.solve(damped)


def test_a_fit_is_kept_until_something_is_learnt():
    cell = Supercell.from_matrix(BCC, [2, 2, 2])
    labels, rng = random_labels(cell, 1)[0], np.random.default_rng(0)
    swaps = np.array([[0, 1, 0], [2, 3, 1], [4, 5, 1], [6, 7, 0]])
    guides = Guides.of(BCC)
    surrogate = guides.surrogates[0]
    guides.learn_swaps(cell, labels, swaps, rng.normal(size=4))
    first = surrogate.model()
    assert surrogate.model() is first
    errors = guides.learn_swaps(
        cell, labels, swaps, np.zeros(4), [s.model()[0] for s in guides.surrogates]
    )
    rows = feature_evaluator(surrogate.basis, cell).swap_gradient_rows(labels, swaps)
    assert errors[0] == pytest.approx(np.sqrt(np.mean((rows @ first[0].coefficients) ** 2)))
    assert not np.array_equal(surrogate.model()[0].coefficients, first[0].coefficients)
    assert surrogate.copy().model()[1] == pytest.approx(surrogate.model()[1])


def test_the_wide_surrogate_has_no_more_coefficients_than_swaps_can_teach():
    """The longest triplets that are few enough, and none for too many species."""
    species = ("Cr", "Mo", "Nb", "Ta", "Ti", "V", "W")
    found = []
    for n in (2, 4, 5, 7):
        parent = ParentLattice.from_prototype("bcc", a=3.2, species=species[:n])
        guides = Guides.of_large_cells(parent)
        assert guides.every == guides.surrogates + guides.wide
        assert len(guides.wide) <= 1
        narrow = max(s.basis.n_parameters for s in guides.surrogates)
        assert all(narrow < s.basis.n_parameters <= WIDEST for s in guides.wide)
        found.append(len(guides.wide))
    assert found[0] == 1
    assert found[-1] == 0


def test_only_the_wide_surrogate_learns_triplets_that_reach_far_and_only_where_told():
    """Swaps under a model with long triplets: what the others cannot describe it describes."""
    guides = Guides.of_large_cells(BCC)
    basis = guides.wide[0].basis
    model = ClusterModel.random(basis, 1, pair=0.03, triplet=0.02)
    cell, rng = Supercell.from_matrix(BCC, [3, 3, 3]), np.random.default_rng(0)
    start = rng.integers(3, size=27).astype(np.int8)
    pairs = np.array([(i, j) for i in range(27) for j in range(i) if start[i] != start[j]])
    changes = model.evaluator(cell).swap_energies(start, pairs)
    swaps = np.column_stack([pairs, np.zeros(len(pairs), dtype=np.int64)])
    guides.learn_swaps(cell, start, swaps, changes)
    assert guides.wide[0].normal.number == 0
    errors = guides.learn_swaps(
        cell, start, swaps, changes, [s.model()[0] for s in guides.every], wide=True
    )
    assert len(errors) == 3
    assert guides.wide[0].normal.number == len(pairs)
    assert guides.surrogates[0].normal.number == 2 * len(pairs)
    residuals = [s.model()[1] for s in guides.every]
    assert residuals[2] < 0.1 * min(residuals[:2])
    copied = guides.copy()
    copied.learn_swaps(cell, start, swaps, changes, wide=True)
    assert guides.wide[0].normal.number == len(pairs)
