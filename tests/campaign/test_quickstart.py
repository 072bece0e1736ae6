"""The quickstart, and the campaign on recorded DFT, against hulls that are known completely."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import latticesearch as ls
from latticesearch.campaign import factories
from latticesearch.campaign.settings import read_settings
from latticesearch.hull import Hull
from latticesearch.oracles import OracleJob
from tests.campaign.runs import latticesearch
from tests.conftest import REPOSITORY

TOLERANCE = 0.002
"""eV/atom, within which two hulls are the same."""

QUICKSTART = REPOSITORY / "configs" / "quickstart.toml"
TABLE = REPOSITORY / "tests" / "data" / "quickstart_brute_force.csv.gz"


def stable_rows(run):
    table = pd.read_csv(run / "hull.csv")
    return table[table.cif.notna()]


def fractions(parent, keys):
    elements = np.arange(parent.n_species)
    labels = [ls.Configuration.from_key(parent, key).labels for key in keys]
    return np.array([(row[:, None] == elements).mean(axis=0) for row in labels])


@pytest.fixture(scope="module")
def brute_force():
    """Every structure up to eight sites, relaxed: (parent lattice, table with fractions)."""
    parent = factories.parent_lattice(read_settings(QUICKSTART))
    return parent, pd.read_csv(TABLE).dropna().set_index("key").energy


def test_the_table_is_every_structure_and_says_the_truth(brute_force):
    parent, _ = brute_force
    settings = read_settings(QUICKSTART)
    keys = set(pd.read_csv(TABLE).key)
    batches = ls.enumerate_labelings(parent, max_index=settings.candidates.max_sites)
    assert keys == {configuration.key for batch in batches for configuration in batch}
    sample = np.random.default_rng(5).choice(sorted(keys & set(brute_force[1].index)), 40)
    jobs = [OracleJob(k, ls.Configuration.from_key(parent, k).to_atoms()) for k in set(sample)]
    oracle = factories.oracle(settings, parent, 2)
    for result in oracle.run(jobs):
        energy = result.energy / len(result.atoms)
        assert energy == pytest.approx(brute_force[1][result.key], abs=1e-5)
    oracle.close()


@pytest.fixture(scope="module")
def quickstart(quick_start):
    """The run directory of the README's quick start, on two ranks."""
    return quick_start[0] / "runs" / "quickstart"


@pytest.mark.mpi
def test_the_quickstart_finds_the_hull_of_brute_force(quickstart, brute_force):
    parent, energies = brute_force
    x = fractions(parent, energies.index)
    true = Hull(x, energies.to_numpy())
    rows = stable_rows(quickstart)
    found_x = rows[["x_Cu", "x_Pd", "x_Pt"]].to_numpy()
    found = Hull(found_x, energies[rows.key].to_numpy())
    # Every true vertex deeper than the tolerance is there, ...
    deep = energies.index[true.vertices[true.depths > TOLERANCE]]
    assert len(deep) >= 4
    assert set(deep) <= set(rows.key)
    # ... nothing called stable lies above the true hull, no true vertex below the one found.
    above = true.energy_above_hull(found_x, energies[rows.key].to_numpy())
    assert above.max() < TOLERANCE
    at_vertices = x[true.vertices]
    assert np.abs(found.energy(at_vertices) - true.energy(at_vertices)).max() < TOLERANCE


@pytest.mark.mpi
def test_the_quickstart_asks_about_few_structures(quickstart, brute_force):
    table = pd.read_parquet(quickstart / "candidates.parquet")
    assert table.oracle_energy.notna().sum() <= read_settings(QUICKSTART).learning.budget
    assert set(table.source) == {"end member", "enumeration", "greedy"}
    assert set(table.key) <= set(pd.read_csv(TABLE).key)
    known = table[table.oracle_energy.notna()].set_index("key").oracle_energy
    expected = brute_force[1].reindex(known.index)
    np.testing.assert_allclose(known[expected.notna()], expected.dropna(), atol=1e-5)


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)])
def recorded(request, shared_data, tmp_path_factory):
    """Run directory of the Mo-Ta campaign with one of two seeds."""
    run = tmp_path_factory.mktemp("recorded") / "run"
    done = latticesearch(
        *("run", REPOSITORY / "configs" / "mo-ta-recorded.toml", "--output", run),
        *("--set", f"campaign.seed={request.param}"),
        *("--set", f"oracle.file={shared_data / 'nbmotaw_vasp' / 'dft.extxyz.gz'}"),
    )
    assert done.returncode == 0, done.stderr
    return run


def test_recorded_dft_gives_the_true_hull_with_few_calls(recorded, shared_data):
    published = pd.read_csv(shared_data / "nbmotaw_vasp" / "hull_16_sites_relaxed.csv")
    true = published[published.system == "Mo-Ta"]
    rows = stable_rows(recorded)
    table = pd.read_parquet(recorded / "candidates.parquet")
    assert len(table) == 331
    assert table.oracle_energy.notna().sum() <= 30
    for row in true[true.stability_meV_atom < -1000 * TOLERANCE].itertuples():
        formation = rows.formation_energy - row.Ef_meV_atom / 1000
        assert formation.abs().min() < 1e-5, row.formula
    # The true hull as a function of composition, from the published vertices.
    ta = [formula_fraction(f, "Ta") for f in true.formula]
    x = np.array([[1.0, 0.0], *([1 - t, t] for t in ta), [0.0, 1.0]])
    hull = Hull(x, np.array([0.0, *true.Ef_meV_atom / 1000, 0.0]))
    above = hull.energy_above_hull(rows[["x_Mo", "x_Ta"]].to_numpy(), rows.formation_energy)
    assert above.max() < TOLERANCE
    assert above.min() > -1e-5
    # Nor does the potential see anything stable that was not computed.
    open_rows = table[table.oracle_energy.isna()]
    assert (open_rows.energy_above_hull > -TOLERANCE / 4).all()


def formula_fraction(formula, element):
    from ase.formula import Formula

    counts = Formula(formula).count()
    return counts.get(element, 0) / sum(counts.values())
