"""One hull of campaigns on several parent lattices, by command line."""

import json

import numpy as np
import pandas as pd
import pytest
from ase.io import read

from latticesearch.campaign import factories
from latticesearch.campaign.settings import parse_settings
from latticesearch.lattice import Configuration
from latticesearch.oracles import OracleResult
from latticesearch.storage import OracleStore, RunDirectory
from tests.campaign.runs import in_process, write_config

CU, AU = "s1-1.0.0.1.0.1-A", "s1-1.0.0.1.0.1-B"
CUAU = "s2-1.0.0.1.1.2-AB"
CUAU_ON_BCC = "s2-1.0.0.1.0.2-AB"


def made_run(path, species, energies, *, prototype="fcc", left=(), events=("start",), **oracle):
    """Write what a run leaves that was stopped before its first table.

    `energies` are eV/atom by key; `left` those that relaxed away from the lattice.
    """
    given = {"sublattices": species} if isinstance(species[0], list) else {"species": species}
    data = {
        "lattice": {"prototype": prototype, "a": 4.0, **given},
        "candidates": {"max_sites": 4},
        "oracle": {"kind": "emt", **oracle},
    }
    settings = parse_settings(data, base=path.parent)
    parent = factories.parent_lattice(settings)
    with RunDirectory.create(path) as directory:
        directory.write_settings(settings.resolved())
        for key, energy in energies.items():
            atoms = Configuration.from_key(parent, key).to_atoms()
            result = OracleResult(
                key, "done", energy * len(atoms), atoms=atoms, converged=True,
                on_lattice=key not in left,
            )  # fmt: skip
            directory.store.append(result, 0)
        for event in events:
            directory.log_event(event)
    return path


def joint(*words):
    """Make a joint hull; return its table and what is printed."""
    done = in_process("hull", *words)
    assert done.returncode == 0, done.stderr
    output = words[words.index("--output") + 1]
    table = pd.read_csv(output / "hull.csv", keep_default_na=False, na_values=[""])
    return table, done.stdout


def refused(*words):
    done = in_process("hull", *words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory):
    """Copper and gold on two lattices, computed to the end."""
    folder = tmp_path_factory.mktemp("joint")
    paths = []
    for name, a in (("fcc", 3.9), ("bcc", 3.1)):
        config = write_config(
            folder,
            campaign={"name": name},
            lattice={"prototype": name, "a": a, "species": ["Cu", "Au"]},
            candidates={"max_sites": 2},
            learning={"budget": 12},
        )
        done = in_process("run", config, "--output", folder / name)
        assert done.returncode == 0, done.stderr
        paths.append(folder / name)
    return paths


def test_finished_campaigns_make_one_hull_with_report(campaigns, tmp_path):
    fcc, bcc = campaigns
    table, text = joint(fcc, bcc, "--output", tmp_path / "all")
    energies = {}  # of pure copper, in both runs
    for path in campaigns:
        for row in OracleStore(path / "oracle.db").results():
            if row.key == CU:
                energies[path.name] = row.result.energy / len(row.result.atoms)
    candidates = pd.read_parquet(tmp_path / "all" / "candidates.parquet")
    copper = candidates[candidates.x_Cu == 1.0].set_index("lattice").formation_energy
    lowest = min(energies, key=energies.get)
    assert copper[lowest] == 0.0
    assert copper["fcc"] - copper["bcc"] == pytest.approx(energies["fcc"] - energies["bcc"])
    assert set(table.lattice) <= {"fcc", "bcc", "left fcc", "left bcc"}
    assert set(candidates.run) == {str(fcc), str(bcc)}
    assert list(table.columns[:3]) == ["formula", "n_atoms", "space_group"]
    assert "relative to the lowest computed structure of each element" in text
    assert "lattice" in text.splitlines()[0].split()
    assert "provisional" not in text
    stable = table[table.cif.notna()]
    assert (stable.energy_above_hull == 0).all()
    for row in stable.itertuples():
        assert len(read(tmp_path / "all" / row.cif)) > 0
    parts = [pd.read_parquet(path / "candidates.parquet") for path in campaigns]
    on_lattice = candidates[~candidates.lattice.str.startswith("left")]
    assert len(on_lattice) == sum(map(len, parts))
    page = (tmp_path / "all" / "report.html").read_text()
    assert str(fcc) in page
    assert (tmp_path / "all" / "figures" / "hull.png").exists()


def test_one_run_is_shown_as_before(campaigns):
    shown = in_process("hull", campaigns[0])
    assert shown.returncode == 0
    assert "lattice" not in shown.stdout
    rows = json.loads(in_process("hull", campaigns[0], "--json").stdout)
    assert [row["formula"] for row in rows] == list(pd.read_csv(campaigns[0] / "hull.csv").formula)


