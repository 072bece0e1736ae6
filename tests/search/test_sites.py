"""Descriptors of sites, and the site energies that a surrogate learns from them."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latticesearch.enumeration import enumerate_labelings
from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.lattice.neighbours import nearest_distance
from latticesearch.parallel import SerialComm
from latticesearch.potential.clusters import ClusterBasis, ClusterModel
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.sites import _site_kernels as kernels
from latticesearch.potential.sites import descriptors as sites_module
from latticesearch.potential.sites import kernel_ridge
from latticesearch.potential.sites.descriptors import SiteBasis, SiteTable, site_basis
from latticesearch.potential.sites.kernel_ridge import SiteSurrogate
from latticesearch.search import search
from latticesearch.search.screening.rankers import OPTIMISM, Sites
from tests.conftest import HANG
from tests.fake_comm import run_ranks
from tests.reference import search as reference
from tests.search.toy_model import BCC, ROCKSALT

FCC = ParentLattice.from_prototype("fcc", a=4.0, species=("Cu", "Pd", "Au"))
# With c/a = 1.58 neighbours of one distance are equivalent, as the naive twin takes for granted.
HCP = ParentLattice.from_prototype("hcp", a=3.0, c=4.74, species=("Ti", "Al"))
REACH = 1.7


def random_batch(cell, n, seed=0):
    weights = np.random.default_rng(seed).random((n, *cell.allowed.shape)) * cell.allowed
    return Labelings(cell, weights.argmax(axis=2).astype(np.int8))


@pytest.mark.parametrize(
    ("parent", "matrix"), [(BCC, [1, 2, 3]), (HCP, [1, 1, 3]), (ROCKSALT, [2, 1, 2])]
)
def test_products_of_descriptors_are_those_of_the_infinite_crystal(parent, matrix):
    cell = Supercell.from_matrix(parent, matrix)
    basis, batch = SiteBasis.of(parent, REACH), random_batch(cell, 2)
    table = SiteTable.of(basis, [batch])
    cutoff = REACH * nearest_distance(parent)
    around = [
        (
            basis.kinds[cell.basis_index[site]],
            table.x[table.index[0][n, site]].astype(float),
            reference.surroundings(parent, cell, labels, site, cutoff),
        )
        for n, labels in enumerate(batch.labels)
        for site in range(cell.n_sites)
    ]
    compared = 0
    for kind, x, near in around[:: max(len(around) // 4, 1)]:
        for other_kind, y, others in around[::2]:
            if kind == other_kind:
                expected = reference.site_product(parent, near, others, parent.n_species)
                assert x @ y == pytest.approx(expected, abs=1e-5)
                compared += 1
    assert compared >= 8


@pytest.mark.parametrize("parent", [BCC, HCP, ROCKSALT])
def test_symmetry_changes_no_site(parent):
    cell = Supercell.from_matrix(parent, [2, 2, 2])
    labels = random_batch(cell, 1).labels[0]
    index = SiteTable.of(
        site_basis(parent), [Labelings(cell, labels[cell.site_permutations])]
    ).index[0]
    np.testing.assert_array_equal(index, index[0][cell.site_permutations])


def test_a_code_stands_for_one_descriptor_and_one_centre():
    batches = list(enumerate_labelings(BCC, max_index=4))
    basis = site_basis(BCC)
    table = SiteTable.of(basis, batches)
    assert len(np.unique(table.codes)) == len(table.codes)
    rows = np.column_stack([table.centres, np.round(table.x, 5) + 0.0])
    assert len(np.unique(rows, axis=0)) == len(rows)
    for batch, index in zip(batches, table.index, strict=True):
        np.testing.assert_array_equal(table.centres[index], batch.labels)
        np.testing.assert_array_equal(table.codes[index], basis.codes(batch))
        rows, sites = (places.reshape(-1) for places in np.indices(index.shape))
        np.testing.assert_array_equal(
            table.x[index[rows, sites]], basis.describe(batch, rows, sites)[0]
        )


def test_quadratic_forms_are_the_same_wherever_a_row_stands():
    rng = np.random.default_rng(0)
    x, forms = rng.normal(size=(75, 21)).astype(np.float32), np.triu(rng.normal(size=(3, 21, 21)))
    starts = np.array([0, 40, 40, 75])
    whole = kernels.quadratic_forms(x, starts, forms)
    expected = [x[n] @ forms[0 if n < 40 else 2] @ x[n] for n in range(75)]
    np.testing.assert_allclose(whole, expected, rtol=1e-12, atol=1e-12)
    for first in range(0, 40, 7):
        part = kernels.quadratic_forms(x[first : first + 3], np.array([0, 3]), forms[:1])
        np.testing.assert_array_equal(part, whole[first : first + 3])


def test_fits_are_kernel_ridge_regression():
    cell = Supercell.from_matrix(BCC, [1, 2, 3])
    batch, rng = random_batch(cell, 30), np.random.default_rng(1)
    energies, weights = rng.normal(size=batch.labels.shape), rng.uniform(0.2, 1.0, len(batch))
    surrogate, ridge = SiteSurrogate.of(BCC), 1e-2
    for rows in (slice(0, 12), slice(12, 30)):
        part = Labelings(cell, batch.labels[rows])
        surrogate.learn([(part, energies[rows])], [weights[rows]])
    predicted = Sites(surrogate, ridge).energies(SiteTable.of(surrogate.basis, [batch]))[0]
    table = SiteTable.of(surrogate.basis, [batch])
    codes, expected = table.index[0], np.zeros(batch.labels.shape)
    for species in range(3):
        known = np.unique(codes[batch.labels == species])
        squares = np.array([(weights[:, None] ** 2 * (codes == k)).sum() for k in known])
        means = [
            (weights[:, None] ** 2 * (codes == k) * energies).sum() / s
            for k, s in zip(known, squares, strict=True)
        ]
        mean = squares @ means / squares.sum()
        kernel = (table.x[known].astype(float) @ table.x[known].T.astype(float)) ** 2
        damping = ridge * np.trace(kernel) / len(kernel) / squares
        values = kernel @ np.linalg.solve(kernel + np.diag(damping), means - mean) + mean
        for k, value in zip(known, values, strict=True):
            expected[codes == k] = value
    np.testing.assert_allclose(predicted, expected.mean(axis=1), rtol=1e-6, atol=1e-6)


def test_doubts_are_standard_errors_of_fits_without_one_part():
    batch, rng = random_batch(Supercell.from_matrix(BCC, [1, 2, 3]), 30), np.random.default_rng(2)
    surrogate = SiteSurrogate.of(BCC)
    surrogate.learn([(batch, rng.normal(size=batch.labels.shape))], [np.ones(len(batch))])
    table = SiteTable.of(surrogate.basis, [random_batch(batch.supercell, 10, seed=3)])
    fits = []
    for part in range(kernel_ridge.PARTS):
        kept = []
        for centre in range(surrogate.basis.n_centres):
            mine = [i for i, c in enumerate(surrogate.centres) if c == centre]
            kept += [i for k, i in enumerate(mine) if k % kernel_ridge.PARTS != part]
        names = "x", "centres", "weights", "targets"
        lists = {name: [getattr(surrogate, name)[i] for i in kept] for name in names}
        fits.append(Sites(SiteSurrogate(surrogate.basis, **lists), 1e-2).energies(table)[0])
    spread = np.sqrt(kernel_ridge.PARTS - 1) * np.std(fits, axis=0)
    doubts = Sites(surrogate, 1e-2).doubts(table, SerialComm())[0]
    np.testing.assert_allclose(doubts, OPTIMISM * spread, rtol=1e-9)
    assert doubts.min() > 1e-3


def test_part_of_a_table_predicts_the_same():
    batches = list(enumerate_labelings(BCC, max_index=4))
    basis, rng = site_basis(BCC), np.random.default_rng(0)
    table = SiteTable.of(basis, batches)
    forms = np.triu(rng.normal(size=(basis.n_centres, basis.width, basis.width)))
    rows = [np.flatnonzero(rng.random(len(batch)) < 0.1) for batch in batches]
    part = table.part(rows)
    assert 0 < len(part.x) < 0.5 * len(table.x)
    whole = table.energies(forms)
    for energies, mine, expected in zip(part.energies(forms), rows, whole, strict=True):
        np.testing.assert_array_equal(energies, expected[mine])


@pytest.mark.parametrize("parent", [FCC, ROCKSALT])
def test_site_energies_of_pairs_and_triplets_are_learnt(parent):
    # In thinner cells, where a site sees itself, expansions share triplets otherwise.
    length = nearest_distance(parent)
    basis = ClusterBasis.of(parent, 1.6 * length, 1.2 * length)
    model = ClusterModel.random(basis, 1, pair=0.03, triplet=0.02)
    surrogate = SiteSurrogate.of(parent)
    for matrix in ([3, 2, 3], [2, 2, 3], [2, 2, 5]):
        batch = random_batch(Supercell.from_matrix(parent, matrix), 60)
        energies = model.evaluator(batch.supercell).site_energies(batch.labels)
        surrogate.learn([(batch, energies)], [np.ones(len(batch))])
    batch = random_batch(Supercell.from_matrix(parent, [2, 2, 3]), 20, seed=1)
    truth = model.evaluator(batch.supercell).energies(batch.labels)
    table = SiteTable.of(surrogate.basis, [batch])
    off = Sites(surrogate, 1e-8).energies(table)[0] - truth
    assert np.abs(off).max() < 0.02 * truth.std()


def test_those_that_count_most_are_learnt(monkeypatch):
    batch = random_batch(Supercell.from_matrix(BCC, [2, 2, 2]), 10)
    energies = np.where(np.arange(10)[:, None] < 3, 1.0, 9.0) * np.ones(batch.labels.shape)
    surrogate = SiteSurrogate.of(BCC)
    surrogate.learn([(batch, energies)], [np.where(np.arange(10) < 3, 1.0, 1e-3)])
    table = SiteTable.of(surrogate.basis, [batch])
    few = min(np.unique(table.index[0][:3][batch.labels[:3] == z]).size for z in range(3))
    monkeypatch.setattr(kernel_ridge, "MOST_LEARNT", few)
    np.testing.assert_allclose(Sites(surrogate, 1e-6).energies(table)[0], 1.0, atol=1e-9)


def test_descriptors_that_are_too_long_are_replaced_by_shorter_ones(monkeypatch):
    def width(most):
        monkeypatch.setattr(sites_module, "WIDEST", most)
        parent = ParentLattice.from_prototype("fcc", a=4.0, species=("Cu", "Pd", "Au"))
        assert site_basis(parent) is site_basis(parent)
        return site_basis(parent).width

    whole = width(10**9)
    middle = width(whole - 1)
    shortest = width(5)
    assert whole > middle > shortest == SiteBasis.of(FCC, 0.0).width == 1
    surrogate = SiteSurrogate(SiteBasis.of(FCC, 0.0))
    batch = random_batch(Supercell.from_matrix(FCC, [1, 1, 3]), 20)
    surrogate.learn([(batch, batch.labels.astype(float))], [np.ones(20)])
    table = SiteTable.of(surrogate.basis, [batch])
    np.testing.assert_allclose(
        Sites(surrogate, 1e-6).energies(table)[0], batch.labels.mean(axis=1), atol=1e-9
    )


@pytest.mark.parametrize("kind", ["clusters", "mtp"])
def test_screening_with_site_energies_is_the_same_for_any_number_of_ranks(kind, monkeypatch):
    species = ("Nb", "Mo", "Ta", "W")
    parent = ParentLattice.from_prototype("bcc", a=3.24, species=species)
    model = MtpBasis(level=10, species=species, cutoff=5.0).potential(seed=3)
    if kind == "clusters":
        length = nearest_distance(parent)
        basis = ClusterBasis.of(parent, 1.7 * length, 1.7 * length)
        model = ClusterModel.random(basis, 2, pair=0.03, triplet=0.03)
    ranked, original = [], Sites.energies
    monkeypatch.setattr(
        Sites,
        "energies",
        lambda self, table: ranked.append(sum(map(len, table.index))) or original(self, table),
    )

    def run(comm=None):
        return search(model, parent, max_sites=5, budget=250, comm=comm)

    pool = run()
    assert sum(n > 500 for n in ranked) >= 3  # all labelings, not only those of a round
    assert {c.source for c in pool.candidates} == {"exhaustive", "screened"}
    for size in (2, 3):
        for other in run_ranks(size, run):
            assert other.entries == pool.entries
            assert other.evaluations == pool.evaluations


RANKS = """
from latticesearch import parallel
from latticesearch.bench.models import case_of
from latticesearch.search import search

comm, case = parallel.world(), case_of("published", "bcc")
pool = search(case.model, case.parent, max_sites=5, budget=250, comm=comm)
if comm.rank == 0:
    print(comm.size, pool.evaluations)
    for candidate in pool.candidates:
        print(candidate.source, candidate.energy.hex(), candidate.configuration.key)
"""


@pytest.fixture(scope="module")
def screened_here(shared_data):
    """What one rank prints, which is this process."""
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as out:
        patch.setenv("LATTICESEARCH_SHARED_DATA", str(shared_data))
        with contextlib.redirect_stdout(out):
            exec(RANKS, {})  # noqa: S102
        return out.getvalue().removeprefix("1 ").splitlines()


@pytest.mark.mpi
@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_screening_under_a_trained_potential_is_the_same_on_real_ranks(
    size, screened_here, shared_data
):
    variables = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "LATTICESEARCH_SHARED_DATA": str(shared_data),
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "mpirun", "-n", str(size), sys.executable, "-c", RANKS],
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{size} ")
    assert done.stdout.removeprefix(f"{size} ").splitlines() == screened_here
    assert sum(line.startswith("screened") for line in screened_here) > 50
