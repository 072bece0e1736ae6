import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, make_supercell

from latticesearch.errors import InputError
from latticesearch.oracles import AseOracle, OracleJob, dispatch, processes
from latticesearch.oracles.emt import FastEmt
from latticesearch.oracles.relaxation import relax
from tests.conftest import HANG

FAULTY = "tests.oracles.faulty:factory"


def job(symbols, key=None, attempt=1):
    atoms = make_supercell(bulk("Cu", "fcc", a=3.8), np.diag([1, 1, len(symbols)]))
    atoms.symbols = symbols
    return OracleJob(key or "-".join(symbols), atoms, attempt)


PAIR, TRIPLE = ["Cu", "Pd"], ["Cu", "Pd", "Pt"]
MIXED = [job(s) for s in (["Cu"], PAIR, ["Cu", "Pt"], TRIPLE, ["Pd", "Pd", "Pt"], ["Pt"])]


@pytest.fixture(scope="module")
def oracle():
    with AseOracle() as oracle:
        yield oracle


def faulty(fault, **settings):
    """An oracle whose calculator fails for CuPd and for nothing else."""
    return AseOracle(FAULTY, parameters={"faults": {"CuPd": fault}}, **settings)


def test_results_equal_a_relaxation_here(oracle):
    (result,) = oracle.run([job(TRIPLE)])
    atoms = job(TRIPLE).atoms
    atoms.calc = FastEmt()
    assert relax(atoms).converged
    assert result.status == "done"
    assert result.converged
    assert result.kind == "emt"
    assert result.error is None
    assert result.on_lattice
    # Every number survives the way through text exactly.
    assert result.energy == atoms.get_potential_energy()
    np.testing.assert_array_equal(result.forces, atoms.get_forces())
    np.testing.assert_array_equal(result.stress, atoms.get_stress())
    np.testing.assert_array_equal(result.atoms.positions, atoms.positions)
    np.testing.assert_array_equal(result.atoms.cell, atoms.cell)
    np.testing.assert_array_equal(result.atoms.symbols, TRIPLE)
    assert result.seconds > 0


def test_a_single_point_moves_nothing():
    with AseOracle(relax_cell=False, relax_ions=False) as oracle:
        (result,) = oracle.run([job(TRIPLE)])
    np.testing.assert_array_equal(result.atoms.positions, job(TRIPLE).atoms.positions)
    reference = job(TRIPLE).atoms
    reference.calc = FastEmt()
    assert result.energy == reference.get_potential_energy()


def test_results_do_not_depend_on_the_number_of_workers(oracle):
    def numbers(results):
        return {r.key: (r.energy, r.atoms.positions.tobytes(), r.stress.tobytes()) for r in results}

    with AseOracle(workers=2) as two:
        assert numbers(two.run(MIXED)) == numbers(oracle.run(reversed(MIXED)))


def test_no_job_starts_before_the_caller_comes_back():
    taken = []

    def jobs():
        for item in MIXED:
            taken.append(item.key)
            yield item

    with AseOracle(workers=2) as oracle:
        seen = 0
        for _ in oracle.run(jobs()):
            seen += 1
            # All results so far are in our hands, and at most one job per worker is running.
            assert len(taken) <= seen + 1
    assert seen == len(MIXED)


def test_workers_do_run_at_the_same_time(tmp_path, monkeypatch):
    """Two calculations, neither of which ends before the other has begun."""
    monkeypatch.setenv("MEETING_PLACE", str(tmp_path))
    with faulty("meet", workers=2, timeout=HANG, relax_cell=False, relax_ions=False) as oracle:
        results = list(oracle.run([job(PAIR, "a"), job(PAIR, "b")]))
    assert [r.status for r in results] == ["done", "done"]


def is_failure(result, message):
    assert result.status == "failed"
    assert re.search(message, result.error), result.error
    assert "\n" not in result.error
    assert result.energy is None
    assert result.cause == "structure"
    assert result.attempt == 2
    return True


