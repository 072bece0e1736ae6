"""Searches against brute force, our own annealing and mchammer; ratios of one run.

pip install '.[bench]' && pytest -m benchmark -s tests/benchmarks/test_search.py
All tables: latticesearch bench search
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from latticesearch.bench import search as bench
from latticesearch.bench.models import CUTOFFS, FRUSTRATED, case_of
from latticesearch.lattice import Labelings, Supercell
from latticesearch.potential.clusters import ClusterBasis, ClusterModel

pytestmark = pytest.mark.benchmark


def test_recall_of_true_hulls(capsys):
    for n_species, max_sites, share in bench.RECALL[:2]:
        row = bench.recall("frustrated-1", "bcc", n_species, max_sites, share)
        with capsys.disabled():
            print("\n", row)
        assert row["found"] == row["vertices"]
        assert row["share"] <= share


def test_large_cells_against_annealing(capsys):
    rows = bench.large_cell("frustrated-1", 54, "equiatomic", (5000,), range(3))
    line = bench.summary(rows)[0]
    with capsys.disabled():
        print("\n", line)
    assert line["search"] <= line["annealing"] + 0.5


def test_screening(capsys):
    row = bench.screening(4, range(8, 9))
    with capsys.disabled():
        print(f"\n{row['structures_per_second']:.0f} structures per second")
    assert row["structures"] == 65960


def test_against_mchammer(capsys):
    """One model in both packages; mchammer anneals as many trial steps as we ask energies."""
    icet = pytest.importorskip("icet")
    mchammer = pytest.importorskip("mchammer.calculators")
    ensembles = pytest.importorskip("mchammer.ensembles")
    case = case_of("frustrated-1", "bcc")
    contest = bench.Contest.of(case, 54, "equiatomic")
    expansion = _in_icet(case, icet)
    evaluator = case.model.evaluator(contest.cell)
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), [14, 14, 13, 13])).astype(np.int8)
    atoms = contest.cell.to_atoms(labels)
    calculator = mchammer.ClusterExpansionCalculator(atoms, expansion)
    theirs = calculator.calculate_total(occupations=atoms.numbers)
    assert theirs == pytest.approx(54 * evaluator.energies(labels[None])[0], abs=1e-5)
    changes = [evaluator.swap_energies(labels, np.array([[i, j]]))[0] for i, j in _unlike(labels)]
    scale = float(np.abs(changes).mean())
    began = time.perf_counter()
    ensemble = ensembles.CanonicalAnnealing(
        structure=atoms,
        calculator=calculator,
        T_start=0.4 * scale,
        T_stop=0.02 * scale,
        n_steps=5000,
        boltzmann_constant=1.0,
        ensemble_data_write_interval=1000,
        random_seed=1,
    )
    ensemble.run()
    seconds = time.perf_counter() - began
    best = calculator.calculate_total(occupations=ensemble.structure.numbers)
    contest.search(500, 0)
    ours, our_seconds = contest.search(5000, 1)
    annealed, annealing_seconds = contest.anneal(5000, 1)
    depth = contest.random_mean() - min(ours, annealed, best / 54)
    with capsys.disabled():
        print(
            f"\n5000 energies, 54 sites, above our search in percent of the depth: mchammer "
            f"{100 * (best / 54 - ours) / depth:.2f} in {seconds:.2f} s, our annealing "
            f"{100 * (annealed - ours) / depth:.2f} in {annealing_seconds:.3f} s, "
            f"search in {our_seconds:.2f} s"
        )
    assert ours <= best / 54 + 0.005 * depth


def _in_icet(case, icet):
    """The same energies as a cluster expansion of icet, by a fit that must be exact."""
    parent = case.parent
    primitive = Supercell.from_matrix(parent, [1, 1, 1]).to_atoms(np.zeros(1, dtype=np.int8))
    space = icet.ClusterSpace(primitive, list(CUTOFFS), list(parent.species))
    cell = Supercell.from_matrix(parent, 3 * parent.conventional)
    labels = np.random.default_rng(1).integers(4, size=(250, cell.n_sites)).astype(np.int8)
    rows = np.array([space.get_cluster_vector(cell.to_atoms(row)) for row in labels])
    energies = case.model.energies(Labelings(cell, labels))
    parameters, *_ = np.linalg.lstsq(rows, energies, rcond=None)
    assert np.abs(rows @ parameters - energies).max() < 1e-7
    return icet.ClusterExpansion(space, parameters)


def _unlike(labels):
    pairs = np.random.default_rng(2).integers(len(labels), size=(400, 2))
    return [(i, j) for i, j in pairs if labels[i] != labels[j]]


def test_the_random_models_are_what_the_table_says():
    case = case_of("frustrated-3", "bcc")
    pair, triplet = FRUSTRATED
    twin = ClusterModel.random(
        ClusterBasis.of(case.parent, *CUTOFFS), 3, pair=pair, triplet=triplet
    )
    np.testing.assert_array_equal(twin.coefficients, case.model.coefficients)
