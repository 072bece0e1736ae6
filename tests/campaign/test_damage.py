"""Files of a run that are lost or damaged: said, never replaced in silence, with a way to go on."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest
from ase.io import read, write

from latticesearch.storage import OracleStore
from tests.campaign.counted import counts
from tests.campaign.runs import in_process
from tests.campaign.test_known import own_results
from tests.campaign.test_stages import config_of, counted, keys, run, status

__all__ = ["counted"]

N_OWN = 4
"""Structures of one and two atoms, known from a file."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of eight calculations that knows four more energies from a file that is gone."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUNTED", str(folder / "counted"))
        assert own_results(folder / "mine.extxyz") == N_OWN
        config = config_of(folder, data={"files": ["mine.extxyz"]}, learning={"budget": 8})
        run(config, "--output", folder / "run")
    return folder / "run"


@pytest.fixture
def path(finished, tmp_path, counted):
    return shutil.copytree(finished, tmp_path / "run")


def damage_of(path):
    """Return what status says is wrong, by file; the text has to say the same."""
    found = {one["file"]: one for one in status(path)["damage"]}
    text = in_process("status", path).stdout
    for one in found.values():
        assert f"damaged: {one['what']}" in text
        assert one["way_out"] in text
    return found


def page_in_the_middle(path):
    """Overwrite a page that holds some of the rows; return how many can be read afterwards."""
    file = path / "oracle.db"
    good = file.read_bytes()
    size = int.from_bytes(good[16:18], "big")
    assert size >= 512
    for start in range(size, len(good), size):
        file.write_bytes(good[:start] + b"\xa5" * size + good[start + size :])
        readable = len(OracleStore(file).readable_results(8))
        if 0 < readable < 8:
            return readable
    raise AssertionError("no page holds some of the rows")


def test_nothing_is_wrong_with_a_sound_run(path):
    assert damage_of(path) == {}
    assert "damaged" not in in_process("status", path).stdout


@pytest.mark.parametrize("how", ["lost", "empty", "no database", "a page of it", "rows"])
def test_status_notices_what_is_wrong_with_the_results(path, how):
    file = path / "oracle.db"
    if how == "lost":
        file.unlink()
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "no database":
        file.write_bytes(b"no database" * 1000)
    elif how == "a page of it":
        page_in_the_middle(path)
    else:
        with sqlite3.connect(file) as database:
            database.execute("DELETE FROM systems WHERE id > 3")
        database.close()
    left = file.read_bytes() if file.exists() else None
    found = damage_of(path)["oracle.db"]
    assert "of the 8 results that the log knows of" in found["what"]
    assert f"latticesearch run {path} --accept-loss" in found["way_out"]
    # Whoever only looks changes nothing, nor does a run that was not told to.
    done = in_process("run", path)
    assert done.returncode == 2
    assert found["what"] in done.stderr
    assert (file.read_bytes() if file.exists() else None) == left


def test_a_damaged_page_in_the_middle_is_noticed_and_the_rest_is_saved(path, counted):
    readable = page_in_the_middle(path)
    before = sum(counts(counted)[0].values())
    assert f"{readable} of the 8 results" in damage_of(path)["oracle.db"]["what"]
    done = run(path, "--accept-loss")
    assert f"changed: of 8 results {readable} are left" in done.stderr
    # What was lost may be computed again, up to the budget, and nothing else.
    assert sum(counts(counted)[0].values()) - before == 8 - readable
    assert damage_of(path) == {}
    assert (path / "oracle.db.damaged-1").exists()


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_run_without_its_settings_says_how_to_go_on(path, how):
    if how == "lost":
        (path / "settings.toml").unlink()
    else:
        (path / "settings.toml").write_text("[campaign\n")
    found = damage_of(path)["settings.toml"]
    assert f"latticesearch run CAMPAIGN --output {path}" in found["way_out"]
    done = in_process("run", path)
    assert done.returncode == 2
    assert found["way_out"] in done.stderr


def test_a_run_goes_on_with_a_campaign_file_where_its_settings_are_lost(path, tmp_path):
    (path / "settings.toml").unlink()
    before = keys(path)
    shutil.copy(path / "inputs" / "mine.extxyz", tmp_path)
    config = config_of(tmp_path, data={"files": ["mine.extxyz"]}, learning={"budget": 8})
    done = run(config, "--output", path)
    assert "changed: settings.toml was lost" in done.stderr
    assert keys(path) == before
    other = config_of(tmp_path, lattice={"a": 3.9})
    (path / "settings.toml").unlink()
    done = in_process("run", other, "--output", path)
    assert done.returncode == 2
    assert "another method" in done.stderr


def test_another_method_is_refused_before_a_database_is_saved(path, tmp_path):
    """Settings are lost as well: only the rows of the damaged database tell the method."""
    page_in_the_middle(path)
    (path / "settings.toml").unlink()
    left = (path / "oracle.db").read_bytes()
    done = in_process(
        "run", config_of(tmp_path, lattice={"a": 3.9}), "--output", path, "--accept-loss"
    )
    assert done.returncode == 2
    assert "another method" in done.stderr
    assert (path / "oracle.db").read_bytes() == left
    assert not list(path.glob("oracle.db.damaged*"))


def test_a_run_does_not_reuse_itself(path):
    settings = (path / "settings.toml").read_text()
    done = in_process("run", path, "--reuse", path)
    assert done.returncode == 2
    assert "is this run itself" in done.stderr
    assert (path / "settings.toml").read_text() == settings