def test_the_lowest_of_each_element_sets_the_zero(tmp_path):
    fcc = made_run(tmp_path / "fcc", ["Cu", "Au"], {CU: -3.0, AU: -2.9, CUAU: -3.0})
    bcc = made_run(
        tmp_path / "bcc",
        ["Au", "Cu"],
        {CU: -3.1, AU: -2.8, CUAU_ON_BCC: -3.09},
        prototype="bcc",
    )
    table, text = joint(fcc, bcc, "--output", tmp_path / "all", "--json")
    # In the bcc run, A is gold.
    found = {(r.lattice, r.formula): r for r in table.itertuples()}
    assert found["bcc", "Au"].formation_energy == 0.0
    assert found["fcc", "Cu"].formation_energy == 0.0
    assert found["bcc", "CuAu"].formation_energy == pytest.approx(-3.09 + 3.05)
    assert ("fcc", "Au") not in found  # 200 meV/atom above
    assert found["bcc", "CuAu"].energy_above_hull == 0.0
    assert [row["lattice"] for row in json.loads(text)] == list(table.lattice)


def test_a_run_that_is_not_finished_makes_the_hull_provisional(tmp_path):
    energies = {CU: -3.0, AU: -2.9}
    ended = made_run(tmp_path / "a", ["Cu", "Au"], energies, events=("start", "end"))
    again = made_run(tmp_path / "b", ["Cu", "Au"], energies, events=("start", "end", "resume"))
    _, text = joint(ended, again, "--output", tmp_path / "all")
    assert f"provisional: {again} is not finished" in text
    assert f"provisional: {ended}" not in text
    assert "all (provisional)" in (tmp_path / "all" / "report.html").read_text()


def test_binaries_are_part_of_a_ternary(tmp_path):
    ternary = {CU: -3.0, AU: -2.9, "s1-1.0.0.1.0.1-C": -4.0, "s3-1.0.0.1.1.3-ABC": -3.4}
    abc = made_run(tmp_path / "abc", ["Cu", "Au", "Pd"], ternary)
    ab = made_run(tmp_path / "ab", ["Au", "Cu"], {CU: -2.7, CUAU_ON_BCC: -3.2}, prototype="bcc")
    table, _ = joint(abc, ab, "--output", tmp_path / "all")
    row = table[table.formula == "CuAu"].iloc[0]
    assert (row.lattice, row.x_Cu, row.x_Au, row.x_Pd) == ("bcc", 0.5, 0.5, 0.0)
    assert row.formation_energy == pytest.approx(-3.2 + 2.95)
    # 2/3 CuAu and 1/3 Pd are so much lower than CuAuPd that it is not even near the hull.
    assert "CuAuPd" not in set(table.formula)
    candidates = pd.read_parquet(tmp_path / "all" / "candidates.parquet").set_index("formula")
    assert candidates.energy_above_hull["CuAuPd"] == pytest.approx(-3.4 + (6.4 + 4.0) / 3)


def test_what_left_its_lattice_and_phases_from_files_compete(tmp_path):
    fcc = made_run(tmp_path / "fcc", ["Cu", "Au"], {CU: -3.0, AU: -2.9, CUAU: -3.3}, left=[CUAU])
    table, _ = joint(fcc, "--output", tmp_path / "one")
    (left,) = table[table.lattice == "left fcc"].itertuples()
    assert (left.formula, left.energy_above_hull, left.key) == ("CuAu", 0.0, CUAU)
    assert len(read(tmp_path / "one" / left.cif)) > 0
    phases = tmp_path / "phases.csv"
    phases.write_text("formula,energy,name\nAu3Cu,-3.3,secret\nAg,-2.0,A1\n")
    table, text = joint(fcc, "--competing", phases, "--output", tmp_path / "two")
    (given,) = table[table.lattice == "competing"].itertuples()
    assert (given.formula, given.key, given.n_atoms) == ("CuAu3", "secret", 0)
    assert np.isnan(given.space_group)
    assert np.isnan(given.cif)
    assert "CuAu" in set(table[table.energy_above_hull == 0].formula)
    assert "with elements that the campaign does not have" in text


def test_compounds_without_pure_elements_count_from_the_corners(tmp_path):
    energies = {"s1-1.0.0.1.0.1-AC": -9.0, "s1-1.0.0.1.0.1-BC": -10.0}
    nitrides = [["Ti", "Hf"], ["N"]]
    one = made_run(tmp_path / "b1", nitrides, energies, prototype="rocksalt")
    lower = {"s1-1.0.0.1.0.1-AC": -9.5, "s1-1.0.0.1.0.1-BC": -9.0}
    two = made_run(tmp_path / "b3", nitrides, lower, prototype="zincblende")
    table, text = joint(one, two, "--output", tmp_path / "all")
    assert "relative to the corners of the computed compositions" in text
    assert {(r.lattice, r.formula) for r in table.itertuples()} == {
        ("rocksalt", "HfN"),
        ("zincblende", "TiN"),
    }


def test_what_cannot_be_compared_is_refused(tmp_path):
    energies = {CU: -3.0, AU: -2.9}
    one = made_run(tmp_path / "one", ["Cu", "Au"], energies, attempts=3)
    two = made_run(tmp_path / "two", ["Cu", "Au"], energies, relax_cell=False)
    far = made_run(tmp_path / "far", ["Ni", "Al"], energies)
    empty = made_run(tmp_path / "empty", ["Cu", "Au"], {})
    output = tmp_path / "all"
    assert "relaxation.of" in refused(one, two, "--output", output)
    assert "(Ni, Al) has no element in common with" in refused(one, far, "--output", output)
    assert "has no energies yet" in refused(one, empty, "--output", output)
    assert "add --output DIR" in refused(one, two)
    assert "is the directory of a run" in refused(one, "--output", two)
    assert not output.exists()
