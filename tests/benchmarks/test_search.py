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
from latticesearch.search import Budget
from latticesearch.search import _row_kernels as rows
from latticesearch.search import _walk_kernels as kernels
from latticesearch.search.partial import random_labeling
from latticesearch.search.walk import Walk

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


def test_rows_of_partners_against_single_swaps(capsys):
    """CPU time per evaluation of two annealings at one temperature, hot and nearly frozen."""
    contest = bench.Contest.of(case_of("frustrated-4", "bcc"), 128, "off")
    evaluator, rng = contest.case.model.evaluator(contest.cell), np.random.default_rng(0)
    counts = np.rint(np.array(list(contest.composition.values())) * 128).astype(np.int64)
    start = random_labeling(contest.cell.allowed, counts, rng)
    walk = Walk(evaluator, start, Budget(), rng.integers(2**63, size=1, dtype=np.uint64))
    scale = float(np.abs(walk.sample(300)[1]).mean())
    for part in (0.3, 0.1):
        still, best = kernels.Cooling(part * scale, part * scale, 0.0, 1.0), walk.here()
        kernels.anneal(walk.model, walk.rules, still, best, 200_000, walk.state)
        costs = []
        for anneal in (kernels.anneal, rows.anneal_rows):
            anneal(walk.model, walk.rules, still, best, 1000, walk.state)
            began = time.process_time()
            asked = anneal(walk.model, walk.rules, still, best, 1_000_000, walk.state)
            costs.append(1e9 * (time.process_time() - began) / asked)
        with capsys.disabled():
            print(
                f"\n{part} of the mean swap: {costs[0]:.1f} ns per swap asked alone, "
                f"{costs[1]:.1f} ns in rows, ratio {costs[0] / costs[1]:.1f}"
            )


STEPS = (5_000, 25_000, 100_000)


@pytest.mark.parametrize("seed", range(1, 6))
def test_against_mchammer(capsys, seed):
    """One model in both packages: at equal numbers of energies and in equal time."""
    icet = pytest.importorskip("icet")
    pytest.importorskip("mchammer.calculators")
    case = case_of(f"frustrated-{seed}", "bcc")
    expansion, lines = _in_icet(case, icet), []
    for n_sites in bench.CELLS:
        for kind in bench.COMPOSITIONS:
            contest = bench.Contest.of(case, n_sites, kind)
            contest.search(500, 0)
            contest.search_for(0.2, 0)  # compiles what is left
            theirs = [_mchammer(contest, expansion, n, seed) for n in STEPS]
            equal = [contest.search(n, seed)[0] for n in STEPS]
            timed = [contest.search_for(seconds, seed)[0] for _, seconds in theirs]
            best = min(*equal, *timed, *(energy for energy, _ in theirs))
            depth = contest.random_mean() - best
            for n, (energy, seconds), *ours in zip(STEPS, theirs, equal, timed, strict=True):
                above = [100 * (e - best) / depth for e in (energy, *ours)]
                assert max(above[1:]) <= above[0] + 0.5
                lines.append(
                    f"frustrated-{seed}  {n_sites:3} {kind:10}  {n:6} steps  {seconds:5.2f} s  "
                    f"above the lowest, %: mchammer {above[0]:5.2f}  "
                    f"search, equal energies {above[1]:5.2f}  equal time {above[2]:5.2f}"
                )
    with capsys.disabled():
        print("", *lines, sep="\n")


def _mchammer(contest, expansion, n_steps, seed):
    """Return the energy, eV per site, where annealing by mchammer ends, and its seconds."""
    from mchammer.calculators import ClusterExpansionCalculator
    from mchammer.ensembles import CanonicalAnnealing

    cell, n_sites = contest.cell, contest.cell.n_sites
    counts = np.rint(np.array(list(contest.composition.values())) * n_sites).astype(int)
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(4, dtype=np.int8), counts))
    atoms = cell.to_atoms(labels)
    calculator = ClusterExpansionCalculator(atoms, expansion)
    evaluator = contest.case.model.evaluator(cell)
    start = calculator.calculate_total(occupations=atoms.numbers)
    assert start == pytest.approx(n_sites * evaluator.energies(labels[None])[0], abs=1e-5)
    pairs = np.array(_unlike(labels))
    changes = evaluator.swap_energies(labels, pairs)
    # In cells as small as these mchammer warns of errors; there are none here.
    for (i, j), change in zip(pairs[:10].tolist(), changes, strict=False):
        new = [int(atoms.numbers[j]), int(atoms.numbers[i])]
        found = calculator.calculate_change(
            sites=[i, j], current_occupations=list(atoms.numbers), new_site_occupations=new
        )
        assert found == pytest.approx(change, abs=1e-8)
    scale = float(np.abs(changes).mean())
    ensemble = CanonicalAnnealing(
        structure=atoms,
        calculator=calculator,
        T_start=0.4 * scale,
        T_stop=0.02 * scale,
        n_steps=n_steps,
        boltzmann_constant=1.0,
        ensemble_data_write_interval=1000,
        random_seed=seed,
    )
    began = time.perf_counter()
    ensemble.run()
    seconds = time.perf_counter() - began
    return calculator.calculate_total(occupations=ensemble.structure.numbers) / n_sites, seconds


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