def test_faults_of_a_structure_are_failed_results_of_a_worker_that_goes_on():
    """One worker meets them all, each in a structure of its own."""
    expected = {
        "raise": "RuntimeError: SCF did not converge$",
        "unpicklable": "Unpicklable: carried by a strange class$",
        "sys.exit": "SystemExit: giving up$",
        "nan": "not finite",
        "nan forces": "not finite",
        "absurd forces": r"a force of 1.73e\+04 eV/Å is absurd",
        "wrong shape": r"forces of shape \(\d, 3\) instead of \(\d, 3\)",
        "text": "the calculator returned '-3.5' as the energy, which is no number$",
        # Environments that are not sure to be to blame: what fails once need not fail again.
        "memory": "MemoryError$",
        "exit 2": "CalculationFailed: the program failed$",
        "reports 139": "returned an error: 139",
        "no output": "FileNotFoundError",
    }
    jobs = [job(["Cu"] * (1 + i) + ["Pd"], attempt=2) for i in range(len(expected))]
    faults = {one.atoms.get_chemical_formula(): f for one, f in zip(jobs, expected, strict=True)}
    settings = {"relax_cell": False, "relax_ions": False}
    with AseOracle(FAULTY, parameters={"faults": faults}, **settings) as oracle:
        *failed, last = oracle.run([*jobs, job(["Pt"])])
        assert (last.status, last.cause) == ("done", None)
        for one, result, message in zip(jobs, failed, expected.values(), strict=True):
            assert is_failure(result, message)
            assert result.atoms == one.atoms


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("exit", r"the worker process died \(exit code 3\)"),
        ("crash", r"the worker process died \(SIGSEGV\) \(last printed: Fatal Python error"),
        ("close", "the worker process died"),
    ],
)
def test_the_death_of_a_worker_is_a_failed_result_and_the_next_job_is_done(fault, message):
    with faulty(fault, relax_cell=False, relax_ions=False) as oracle:
        results = list(oracle.run([job(["Cu"]), job(PAIR, attempt=2), job(["Pt"])]))
    assert [r.status for r in results] == ["done", "failed", "done"]
    assert is_failure(results[1], message)


def test_faults_while_relaxing_are_failed_results():
    faults = {"CuPd": "nan", "CuPt": "nan forces", "PdPt": "raise"}
    jobs = [job(["Cu", "Pd"]), job(["Cu", "Pt"]), job(["Pd", "Pt"]), job(["Pt"])]
    with AseOracle(FAULTY, parameters={"faults": faults}) as oracle:
        results = list(oracle.run(jobs))
    assert [r.status for r in results] == ["failed", "failed", "failed", "done"]


def test_a_relaxation_that_does_not_end_is_a_failure():
    with faulty("push", max_steps=5) as oracle:
        (result,) = oracle.run([job(PAIR)])
    assert result.status == "failed"
    assert "not converged in 5 steps" in result.error


def test_printing_and_reading_do_not_disturb():
    faults = {"CuPd": "print", "CuPt": "read"}
    with AseOracle(FAULTY, parameters={"faults": faults}) as oracle:
        for result in oracle.run([job(["Cu", "Pd"]), job(["Cu", "Pt"])]):
            assert result.status == "done"
            assert result.energy != 0.0


def test_time_out_kills_the_calculator_and_its_children(tmp_path, monkeypatch):
    pid_file = tmp_path / "pid"
    monkeypatch.setenv("CHILD_PID_FILE", str(pid_file))

    class Clock:
        """Stands still until the child runs; then more than the time allowed has passed."""

        @staticmethod
        def monotonic():
            return 90.0 if pid_file.exists() and pid_file.read_text() else 0.0

    for module in (dispatch, processes):
        monkeypatch.setattr(module, "time", Clock)
    with faulty("spawn", timeout=0.5) as oracle:
        results = list(oracle.run([job(["Cu"]), job(PAIR), job(["Pt"])]))
    assert [r.status for r in results] == ["done", "failed", "done"]
    assert "timed out after 90.0 s" in results[1].error
    assert is_gone(int(pid_file.read_text()))


