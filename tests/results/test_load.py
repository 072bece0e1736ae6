"""A finished run through `ls.load`, and through the verbs that answer from its files."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from ase.io import read, write
from matplotlib.figure import Figure

import latticesearch as ls
from latticesearch.results import columns
from latticesearch.results.status import run_status
from latticesearch.storage import RunDirectory
from tests.campaign.runs import in_process, latticesearch, write_config

PHASE = "competing: laves"
FORMULA = "competing: seen elsewhere"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished campaign with two competing phases: one with a structure, one without."""
    folder = tmp_path_factory.mktemp("loaded")
    laves = bulk("Cu", "hcp", a=2.6, c=4.2)
    laves.symbols[1] = "Pd"
    laves.info["energy"] = -0.06
    write(folder / "laves.extxyz", laves)
    row = {"formula": "Cu5Pd", "energy": -0.001, "name": "seen elsewhere"}
    config = write_config(
        folder,
        candidates={"max_sites": 4, "exhaustive_limit": None},
        learning={"budget": 14},
        competing={"files": [str(folder / "laves.extxyz")], "phases": [row]},
    )
    done = in_process("run", config, "--output", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return ls.load(folder / "run")


def copy_of(folder, target, drop):
    """Return a copy of the run whose log lacks the events `drop`."""
    shutil.copytree(folder / "run", target)
    lines = (target / "log.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["event"] not in drop]
    (target / "log.jsonl").write_text("\n".join(kept) + "\n")
    return target


@pytest.mark.parametrize(
    ("name", "documented"),
    [
        ("hull", columns.HULL),
        ("candidates", columns.CANDIDATES),
        ("rounds", columns.ROUNDS),
        ("failures", columns.FAILURES),
    ],
)
def test_frames_have_the_columns_and_types_that_are_documented(run, name, documented):
    table = getattr(run, name)
    kinds = {"text": "str", "number": "float64", "integer": "Int64", "flag": "bool"}
    for column in documented:
        names = ["x_Cu", "x_Pd"] if column.name == columns.FRACTIONS else [column.name]
        for one in names:
            assert str(table[one].dtype) == kinds.get(column.kind, "object"), one


def test_types_do_not_depend_on_what_the_files_hold(run):
    empty = columns.typed(pd.DataFrame(), columns.HULL, ("Cu", "Pd"))
    nothing = columns.typed(run.hull.iloc[:1].assign(cif=np.nan), columns.HULL, ("Cu", "Pd"))
    assert nothing.dtypes.equals(empty.dtypes)
    assert nothing["cif"].tolist() == [""]


def test_the_hull_says_what_structures_are(run):
    hull = run.hull.set_index("key")
    assert hull.loc[PHASE, "source"] == "competing"
    for key, row in hull.iterrows():
        if key in run.structures:
            atoms = run.structure(key)
            assert row.energy == pytest.approx(atoms.get_potential_energy() / len(atoms))
            assert row.volume == pytest.approx(atoms.get_volume() / len(atoms))
        assert row.total_energy == pytest.approx(row.energy * row.n_atoms)
        assert row.stable or row.decomposition


def test_what_decomposes_keeps_its_atoms_and_its_energy_above_the_hull(run):
    energies = run.hull[run.hull.stable].set_index("formula").energy
    for row in run.hull[~run.hull.stable].itertuples():
        parts = run.decomposition([row.x_Cu, row.x_Pd])
        assert sum(parts.values()) == pytest.approx(1.0)
        mixture = sum(energies[name] * part for name, part in parts.items())
        assert row.energy - mixture == pytest.approx(row.energy_above_hull, abs=1e-9)


def test_pymatgen_finds_the_same_hull(run):
    diagram = run.phase_diagram()
    assert {e.entry_id for e in diagram.stable_entries} == set(run.hull[run.hull.stable].key)
    above = {e.entry_id: diagram.get_e_above_hull(e) for e in diagram.all_entries}
    known = run.candidates[run.candidates.oracle_energy.notna()].set_index("key")
    for key, height in known.energy_above_hull.items():
        assert above[key] == pytest.approx(height, abs=1e-9)
    assert FORMULA in above


def test_structures_are_found_by_any_key(run):
    key = run.hull[run.hull.n_atoms == 4].key.iloc[0]
    relaxed, ideal = run.structure(key), run.structure(key, relaxed=False)
    assert ls.map_to_lattice(relaxed, run.parent).configuration.key == key
    assert ideal.get_volume() == pytest.approx(4 * 3.8**3 / 4)
    assert "forces" not in ideal.calc.results
    assert run.structure(key, form="pymatgen").num_sites == 4
    assert set(run.structures) > set(run.candidates.key)
    assert PHASE in run.structures
    assert FORMULA not in run.structures
    unlisted = "s5-1.0.0.1.1.5-AAAAB"
    assert unlisted not in run.structures
    assert len(run.structure(unlisted)) == 5
    with pytest.raises(ls.InputError, match="no structure"):
        run.structure(FORMULA)
    with pytest.raises(ls.InputError, match="must be 'ase'"):
        run.structure(key, form="cif")


def test_names_complete_and_repr_is_short(run, tmp_path):
    assert {"hull", "candidates", "phase_diagram", "structure", "plot"} <= set(dir(run))
    assert {"load", "Hull", "Campaign"} <= set(dir(ls))
    assert set(run.structures._ipython_key_completions_()) == set(run.structures)
    assert len(repr(run)) < 80
    assert "Cu-Pd" in repr(run)
    assert len(repr(run.structures)) < 80


def test_the_diagram_can_be_drawn(run):
    assert isinstance(run.plot(), Figure)


def test_what_comes_next_was_not_computed(run):
    following = run.next(3)
    assert len(following) == 3
    assert following.oracle_energy.isna().all()
    assert following.next.tolist() == [1, 2, 3]


def test_selections_are_by_height(run):
    known = run.candidates[run.candidates.oracle_energy.notna()]
    chosen = [one.key for one in run.selected(within=0.02)]
    assert {*chosen} - {PHASE} == set(known[known.energy_above_hull <= 0.02].key)
    assert {one.key for one in run.selected(within=None)} >= set(known.key)
    stable = run.hull[run.hull.stable]
    assert [one.key for one in run.selected()] == [k for k in stable.key if k != FORMULA]


def test_exports_from_the_command_line(run, folder, tmp_path):
    done = in_process("export", folder / "run", "--output", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)["files"]
    assert len(files) == len(run.selected())
    assert all(len(read(tmp_path / file, format="vasp")) for file in files)
    words = ["--all", "--format", "extxyz", "--conventional", "--output", tmp_path]
    assert in_process("export", folder / "run", *words).returncode == 0
    assert len(read(tmp_path / "structures.extxyz", index=":")) == len(run.selected(within=None))
    assert in_process("export", folder / "run", "--training", "--output", tmp_path).returncode == 0
    training = ls.read_cfg(tmp_path / "training.cfg", ("Cu", "Pd"))
    assert len(training) == run.candidates.oracle_energy.notna().sum()
    key = "s5-1.0.0.1.1.5-AAAAB"
    for source in (folder / "run", folder / "campaign.toml"):
        target = tmp_path / source.name
        words = ["--key", key, "--format", "poscar", "--output", target]
        assert in_process("export", source, *words).returncode == 0
        (file,) = target.iterdir()
        assert key in file.name
    bad = in_process("export", folder / "run", "--key", "nonsense")
    assert bad.returncode == 2
    assert "canonical key" in bad.stderr
    assert in_process("export", folder / "campaign.toml").returncode == 2


@pytest.mark.mpi
def test_exports_under_mpi_come_to_an_end(folder, tmp_path):
    words = ["--format", "cif", "--output", tmp_path / "cif"]
    done = latticesearch("export", folder / "run", *words, ranks=2)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "cif").iterdir())) == int(done.stdout.split()[1])


