"""One calculation on several cores."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from ase.build import bulk

from latticesearch.campaign import factories
from latticesearch.campaign.settings import parse_settings
from latticesearch.errors import InputError
from latticesearch.oracles import AseOracle, OracleJob
from latticesearch.oracles.parallel_codes import Parallel
from latticesearch.oracles.presets import Wanted
from latticesearch.parallel import OF_RANKS, cpus_of_all
from tests.campaign.runs import BIN, SMALL
from tests.fake_comm import run_ranks


def told(what, n_jobs=1, **settings):
    """Return what calculations in one worker tell of how they are run."""
    jobs = [OracleJob(f"Cu{i}", bulk("Cu", a=3.6 + 0.01 * i)) for i in range(n_jobs)]
    still = {"relax_cell": False, "relax_ions": False}
    name, parameters = "tests.fakes.telling:Telling", {"what": what}
    with AseOracle(name, parameters=parameters, **still, **settings) as oracle:
        results = list(oracle.run(jobs))
    assert [result.error for result in results] == [None] * n_jobs
    return [result.energy for result in results]


def without_threads(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def test_a_calculation_has_as_many_threads_as_cores_unless_the_user_says_it(monkeypatch):
    without_threads(monkeypatch)
    assert told("threads", parallel=Parallel(3)) == [3.0]
    # What the command line sets for its own ranks means nothing to calculations.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(OF_RANKS, "OMP_NUM_THREADS,MKL_NUM_THREADS")
    assert told("threads", parallel=Parallel(3)) == [3.0]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv(OF_RANKS, "MKL_NUM_THREADS")
    assert told("threads", parallel=Parallel(3)) == [2.0]


def test_where_there_are_ranks_each_has_one_thread():
    assert Parallel(4).threads("emt") == 4
    assert Parallel(4).threads("gpaw") == Parallel(4).threads("vasp") == 1
    assert Parallel(4, "srun -n {cores}").threads("mine:factory") == 1


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processes are not bound here")
def test_a_worker_may_use_what_it_is_given_not_what_its_parent_is_bound_to():
    all_of_them = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, all_of_them[:1])
    try:
        assert told("processors") == [1.0]
        assert told("processors", cpus=all_of_them) == [len(all_of_them)]
    finally:
        os.sched_setaffinity(0, all_of_them)


def test_processors_are_those_of_all_ranks_on_this_machine(monkeypatch):
    monkeypatch.setattr("latticesearch.parallel._own_cpus", lambda: [3])
    assert run_ranks(2, cpus_of_all) == [{3}, {3}]
    assert factories._cpus({0, 1, 2}, 2) == {0, 1, 2}
    # The user wants more than the launcher has left: the operating system draws the line.
    assert factories._cpus({0}, 10) == set(range(os.cpu_count()))


@pytest.mark.mpi
def test_a_calculator_that_calls_for_ranks_gets_them():
    assert told("ranks", parallel=Parallel(2, f"{BIN}/mpirun -n {{cores}}")) == [2.0]


def test_a_launcher_that_is_not_there_is_no_fault_of_the_structure():
    from latticesearch.errors import OracleUnavailable

    with pytest.raises(OracleUnavailable, match="no-such-launcher"):
        told("ranks", parallel=Parallel(2, "no-such-launcher -n {cores}"))


def test_one_calculator_serves_a_worker_where_that_is_asked_for():
    assert told("made", 3) == [1.0, 2.0, 3.0]
    assert told("made", 3, keep=True) == [1.0, 1.0, 1.0]


def test_a_launcher_stands_in_front_of_programs_that_have_none():
    assert Parallel().in_front_of("pw.x") == "pw.x"
    assert Parallel(4).in_front_of("pw.x -nk 2") == "mpirun -n 4 pw.x -nk 2"
    assert Parallel(4).in_front_of("/opt/bin/srun vasp_std") == "/opt/bin/srun vasp_std"
    assert Parallel(4, "srun --overlap -n {cores}").in_front_of("abinit") == (
        "srun --overlap -n 4 abinit"
    )
    wanted = Wanted(command="vasp_gam", parallel=Parallel(2))
    assert wanted.command_line("vasp_std") == "mpirun -n 2 vasp_gam"
    assert "parallel" not in wanted.to_dict()
    with pytest.raises(InputError, match=r"the only placeholder is \{cores\}"):
        Parallel(2, "mpirun -n {ranks}")


def settings(**oracle):
    return parse_settings({**SMALL, "oracle": {"kind": "emt", **oracle}}, base=Path())


def test_ranks_leave_their_cores_to_calculations():
    parent = factories.parent_lattice(settings())
    for cores, workers, expected in ((1, None, 8), (4, None, 2), (16, None, 1), (4, 5, 5)):
        said = {"cores": cores} | ({} if workers is None else {"workers": workers})
        oracle = factories.oracle(settings(**said), parent, 8)
        assert oracle._n_workers == expected


@pytest.mark.parametrize(
    ("oracle", "message"),
    [
        ({"queue": {}}, "oracle.queue.time is missing"),
        ({"queue": {"time": "soon"}}, "'soon' is no duration"),
        ({"queue": {"time": "1h", "memory": "lots"}}, "'lots' is no size of memory"),
        ({"queue": {"time": "1h", "options": ["qos=long"]}}, "'qos=long' is none"),
        ({"queue": {"time": "1h", "kind": "pbs"}}, "should be 'slurm'"),
        ({"queue": {"time": "1h", "tim": "2h"}}, "did you mean time"),
        ({"keep_calculator": True}, 'belongs to kind = "ase"'),
        ({"kind": "recorded", "file": sys.executable, "queue": {"time": "1h"}}, "leave .* out"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(oracle, message):
    with pytest.raises(InputError, match=message):
        settings(**oracle)
