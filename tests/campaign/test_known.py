"""Campaigns that know energies from elsewhere, and phases that live on no lattice."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

import latticesearch as ls
from tests.campaign.counted import counts
from tests.campaign.runs import in_process, write_config
from tests.campaign.test_stages import config_of, counted, run, status

__all__ = ["counted"]

FCC = ls.ParentLattice.from_prototype("fcc", 3.8, ("Cu", "Pd"))


def own_results(path, max_index=2):
    """Write EMT energies of all ideal structures up to a size, as this campaign computes them."""
    frames = []
    for batch in ls.enumerate_labelings(FCC, max_index=max_index):
        for configuration in batch:
            atoms = configuration.to_atoms()
            atoms.calc = EMT()
            atoms.get_potential_energy()
            frames.append(atoms)
    write(path, frames)
    return len(frames)


def test_own_results_are_training_and_hull_and_no_part_of_the_budget(tmp_path, counted):
    n = own_results(tmp_path / "mine.extxyz")
    hexagonal = bulk("Cu", "hcp", a=2.5)
    hexagonal.calc = EMT()
    hexagonal.get_potential_energy()
    write(tmp_path / "mine.extxyz", hexagonal, append=True)
    config = config_of(tmp_path, data={"files": ["mine.extxyz"]}, learning={"budget": 4})
    done = run(config, "--output", tmp_path / "run")
    assert f"{n} structures of the lattice in {n + 1} frames" in done.stderr
    assert "no decoration of the lattice" in done.stderr
    assert f"{n} energies are known from the start" in done.stderr
    assert sum(counts(counted)[0].values()) == status(tmp_path / "run")["oracle_calls"] == 4
    table = pd.read_parquet(tmp_path / "run" / "candidates.parquet")
    own = table[table.source == "own data"]
    assert len(own) == n
    assert own.oracle_energy.notna().all()
    assert own.origin.str.contains("mine.extxyz#").all()
    hull = pd.read_csv(tmp_path / "run" / "hull.csv")
    assert {"own data"} <= set(hull.source) <= {"own data", "computed"}
    # Once taken in, the file may go; taken out of the settings, its energies are gone.
    (tmp_path / "mine.extxyz").unlink()
    run(tmp_path / "run")
    forget = ("--set", "data.files=[]")
    assert "set it to at least 6" in in_process("run", tmp_path / "run", *forget).stderr
    run(tmp_path / "run", *forget, "--set", "learning.budget=6")
    after = pd.read_parquet(tmp_path / "run" / "candidates.parquet")
    assert "own data" not in set(after.energy_source)
    assert sum(counts(counted)[0].values()) == 4 + 2  # the end members have to be paid for now


def test_a_file_that_is_not_there_is_said_before_anything_is_written(tmp_path, counted):
    for section in ("data", "competing"):
        config = config_of(tmp_path, **{section: {"files": ["none.extxyz"]}})
        done = in_process("run", config, "--output", tmp_path / "run")
        assert done.returncode == 2
        assert "none.extxyz" in done.stderr
        assert not (tmp_path / "run").exists()


def test_a_competing_phase_decides_what_is_stable(tmp_path, counted):
    config = config_of(tmp_path)
    run(config, "--output", tmp_path / "alone")
    alone = pd.read_csv(tmp_path / "alone" / "hull.csv")
    compound = alone[alone.stable & (alone.n_atoms > 1)].iloc[0]
    energies = pd.read_parquet(tmp_path / "alone" / "candidates.parquet").set_index("key")
    deeper = float(energies.energy[compound.key]) - 0.02
    phases = [{"formula": compound.formula, "energy": deeper, "name": "Laves"}]
    run(config, "--output", tmp_path / "run", "--set", f"competing.phases={_toml(phases)}")
    hull = pd.read_csv(tmp_path / "run" / "hull.csv").set_index("key")
    assert hull.source["competing: Laves"] == "competing"
    assert hull.stable["competing: Laves"]
    # The structure it beats was not computed to no purpose, but is no vertex any more.
    assert compound.key not in hull.index or not hull.stable[compound.key]
    table = pd.read_parquet(tmp_path / "run" / "candidates.parquet")
    assert "competing" not in set(table.source)
    assert "Laves" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("zero", ["end members", "elements"])
def test_another_phase_of_an_element_sets_the_zero_when_wished(tmp_path, counted, zero):
    hexagonal = bulk("Cu", "hcp", a=2.6)
    hexagonal.calc = SinglePointCalculator(hexagonal, energy=2 * -0.1)
    write(tmp_path / "hcp.extxyz", hexagonal)
    competing = {"files": ["hcp.extxyz"], "formation_energy": zero}
    config = config_of(tmp_path, competing=competing, learning={"budget": 4})
    texts = [run(config, "--output", tmp_path / "run").stdout]
    texts.append(in_process("hull", tmp_path / "run").stdout)
    said = "formation energies relative to the most stable elements"
    assert all((said in text) == (zero == "elements") for text in texts)
    hull = pd.read_csv(tmp_path / "run" / "hull.csv").set_index("key")
    phase = hull.loc["competing: hcp"]
    assert phase.stable
    assert phase.space_group == "P6_3/mmc"
    assert (tmp_path / "run" / phase.cif).exists()
    table = pd.read_parquet(tmp_path / "run" / "candidates.parquet").set_index("key")
    copper = table.loc["s1-1.0.0.1.0.1-A"]
    assert copper.energy_above_hull == pytest.approx(copper.energy + 0.1)
    shift = copper.energy + 0.1
    assert phase.formation_energy == pytest.approx(0.0 if zero == "elements" else -shift)
    assert copper.formation_energy == pytest.approx(shift if zero == "elements" else 0.0)
    summary = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert ("elements" in summary["zero"]) == (zero == "elements")


def test_what_left_the_lattice_is_listed_and_may_compete(tmp_path):
    """Structures of two atoms relax to something else entirely: set aside, never tried again."""
    config = write_config(
        tmp_path,
        candidates={"max_sites": 3},
        oracle={"kind": "ase", "calculator": "tests.campaign.leaving:factory", "relax_cell": False},
        learning={"budget": 8},
    )
    run(config, "--output", tmp_path / "run")
    answer = status(tmp_path / "run")
    assert len(answer["set_aside"]) == answer["off_lattice"] >= 1
    assert answer["oracle_calls"] == answer["done"] <= 8
    gone = read(tmp_path / "run" / "off_lattice.extxyz", index=":")
    assert [a.info["key"] for a in gone] == answer["set_aside"]
    file = tmp_path / "run" / "off_lattice.extxyz"
    run(tmp_path / "run", "--set", f'competing.files=["{file}"]')
    assert status(tmp_path / "run")["oracle_calls"] >= answer["oracle_calls"]
    hull = pd.read_csv(tmp_path / "run" / "hull.csv")
    assert (hull.source == "competing").any()


def test_strong_bonds_are_no_failure(tmp_path):
    """MgO with vacancies, -4.55 eV/atom against Mg and O, from a recorded table."""
    sites = (("Mg", "X"), ("O", "X"))
    parent = ls.ParentLattice.from_prototype("rocksalt", 4.21, sites)
    frames = []
    for batch in ls.enumerate_labelings(parent, 1, 2):
        for configuration in batch:
            if configuration.n_atoms == 0:
                continue
            atoms = configuration.to_atoms()
            m = list(atoms.symbols).count("Mg")
            o = len(atoms) - m
            energy = -1.5 * m - 2.0 * o - 8.5 * min(m, o) + 0.3 * abs(m - o)
            atoms.calc = SinglePointCalculator(atoms, energy=energy)
            frames.append(atoms)
    write(tmp_path / "mgo.extxyz", frames)
    config = write_config(
        tmp_path,
        lattice={"prototype": "rocksalt", "a": 4.21, "species": None, "sublattices": sites},
        candidates={"max_sites": 4},
        potential={"level": 4},
        oracle={"kind": "recorded", "file": "mgo.extxyz"},
        learning={"budget": 40},
    )
    done = run(config, "--output", tmp_path / "run")
    hull = pd.read_csv(tmp_path / "run" / "hull.csv")
    stable = set(hull.formula[hull.stable])
    assert stable == {"Mg", "O", "MgO"}
    assert "MgO" in done.stderr
    assert "beyond ±3: it is kept" in done.stderr
    assert status(tmp_path / "run")["failures"] == []


def _toml(rows):
    """Return mappings as a TOML list of inline tables."""
    lines = [
        "{" + ", ".join(f"{k} = {json.dumps(v)}" for k, v in row.items()) + "}" for row in rows
    ]
    return f"[{', '.join(lines)}]"


def test_depths_and_heights_are_those_of_the_hull_with_phases(tmp_path, counted):
    rows = [{"formula": "CuPd3", "energy": 0.1}, {"formula": "Cu3Pd", "energy": 1.0}]
    config = config_of(tmp_path, learning={"budget": 6})
    run(config, "--output", tmp_path / "run", "--set", f"competing.phases={_toml(rows)}")
    table = pd.read_parquet(tmp_path / "run" / "candidates.parquet")
    known = table[table.oracle_energy.notna()]
    x = np.concatenate([known[["x_Cu", "x_Pd"]].to_numpy(), [[0.25, 0.75], [0.75, 0.25]]])
    hull = ls.Hull(x, np.concatenate([known.oracle_energy, [0.1, 1.0]]))
    np.testing.assert_allclose(
        known.energy_above_hull, hull.energies_above_hull[: len(known)], atol=1e-9
    )