def test_predictions_say_how_far_to_trust_them(run, folder, tmp_path):
    key = run.hull[run.hull.n_atoms == 4].key.iloc[0]
    write(tmp_path / "POSCAR", run.structure(key), format="vasp")
    iron = [bulk("Fe", "bcc", a=2.8), bulk("Cu", "bcc", a=2.9)]
    write(tmp_path / "iron.extxyz", iron)
    done = in_process("predict", folder / "run", tmp_path / "POSCAR", tmp_path / "iron.extxyz")
    assert done.returncode == 0, done.stderr
    assert "meV/atom" in done.stdout
    assert "foreign element: Fe" in done.stdout
    table = run.predict(tmp_path / "POSCAR", tmp_path / "iron.extxyz")
    known = run.candidates.set_index("key").loc[key]
    first = table.iloc[0]
    assert (first.key, first.file) == (key, str(tmp_path / "POSCAR"))
    assert first.energy == pytest.approx(known.predicted_energy)
    assert first.oracle_energy == pytest.approx(known.oracle_energy)
    assert first.nearest.endswith(key)
    ends = run.candidates.set_index("formula").oracle_energy
    zero = known.x_Cu * ends["Cu"] + known.x_Pd * ends["Pd"]
    assert first.formation_energy == pytest.approx(first.energy - zero)
    assert 0.0 < first.uncertainty < 0.1
    assert table.key.tolist()[1:] == ["", ""]
    assert [reason.partition(":")[0] for reason in table.reason] == [
        "",
        "foreign element",
        "distortion too large",
    ]
    alone = in_process("predict", folder / "run", tmp_path / "iron.extxyz")
    assert alone.returncode == 2
    assert "Fe" in alone.stderr


