"""Campaigns under other kinds of potentials: ours, and those of other people."""

from __future__ import annotations

import json

import ase.db
import numpy as np
import pandas as pd
import pytest

from tests.campaign.runs import in_process, latticesearch, write_config

KINDS = {
    "clusters": {"kind": "clusters", "parameters": {"pairs": 5.0, "triplets": 3.0}},
    "fixed": {"kind": "tests.campaign.foreign:Fixed", "parameters": {"unlike": -0.03}},
    "learner": {"kind": "tests.campaign.foreign:Learner"},
}
FILES = {"clusters": "clusters", "fixed": None, "learner": "weights"}
"""What the names of the files of potentials end with; a fixed one is written nowhere."""


def write_kind(folder, kind):
    return write_config(folder, potential={"level": None, "cutoff": None, **KINDS[kind]})


@pytest.fixture(scope="module", params=KINDS)
def finished(request, tmp_path_factory):
    """One finished run: (kind, folder, log)."""
    folder = tmp_path_factory.mktemp(request.param)
    done = in_process("run", write_kind(folder, request.param), "--output", folder / "run")
    assert done.returncode == 0, done.stderr
    return request.param, folder / "run", done.stderr


def outcome(run):
    with ase.db.connect(run / "oracle.db") as database:
        rows = {(r.key, r.status, r.round): round(r.energy, 9) for r in database.select()}
    candidates = pd.read_parquet(run / "candidates.parquet")
    return (run / "hull.csv").read_text(), candidates.key.tolist(), rows


def test_the_potential_lies_beside_the_results(finished):
    kind, run, log = finished
    written = {path.name for path in run.glob("potential*")}
    suffix = FILES[kind]
    if suffix is None:
        assert not written
        assert log.count("its energies are taken as they are") == 1
    else:
        assert {f"potential.{suffix}", f"potential-02.{suffix}"} <= written
        assert all(name.endswith(f".{suffix}") for name in written)
    table = pd.read_parquet(run / "candidates.parquet")
    assert "greedy" in set(table.source)
    assert np.isfinite(table[["energy", "predicted_energy", "grade"]]).all(axis=None)


def test_running_again_changes_nothing(finished):
    kind, run, _ = finished
    before = outcome(run)
    done = in_process("run", write_kind(run.parent, kind), "--output", run, "--resume")
    assert done.returncode == 0, done.stderr
    assert outcome(run) == before


@pytest.mark.mpi
@pytest.mark.parametrize(
    "finished", ["learner", pytest.param("fixed", marks=pytest.mark.slow)], indirect=True
)
def test_two_ranks_give_the_same_campaign(finished, tmp_path):
    kind, run, _ = finished
    config = write_kind(tmp_path, kind)
    done = latticesearch("run", config, "--output", tmp_path / "run", ranks=2)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "run") == outcome(run)


def test_the_verbs_know_the_kind(finished):
    kind, run, _ = finished
    config = run.parent / "campaign.toml"
    checked = json.loads(in_process("check", config, "--json").stdout)
    assert checked["potential"] == KINDS[kind]["kind"]
    done = in_process("predict", run, *sorted((run / "stable").glob("*.cif")), "--json")
    assert done.returncode == 0, done.stderr
    rows = pd.DataFrame(json.loads(done.stdout))
    table = pd.read_parquet(run / "candidates.parquet").set_index("key")
    np.testing.assert_allclose(rows.energy, table.predicted_energy[rows.key], atol=1e-9)
    exported = in_process("export", run, "--output", run.parent / "poscars")
    assert exported.returncode == 0, exported.stderr


def test_training_writes_what_the_kind_writes(finished):
    kind, run, _ = finished
    output = run.parent / "trained"
    done = in_process("train", run, "--output", output, "--json")
    if FILES[kind] is None:
        assert done.returncode == 2
        assert "nothing to train" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kind"] == KINDS[kind]["kind"]
    assert 0.0 < report["energy_rmse"] < report["left_out_rmse"]
    assert output.read_text()
    assert "wrote" in in_process("train", run, "--output", output).stdout
    refused = in_process("train", run, "--output", output, "--level", "8")
    assert refused.returncode == 2
    assert "moment tensor" in refused.stderr


@pytest.mark.parametrize(
    ("potential", "message"),
    [
        ({"kind": "clusterss"}, "clusterss"),
        ({"kind": "no.such.module:thing"}, "no.such.module"),
        ({"kind": "tests.campaign.foreign:absent"}, "absent"),
        ({"kind": "tests.campaign.foreign:no_model"}, "evaluator"),
        ({"kind": "tests.campaign.foreign:Fixed", "parameters": {"x": 1}}, "parameters"),
        ({"kind": "clusters", "level": 8}, "[potential.parameters]"),
        ({"kind": "mtp", "parameters": {"level": 8}}, "level"),
    ],
)
def test_what_cannot_be_made_is_one_line(tmp_path, potential, message):
    config = write_config(tmp_path, potential={"level": None, "cutoff": None, **potential})
    done = in_process("run", config, "--output", tmp_path / "run")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert message in done.stderr
    assert not (tmp_path / "run").exists()
