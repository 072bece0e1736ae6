from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from latticesearch.errors import InputError
from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.mtp.files import read_mtp
from latticesearch.potential.mtp.lattice import MtpLatticeEvaluator
from latticesearch.potential.mtp.offlattice import evaluate
from latticesearch.potential.mtp.tables import RadialInterval, lattice_geometry, parent_neighbours
from tests.reference import mtp_lattice as naive
from tests.shipped import DATA, read_cells, read_json

TYPES = ("Ti", "Zr", "Hf", "V")  # the golden potentials do not care what their types are called


@pytest.fixture(scope="module")
def rocksalt():
    return ParentLattice.from_prototype("rocksalt", 4.3, (("Ti", "Hf"), ("N", "X")))


@pytest.fixture(scope="module", params=["bcc", "rocksalt"])
def case(request, rocksalt):
    """A potential, a supercell and some labelings; species of both in different orders."""
    if request.param == "bcc":
        parent = ParentLattice.from_prototype("bcc", 3.2, ("Nb", "Mo", "Ta"))
        supercell = Supercell.from_matrix(parent, [[1, 0, 1], [0, 2, 1], [0, 0, 3]])
        basis = MtpBasis(8, ("Ta", "Nb", "Mo"), cutoff=4.9, radial_size=4)
    else:
        supercell = Supercell.from_matrix(rocksalt, [[1, 0, 1], [0, 1, 1], [0, 0, 2]])
        basis = MtpBasis(10, ("X", "N", "Hf", "Ti"), cutoff=4.0, min_dist=1.8, radial_size=3)
    rng = np.random.default_rng(5)
    potential = basis.potential(rng.normal(size=basis.n_parameters))
    weights = rng.random((4, *supercell.allowed.shape)) * supercell.allowed
    labels = weights.argmax(axis=2).astype(np.int8)
    return potential, supercell, labels, weights / weights.sum(axis=2, keepdims=True)


@pytest.mark.parametrize("level", [8, 10, 12, 16, 20])
def test_energies_are_those_of_mlip2(level):
    potential = read_mtp(DATA / "mtp" / f"random_level{level:02d}.mtp", species=TYPES)
    golden = read_json("mtp/golden_levels.json.gz")["levels"][f"{level:02d}"]
    parent = ParentLattice.from_prototype("bcc", 3.25, TYPES)
    cells = list(read_cells("mtp/levels_structures.in.gz"))
    for (cell, types, positions), expected in zip(cells, golden["energy"], strict=True):
        inverse = np.linalg.inv(parent.cell)
        supercell = Supercell.from_matrix(parent, np.rint(cell @ inverse).astype(int))
        sites = supercell.site_of(np.zeros(len(types), int), np.rint(positions @ inverse))
        labels = np.empty(len(types), np.int8)
        labels[sites] = types
        energy = potential.energies(Labelings(supercell, labels[None]))[0] * len(types)
        assert energy == pytest.approx(expected, rel=3e-14)


def test_neighbours_of_the_parent_fill_the_shells():
    bcc = ParentLattice.from_prototype("bcc", 2.0, ("Mo", "Ta"))
    _, _, vectors = parent_neighbours(bcc, 0, 4.01)
    shells = np.unique(np.round(np.linalg.norm(vectors, axis=1), 6), return_counts=True)[1]
    assert shells.tolist() == [8, 6, 12, 24, 8, 6]


def test_geometry_is_made_once_per_supercell(rocksalt):
    supercell = Supercell.from_matrix(rocksalt, [1, 1, 2])
    interval, powers = RadialInterval(2.0, 4.0, 3), np.eye(3, dtype=np.int64)
    first = lattice_geometry(supercell, interval, powers)
    assert lattice_geometry(supercell, interval, powers) is first
    assert lattice_geometry(supercell, RadialInterval(2.0, 4.1, 3), powers) is not first


def test_site_energies_against_plain_loops(case):
    potential, supercell, labels, _ = case
    evaluator = MtpLatticeEvaluator(potential, supercell)
    expected = [naive.site_energies(potential, supercell, row) for row in labels]
    np.testing.assert_allclose(evaluator.site_energies(labels), expected, rtol=1e-12)
    np.testing.assert_allclose(evaluator.energies(labels), np.mean(expected, axis=1), rtol=1e-12)


def test_mean_field_energies_against_plain_loops(case):
    potential, supercell, _, occupations = case
    evaluator = MtpLatticeEvaluator(potential, supercell)
    expected = [
        naive.mean_field_site_energies(potential, supercell, rows).mean()
        for rows in occupations[:2]
    ]
    found = evaluator.mean_field_energies(occupations[:2])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_mean_field_of_a_full_cell_is_its_energy(case):
    potential, supercell, labels, _ = case
    evaluator = MtpLatticeEvaluator(potential, supercell)
    full = np.eye(supercell.parent.n_species)[labels]
    np.testing.assert_allclose(
        evaluator.mean_field_energies(full), evaluator.energies(labels), rtol=1e-13
    )