def test_a_search_measures_from_the_hull_of_the_run(run, folder, tmp_path):
    words = ("search", folder / "run", "--max-sites", "4", "--window", "0.02")
    done = in_process(*words, "--json", "--write", tmp_path / "found", "--format", "cif")
    assert done.returncode == 0, done.stderr
    rows = pd.DataFrame(json.loads(done.stdout)["structures"])
    assert rows.energy_above_hull.is_monotonic_increasing
    known = run.candidates.set_index("key")
    hull = run.lower_hull
    for row in rows.itertuples():
        x = known.loc[row.key, ["x_Cu", "x_Pd"]].to_numpy(dtype=float)
        assert row.energy == pytest.approx(known.predicted_energy[row.key])
        assert row.energy_above_hull == pytest.approx(hull.energy_above_hull(x, row.energy))
    assert len(list((tmp_path / "found").iterdir())) == len(rows)
    shown = in_process(*words).stdout
    assert "meV/atom" in shown
    assert all(key in shown for key in rows.key)


def test_a_run_that_was_killed_is_stale_and_one_that_goes_on_is_not(folder, tmp_path):
    path = copy_of(folder, tmp_path / "killed", {"end"})
    assert "stale" in in_process("status", path).stdout
    assert "provisional" in in_process("hull", path).stdout
    with RunDirectory.open(path) as directory:
        answer = run_status(RunDirectory.read(path))
        assert answer["state"] == "running"
        assert "process" in answer["writer"]
        assert answer["seconds_left"] == answer["budget_left"] * answer["seconds_per_call"]
        assert "running" in in_process("status", path).stdout
        directory.log_event("stopped", reason="as asked", oracle_calls=14)
    shown = in_process("status", path, "--watch", "0.01").stdout
    assert "stopped in order (as asked)" in shown
    assert "stable so far" in shown


def test_a_finished_run_is_finished(run, folder):
    answer = json.loads(in_process("status", folder / "run", "--json").stdout)
    assert answer["state"] == "finished"
    assert run.is_finished
    assert answer["budget"] == 14
    assert answer["budget_left"] == 14 - answer["oracle_calls"]
    assert answer["stable"] == run.hull.stable.sum()
    assert "provisional" not in in_process("hull", folder / "run").stdout


def test_a_run_without_tables_says_so(folder, tmp_path):
    path = copy_of(folder, tmp_path / "begun", {"end", "round", "fit"})
    for name in ("hull.csv", "candidates.parquet", "potential.mtp"):
        (path / name).unlink()
    begun = ls.load(path)
    assert "0 stable" in repr(begun)
    for name in ("hull", "candidates", "potential"):
        with pytest.raises(ls.InputError, match="latticesearch status"):
            getattr(begun, name)
    assert len(begun.structures)
    assert begun.rounds.empty
    with pytest.raises(ls.InputError, match="no run directory"):
        ls.load(tmp_path / "nowhere")
