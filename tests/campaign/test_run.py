"""A small campaign from the command line: files, ranks, kill -9, failing oracles."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time

import ase.db
import numpy as np
import pandas as pd
import pytest
from ase.io import read

import latticesearch as ls
from latticesearch.hull import Hull
from tests.campaign.runs import command, environment, in_process, latticesearch, write_config

FILES = {
    *("settings.toml", "oracle.db", "potential.mtp", "candidates.parquet", "hull.csv"),
    *("stable", "report.html", "figures", "log.jsonl"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run: (folder, printed text)."""
    folder = tmp_path_factory.mktemp("finished")
    # Here, so that the processes of other tests find the kernels compiled.
    done = in_process("run", write_config(folder), "--output", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout


def oracle_rows(run):
    with ase.db.connect(run / "oracle.db") as database:
        return list(database.select())


def outcome(run):
    """Return what must not depend on how a campaign was run."""
    hull = pd.read_csv(run / "hull.csv")
    candidates = pd.read_parquet(run / "candidates.parquet")
    rows = {(r.key, r.status, r.round): round(r.energy, 9) for r in oracle_rows(run)}
    return hull.to_csv(index=False), candidates.key.tolist(), rows


def count_fits(run):
    events = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return sum(event["event"] == "fit" for event in events)


def test_the_run_directory_is_complete(finished):
    run, text = finished
    assert {p.name for p in run.iterdir()} >= FILES
    assert (run / "potential-02.mtp").exists()
    assert not list(run.glob(".*.tmp"))
    for word in ("formula", "space group", "candidates", str(run)):
        assert word in text.lower() or word in text


def test_tables_agree_with_the_database(finished):
    run, _ = finished
    candidates = pd.read_parquet(run / "candidates.parquet").set_index("key")
    assert set(candidates.source) == {"end member", "enumeration", "greedy"}
    rows = oracle_rows(run)
    assert len({r.key for r in rows}) == len(rows)
    for row in rows:
        assert candidates.oracle_energy[row.key] == pytest.approx(row.energy / row.natoms)
    known = candidates[candidates.oracle_energy.notna()]
    x = known[["x_Cu", "x_Pd"]].to_numpy()
    hull = Hull(x, known.oracle_energy.to_numpy())
    np.testing.assert_allclose(known.energy_above_hull, hull.energies_above_hull, atol=1e-9)
    table = pd.read_csv(run / "hull.csv")
    # Spreadsheets know no infinity: nothing stands where nothing could replace an element.
    pure = table.n_atoms == 1
    assert table.depth[pure].isna().all()
    assert np.isfinite(table.depth[table.cif.notna() & ~pure]).all()
    stable = set(table.key[table.cif.notna()])
    assert stable == set(known.index[hull.vertices])


def test_every_stable_structure_has_a_cif_that_is_it(finished):
    run, _ = finished
    parent = ls.ParentLattice.from_prototype("fcc", 3.8, ("Cu", "Pd"))
    table = pd.read_csv(run / "hull.csv")
    listed = table[table.cif.notna()]
    assert {str(p.relative_to(run)) for p in (run / "stable").glob("*.cif")} == set(listed.cif)
    for row in listed.itertuples():
        match = ls.map_to_lattice(read(run / row.cif), parent)
        assert match is not None
        assert match.configuration.key == row.key


def test_the_potential_predicts_what_the_table_says(finished):
    run, _ = finished
    parent = ls.ParentLattice.from_prototype("fcc", 3.8, ("Cu", "Pd"))
    last = max(run.glob("potential-*.mtp"))
    assert last.read_text() == (run / "potential.mtp").read_text()
    potential = ls.read_mtp(last, species=("Cu", "Pd"))
    table = pd.read_parquet(run / "candidates.parquet").set_index("key")
    for batch in ls.enumerate_labelings(parent, max_index=3):
        expected = table.predicted_energy[batch.keys()]
        np.testing.assert_allclose(potential.energies(batch), expected, atol=1e-10)


def test_running_again_computes_nothing_and_changes_nothing(finished):
    run, _ = finished
    before, n, fits = outcome(run), len(oracle_rows(run)), count_fits(run)
    for extra in ([], ["--resume"]):
        done = in_process("run", write_config(run.parent), "--output", run, *extra)
        assert done.returncode == 0, done.stderr
    assert outcome(run) == before
    assert len(oracle_rows(run)) == n
    assert count_fits(run) == fits > 0


def test_status_hull_and_export_read_the_run(finished):
    run, _ = finished
    status = json.loads(in_process("status", run, "--json").stdout)
    assert status["finished"]
    assert status["oracle_calls"] == status["done"] == len(oracle_rows(run))
    assert "finished" in in_process("status", run).stdout
    assert "Fm-3m" in in_process("hull", run).stdout
    done = in_process("export", run, "--format", "poscar", "--output", run.parent / "poscars")
    assert done.returncode == 0, done.stderr
    files = sorted((run.parent / "poscars").iterdir())
    assert len(files) == len(list((run / "stable").iterdir()))
    assert all(len(read(f, format="vasp")) for f in files)


def test_structures_of_any_file_are_predicted(finished, tmp_path):
    run, _ = finished
    stable = sorted((run / "stable").glob("*.cif"))
    done = in_process("predict", run, *stable, "--json")
    assert done.returncode == 0, done.stderr
    rows = pd.DataFrame(json.loads(done.stdout))
    table = pd.read_parquet(run / "candidates.parquet").set_index("key")
    assert len(rows) == len(stable)
    np.testing.assert_allclose(rows.energy, table.predicted_energy[rows.key], atol=1e-9)
    np.testing.assert_allclose(rows.oracle_energy, table.oracle_energy[rows.key], atol=1e-12)
    assert rows.grade.max() < 1.01  # the potential was trained on these
    (tmp_path / "no.cif").write_text("nothing")
    bad = in_process("predict", run, tmp_path / "no.cif")
    assert bad.returncode == 2
    assert "no.cif" in bad.stderr


def test_an_end_member_without_energy_ends_the_run_with_its_name(tmp_path):
    config = write_config(
        tmp_path,
        lattice={"prototype": "b2", "species": None, "sublattices": [["Cu"], ["Pd", "Al"]]},
        oracle={"kind": "ase", "calculator": "tests.campaign.unreliable:factory", "attempts": 1},
    )
    done = in_process("run", config, "--output", tmp_path / "run")
    assert done.returncode == 1
    assert "no energy for the end member" in done.stderr
    assert "CuPd" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.mpi
def test_two_ranks_give_the_same_campaign(finished, tmp_path):
    run, _ = finished
    done = latticesearch("run", write_config(tmp_path), "--output", tmp_path / "run", ranks=2)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "run") == outcome(run)