@pytest.mark.parametrize("how", ["lost", "no database"])
def test_energies_from_elsewhere_are_read_again_from_where_they_came(path, how):
    file = path / "known.db"
    if how == "lost":
        file.unlink()
    else:
        file.write_bytes(b"no database" * 1000)
    found = damage_of(path)["known.db"]
    assert f"of the {N_OWN} energies from elsewhere that the log knows of" in found["what"]
    done = run(path)
    assert found["what"] in done.stderr
    assert "changed:" not in done.stderr
    assert damage_of(path) == {}
    assert len(list(path.glob("known.db.damaged*"))) == (how != "lost")
    assert status(path)["elsewhere"]["energies"] == N_OWN


def test_energies_whose_source_is_gone_are_not_given_up_in_silence(path, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(path / "inputs" / "mine.extxyz", folder)
    run(path, "--set", f'data.files=["{folder}"]')
    shutil.rmtree(folder)
    done = run(path)
    assert "is gone; the 4 energies taken from it are kept" in done.stderr
    with sqlite3.connect(path / "known.db") as database:
        database.execute("DELETE FROM systems WHERE id > 2")
    database.close()
    done = in_process("run", path)
    assert done.returncode == 2
    assert "2 of the 4 energies from elsewhere" in done.stderr
    assert f"latticesearch run {path} --accept-loss" in done.stderr
    (path / "known.db").unlink()
    done = in_process("run", path)
    assert done.returncode == 2
    assert "--set 'data.files=[]'" in done.stderr
    assert not (path / "known.db").exists()


def test_status_tells_what_comes_from_elsewhere_and_what_could_not_be_used(tmp_path, counted):
    old = tmp_path / "old"
    species = {"species": ["Cu", "Pd", "Ag"]}
    run(config_of(tmp_path, lattice=species, learning={"budget": 5, "initial": 5}), "--output", old)
    own_results(tmp_path / "mine.extxyz", max_index=1)
    (copper, palladium) = read(tmp_path / "mine.extxyz", index=":")
    twice = copper.copy()
    twice.calc = copper.calc
    twice.calc.results["energy"] += 0.1
    silver, nothing = copper.copy(), palladium.copy()
    silver.symbols[:] = "Ag"
    silver.calc = copper.calc
    write(tmp_path / "mine.extxyz", [palladium, twice, silver, nothing])
    config = config_of(tmp_path, data={"files": ["mine.extxyz"]}, learning={"budget": 3})
    path = tmp_path / "run"
    run(config, "--output", path, "--reuse", old)
    answer = status(path)["elsewhere"]
    reused, own = answer["sources"]
    assert (reused["kind"], reused["path"]) == ("reused", str(old))
    assert reused["energies"] + sum(reused["refused"].values()) == 5
    assert reused["refused"]["holds Ag"] >= 1
    assert own["kind"] == "own data"
    assert own["path"].endswith("mine.extxyz")
    assert own["energies"] == 0
    assert own["refused"] == {
        "with elements that the campaign does not have": 1,
        "no energy": 1,
        "duplicate": 2,
    }
    assert answer["energies"] == reused["energies"]
    (contradiction,) = answer["contradictions"]
    assert contradiction.count("eV/atom") == 2
    text = in_process("status", path).stdout
    assert f"reused {old}: {reused['energies']}; not used: " in text
    assert "1 no energy" in text
    assert contradiction in text
    # What is left out of the settings is no part of the run any more.
    run(path, "--set", "data.files=[]", "--set", "data.reuse=[]", "--set", "learning.budget=5")
    assert status(path)["elsewhere"] == {
        "energies": 0,
        "sources": [],
        "contradictions": [],
        "lines": [],
    }
    assert json.loads(in_process("status", path, "--json").stdout)["damage"] == []


def test_nobody_takes_what_is_left_of_a_run_for_all_of_it(path, tmp_path):
    """Its energies may be used once the loss was accepted; its hull may be looked at."""
    (path / "oracle.db").unlink()
    config, new = config_of(tmp_path, learning={"budget": 2}), tmp_path / "new"
    for words in (
        ("run", config, "--output", new, "--reuse", path),
        ("run", config, "--output", new, "--set", f'data.files=["{path}"]'),
        ("hull", path, path, "--output", new),
        ("train", path, "--folds", "0"),
        ("ask", path),
        ("tell", path, tmp_path),
    ):
        done = in_process(*words)
        assert done.returncode == 2, words
        assert f"latticesearch run {path} --accept-loss" in done.stderr
        assert not new.exists()
    for words in (("hull", path), ("status", path, "--failed"), ("export", path, "--output", new)):
        done = in_process(*words)
        assert done.returncode == 0, done.stderr
        assert "--accept-loss" in done.stdout + done.stderr


def test_a_source_that_is_damaged_later_stops_no_run(path, tmp_path):
    new = tmp_path / "new"
    config = config_of(tmp_path, learning={"budget": 2})
    run(config, "--output", new, "--reuse", path)
    known = status(new)["elsewhere"]["energies"]
    (path / "oracle.db").write_bytes(b"no database" * 1000)
    done = run(new)
    assert f"{path} is damaged; the {known} energies taken from it are kept" in done.stderr
    assert "changed:" not in done.stderr
    assert status(new)["elsewhere"]["energies"] == known


def test_a_potential_is_trained_on_all_that_a_run_knows(path):
    done = in_process("train", path, "--folds", "0", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_data"] == 8 + N_OWN
