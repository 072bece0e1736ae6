import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase.build import bulk

from latticesearch.errors import InputError
from latticesearch.storage import RunDirectory, is_run_directory
from latticesearch.storage.events import EventLog
from tests.conftest import HANG, REPOSITORY


def candidates(**changes):
    columns = {
        "source": ["enumeration", "search"],
        "key": ["s1-1.0.0.1.0.1-A", "s1-1.0.0.1.0.1-B"],
        "formula": ["Cu", "Pd"],
        "n_atoms": [1, 1],
        "hnf": ["1.0.0.1.0.1", "1.0.0.1.0.1"],
        "labels": ["A", "B"],
        "x_Cu": [1.0, 0.0],
        "x_Pd": [0.0, 1.0],
        "energy": [-1.0, -2.0],
        "formation_energy": [0.0, 0.0],
        "energy_above_hull": [0.0, 0.0],
        "grade": [1.0, np.nan],
        "round": [0, 1],
        "note": ["", ""],
    }
    return pd.DataFrame({**columns, **changes})


def hull():
    columns = {
        "key": ["k1", "k2"],
        "formula": ["NaN", "Na"],
        "n_atoms": [2, 1],
        "space_group": ["Fm-3m", "Im-3m"],
        "formation_energy": [-0.1, 0.0],
        "energy_above_hull": [0.0, 0.0],
        "x_Na": [0.5, 1.0],
        "x_N": [0.5, 0.0],
        "cif": ["stable/1_NaN.cif", "stable/2_Na.cif"],
    }
    return pd.DataFrame(columns)


@pytest.fixture
def run(tmp_path):
    with RunDirectory.create(tmp_path / "runs" / "one") as run:
        yield run


def test_a_new_run_is_made_with_its_parents(run):
    assert run.path.is_dir()
    assert not is_run_directory(run.path)
    run.write_settings({"campaign": {"seed": 3}})
    assert is_run_directory(run.path)
    assert run.read_settings() == {"campaign": {"seed": 3}}


def test_a_run_is_not_overwritten(run):
    run.write_settings({})
    run.close()
    with pytest.raises(InputError, match="already holds a run; add --resume"):
        RunDirectory.create(run.path)
    # The refused attempt holds no lock.
    RunDirectory.open(run.path).close()


