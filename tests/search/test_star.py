"""Surrogates of site energies: counts of clusters, and what they learn from them."""

from collections import Counter

import numpy as np
import pytest

from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.potential.clusters import ClusterBasis, ClusterModel
from latticesearch.search import _star_kernels as kernels
from latticesearch.search import search
from latticesearch.search import star as star_module
from latticesearch.search.rankers import Star
from latticesearch.search.star import StarBasis, StarSurrogate, star_surrogates
from latticesearch.search.surrogate import nearest_distance
from tests.fake_comm import run_ranks
from tests.reference import search as reference

BCC = ParentLattice.from_prototype("bcc", a=3.2, species=("Mo", "Nb", "Ta"))
FCC = ParentLattice.from_prototype("fcc", a=4.0, species=("Cu", "Pd", "Au"))
HCP = ParentLattice.from_prototype("hcp", a=3.0, species=("Ti", "Al"))
ROCKSALT = ParentLattice.from_prototype("rocksalt", a=4.3, species=(("Ti", "Hf"), ("N", "X")))
REACHES = (1.7, 1.45, 1.2)


def random_batch(cell, n, seed=0):
    weights = np.random.default_rng(seed).random((n, *cell.allowed.shape)) * cell.allowed
    return Labelings(cell, weights.argmax(axis=2).astype(np.int8))


def counts_by_shape(basis, kind, row):
    """Counts of one site under the names of the naive twin."""
    parent, (table, columns) = basis.parent, basis.decorations
    centre = int(parent.sublattices[kind][0])
    site = basis.sites[centre]
    vectors = (site.translations + parent.basis[site.basis] - parent.basis[centre]) @ parent.cell
    result = Counter()
    for orbit, first in enumerate(basis.first[kind][:-1]):
        members = basis.clusters[kind][basis.orbits[kind] == orbit]
        members = [m[m < len(vectors)] for m in members]
        shapes = {reference.star_shape(list(vectors[m])) for m in members}
        assert len(shapes) == 1
        for column, species in enumerate(columns[len(members[0])]):
            if row[first + column]:
                result[next(iter(shapes)), tuple(species.tolist())] += int(row[first + column])
    assert table.max() < len(row)
    return result


@pytest.mark.parametrize(
    ("parent", "matrix"), [(BCC, [1, 2, 3]), (HCP, [1, 1, 3]), (ROCKSALT, [2, 1, 2])]
)
def test_counts_are_those_of_the_infinite_crystal(parent, matrix):
    cell = Supercell.from_matrix(parent, matrix)
    basis, batch = StarBasis.of(parent, REACHES), random_batch(cell, 3)
    length = nearest_distance(parent)
    total = basis.counts(batch)
    summed = np.zeros_like(total)
    for kind, tables in enumerate(basis.tables(cell)):
        width = int(basis.first[kind][-1])
        counts = np.zeros((len(batch), len(tables.sites), width), dtype=np.int16)
        kernels.add_site_counts(batch.labels, tables, counts)
        for n, labels in enumerate(batch.labels):
            truth = reference.star_counts(parent, cell, labels, REACHES, length)
            for s, site in enumerate(tables.sites):
                assert counts_by_shape(basis, kind, counts[n, s]) == truth[site]
                block = basis.blocks[kind, labels[site]]
                summed[n, block : block + width] += counts[n, s]
    np.testing.assert_array_equal(total, summed)


@pytest.mark.parametrize("parent", [BCC, HCP, ROCKSALT])
def test_symmetry_changes_no_count(parent):
    cell = Supercell.from_matrix(parent, [2, 2, 2])
    batch = random_batch(cell, 1)
    images = Labelings(cell, batch.labels[0][cell.site_permutations])
    counts = StarBasis.of(parent, REACHES).counts(images)
    np.testing.assert_array_equal(counts, np.repeat(counts[:1], len(counts), axis=0))


def test_predictions_are_products_whatever_block_a_row_stands_in():
    rng = np.random.default_rng(0)
    counts, fits = rng.integers(0, 3, (20, 50)).astype(np.int16), rng.normal(size=(50, 6))
    whole = kernels.predictions(counts, fits)
    np.testing.assert_allclose(whole, counts @ fits, rtol=1e-12, atol=1e-12)
    parts = [kernels.predictions(counts[k : k + 3], fits) for k in range(0, 20, 3)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("parent", [FCC, ROCKSALT])
def test_site_energies_of_pairs_and_triplets_are_learnt(parent):
    # In thinner cells, where a site sees itself, expansions share triplets otherwise.
    length = nearest_distance(parent)
    basis = ClusterBasis.of(parent, 1.6 * length, 1.2 * length)
    model = ClusterModel.random(basis, 1, pair=0.03, triplet=0.02)
    surrogate = StarSurrogate.of(StarBasis.of(parent, (1.7, 1.7, 0.0)))
    for matrix in ([3, 2, 3], [2, 2, 3], [2, 2, 5]):
        batch = random_batch(Supercell.from_matrix(parent, matrix), 60)
        energies = model.evaluator(batch.supercell).site_energies(batch.labels)
        surrogate.learn(batch, energies, np.ones(len(batch)))
    batch = random_batch(Supercell.from_matrix(parent, [2, 2, 3]), 20, seed=1)
    truth = model.evaluator(batch.supercell).energies(batch.labels)
    counts = surrogate.basis.counts(batch)
    for left_out in (None, 2):
        off = counts @ surrogate.fit(1e-8, left_out) / batch.supercell.n_sites - truth
        assert np.abs(off).max() < 1e-3 * truth.std()


def test_bases_that_are_too_large_are_left_out(monkeypatch):
    parent = ParentLattice.from_prototype("fcc", a=4.0, species=("Cu", "Pd"))
    assert len(star_surrogates(parent)) == len(star_module.STAR_REACHES)
    assert star_surrogates(parent)[0].basis is star_surrogates(parent)[0].basis
    parent = ParentLattice.from_prototype("fcc", a=4.0, species=("Cu", "Pd"))
    monkeypatch.setattr(star_module, "MOST_COUNTS", 100)
    kept = star_surrogates(parent)
    assert [s.basis.n_counts <= 100 for s in kept] == [True]


def test_counts_of_large_cells_do_not_overflow():
    cell = Supercell.from_matrix(BCC, [10, 10, 10])
    batch = Labelings(cell, np.zeros((1, cell.n_sites), dtype=np.int8))
    counts = StarBasis.of(BCC, (1.7, 1.7, 1.2)).counts(batch)
    assert counts.min() >= 0
    assert counts.max() > np.iinfo(np.int16).max


def test_screening_with_site_energies_is_the_same_for_any_number_of_ranks(monkeypatch):
    length = nearest_distance(BCC)
    basis = ClusterBasis.of(BCC, 1.7 * length, 1.7 * length)
    model = ClusterModel.random(basis, 2, pair=0.03, triplet=0.03)

    calls, original = [], Star.optimistic
    monkeypatch.setattr(Star, "optimistic", lambda *args: calls.append(1) or original(*args))

    def run(comm=None):
        return search(model, BCC, max_sites=5, exhaustive_up_to=3, budget=200, comm=comm)

    pool = run()
    assert calls
    assert {c.source for c in pool.candidates} == {"exhaustive", "screened"}
    for other in run_ranks(2, run):
        assert other.entries == pool.entries
        assert other.evaluations == pool.evaluations