def test_a_worker_killed_from_outside_is_replaced(oracle):
    list(oracle.run([job(["Cu"])]))
    process = oracle._workers[0]._process
    os.kill(process.pid, signal.SIGKILL)
    # Idle when it died, so no result is lost; at worst the next job reports it.
    results = list(oracle.run([job(["Cu"]), job(PAIR), job(["Pt"])]))
    assert [r.status for r in results][1:] == ["done", "done"]
    assert oracle._workers[0]._process.pid != process.pid


def test_a_caller_that_stops_listening_leaves_nothing_running():
    with faulty("hang", workers=2) as oracle:
        for result in oracle.run([job(["Cu"]), job(PAIR)]):
            assert result.key == "Cu"
            hanging = [w._process.pid for w in oracle._workers]
            break
        oracle.close()
        assert all(is_gone(pid) for pid in hanging)
        (again,) = oracle.run([job(["Pt"])])
        assert again.status == "done"


def test_workers_leave_no_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with faulty("crash") as oracle:
        list(oracle.run([job(["Cu"]), job(PAIR), job(["Pt"])]))
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


def test_workers_die_with_the_campaign(tmp_path):
    script = textwrap.dedent("""
        from tests.oracles.test_ase_process import faulty, job, PAIR
        oracle = faulty("spawn", workers=1)
        results = oracle.run([job(["Cu"]), job(PAIR)])
        next(results)
        print(oracle._workers[0]._process.pid, flush=True)
        next(results)
    """)
    pid_file = tmp_path / "pid"
    environment = {**os.environ, "CHILD_PID_FILE": str(pid_file), "TMPDIR": str(tmp_path)}
    campaign = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    with campaign:
        worker = int(campaign.stdout.readline())
        wait_until(lambda: pid_file.exists() and pid_file.read_text())
        campaign.kill()
    assert is_gone(worker)
    assert is_gone(int(pid_file.read_text()))
    assert [path.name for path in tmp_path.iterdir()] == ["pid"]


def test_no_variable_of_mpi_reaches_the_calculator(monkeypatch):
    for name in ("PMI_RANK", "PMI_FD", "OMPI_COMM_WORLD_RANK", "HYDI_CONTROL_FD"):
        monkeypatch.setenv(name, "1")
    environment = processes._environment()
    assert not [name for name in environment if name.startswith(("PMI", "OMPI", "HYDI"))]
    assert environment["OMP_NUM_THREADS"] == "1"


def test_no_jobs_no_results(oracle):
    assert list(oracle.run([])) == []


def test_species_are_checked():
    oracle = AseOracle()
    oracle.check_species(["Cu", "X", "Pt"])
    with pytest.raises(InputError, match="does not know O"):
        oracle.check_species(["Cu", "O"])
    with pytest.raises(InputError, match="'Qq' is no chemical element"):
        oracle.check_species(["Cu", "Qq"])
    AseOracle("lj").check_species(["O", "W"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calculator": "emtt"}, "'emtt' is not known to ASE"),
        ({"calculator": "no_such_module:make"}, "no Python module 'no_such_module'"),
        ({"fmax": 0.0}, "fmax must be a positive number, not 0.0"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"workers": 0}, "workers must be"),
        ({"grace": -1.0}, "grace must be"),
        ({"parameters": {"f": len}}, "not JSON serializable"),
    ],
)
def test_bad_settings_are_input_errors(settings, message):
    with pytest.raises(InputError, match=message):
        AseOracle(**settings)


def test_an_ase_calculator_by_name():
    with AseOracle("lj", parameters={"sigma": 2.3, "rc": 6.0}, relax_cell=False) as oracle:
        (result,) = oracle.run([job(["Cu"])])
    assert result.status == "done"
    assert result.kind == "lj"


def is_gone(pid):
    def gone():
        with contextlib.suppress(FileNotFoundError):
            # A zombie that nobody reaps yet is gone for our purposes.
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return True

    return wait_until(gone)


def wait_until(condition):
    deadline = time.monotonic() + HANG
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