def test_flips_and_swaps_are_differences_of_energies(case):
    potential, supercell, labels, _ = case
    evaluator = MtpLatticeEvaluator(potential, supercell)
    start, n_sites = labels[0], supercell.n_sites

    def energy(row):
        return naive.site_energies(potential, supercell, row).sum()

    before = energy(start)
    sites, species = np.nonzero(supercell.allowed)
    flipped = np.repeat(start[None], len(sites), axis=0)
    flipped[np.arange(len(sites)), sites] = species
    changes = evaluator.flip_energies(start, sites, species.astype(np.int8))
    expected = evaluator.energies(flipped) * n_sites - before
    np.testing.assert_allclose(changes, expected, rtol=1e-10, atol=1e-10 * abs(before))
    pairs = np.array([(i, j) for i in range(n_sites) for j in range(i)])[:12]
    for pair, change in zip(pairs, evaluator.swap_energies(start, pairs), strict=True):
        swapped = start.copy()
        swapped[pair] = start[pair[::-1]]
        assert change == pytest.approx(energy(swapped) - before, abs=1e-10 * abs(before))


def test_changes_where_most_sites_see_neither_changed_site():
    parent = ParentLattice.from_prototype("fcc", 3.9, ("Ag", "Pd"))
    supercell = Supercell.from_matrix(parent, [3, 3, 3])
    basis = MtpBasis(6, ("Ag", "Pd"), cutoff=3.0, radial_size=2)
    rng = np.random.default_rng(1)
    evaluator = basis.potential(rng.normal(size=basis.n_parameters)).evaluator(supercell)
    start = rng.integers(0, 2, 27).astype(np.int8)
    pairs = rng.permuted(np.tile(np.arange(27), (30, 1)), axis=1)[:, :2]
    swapped = np.repeat(start[None], 30, axis=0)
    np.put_along_axis(swapped, pairs, start[pairs[:, ::-1]], axis=1)
    expected = 27 * (evaluator.energies(swapped) - evaluator.energies(start[None]))
    np.testing.assert_allclose(evaluator.swap_energies(start, pairs), expected, atol=1e-12)
    assert np.abs(expected).max() > 1e-3


def test_gradient_rows_against_differences(case):
    potential, supercell, labels, _ = case
    evaluator = MtpLatticeEvaluator(potential, supercell)
    parameters, step = potential.parameters, 1e-4
    rows = evaluator.site_gradient_rows(labels[0])
    assert rows.shape == (supercell.n_sites, evaluator.n_parameters)
    for p in range(0, len(parameters), 7):
        nearby = [parameters.copy() for _ in range(4)]
        for shifted, factor in zip(nearby, (-2, -1, 1, 2), strict=True):
            shifted[p] += factor * step
        e = [
            potential.with_parameters(q).evaluator(supercell).site_energies(labels[:1])[0]
            for q in nearby
        ]
        slope = (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * step)
        np.testing.assert_allclose(rows[:, p], slope, atol=1e-8 * np.abs(rows).max())
    np.testing.assert_allclose(evaluator.gradient_rows(labels)[0], rows.mean(axis=0), rtol=1e-13)


def test_linear_part_of_the_gradient_gives_the_energy(case):
    potential, supercell, labels, _ = case
    rows = potential.evaluator(supercell).gradient_rows(labels)
    linear = slice(potential.radial_coeffs.size, None)
    energies = rows[:, linear] @ potential.parameters[linear]
    np.testing.assert_allclose(
        energies, potential.evaluator(supercell).energies(labels), rtol=1e-12
    )


def test_the_energy_does_not_depend_on_the_supercell():
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))
    basis = MtpBasis(10, ("Mo", "Ta"), cutoff=5.6)
    potential = basis.potential(np.random.default_rng(0).normal(size=basis.n_parameters))
    small = Supercell.from_matrix(parent, [[1, 0, 1], [0, 1, 0], [0, 0, 2]])
    large = Supercell.from_matrix(parent, [2, 2, 4])
    labels = np.array([0, 1], np.int8)
    in_small = small.site_of(np.zeros(16, int), large.cell_vectors)
    assert potential.evaluator(large).energies(labels[None, in_small])[0] == pytest.approx(
        potential.evaluator(small).energies(labels[None])[0], rel=1e-13
    )


def test_ideal_structures_have_the_same_energy_off_the_lattice(case):
    potential, supercell, labels, _ = case
    if "X" in supercell.parent.species:
        labels = labels.copy()
        labels[labels == supercell.parent.species.index("X")] = 2
    for row, energy in zip(labels, potential.evaluator(supercell).energies(labels), strict=True):
        atoms = supercell.to_atoms(row)
        assert evaluate(potential, atoms).energy == pytest.approx(energy * len(atoms), rel=1e-10)