def test_what_is_no_run_cannot_be_opened(tmp_path):
    with pytest.raises(InputError, match="there is no run directory"):
        RunDirectory.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no run"):
        RunDirectory.read(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        RunDirectory.create(tmp_path / "file")


def test_two_runs_cannot_write_at_once(run):
    run.write_settings({})
    with pytest.raises(InputError, match=f"another run is writing to .*process {os.getpid()} on"):
        RunDirectory.open(run.path)
    RunDirectory.read(run.path).close()
    run.close()
    RunDirectory.open(run.path).close()


HOLDER = """
import sys, time
from pathlib import Path
from latticesearch.oracles import AseOracle
from latticesearch.storage import RunDirectory
from tests.oracles.test_ase_process import job
run = RunDirectory.open(Path(sys.argv[1]))
oracle = AseOracle()
print([r.status for r in oracle.run([job(["Cu"])])], flush=True)
time.sleep(1000)
"""


def test_kill_9_releases_the_lock_and_worker_processes_do_not_hold_it(run):
    run.write_settings({})
    run.close()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as holder:
        assert b"done" in holder.stdout.readline()
        with pytest.raises(InputError, match=f"process {holder.pid} on"):
            RunDirectory.open(run.path)
        holder.kill()
        holder.wait()
        RunDirectory.open(run.path).close()


def test_opening_repairs_and_reading_does_not(run):
    run.write_settings({})
    run.log_event("started")
    log = run.path / "log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"time": "2026-')
    (run.path / ".hull.csv.1-1.tmp").write_bytes(b"half")
    run.close()

    reader = RunDirectory.read(run.path)
    assert [e["event"] for e in reader.events()] == ["started"]
    assert log.read_bytes() != whole

    with RunDirectory.open(run.path) as again:
        assert log.read_bytes() == whole
        assert not (run.path / ".hull.csv.1-1.tmp").exists()
        again.log_event("resumed")
        assert [e["event"] for e in again.events()] == ["started", "resumed"]


def test_events_hold_numbers_of_numpy_and_no_nan(run):
    run.log_event(
        "round", n=np.int64(3), e=np.float64(0.1), x=np.arange(2), bad=float("nan"), path=run.path
    )
    line = (run.path / "log.jsonl").read_text()
    assert "NaN" not in line
    event = json.loads(line)
    assert event["event"] == "round"
    assert (event["n"], event["e"], event["x"], event["bad"]) == (3, 0.1, [0, 1], None)
    assert event["path"] == str(run.path)
    assert event["time"].endswith("+00:00")


def test_a_damaged_line_in_the_log_is_left_out(tmp_path):
    log = EventLog(tmp_path / "log.jsonl")
    log.append("one")
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"ti\n')
    log.append("two")
    assert [e["event"] for e in log.read()] == ["one", "two"]


def test_potentials_of_rounds_and_the_current_one(run):
    assert run.read_potential() is None
    run.write_potential("MTP 0", 0)
    run.write_potential("MTP 12", 12)
    assert run.read_potential() == "MTP 12"
    assert run.read_potential(0) == "MTP 0"
    assert run.read_potential(1) is None
    assert run.potential_path(12).name == "potential-12.mtp"


def test_candidates_have_the_documented_columns(run):
    assert run.read_candidates() is None
    run.write_candidates(candidates())
    table = run.read_candidates()
    assert list(table.columns) == [
        *("key", "formula", "x_Cu", "x_Pd", "n_atoms", "hnf", "labels", "energy"),
        *("formation_energy", "energy_above_hull", "grade", "round", "source", "note"),
    ]
    pd.testing.assert_frame_equal(table, candidates()[table.columns])
    with pytest.raises(ValueError, match="columns missing: grade"):
        run.write_candidates(candidates().drop(columns="grade"))
    with pytest.raises(ValueError, match=r"columns missing: x_"):
        run.write_candidates(candidates().drop(columns=["x_Cu", "x_Pd"]))


def test_hull_and_stable_structures(run):
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    run.write_hull(hull(), {"1_NaN.cif": atoms, "2_Na.cif": bulk("Na")})
    table = run.read_hull()
    assert list(table.columns) == [
        *("formula", "n_atoms", "space_group", "formation_energy", "energy_above_hull"),
        *("x_Na", "x_N", "key", "cif"),
    ]
    assert list(table.formula) == ["NaN", "Na"]
    read = ase.io.read(io.StringIO((run.path / "stable/1_NaN.cif").read_text()), format="cif")
    np.testing.assert_allclose(read.cell.cellpar(), [5.6, 5.6, 5.6, 90, 90, 90], atol=1e-4)
    assert sorted(set(read.symbols)) == ["Cl", "Na"]
    run.write_hull(hull(), {"1_Na.cif": bulk("Na")})
    assert [p.name for p in (run.path / "stable").iterdir()] == ["1_Na.cif"]


def test_report_and_figures(run):
    run.write_report("<html>Å</html>", {"hull.png": b"\x89PNG", "hull.svg": b"<svg/>"})
    assert (run.path / "report.html").read_text(encoding="utf-8") == "<html>Å</html>"
    assert (run.path / "figures" / "hull.png").read_bytes() == b"\x89PNG"


RANKS = """
import sys
from pathlib import Path
from mpi4py import MPI
import ase.io, ase.parallel
from latticesearch.lattice import ParentLattice
from latticesearch.oracles import AseOracle, RecordedOracle, still_on_lattice
from latticesearch.parallel import world
from latticesearch.storage import RunDirectory
from tests.oracles.test_ase_process import PAIR, job
from tests.storage.test_directory import bulk, candidates, hull

comm = world()
assert comm.size == 2
assert ase.parallel.world.size == 2
if comm.rank == 0:
    folder = Path(sys.argv[1])
    with RunDirectory.create(folder / "run") as run, AseOracle(workers=2) as oracle:
        run.write_settings({"seed": 1})
        for result in oracle.run([job(["Cu"]), job(PAIR)]):
            run.store.append(result, 0)
            run.log_event("result", status=result.status, error=result.error)
        assert sorted(s.status for s in run.store.results()) == ["done", "done"]
        run.write_candidates(candidates())
        run.write_hull(hull(), {"1.cif": bulk("Cu")})
        run.write_report("", {})
    parent = ParentLattice.from_prototype("fcc", 3.8, ("Cu", "Pd"))
    for name in sys.argv[2:]:
        assert len(RecordedOracle(name, parent).keys) == 1
    print("written", flush=True)
assert comm.bcast(42 + comm.rank) == 42
"""


@pytest.mark.mpi
def test_root_alone_writes_under_mpi(tmp_path):
    mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")
    if mpirun is None:
        pytest.skip("mpirun not found")
    atoms = bulk("Cu", a=3.8)
    atoms.calc = ase.calculators.singlepoint.SinglePointCalculator(atoms, energy=-1.0)
    tables = [tmp_path / f"table.{kind}" for kind in ("extxyz", "db", "traj")]
    for table in tables:
        ase.io.write(table, atoms)
    ended = subprocess.run(
        [mpirun, "-n", "2", sys.executable, "-c", RANKS, tmp_path, *tables],
        capture_output=True,
        text=True,
        timeout=HANG,
        cwd=REPOSITORY,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "written\n"
    with RunDirectory.open(tmp_path / "run") as run:
        assert len(run.store.results()) == 2
        assert [e["status"] for e in run.events()] == ["done", "done"]
