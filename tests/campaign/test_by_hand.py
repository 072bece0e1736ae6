"""Energies that others compute: asked for as folders, told from outputs, told apart where wrong."""

import contextlib
import io
import json
import runpy
import shutil
import sys

import ase.db
import numpy as np
import pandas as pd
import pytest
from ase.calculators.emt import EMT
from ase.io import read, write

from latticesearch.campaign.settings import parse_settings
from latticesearch.oracles.by_hand import compute_folder
from latticesearch.oracles.by_hand import main as compute
from latticesearch.storage import RunDirectory
from tests.campaign.runs import in_process, write_config
from tests.campaign.test_external_campaigns import CAMPAIGN, put_data
from tests.conftest import REPOSITORY
from tests.frames.outputs import vasprun

CHANGES = {
    "campaign": {"name": "hand"},
    "candidates": {"max_sites": 2, "exhaustive_limit": None},
    "oracle": {"by_hand": True},
    "learning": {"budget": 8, "initial": 3, "per_round": 4},
}


def asked(run, config=None, *words):
    """Ask, and return the folders by formula."""
    done = in_process("ask", config or run, *words, "--output", run, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def told(run, *words):
    done = in_process("tell", run, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def round_trip(tmp_path_factory):
    """Return a campaign that went on by asking, computing and telling until it ended."""
    folder = tmp_path_factory.mktemp("hand")
    config, run = write_config(folder, **CHANGES), folder / "run"
    ends = []
    for _ in range(8):
        done = in_process("run", config, "--output", run)
        ends.append(done)
        if done.returncode != 75:
            break
        for one in asked(run, config, "--number", "2")["asked"]:
            assert compute_folder(folder / one["folder"]) is None
        told(run, run / "asked")
    return config, run, ends


def test_a_campaign_by_hand_comes_to_the_end_of_one_that_computes(round_trip, tmp_path):
    config, run, ends = round_trip
    assert "waiting for 2 energies: latticesearch ask" in ends[0].stderr
    assert ends[-1].returncode == 0, ends[-1].stderr
    automatic = tmp_path / "automatic"
    done = in_process("run", config, "--output", automatic, "--set", "oracle.by_hand=false")
    assert done.returncode == 0, done.stderr
    mine, other = (pd.read_csv(path / "hull.csv") for path in (run, automatic))
    assert set(mine["key"]) == set(other["key"])
    pairs = mine.merge(other, on="key")
    assert np.allclose(pairs["energy_x"], pairs["energy_y"], atol=1e-5)


def test_told_energies_are_rows_with_their_source_and_how_they_came_about(round_trip):
    _, run, _ = round_trip
    with ase.db.connect(run / "oracle.db") as database:
        rows = list(database.select())
    assert len(rows) == 4
    for row in rows:
        assert row.data["source"].startswith("told: ")
        assert row.data["provenance"]["code"] == "emt"
        assert row.data["provenance"]["host"]
    table = pd.read_parquet(run / "candidates.parquet")
    assert set(table["energy_source"]) == {"told"}
    details = in_process("status", run, "--details").stdout
    assert "All calculations were run by hand" in details


def test_the_end_members_come_first_and_what_is_out_is_not_asked_again(tmp_path):
    config, run = write_config(tmp_path, **CHANGES), tmp_path / "run"
    first = asked(run, config)
    assert [one["formula"] for one in first["asked"]] == ["Cu", "Pd"]
    again = asked(run)
    assert again["asked"] == []
    assert len(again["out"]) == 2
    assert len(asked(run, None, "--again")["asked"]) == 2
    status = in_process("status", run).stdout
    assert "2 energies asked for" in status
    # One of the two comes back: the other is still all there is to wait for.
    compute_folder(tmp_path / first["asked"][0]["folder"])
    answer = told(run, run / "asked")
    assert [one["verdict"] for one in answer["outcomes"]] == ["told", "no output yet"]
    assert len(answer["out"]) == 1


@pytest.fixture
def waiting(tmp_path):
    """Return a run whose two end members are asked for, and their folders."""
    config, run = write_config(tmp_path, **CHANGES), tmp_path / "run"
    folders = [tmp_path / one["folder"] for one in asked(run, config)["asked"]]
    return run, folders


def verdict(run, folder):
    (outcome,) = told(run, folder)["outcomes"]
    return outcome["verdict"], outcome["detail"]


def result(folder, atoms=None, name="mine.extxyz"):
    """Leave a result in a folder, by default that of the structure there."""
    atoms = read(folder / "POSCAR") if atoms is None else atoms
    atoms.calc = EMT()
    atoms.get_potential_energy()
    write(folder / name, atoms)


def test_half_finished_calculations_are_told_apart(waiting):
    run, (copper, palladium) = waiting
    text = vasprun([(read(copper / "POSCAR"), -3.7)])
    (copper / "vasprun.xml").write_text(text[: len(text) // 2])
    assert verdict(run, copper)[0] == "not finished"
    shaken = read(palladium / "POSCAR") * (2, 1, 1)
    shaken.rattle(0.1, seed=1)
    result(palladium, shaken)
    assert "not relaxed: a force" in verdict(run, palladium)[1]
    (copper / "vasprun.xml").write_text(text)
    assert verdict(run, copper)[0] == "told"


def test_other_structures_are_told_apart(waiting, tmp_path):
    run, (copper, palladium) = waiting
    other = read(copper / "POSCAR")
    other.symbols[:] = "Ag"
    result(copper, other)
    assert verdict(run, copper) == ("foreign", "it holds Ag")
    result(copper, read(palladium / "POSCAR"))
    what, detail = verdict(run, copper)
    assert what == "another structure"
    assert "asked for was s1-1.0.0.1.0.1-A, it holds s1-1.0.0.1.0.1-B" in detail
    # A folder of a campaign by another method, and one that no campaign has asked for.
    job = json.loads((copper / "job.json").read_text())
    (copper / "job.json").write_text(json.dumps({**job, "method": "m0", "campaign": "fine"}))
    assert verdict(run, copper) == ("foreign", "asked for by fine, by another method")
    own = tmp_path / "own"
    own.mkdir()
    result(own, read(palladium / "POSCAR"))
    what, detail = verdict(run, own)
    assert what == "told"
    assert "not asked for" in detail


def test_a_second_energy_does_not_replace_the_first(waiting):
    run, (copper, _) = waiting
    result(copper)
    assert verdict(run, copper)[0] == "told"
    assert verdict(run, copper) == ("known already", "the same energy")
    # Of several results in a folder the lowest counts.
    wider = read(copper / "POSCAR")
    wider.set_cell(wider.cell * 0.97, scale_atoms=True)
    result(copper, wider, "lower.extxyz")
    what, detail = verdict(run, copper)
    assert what == "known already"
    assert "it is not taken" in detail
    assert len(RunDirectory.read(run).store.results()) == 1


def test_what_cannot_be_computed_is_given_up(waiting):
    run, (copper, _) = waiting
    answer = told(run, "--give-up", copper)
    assert [one["verdict"] for one in answer["outcomes"]] == ["given up"]
    assert len(answer["out"]) == 1
    (stored,) = RunDirectory.read(run).store.results()
    assert stored.status == "quarantined"
    assert asked(run)["asked"] == []


def test_unrelaxed_methods_take_the_very_volume(tmp_path):
    oracle = {"by_hand": True, "relax_cell": False, "relax_ions": False}
    config = write_config(tmp_path, **{**CHANGES, "oracle": oracle})
    run = tmp_path / "run"
    folder = tmp_path / asked(run, config)["asked"][0]["folder"]
    atoms = read(folder / "POSCAR")
    atoms.set_cell(atoms.cell * 1.01, scale_atoms=True)
    result(folder, atoms)
    what, detail = verdict(run, folder)
    assert what == "another structure"
    assert "relax_cell is false" in detail


def run_fake(fake, folder, *words):
    """Run a program that stands for a code in a folder."""
    out = io.StringIO()
    arguments, sys.argv = sys.argv, [fake, *words]
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(out):
            runpy.run_path(str(REPOSITORY / "tests" / "fakes" / fake), run_name="__main__")
    finally:
        sys.argv = arguments
    return out.getvalue()


@pytest.mark.parametrize("kind", ["vasp", "espresso"])
def test_inputs_of_a_code_are_computed_and_told(tmp_path, kind):
    put_data(tmp_path / "data", kind)
    config, run = tmp_path / "campaign.toml", tmp_path / "run"
    text = CAMPAIGN.format(kind=kind, command="not-here").replace("max_sites = 2", "max_sites = 1")
    config.write_text(text.replace("[learning]", "by_hand = true\n[learning]"), encoding="utf-8")
    folders = [tmp_path / one["folder"] for one in asked(run, config)["asked"]]
    for folder in folders:
        assert "Inputs of" in (folder / "README").read_text()
        if kind == "vasp":
            assert "NSW" not in (folder / "INCAR").read_text().replace("NSW = 0", "")
            run_fake("vasp_std.py", folder)
        else:
            (folder / "pw.out").write_text(run_fake("pw.py", folder, "-in", "pw.in"))
    answer = told(run, *folders)
    assert [one["verdict"] for one in answer["outcomes"]] == ["told", "told"]
    done = in_process("run", run)
    assert done.returncode == 0, done.stderr
    assert "2 energies are known from the start" in done.stderr


def test_inputs_of_vasp_relax_as_the_method_says(tmp_path):
    put_data(tmp_path / "data", "vasp")
    config, run = tmp_path / "campaign.toml", tmp_path / "run"
    text = CAMPAIGN.format(kind="vasp", command="not-here").replace("false", "true")
    spin = 'by_hand = true\nspin = "antiferromagnetic"\nelements = { Cu = { moment = 1.0 } }\n'
    config.write_text(text.replace("[learning]", f"{spin}[learning]"), encoding="utf-8")
    folder = tmp_path / asked(run, config)["asked"][0]["folder"]
    tags = (folder / "INCAR").read_text()
    for tag in ("IBRION = 2", "ISIF = 3", "NSW = 300", "EDIFFG = -1.00e-02", "MAGMOM = 1*1.0000"):
        assert tag in tags
    assert "compute the relaxed structure once more" in (folder / "README").read_text()


def test_manual_campaigns_say_so_everywhere(tmp_path):
    oracle = {"kind": "manual", "parameters": {"code": "mine 1.0", "xc": "PBE"}}
    config = write_config(tmp_path, **{**CHANGES, "oracle": oracle})
    run = tmp_path / "run"
    done = in_process("run", config, "--output", run)
    assert done.returncode == 75
    (copper, _) = [tmp_path / one["folder"] for one in asked(run)["asked"]]
    assert "manual" in compute_folder(copper)
    result(copper)
    assert verdict(run, copper)[0] == "told"
    # The parameters are the method: with others the energies are not comparable.
    refused = in_process(
        "ask", config, "--output", run, "--set", 'oracle.parameters={ xc = "LDA" }'
    )
    assert refused.returncode == 2
    assert "another method" in refused.stderr
    details = in_process("status", run, "--details").stdout
    assert "computed outside of this program (code = mine 1.0, xc = PBE)" in details


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tell", "{run}"), "name the folders"),
        (("tell", "{run}", "{run}/nowhere"), "there is no file or folder"),
        (("tell", "{tmp}", "{tmp}"), "holds no run"),
        (("ask", "{run}", "--number", "0"), "at least one"),
        (("check", "{run}", "--try"), "nothing is computed here"),
    ],
)
def test_bad_input_is_one_line(waiting, tmp_path, words, message):
    run, _ = waiting
    done = in_process(*(word.format(run=run, tmp=tmp_path) for word in words))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_recorded_table_is_not_computed_by_hand(tmp_path):
    with pytest.raises(ValueError, match="by_hand: a table is not computed"):
        parse_settings(
            {
                "lattice": {"prototype": "fcc", "a": 3.8, "species": ["Cu", "Pd"]},
                "candidates": {"max_sites": 2},
                "oracle": {"kind": "recorded", "file": "a.extxyz", "by_hand": True},
            },
            base=tmp_path,
        )


def test_folders_are_computed_by_the_module(waiting, monkeypatch, capsys):
    _, (copper, palladium) = waiting
    shutil.rmtree(palladium)
    monkeypatch.setattr(sys, "argv", ["by_hand", str(copper), str(palladium)])
    assert compute() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{copper}: done"
    assert "no folder that latticesearch ask has written" in lines[1]