def test_kill_9_again_and_again_loses_nothing_and_repeats_nothing(finished, tmp_path):
    """Kill the run whenever the database has a number of rows, start it again; compare."""
    run, words = tmp_path / "run", ("run", write_config(tmp_path), "--output", tmp_path / "run")
    paid_for = {}
    for n_rows in (0, 3, 17):
        process = subprocess.Popen(
            command(*words), env=environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        while process.poll() is None and count_rows(run) < n_rows:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        known = paid(run)
        assert paid_for.items() <= known.items()
        paid_for = known
    done = in_process(*words)
    assert done.returncode == 0, done.stderr
    rows = oracle_rows(run)
    assert len({r.key for r in rows}) == len(rows)
    assert paid_for.items() <= paid(run).items()
    assert outcome(run) == outcome(finished[0])


def paid(run):
    """Energies in the database by key."""
    return {r.key: r.energy for r in oracle_rows(run)} if (run / "oracle.db").exists() else {}


def count_rows(run):
    if not (run / "oracle.db").exists():
        return -1 if not run.exists() else 0
    try:
        with sqlite3.connect(run / "oracle.db", timeout=5) as database:
            return database.execute("select count(*) from systems").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_failures_are_data(tmp_path):
    """A calculator that fails, or is wrong, in every way: the campaign goes on, and says so."""
    config = write_config(
        tmp_path,
        oracle={
            "kind": "ase",
            "calculator": "tests.campaign.unreliable:factory",
            "relax_cell": False,
            "relax_ions": False,
        },
    )
    done = in_process("run", config, "--output", tmp_path / "run")
    status = json.loads(in_process("status", tmp_path / "run", "--json").stdout)
    # One energy is wrong by 300 eV: no model describes that, and the end says so.
    assert (done.returncode, status["end"]) == (1, "model"), done.stderr
    assert "the model cannot describe these energies" in done.stdout
    errors = {f["error"] for f in status["failures"]}
    assert status["quarantined"] == len(status["failures"]) >= 2
    # Nothing is refused for its size; whoever reads the log or the status learns of it.
    assert "formation energy of -33" in done.stderr
    assert len(status["surprising"]) >= 1
    for part in ("broken on purpose", "not finite"):
        assert any(part in e.lower() or part in e for e in errors), errors
    assert all(f["attempts"] == 2 for f in status["failures"])
    assert status["oracle_calls"] == status["done"] + 2 * status["quarantined"]
    hull = pd.read_csv(tmp_path / "run" / "hull.csv")
    assert not set(hull.key) & {f["key"] for f in status["failures"]}
    assert "broken on purpose" in (tmp_path / "run" / "report.html").read_text()
    of_failures = (tmp_path / "run" / "report.html").read_text().partition("without an energy (")[2]
    assert "<td>CuPd</td>" in of_failures  # which of the two elements is broken in pairs
    again = in_process("run", config, "--output", tmp_path / "run")
    assert again.returncode == 1
    assert (
        json.loads(in_process("status", tmp_path / "run", "--json").stdout)["oracle_calls"]
        == status["oracle_calls"]
    )