def test_energies_per_atom_do_not_count_vacancies(rocksalt):
    supercell = Supercell.from_matrix(rocksalt, [1, 1, 2])
    potential = MtpBasis(6, ("Ti", "Hf", "N", "X"), cutoff=3.5).potential(seed=3)
    batch = Labelings(supercell, np.array([[0, 1, 2, 3]], np.int8))
    per_site = potential.evaluator(supercell).energies(batch.labels)
    assert potential.energies(batch) == pytest.approx(per_site * 4 / 3)


def test_a_cutoff_without_neighbours_leaves_the_species_energies():
    parent = ParentLattice.from_prototype("fcc", 4.0, ("Ag", "Pd"))
    supercell = Supercell.from_matrix(parent, [1, 1, 2])
    basis = MtpBasis(6, ("Ag", "Pd"), cutoff=2.5)
    potential = basis.potential(np.arange(basis.n_parameters) / 10.0)
    energies = potential.evaluator(supercell).site_energies(np.array([[0, 1]], np.int8))
    assert energies[0] == pytest.approx(potential.species_coeffs)
    rows = potential.evaluator(supercell).gradient_rows(np.array([[0, 1]], np.int8))
    species = slice(potential.radial_coeffs.size, potential.radial_coeffs.size + 2)
    assert rows[0, species].tolist() == [0.5, 0.5]
    assert np.abs(rows).sum() == 1.0


def test_unknown_species_are_refused(rocksalt):
    potential = MtpBasis(6, ("Ti", "Hf", "N"), cutoff=3.5).potential()
    with pytest.raises(InputError, match=r"has X, but the potential knows only Ti, Hf, N; a vac"):
        potential.evaluator(Supercell.from_matrix(rocksalt, [1, 1, 1]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1, 0]], r"shape \(1, 3\), but the supercell has 2 sites"),
        ([0, 1], r"2 dimension\(s\) are needed"),
        ([[0, 2]], r"run from 0 to 2, but the parent lattice has 2 species"),
        ([[-1, 0]], r"run from -1 to 0"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    parent = ParentLattice.from_prototype("fcc", 4.0, ("Ag", "Pd"))
    potential = MtpBasis(6, ("Ag", "Pd"), cutoff=3.0).potential()
    evaluator = potential.evaluator(Supercell.from_matrix(parent, [1, 1, 2]))
    with pytest.raises(InputError, match=message):
        evaluator.energies(np.array(labels, np.int8))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda e, start: e.flip_energies(start, [2], [0]), "run from 2 to 2, but the supercell"),
        (lambda e, start: e.flip_energies(start, [-1], [0]), "run from -1 to -1, but the superc"),
        (lambda e, start: e.flip_energies(start, [1], [2]), "species run from 2 to 2"),
        (lambda e, start: e.flip_energies(start, [0, 1], [1]), r"\(1,\) species for \(2,\) sites"),
        (lambda e, start: e.swap_energies(start, [0, 1]), r"shape \(2,\), but \(m, 2\) is needed"),
        (lambda e, start: e.swap_energies(start, [[0, 5]]), "run from 0 to 5"),
        (lambda e, start: e.walk_state(start - 1), "labels run from -1"),
    ],
)
def test_changes_that_do_not_fit_are_refused(ask, message):
    parent = ParentLattice.from_prototype("fcc", 4.0, ("Ag", "Pd"))
    potential = MtpBasis(6, ("Ag", "Pd"), cutoff=3.0).potential()
    evaluator = potential.evaluator(Supercell.from_matrix(parent, [1, 1, 2]))
    with pytest.raises(InputError, match=message):
        ask(evaluator, np.zeros(2, np.int8))


def test_occupations_that_do_not_fit_are_refused():
    parent = ParentLattice.from_prototype("fcc", 4.0, ("Ag", "Pd"))
    potential = MtpBasis(6, ("Ag", "Pd"), cutoff=3.0).potential()
    evaluator = potential.evaluator(Supercell.from_matrix(parent, [1, 1, 2]))
    with pytest.raises(InputError, match=r"must be \(n, 2, 2\)"):
        evaluator.mean_field_energies(np.ones((1, 3, 2)))


def test_cells_of_thousands_of_atoms_need_little_memory():
    parent = ParentLattice.from_prototype("bcc", 3.25, ("Nb", "Mo", "Ta", "W"))
    basis = MtpBasis(8, parent.species, cutoff=6.0)
    potential = basis.potential(np.random.default_rng(0).normal(size=basis.n_parameters))
    small = Supercell.from_matrix(parent, [2, 2, 2])
    labels = np.arange(8, dtype=np.int8) % 4
    expected = potential.evaluator(small).energies(labels[None])
    large = Supercell.from_matrix(parent, [10, 20, 20])
    repeated = labels[small.site_of(np.zeros(4000, int), large.cell_vectors)]
    tracemalloc.start()
    state = potential.evaluator(large).walk_state(repeated)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert state.energy / 4000 == pytest.approx(expected, rel=1e-12)
    assert peak < 50e6  # one number per pair of sites would be 128 MB
