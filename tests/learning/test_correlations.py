"""Cluster functions of any size: symmetric, complete, and the same in every cell."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

import latticesearch as ls
from latticesearch.lattice import Supercell
from latticesearch.learning.correlations import Correlations
from latticesearch.learning.pool import cluster_rows
from latticesearch.learning.priors import MAX_FUNCTIONS, cluster_priors, default_features, shortest
from latticesearch.potential.clusters.functions import site_functions

LATTICES = {
    "bcc": (("Mo", "Ta"),),
    "fcc": (("Cu", "Pd", "Pt"),),
    "hcp": (("Mg", "Ti"),),
    "rocksalt": ((("Ti", "Hf"), ("N", "X")),),
}


def lattice(name):
    return ls.ParentLattice.from_prototype(name, 3.5, *LATTICES[name])


@pytest.mark.parametrize("name", LATTICES)
def test_equivalent_labelings_have_equal_rows(name):
    parent = lattice(name)
    cell = Supercell.from_matrix(parent, [[2, 0, 0], [0, 1, 0], [0, 1, 2]])
    rng = np.random.default_rng(0)
    choices = [np.flatnonzero(row) for row in cell.allowed]
    labels = np.array([rng.choice(c) for c in choices], dtype=np.int8)
    images = np.unique(labels[cell.site_permutations], axis=0)
    rows = default_features(parent).rows(cell, images)
    assert len(images) > 1
    np.testing.assert_allclose(rows, np.broadcast_to(rows[0], rows.shape), atol=1e-12)


def test_a_crystal_has_the_same_row_in_a_larger_cell():
    parent = lattice("fcc")
    small = Supercell.from_matrix(parent, [2, 1, 1])
    large = Supercell.from_matrix(parent, [2, 2, 1])
    labels = np.array([[0, 2]], dtype=np.int8)
    source = small.site_of(0, large.cell_vectors)
    functions = default_features(parent)
    np.testing.assert_allclose(
        functions.rows(large, labels[:, source]), functions.rows(small, labels), atol=1e-12
    )


def test_sums_over_quadruplets_are_those_of_all_sets_of_four_sites():
    parent = lattice("bcc")
    length = shortest(parent)
    cutoffs = [1.2 * length] * 3
    functions = Correlations.of(parent, cutoffs)
    cell = Supercell.from_matrix(parent, [3, 3, 3])
    labels = np.random.default_rng(3).integers(0, 2, cell.n_sites).astype(np.int8)
    spins = site_functions(2)[0][labels]
    vectors = np.array(list(product(range(-2, 3), repeat=3)))
    near = [v for v in vectors if np.linalg.norm(v @ parent.cell) < 1.2 * length]
    total = 0.0
    for four in combinations(near, 3):
        ends = [np.zeros(3, dtype=int), *four]
        edges = [np.linalg.norm((a - b) @ parent.cell) for a, b in combinations(ends, 2)]
        if min(edges) > 0.1 and max(edges) < 1.2 * length:
            sites = [cell.site_of(0, cell.cell_vectors + v) for v in ends]
            total += np.prod([spins[s] for s in sites], axis=0).sum() / 4
    found = functions.rows(cell, labels[None])[0][functions.sizes == 4]
    assert total != 0.0
    assert found.sum() * cell.n_sites == pytest.approx(total)


def test_exchanging_species_changes_no_covariance_of_the_prior():
    parent = lattice("fcc")
    functions = default_features(parent)
    batches = list(ls.enumerate_labelings(parent, 3, 3))
    other = np.array([2, 0, 1], dtype=np.int8)
    rows = np.concatenate([functions.rows(b.supercell, b.labels) for b in batches])
    swapped = np.concatenate([functions.rows(b.supercell, other[b.labels]) for b in batches])
    for prior in cluster_priors(functions, np.ones(1 + rows.shape[1])):
        one, two = rows * prior.spreads[1:], swapped * prior.spreads[1:]
        np.testing.assert_allclose(one @ one.T, two @ two.T, atol=1e-9)


@pytest.mark.parametrize("name", LATTICES)
def test_default_functions_are_few_and_reach_beyond_triplets(name):
    functions = default_features(lattice(name))
    assert len(functions.sizes) <= MAX_FUNCTIONS
    assert {1, 2, 3, 4} <= set(functions.sizes.tolist())


def test_energies_per_atom_are_linear_with_vacancies_too():
    parent = lattice("rocksalt")
    functions = default_features(parent)
    batches = list(ls.enumerate_labelings(parent, 1, 2))
    rows = np.concatenate([cluster_rows(functions, b) for b in batches])
    per_atom = np.concatenate([b.supercell.n_sites / b.n_atoms for b in batches])
    coefficients, *_ = np.linalg.lstsq(rows, per_atom, rcond=None)
    np.testing.assert_allclose(rows @ coefficients, per_atom, atol=1e-9)
