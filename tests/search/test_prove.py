"""Certificates of a search: against all labelings of all cells up to a size."""

import logging

import numpy as np
import pytest

from latticesearch.enumeration import enumerate_labelings
from latticesearch.errors import InputError
from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.search import certificate, proofs, search
from latticesearch.search.certificate import Prover
from latticesearch.search.pool import ratio_of
from tests.fake_comm import run_ranks
from tests.reference import search as reference
from tests.search.toy_model import toy_model

FCC = ParentLattice.from_prototype("fcc", a=4.0, species=("Cu", "Pd"))
ROCKSALT = ParentLattice.from_prototype("rocksalt", a=4.3, species=(("Ti", "Hf"), ("N", "X")))


def name_of(composition):
    return tuple(np.round(composition, 9))


def true_minima(model, parent, max_index):
    """Lowest energy per site of every composition of all cells up to a size."""
    found = {}
    for batch in enumerate_labelings(parent, max_index=max_index):
        energies = model.evaluator(batch.supercell).energies(batch.labels)
        for composition, energy in zip(batch.compositions, energies, strict=True):
            name = name_of(composition)
            found[name] = min(found.get(name, np.inf), energy)
    return found


def poor_search(model, parent, max_sites, **how):
    """A search that sees one shape per size and pays for little."""
    few = {"exhaustive_up_to": 2, "shapes": 1, "budget": 60, "seed": 1}
    return search(model, parent, max_sites=max_sites, mode="polish", polish="descent", **few, **how)


@pytest.fixture(scope="module")
def fcc_pool():
    return poor_search(toy_model(FCC), FCC, 8, certify=8)


def test_proven_vertices_are_the_minima_of_all_cells(fcc_pool):
    truth = true_minima(toy_model(FCC), FCC, 8)
    proven = np.flatnonzero(fcc_pool.proven_gaps == 0.0)
    assert len(proven) >= 3
    for i in proven:
        composition = name_of(fcc_pool.compositions[i])
        assert fcc_pool.energies[i] == pytest.approx(truth[composition], abs=1e-9)


def test_what_is_lower_enters_the_pool(fcc_pool):
    before = poor_search(toy_model(FCC), FCC, 8)
    assert np.isnan(before.proven_gaps).all()
    found = [c for c in fcc_pool.candidates if c.source == "certificate"]
    assert found
    for candidate in found:
        ratio = ratio_of(candidate.configuration.counts)
        assert candidate.energy < before.entries[ratio][0].energy
    assert fcc_pool.evaluations > before.evaluations


@pytest.mark.parametrize("size", [2, 3])
def test_the_same_proofs_on_any_number_of_ranks(fcc_pool, size):
    for pool in run_ranks(size, lambda c: poor_search(toy_model(FCC), FCC, 8, certify=8, comm=c)):
        assert pool.entries == fcc_pool.entries
        assert pool.bounds == fcc_pool.bounds
        assert pool.evaluations == fcc_pool.evaluations


def test_a_proof_that_is_cut_short_still_bounds(monkeypatch):
    monkeypatch.setattr(proofs, "MAX_NODES", 4)
    model = toy_model(FCC)
    truth = true_minima(model, FCC, 8)
    pool = poor_search(model, FCC, 8, certify=8)
    gaps = pool.proven_gaps
    assert (gaps > 0.0).any()
    for i in np.flatnonzero(np.isfinite(gaps)):
        assert pool.energies[i] - gaps[i] <= truth[name_of(pool.compositions[i])] + 1e-9


def test_enumerated_cells_need_no_proof(monkeypatch):
    def never(evaluator):
        raise AssertionError(evaluator)

    monkeypatch.setattr(proofs, "Prover", never)
    model = toy_model(FCC)
    pool = search(model, FCC, max_sites=5, exhaustive_up_to=5, certify=5)
    assert (pool.proven_gaps[pool.is_stable] == 0.0).all()
    smaller = search(model, FCC, max_sites=5, exhaustive_up_to=5, certify=3)
    sizes = np.array([c.supercell.n_sites for c in smaller.candidates])
    stable = smaller.is_stable
    assert (sizes[stable] > 3).any()
    np.testing.assert_array_equal(np.isnan(smaller.proven_gaps[stable]), sizes[stable] > 3)


def test_what_cannot_be_proven_is_not_claimed(monkeypatch, caplog):
    monkeypatch.setattr(certificate, "LARGEST_TABLE", 10)
    with caplog.at_level(logging.WARNING):
        pool = poor_search(toy_model(FCC), FCC, 6, certify=6)
    assert "without certificate" in caplog.text
    pure = (pool.compositions == 1.0).any(axis=1)
    assert (pool.proven_gaps[pure] == 0.0).all()
    assert np.isnan(pool.proven_gaps[~pure]).all()


def test_a_given_supercell_with_sublattices_and_vacancies():
    model, cell = toy_model(ROCKSALT), Supercell.from_matrix(ROCKSALT, [1, 2, 2])
    how = {"supercells": [cell], "exhaustive_up_to": 0, "mode": "polish", "polish": "descent"}
    pool = search(model, ROCKSALT, **how, budget=200, certify=8)
    stable = np.flatnonzero(pool.is_stable)
    assert (pool.proven_gaps[stable] == 0.0).all()
    for i in stable:
        candidate = pool.candidates[i]
        counts = candidate.configuration.counts * 8 // candidate.supercell.n_sites
        lowest = reference.minima(model.evaluator(cell), counts)[0]
        assert candidate.energy == pytest.approx(lowest, abs=1e-9)


def test_gaps_are_per_atom():
    limits = {"N": 0.25, "Ti": 0.25}
    model = toy_model(ROCKSALT)
    how = {"supercells": [[1, 1, 4]], "composition": limits, "exhaustive_up_to": 0}
    pool = search(model, ROCKSALT, **how, certify=8)
    candidate, ratio = pool.candidates[1], next(iter(pool.entries))
    gap = candidate.energy - pool.bounds[ratio]
    assert gap > 0.0
    # Two of eight sites are vacant.
    assert pool.proven_gaps[1] == pytest.approx(gap * 8 / 6)


def test_energies_known_from_elsewhere_are_not_looked_for_again():
    evaluator = toy_model(FCC).evaluator(Supercell.from_matrix(FCC, [1, 2, 4]))
    counts = np.array([4, 4])
    lowest = reference.minima(evaluator, counts)[0]
    prover = Prover(evaluator)
    plain, given = prover.certify(counts), prover.certify(counts, below=lowest)
    assert given.nodes < plain.nodes
    assert given.bound == pytest.approx(lowest, abs=1e-8)
    beaten = prover.certify(counts, below=lowest + 1e-3)
    assert beaten.energy == pytest.approx(lowest, abs=1e-9)
    hopeless = prover.certify(counts, below=lowest - 0.1)
    assert hopeless.bound == pytest.approx(lowest - 0.1, abs=1e-8)


def test_bad_sizes_are_refused():
    with pytest.raises(InputError, match="certify is 0"):
        search(toy_model(FCC), FCC, max_sites=4, certify=0)
