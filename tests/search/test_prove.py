"""Certificates of a search: against all labelings of all cells up to a size."""

import logging

import numpy as np
import pytest

from latticesearch.errors import InputError
from latticesearch.lattice import Supercell
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.protocol import evaluator_of
from latticesearch.search import certify, prove, search
from latticesearch.search.pool import ratio_of
from latticesearch.search.prove import Prover
from tests.fake_comm import run_ranks
from tests.potential.python_model import PythonModel
from tests.reference import search as reference
from tests.search.cases import brute_force, name_of
from tests.search.toy_model import BCC, FCC, ROCKSALT, toy_model


def true_minima(model, parent, max_index):
    """Lowest energy per site of every composition of all cells up to a size."""
    return brute_force(model, parent, max_index=max_index)[0]


def poor_search(model, parent, max_sites, **how):
    """A search that sees one shape per size and pays for little."""
    few = {"shapes": 1, "budget": 400, "seed": 1}
    return search(model, parent, max_sites=max_sites, method="addition", **few, **how)


@pytest.mark.parametrize("kind", ["clusters", "mtp"])
def test_certificates_are_the_minima(kind):
    model = toy_model(BCC, seed=3)
    if kind == "mtp":
        model = MtpBasis(level=6, species=BCC.species, cutoff=4.0).potential(seed=3)
    cell = Supercell.from_matrix(BCC, [1, 2, 4])
    evaluator = model.evaluator(cell)
    for counts in ([3, 3, 2], [5, 0, 3], [1, 6, 1], [8, 0, 0]):
        proof = certify(evaluator, np.array(counts))
        lowest = reference.minima(evaluator, np.array(counts))[0]
        assert proof.energy == pytest.approx(lowest, abs=1e-9)
        assert proof.gap < 1e-8
        assert np.bincount(proof.labels, minlength=3).tolist() == counts
        stopped = certify(evaluator, np.array(counts), max_nodes=5)
        assert stopped.bound <= lowest + 1e-9
        assert stopped.energy >= lowest - 1e-9


def test_certificates_respect_sublattices_and_refuse_too_large_environments():
    cell = Supercell.from_matrix(ROCKSALT, [1, 2, 2])
    evaluator, counts = toy_model(ROCKSALT).evaluator(cell), np.array([2, 2, 3, 1])
    with pytest.raises(InputError, match="too large"):
        big = Supercell.from_matrix(BCC, [4, 4, 4])
        certify(toy_model(BCC).evaluator(big), np.array([22, 21, 21]))
    proof = certify(evaluator, counts)
    assert proof.energy == pytest.approx(reference.minima(evaluator, counts)[0], abs=1e-9)


def test_a_model_without_site_energies_has_no_certificate_and_says_so_in_one_line(caplog):
    model = PythonModel(toy_model(FCC))
    with caplog.at_level(logging.WARNING):
        pool = search(model, FCC, max_sites=5, method="addition", budget=60, certify=5)
    assert "certificate" in caplog.text
    assert "site" in caplog.text
    assert len(caplog.records) == 1
    assert "\n" not in caplog.records[0].getMessage()
    pure = (pool.compositions == 1.0).any(axis=1)
    assert np.isnan(pool.proven_gaps[~pure]).all()
    with pytest.raises(InputError, match="site") as caught:
        Prover(evaluator_of(model, Supercell.from_matrix(FCC, [1, 1, 4])))
    assert "\n" not in str(caught.value)


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
    monkeypatch.setattr(prove, "MAX_NODES", 4)
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

    monkeypatch.setattr(prove, "Prover", never)
    model = toy_model(FCC)
    pool = search(model, FCC, max_sites=5, method="enumerate", certify=5)
    assert (pool.proven_gaps[pool.is_stable] == 0.0).all()
    smaller = search(model, FCC, max_sites=5, method="enumerate", certify=3)
    sizes = np.array([c.supercell.n_sites for c in smaller.candidates])
    stable = smaller.is_stable
    assert (sizes[stable] > 3).any()
    np.testing.assert_array_equal(np.isnan(smaller.proven_gaps[stable]), sizes[stable] > 3)


def test_what_cannot_be_proven_is_not_claimed(monkeypatch, caplog):
    monkeypatch.setattr(prove, "LARGEST_TABLE", 10)
    with caplog.at_level(logging.WARNING):
        pool = poor_search(toy_model(FCC), FCC, 6, certify=6)
    assert "without certificate" in caplog.text
    pure = (pool.compositions == 1.0).any(axis=1)
    assert (pool.proven_gaps[pure] == 0.0).all()
    assert np.isnan(pool.proven_gaps[~pure]).all()


def test_a_given_supercell_with_sublattices_and_vacancies():
    model, cell = toy_model(ROCKSALT), Supercell.from_matrix(ROCKSALT, [1, 2, 2])
    how = {"supercells": [cell], "method": "addition"}
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
    how = {"supercells": [[1, 1, 4]], "composition": limits, "method": "enumerate"}
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
