"""A second, better method for what the first one left near the hull."""

import shutil

import pandas as pd
import pytest

from latticesearch.campaign import factories
from latticesearch.campaign.levels import near_hull_of
from latticesearch.campaign.settings import read_settings
from tests.campaign.runs import in_process, write_config

LOW = {
    "candidates": {"max_sites": 3, "exhaustive_limit": None},
    "learning": {"budget": 8, "initial": 6},
}
HIGH = {
    "campaign": {"name": "high"},
    "lattice": {"a": 3.75, "species": ["Pd", "Cu"]},
    "candidates": {"max_sites": None, "exhaustive_limit": None, "from_run": "low"},
    "oracle": {"fmax": 0.001},
    "learning": {"budget": 8, "initial": 4},
}


@pytest.fixture(scope="module")
def low(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    done = in_process("run", write_config(folder, **LOW), "--output", folder / "low")
    assert done.returncode == 0, done.stderr
    return folder / "low"


@pytest.fixture
def high(low, tmp_path):
    shutil.copytree(low, tmp_path / "low")
    return write_config(tmp_path, **HIGH)


def test_structures_near_the_hull_compete_at_the_higher_level(high, low, tmp_path):
    run = tmp_path / "high"
    done = in_process("run", high, "--output", run)
    assert done.returncode == 0, done.stderr
    before, after = (pd.read_parquet(path / "candidates.parquet") for path in (low, run))
    near = before[before["energy_above_hull"] <= 0.010]
    assert len(near) < len(before)
    # Of both runs by formula: the order of the species, and so the keys, is another.
    assert sorted(near["x_Cu"].round(6)) == sorted(after["x_Cu"].round(6))
    # The old run may go, and the height may change without it.
    shutil.rmtree(tmp_path / "low")
    gone = in_process("run", high, "--output", run)
    assert gone.returncode == 2
    assert "keeps a copy: latticesearch run RUN" in gone.stderr
    wider = in_process("run", run, "--set", "candidates.within=1.0", "--set", "learning.budget=20")
    assert wider.returncode == 0, wider.stderr
    assert len(pd.read_parquet(run / "candidates.parquet")) == len(before)


def test_end_members_are_always_among_them(high):
    checked = in_process("check", high, "--set", "candidates.within=1e-9", "--json")
    assert checked.returncode == 0
    settings = read_settings(high)
    parent = factories.parent_lattice(settings)
    found = near_hull_of(settings.candidates.from_run, 1e-9, parent)
    assert {"Cu", "Pd"} <= {one.formula for one in found.structures}


def test_structures_that_the_lattice_cannot_hold_are_counted(high):
    settings = read_settings(high, ['lattice.species=["Cu", "Au"]'])
    found = near_hull_of(settings.candidates.from_run, 0.01, factories.parent_lattice(settings))
    assert [one.formula for one in found.structures] == ["Cu"]
    assert found.n_foreign > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (['lattice.prototype="bcc"'], "another parent lattice"),
        (['lattice.prototype="hcp"'], "another parent lattice"),
        (['lattice.species=["Ag", "Au"]'], "raise candidates.within"),
        (["candidates.from_run=nowhere"], "there is no run"),
        (["candidates.from_run=campaign.toml"], "neither a run nor a table"),
        (["candidates.max_sites=4"], "give either max_sites"),
        (["candidates.composition={ Cu = 0.5 }"], "composition does not go with from_run"),
    ],
)
def test_bad_levels_are_one_line(high, changes, message):
    words = [word for change in changes for word in ("--set", change)]
    done = in_process("check", high, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_within_means_nothing_alone(tmp_path):
    config = write_config(tmp_path, candidates={"within": 0.02})
    done = in_process("check", config)
    assert done.returncode == 2
    assert "within belongs to from_run" in done.stderr
