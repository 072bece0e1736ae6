"""The cluster expansion: energies, symmetry, changes, mean field, compiled walks."""

import pickle

import numpy as np
import pytest
from numba import njit

from latticesearch.errors import InputError
from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.potential import walk
from latticesearch.potential.clusters import ClusterBasis, ClusterModel, geometry
from tests.reference import clusters as reference

BCC = ParentLattice.from_prototype("bcc", a=3.2, species=("Mo", "Nb", "Ta"))
FCC = ParentLattice.from_prototype("fcc", a=4.0, species=("Cu", "Pd"))
ROCKSALT = ParentLattice.from_prototype("rocksalt", a=4.3, species=(("Ti", "Hf"), ("N", "X")))


def model_of(parent, pair, triplet, seed=0):
    basis = ClusterBasis.of(parent, pair, triplet)
    return ClusterModel.random(basis, seed, pair=0.05, triplet=0.03)


def random_labels(cell, n, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.random((n, *cell.allowed.shape)) * cell.allowed
    return weights.argmax(axis=2).astype(np.int8)


CASES = [
    (model_of(BCC, 5.0, 3.5), [1, 2, 3]),
    (model_of(BCC, 5.0, 3.5), [[1, 0, 1], [0, 1, 3], [0, 0, 5]]),
    (model_of(FCC, 4.5, 4.2), [2, 2, 2]),
    (model_of(FCC, 6.0, 3.0), [1, 1, 1]),
    (model_of(ROCKSALT, 4.5, 3.5), [1, 2, 2]),
]


@pytest.mark.parametrize(("model", "matrix"), [c for c in CASES if c[0].basis.parent.n_basis == 1])
def test_energy_is_the_sum_over_all_clusters_of_the_crystal(model, matrix):
    cell = Supercell.from_matrix(model.basis.parent, matrix)
    labels = random_labels(cell, 3)
    expected = [reference.energy(model, cell, row) for row in labels]
    found = model.evaluator(cell).energies(labels) * cell.n_sites
    np.testing.assert_allclose(found, expected, atol=1e-12)


QUATERNARY = ParentLattice.from_prototype("bcc", a=3.2, species=("Mo", "Nb", "Ta", "W"))
LONG_TRIPLETS = model_of(QUATERNARY, 5.7, 5.7)
SKEWED = model_of(ParentLattice.from_prototype("hcp", a=3.0, c=4.9, species=("Ti", "Al")), 4.3, 5.1)
FOLDED = [
    *CASES,
    (LONG_TRIPLETS, [1, 1, 2]),
    (LONG_TRIPLETS, [[1, 0, 2], [0, 1, 3], [0, 0, 7]]),
    (model_of(ROCKSALT, 4.5, 4.5), [[1, 0, 1], [0, 1, 1], [0, 0, 2]]),
    (SKEWED, [1, 1, 3]),
    (SKEWED, [2, 1, 2]),
]


@pytest.mark.parametrize(("model", "matrix"), FOLDED)
def test_tables_hold_all_clusters_of_the_sites(model, matrix):
    cell = Supercell.from_matrix(model.basis.parent, matrix)
    tables = model.evaluator(cell).walk_tables
    n, s = tables.points.shape
    points, pairs, triplets = reference.folded_tables(model, cell)
    np.testing.assert_allclose(tables.points, points, atol=1e-12)
    # The last table of pairs is zero, for the class -1.
    np.testing.assert_allclose(tables.pairs[tables.class_of][..., :s], pairs, atol=1e-12)
    first, second = np.divmod(np.repeat(np.arange(n * n), np.diff(tables.start)), n)
    np.testing.assert_array_equal(tables.second, second)
    found = np.zeros_like(triplets)
    np.add.at(found, (first, second, tables.third), tables.triplets[tables.oriented])
    np.testing.assert_allclose(found, triplets, atol=1e-12)
    lines = tables.triplet_lines.reshape(-1, *tables.triplet_lines.shape[2:])
    found = np.zeros_like(triplets)
    rows = lines.reshape(len(tables.triplet_lines), s, s, -1)[tables.oriented, ..., :s]
    np.add.at(found, (first, second, tables.third), rows.swapaxes(2, 3))
    np.testing.assert_allclose(found, triplets, atol=1e-12)


@pytest.mark.parametrize(("model", "matrix"), FOLDED)
def test_floors_are_the_least_that_two_flips_miss(model, matrix):
    cell = Supercell.from_matrix(model.basis.parent, matrix)
    tables = model.evaluator(cell).walk_tables
    n, s = tables.points.shape
    _, pairs, _ = reference.folded_tables(model, cell)
    kept = np.einsum("ijaa->ija", pairs)
    expected = pairs + pairs.swapaxes(2, 3) - kept[..., None] - kept[:, :, None]
    for i in range(n):
        for j in range(n):
            for t in range(tables.start[i * n + j], tables.start[i * n + j + 1]):
                table = tables.triplets[tables.oriented[t]]
                kept = np.einsum("aac->ac", table)
                missed = table + table.swapaxes(0, 1) - kept[:, None] - kept[None]
                expected[i, j] += missed.min(axis=2)
    floors = np.concatenate([tables.floors, np.zeros((s, s))]).reshape(-1, s, s)
    np.testing.assert_allclose(floors[tables.class_of], expected, atol=1e-12)
    for i in range(n):
        neighbours = np.flatnonzero(tables.class_of[i] >= 0)
        np.testing.assert_array_equal(tables.neighbours[i, : len(neighbours)], neighbours)
        assert (tables.neighbours[i, len(neighbours) :] == -1).all()
        np.testing.assert_array_equal(tables.near[i, : len(neighbours), 0], neighbours)
        lines = tables.class_of[i, neighbours] * s
        np.testing.assert_array_equal(tables.near[i, : len(neighbours), 1], lines)


@pytest.mark.parametrize("bundled", [1.5, np.inf, 0.0])
def test_triplets_of_the_same_sites_may_share_a_table(monkeypatch, bundled):
    monkeypatch.setattr(geometry, "BUNDLED", bundled)
    for parent, cutoff, matrix, n_shared in (
        (QUATERNARY, 5.7, [2, 2, 2], 42),
        (ROCKSALT, 4.4, [1, 1, 3], None),
        (FCC, 4.2, [3, 3, 3], None),
    ):
        model = model_of(parent, cutoff, cutoff)
        cell = Supercell.from_matrix(parent, matrix)
        evaluator, labels = model.evaluator(cell), random_labels(cell, 3)
        tables = evaluator.walk_tables
        triples = np.column_stack(
            [np.repeat(np.arange(cell.n_sites**2), np.diff(tables.start)), tables.third]
        )
        n_distinct = len(np.unique(triples, axis=0))
        if bundled < 1.0:
            assert n_distinct == len(triples)
        elif n_shared is not None:
            assert n_distinct == n_shared * cell.n_sites
            assert (len(triples) > n_distinct) == (bundled == np.inf)
        energies = evaluator.energies(labels)
        tables_of_sites = reference.folded_tables(model, cell)
        expected = [reference.sum_of_tables(tables_of_sites, row) / cell.n_sites for row in labels]
        np.testing.assert_allclose(energies, expected, atol=1e-12)
        rows = evaluator.gradient_rows(labels)
        np.testing.assert_allclose(rows @ model.coefficients, expected, atol=1e-12)
        rows = evaluator.site_gradient_rows(labels[0])
        np.testing.assert_allclose((rows @ model.coefficients).mean(), expected[0], atol=1e-12)
        state = evaluator.walk_state(labels[0])
        assert state.energy[0] / cell.n_sites == pytest.approx(expected[0], abs=1e-12)


def test_what_a_cell_gives_does_not_depend_on_the_cells_before():
    matrices = [[1, 1, 2], [2, 2, 3], [[1, 0, 1], [0, 1, 3], [0, 0, 5]]]
    rows = []
    for order in ([0, 1, 2], [2, 1, 0]):
        basis = ClusterBasis.of(BCC, 5.0, 5.0)
        model = ClusterModel.random(basis, 1, pair=0.05, triplet=0.03)
        cells = [Supercell.from_matrix(BCC, matrices[k]) for k in order]
        found = [model.evaluator(cell).site_energies(random_labels(cell, 2)) for cell in cells]
        rows.append([found[k] for k in order])
    for one, other in zip(*rows, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_basis_is_pickled_without_what_it_keeps():
    basis = ClusterBasis.of(BCC, 5.0, 5.0)
    model = ClusterModel.random(basis, 1, pair=0.05, triplet=0.03)
    size = len(pickle.dumps(basis))
    cell = Supercell.from_matrix(BCC, [2, 2, 3])
    energies = model.evaluator(cell).energies(random_labels(cell, 2))
    again = pickle.loads(pickle.dumps(basis))  # noqa: S301 - our own bytes
    assert len(pickle.dumps(basis)) == size
    again = ClusterModel(again, model.coefficients).evaluator(cell)
    np.testing.assert_array_equal(again.energies(random_labels(cell, 2)), energies)


@pytest.mark.parametrize(("model", "matrix"), CASES)
def test_equivalent_labelings_have_one_energy_also_in_their_canonical_cells(model, matrix):
    cell = Supercell.from_matrix(model.basis.parent, matrix)
    labels = random_labels(cell, 6)
    energies = model.evaluator(cell).energies(labels)
    for permutation in cell.site_permutations[::5]:
        images = model.evaluator(cell).energies(np.ascontiguousarray(labels[:, permutation]))
        np.testing.assert_allclose(images, energies, atol=1e-12)
    for members, canonical in Labelings(cell, labels).canonical_groups():
        same = model.evaluator(canonical.supercell).energies(canonical.labels)
        np.testing.assert_allclose(same, energies[members], atol=1e-12)


@pytest.mark.parametrize(("model", "matrix"), CASES)
def test_coefficients_are_linear(model, matrix):
    cell = Supercell.from_matrix(model.basis.parent, matrix)
    evaluator, labels = model.evaluator(cell), random_labels(cell, 4)
    rows = evaluator.gradient_rows(labels)
    np.testing.assert_allclose(rows @ model.coefficients, evaluator.energies(labels), atol=1e-12)
    sites = evaluator.site_gradient_rows(labels[0]) @ model.coefficients
    np.testing.assert_allclose(sites, evaluator.site_energies(labels[:1])[0], atol=1e-12)


@pytest.mark.parametrize(("model", "matrix"), CASES)
def test_changes_are_differences_of_energies(model, matrix):
    cell = Supercell.from_matrix(model.basis.parent, matrix)
    evaluator, labels = model.evaluator(cell), random_labels(cell, 1)[0]
    before = evaluator.energies(labels[None])[0]
    sites, species = np.nonzero(cell.allowed)
    flipped = np.repeat(labels[None], len(sites), axis=0)
    flipped[np.arange(len(sites)), sites] = species
    expected = (evaluator.energies(flipped) - before) * cell.n_sites
    changes = evaluator.flip_energies(labels, sites, species.astype(np.int8))
    np.testing.assert_allclose(changes, expected, atol=1e-12)
    pairs = np.stack(np.triu_indices(cell.n_sites, 1), axis=1)
    swapped = np.repeat(labels[None], len(pairs), axis=0)
    swapped[np.arange(len(pairs))[:, None], pairs] = labels[pairs[:, ::-1]]
    expected = (evaluator.energies(swapped) - before) * cell.n_sites
    np.testing.assert_allclose(evaluator.swap_energies(labels, pairs), expected, atol=1e-12)


def test_mean_field_is_the_average_over_independent_sites():
    model = CASES[0][0]
    cell = Supercell.from_matrix(BCC, [1, 1, 4])
    evaluator = model.evaluator(cell)
    occupations = np.random.default_rng(0).dirichlet(np.ones(3), size=cell.n_sites)
    occupations[0] = [0.0, 1.0, 0.0]
    expected = reference.mean_field_energy(evaluator, occupations)
    found = evaluator.mean_field_energies(occupations[None])[0] * cell.n_sites
    assert found == pytest.approx(expected, abs=1e-12)
    labels = random_labels(cell, 2)
    energies = evaluator.mean_field_energies(np.eye(3)[labels])
    np.testing.assert_allclose(energies, evaluator.energies(labels), atol=1e-12)


@njit
def follow(tables, state, moves):
    """Ask for flips and swaps, carry out every second one; return the changes asked for."""
    changes = np.empty(len(moves))
    for n in range(len(moves)):
        one, other, species = moves[n]
        if other < 0:
            changes[n] = walk.flip_change(tables, state, one, species)
        else:
            changes[n] = walk.swap_change(tables, state, one, other)
        if n % 2:
            walk.accept(tables, state)
    return changes


@pytest.mark.parametrize(("model", "matrix"), CASES)
def test_a_compiled_walk_keeps_the_energy(model, matrix):
    cell = Supercell.from_matrix(model.basis.parent, matrix)
    evaluator, rng = model.evaluator(cell), np.random.default_rng(1)
    labels = random_labels(cell, 1)[0]
    moves = rng.integers(cell.n_sites, size=(30, 3))
    moves[::3, 1] = -1
    moves[:, 2] = moves[:, 0] % cell.parent.n_species
    moves = moves[(moves[:, 0] != moves[:, 1])]
    state = evaluator.walk_state(labels)
    start = state.energy[0]
    assert start == pytest.approx(evaluator.energies(labels[None])[0] * cell.n_sites, abs=1e-12)
    changes = follow(evaluator.walk_tables, state, moves)
    end = evaluator.energies(state.labels[None])[0] * cell.n_sites
    assert state.energy[0] == pytest.approx(end, abs=1e-11)
    assert start + changes[1::2].sum() == pytest.approx(end, abs=1e-11)
    np.testing.assert_allclose(state.field, evaluator.walk_state(state.labels).field, atol=1e-11)


@njit
def row_of(tables, state, site, least):
    walk.swap_row(tables, state, site, least)


@pytest.mark.parametrize(("model", "matrix"), CASES)
def test_a_row_is_not_above_its_swaps(model, matrix):
    cell = Supercell.from_matrix(model.basis.parent, matrix)
    evaluator, labels = model.evaluator(cell), random_labels(cell, 1)[0]
    state, least = evaluator.walk_state(labels), np.zeros(cell.n_sites)
    tables = evaluator.walk_tables
    has_triplet = np.diff(tables.start).reshape(cell.n_sites, -1) > 0
    for site in range(cell.n_sites):
        row_of(tables, state, site, least)
        other = np.flatnonzero(labels != labels[site])
        assert np.isinf(np.delete(least, other)).all()
        exact = evaluator.swap_energies(labels, np.column_stack([other * 0 + site, other]))
        assert (least[other] <= exact + 1e-11).all()
        alone = ~has_triplet[site, other]
        np.testing.assert_allclose(least[other][alone], exact[alone], atol=1e-11)


def test_many_species_fill_more_than_one_block():
    parent = ParentLattice.from_prototype("bcc", a=3.2, species=("Cr", "Mo", "Nb", "Ta", "V", "W"))
    basis = ClusterBasis.of(parent, 4.6, 3.3)
    model = ClusterModel.random(basis, 5, pair=0.1, triplet=0.1)
    cell = Supercell.from_matrix(parent, [[2, 1, 0], [0, 2, 1], [1, 0, 2]])
    evaluator, labels = model.evaluator(cell), random_labels(cell, 1)[0]
    pairs = np.array([(i, j) for i in range(cell.n_sites) for j in range(i)])
    swapped = np.repeat(labels[None], len(pairs), axis=0)
    rows = np.arange(len(pairs))
    swapped[rows, pairs[:, 0]], swapped[rows, pairs[:, 1]] = (
        labels[pairs[:, 1]],
        labels[pairs[:, 0]],
    )
    energies = evaluator.energies(np.vstack([labels, swapped])) * cell.n_sites
    changes = evaluator.swap_energies(labels, pairs)
    np.testing.assert_allclose(changes, energies[1:] - energies[0], atol=1e-11)
    expected = reference.energy(model, cell, labels)
    assert energies[0] == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize(("model", "matrix"), [*FOLDED, (LONG_TRIPLETS, [3, 3, 3])])
@pytest.mark.parametrize("n", [0, 3, 150])
def test_rows_of_swaps_are_differences_of_rows(model, matrix, n):
    cell = Supercell.from_matrix(model.basis.parent, matrix)
    evaluator, labels = model.evaluator(cell), random_labels(cell, 1)[0]
    rng = np.random.default_rng(n)
    pairs = [rng.permutation(cell.n_sites)[:2] for _ in range(n if cell.n_sites > 1 else 0)]
    swaps = np.array([(i, j, rng.random() < 0.5) for i, j in pairs], dtype=np.int64).reshape(-1, 3)
    found = evaluator.swap_gradient_rows(labels, swaps)
    expected = reference.swap_rows(evaluator, labels, swaps)
    np.testing.assert_allclose(
        found, expected, atol=1e-12 * max(1.0, np.abs(expected).max(initial=0))
    )


def test_changes_by_rows_are_differences_of_sums_over_all_clusters():
    cell = Supercell.from_matrix(QUATERNARY, [2, 2, 3])
    evaluator, labels = LONG_TRIPLETS.evaluator(cell), random_labels(cell, 1)[0]
    i, j = 0, int(np.flatnonzero(labels != labels[0])[0])
    after = labels.copy()
    after[[i, j]] = after[[j, i]]
    change = (
        evaluator.swap_gradient_rows(labels, np.array([[i, j, 1]])) @ LONG_TRIPLETS.coefficients
    )
    expected = np.diff([reference.energy(LONG_TRIPLETS, cell, row) for row in (labels, after)])
    np.testing.assert_allclose(change, expected, atol=1e-11)


def test_energies_per_atom_leave_vacancies_out():
    model = CASES[4][0]
    cell = Supercell.from_matrix(ROCKSALT, [1, 1, 2])
    labels = np.array([[0, 1, 2, 3]], dtype=np.int8)
    per_site = model.evaluator(cell).energies(labels)
    np.testing.assert_allclose(model.energies(Labelings(cell, labels)), per_site * 4 / 3)


def test_what_does_not_fit_is_refused():
    model = CASES[0][0]
    with pytest.raises(InputError, match="another parent lattice"):
        model.evaluator(Supercell.from_matrix(FCC, [1, 1, 2]))
    with pytest.raises(InputError, match="parameters"):
        ClusterModel(model.basis, np.zeros(3))
    evaluator = model.evaluator(Supercell.from_matrix(BCC, [1, 1, 2]))
    with pytest.raises(InputError, match="2 sites"):
        evaluator.energies(np.zeros((1, 3), dtype=np.int8))
    with pytest.raises(InputError, match="labels run from 0 to 3"):
        evaluator.energies(np.array([[0, 3]], dtype=np.int8))
