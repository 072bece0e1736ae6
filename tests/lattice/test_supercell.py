from __future__ import annotations

import pickle

import numpy as np
import pytest

from latticesearch.errors import InputError
from latticesearch.lattice import ParentLattice, Supercell
from tests.lattice.parents import random_matrix, random_parent
from tests.reference import lattice as naive


@pytest.fixture(scope="module")
def hcp():
    return ParentLattice.from_prototype("hcp", 3.0, ("Mg", "Cd"))


def test_sites_are_ordered_by_basis_then_cell(hcp):
    supercell = Supercell.from_matrix(hcp, [[2, 1, 0], [0, 3, 1], [0, 0, 2]])
    d, f = 3, 2
    for site in range(supercell.n_sites):
        b, t = divmod(site, supercell.n_cells)
        vector = np.array([t // (d * f), t // f % d, t % f])
        assert supercell.basis_index[site] == b
        expected = (hcp.basis[b] + vector) @ hcp.cell
        difference = (supercell.positions[site] - expected) @ np.linalg.inv(
            supercell.hnf @ hcp.cell
        )
        assert np.abs(difference - np.rint(difference)).max() < 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_cell_is_reduced_right_handed_and_spans_the_same_lattice(seed):
    rng = np.random.default_rng(seed)
    supercell = Supercell.from_matrix(random_parent(rng), random_matrix(rng, 12, size=4))
    original = supercell.hnf @ supercell.parent.cell
    change = supercell.cell @ np.linalg.inv(original)
    assert np.abs(change - np.rint(change)).max() < 1e-9
    assert np.linalg.det(supercell.cell) == pytest.approx(abs(np.linalg.det(original)))
    assert (
        np.linalg.norm(supercell.cell, axis=1).max()
        <= np.linalg.norm(original, axis=1).max() + 1e-9
    )
    inside = supercell.positions @ np.linalg.inv(supercell.cell)
    assert inside.min() > -1e-8
    assert inside.max() < 1


@pytest.mark.parametrize("seed", range(20))
def test_site_of_folds_any_vector(seed):
    rng = np.random.default_rng(seed)
    supercell = Supercell.from_matrix(random_parent(rng), random_matrix(rng, 12, size=4))
    vectors = rng.integers(-20, 20, (6, 5, 3))
    basis = rng.integers(0, supercell.parent.n_basis, 5)
    sites = supercell.site_of(basis, vectors)
    assert sites.shape == (6, 5)
    for i, j in np.ndindex(6, 5):
        assert sites[i, j] == naive.site_of(supercell, basis[j], vectors[i, j])


@pytest.mark.parametrize("seed", range(20))
def test_permutations_are_those_of_the_geometry(seed):
    rng = np.random.default_rng([1, seed])
    supercell = Supercell.from_matrix(random_parent(rng), random_matrix(rng, 6))
    ours = [tuple(row) for row in supercell.site_permutations.tolist()]
    assert len(set(ours)) == len(ours)
    assert set(ours) == naive.geometric_permutations(supercell)
    assert ours[0] == tuple(range(supercell.n_sites))
    translations = [tuple(row) for row in supercell.translation_permutations.tolist()]
    assert len(set(translations)) == supercell.n_cells
    assert set(translations) <= set(ours)


def test_translation_moves_the_crystal_by_the_vector_of_its_cell(hcp):
    supercell = Supercell.from_matrix(hcp, [[2, 1, 0], [0, 3, 1], [0, 0, 2]])
    labels = np.arange(supercell.n_sites)
    for t, vector in enumerate(supercell.cell_vectors):
        moved = labels[supercell.translation_permutations[t]]
        for site in range(supercell.n_sites):
            b, cell = divmod(site, supercell.n_cells)
            target = supercell.site_of(b, supercell.cell_vectors[cell] + vector)
            assert moved[target] == labels[site]


def test_group_of_the_two_by_two_by_two_bcc_cell():
    bcc = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))
    supercell = Supercell.from_matrix(bcc, 2 * bcc.conventional)
    assert (supercell.n_sites, len(supercell.site_permutations)) == (16, 48 * 16)
    assert np.allclose(np.abs(supercell.cell).sum(axis=1), 6.4)


def test_the_same_superlattice_is_the_same_object(hcp):
    one = Supercell.from_matrix(hcp, [[2, 1, 0], [0, 3, 1], [0, 0, 2]])
    other = Supercell.from_matrix(hcp, [[0, 0, 2], [-2, -1, 0], [2, 4, 1]])
    assert one is other
    assert Supercell.from_matrix(hcp, (1, 1, 2)) is not one


def test_pickles_carry_fields_and_not_caches(hcp):
    supercell = Supercell.from_matrix(hcp, (2, 2, 2))
    expected = supercell.site_permutations
    data = pickle.dumps(supercell)
    assert len(data) < 6000
    copy = pickle.loads(data)  # noqa: S301 - our own bytes
    assert np.array_equal(copy.site_permutations, expected)


def test_vacancies_are_left_out_of_the_atoms():
    parent = ParentLattice.from_prototype("rocksalt", 4.2, (("Ti", "Hf"), ("N", "X")))
    supercell = Supercell.from_matrix(parent, (1, 1, 2))
    atoms = supercell.to_atoms([0, 1, 2, 3])
    assert sorted(atoms.symbols) == ["Hf", "N", "Ti"]
    assert atoms.pbc.all()
    assert np.allclose(atoms.positions, supercell.positions[:3])
    assert np.allclose(atoms.cell, supercell.cell)


def test_singular_matrices_are_refused(hcp):
    with pytest.raises(InputError, match="spans no volume"):
        Supercell.from_matrix(hcp, np.ones((3, 3)))
