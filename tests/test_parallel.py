from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from latticesearch import parallel
from latticesearch.errors import InputError
from latticesearch.parallel import SerialComm, block_range, collective_errors, deal_out
from tests.conftest import HANG
from tests.fake_comm import run_ranks

MPIRUN = Path(sys.executable).parent / "mpirun"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 5, 20])
def test_blocks_cover_everything_once_and_evenly(n, size):
    blocks = run_ranks(size, lambda comm: block_range(n, comm))
    assert [i for block in blocks for i in block] == list(range(n))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1


def test_an_exception_on_one_rank_is_raised_on_all():
    def body(comm):
        with pytest.raises(InputError, match="bad thing"), collective_errors(comm):
            if comm.rank == 1:
                raise InputError("bad thing")
        return True

    assert all(run_ranks(3, body))


def test_root_functions_answer_on_all_ranks():
    def body(comm):
        value = parallel.on_root(comm, lambda: comm.rank + 40)
        kept = parallel.kept_on_root(comm, lambda: "handle")
        with pytest.raises(KeyError):
            parallel.on_root(comm, {}.__getitem__, "missing")
        return value, kept

    assert run_ranks(2, body) == [(40, "handle"), (40, None)]


@pytest.mark.parametrize("n", [0, 2, 7])
def test_split_work_is_done_once_and_known_everywhere(n):
    done = []

    def work(i):
        done.append(i)
        return i * i

    for result in run_ranks(3, lambda comm: parallel.split(n, work, comm)):
        assert result == [i * i for i in range(n)]
    assert sorted(done) == list(range(n))


def test_gathered_blocks_are_in_rank_order():
    result = run_ranks(3, lambda comm: parallel.gather_blocks(list(block_range(8, comm)), comm))
    assert result == [list(range(8))] * 3


def test_no_launcher_means_serial(monkeypatch):
    monkeypatch.setattr(parallel, "_WORLD", [])
    for name in parallel._LAUNCHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert isinstance(parallel.world(), SerialComm)


def test_the_launchers_variables_do_not_reach_calculators(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("KEEP_ME", "yes")
    environment = parallel.scrubbed_environment()
    assert "PMI_RANK" not in environment
    assert "OMPI_COMM_WORLD_SIZE" not in environment
    assert environment["KEEP_ME"] == "yes"


@pytest.mark.parametrize(("size", "answer"), [("1", "1 1"), ("2", "no MPI library can be loaded")])
def test_a_launcher_without_a_library_is_serial_or_an_error(size, answer):
    code = """
from latticesearch import parallel
comm = parallel.world()
import ase.parallel
print(comm.size, ase.parallel.world.size)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={
            **parallel.scrubbed_environment(),
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "SLURM_PROCID": "0",
            "SLURM_STEP_NUM_TASKS": size,
            "MPI4PY_LIBMPI": "/nonexistent/libmpi.so",
        },
    )
    assert answer in done.stdout + done.stderr


def mpirun(n, code):
    """Run `code` on `n` real ranks."""
    return subprocess.run(
        [MPIRUN, "-n", str(n), sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )


@pytest.mark.mpi
def test_real_ranks_share_values_and_errors():
    code = """
from latticesearch import parallel
comm = parallel.world()
assert comm.size == 2
assert comm.bcast("from root" if comm.rank == 0 else None) == "from root"
assert comm.allgather(comm.rank ** 2) == [0, 1]
assert comm.meet(10)
try:
    with parallel.collective_errors(comm):
        if comm.rank == 1:
            raise ValueError("only on one")
except ValueError as error:
    import os
    os.write(1, f"caught {error}\\n".encode())  # one write: lines of two ranks may mix
"""
    done = mpirun(2, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("caught only on one") == 2


@pytest.mark.mpi
def test_a_rank_that_dies_ends_all():
    code = """
from latticesearch import parallel
comm = parallel.world()
if comm.rank == 1:
    comm.abort(7)
comm.barrier()
"""
    assert mpirun(2, code).returncode == 7


@pytest.mark.parametrize("n", [0, 1, 7, 100])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_piece_is_dealt_out_once_in_any_order(n, size):
    done = []

    def piece(i):
        done.append(i)
        return i * i

    for result in run_ranks(size, lambda comm: deal_out(n, piece, comm)):
        assert result == [i * i for i in range(n)]
    assert sorted(done) == list(range(n))
