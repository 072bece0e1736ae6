import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.db import connect

from latticesearch.errors import InputError
from latticesearch.oracles import OracleResult
from latticesearch.storage import OracleStore

REPOSITORY = Path(__file__).parents[2]


def done(key="s1-1.0.0.1.0.1-A", **changes):
    atoms = bulk("Cu", "fcc", a=3.6) * (1, 1, 2)
    atoms.rattle(0.01, seed=0)
    values = {
        "key": key,
        "status": "done",
        "energy": -1.2345678901234567,
        "forces": np.random.default_rng(0).normal(size=(2, 3)),
        "stress": np.random.default_rng(1).normal(size=6),
        "atoms": atoms,
        "converged": True,
        "seconds": 0.25,
        "kind": "emt",
        "attempt": 2,
        "on_lattice": False,
    }
    return OracleResult(**{**values, **changes})


def failed(key="s1-1.0.0.1.0.1-B", **changes):
    values = {"key": key, "status": "failed", "error": "it broke", "kind": "emt", "attempt": 1}
    return OracleResult(**{**values, **changes})


@pytest.fixture
def store(tmp_path):
    return OracleStore(tmp_path / "oracle.db")


def test_what_is_written_is_read_back_exactly(store):
    result = done()
    assert store.append(result, 3) == 1
    (stored,) = OracleStore(store._path).results()
    assert (stored.row, stored.round_number, stored.status) == (1, 3, "done")
    for name in ("key", "status", "energy", "converged", "seconds", "kind", "attempt", "error"):
        assert getattr(stored.result, name) == getattr(result, name), name
    assert stored.result.on_lattice is False
    np.testing.assert_array_equal(stored.result.forces, result.forces)
    np.testing.assert_array_equal(stored.result.stress, result.stress)
    assert stored.result.atoms == result.atoms


@pytest.mark.parametrize(
    "error", ["it broke", "nan", "12", "True", "", "ligne brisée\n", "x" * 5000]
)
def test_failures_are_kept_with_their_errors(store, error):
    store.append(failed(error=error), 0)
    (stored,) = store.results()
    assert stored.status == "failed"
    assert stored.result.energy is None
    assert stored.result.atoms is None
    assert (stored.result.error or "") == error


def test_every_attempt_is_a_row_and_done_wins(store):
    for result in (failed("a1"), done("a1"), failed("b1"), failed("b1", attempt=2)):
        store.append(result, 1)
    assert [s.row for s in store.results()] == [1, 2, 3, 4]
    known = store.by_key()
    assert known["a1"].status == "done"
    assert known["b1"].result.attempt == 2


def test_a_key_is_done_once(store):
    store.append(done(), 1)
    with pytest.raises(ValueError, match="already has a result"):
        store.append(done(), 2)
    assert len(store.results()) == 1


def test_a_final_failure_is_quarantined(store):
    store.append(failed("a1"), 1)
    store.append(failed("a1", attempt=2), 1, quarantine=True)
    assert [s.status for s in store.results()] == ["failed", "quarantined"]
    assert store.by_key()["a1"].status == "quarantined"
    assert store.by_key()["a1"].result.status == "failed"
    assert store.by_key()["a1"].result.error == "it broke"


def test_an_empty_store_reads_as_empty_and_makes_no_file(store):
    assert store.results() == []
    assert store.by_key() == {}
    assert not store._path.exists()


def test_other_tools_read_the_documented_columns(store):
    store.append(done(), 7)
    with connect(store._path) as database:
        (row,) = database.select(status="done", round=7)
        assert row.energy == done().energy
        assert row.key_value_pairs == {
            "key": "s1-1.0.0.1.0.1-A",
            "status": "done",
            "attempt": 2,
            "round": 7,
            "kind": "emt",
            "seconds": 0.25,
            "converged": True,
            "on_lattice": False,
        }


def test_commits_are_synced(store):
    with store._connected() as database:
        assert database.connection.execute("PRAGMA synchronous").fetchone() == (3,)


def test_no_lock_file_is_left_behind(store):
    store.append(done(), 0)
    assert [p.name for p in store._path.parent.iterdir()] == ["oracle.db"]


def test_a_file_that_is_no_database_is_an_input_error(tmp_path):
    (tmp_path / "oracle.db").write_bytes(b"something else" * 1000)
    with pytest.raises(InputError, match=r"oracle.db is damaged \(file is not a database\)"):
        OracleStore(tmp_path / "oracle.db").results()


WRITER = """
import sys
from pathlib import Path
from tests.storage.test_results import done, failed
from latticesearch.storage import OracleStore
store = OracleStore(Path(sys.argv[1]))
for i in range(int(sys.argv[2]), 100000):
    store.append(done(f"k{i}"), i)
    print(i, flush=True)
"""


def test_results_survive_kill_9(tmp_path):
    path = tmp_path / "oracle.db"
    acknowledged = 0
    for n_heard in (1, 2, 9):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(acknowledged + 1)],
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
        )
        with writer:
            heard = [writer.stdout.readline() for _ in range(n_heard)]
            writer.kill()
            heard += [line for line in writer.stdout if line.endswith(b"\n")]
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        stored = OracleStore(path).results()
        rounds = [s.round_number for s in stored]
        assert rounds == list(range(1, len(rounds) + 1))
        last = int(heard[-1])
        # The last write may have been committed just before its acknowledgement was printed.
        assert len(rounds) in {last, last + 1}
        assert all(s.result.energy == done().energy for s in stored)
        acknowledged = len(rounds)


KILLED_AT = """
import os, signal, sqlite3, sys
from pathlib import Path
from tests.storage.test_results import done
from latticesearch.storage import OracleStore

class Killing(sqlite3.Connection):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.set_trace_callback(self.count)

    def count(self, statement):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

connect = sqlite3.connect
for number in range(1, 1000):
    path = Path(sys.argv[1]) / f"{number}.db"
    child = os.fork()
    if not child:
        left = number
        sqlite3.connect = lambda *a, **o: connect(*a, **o, factory=Killing)
        OracleStore(path).append(done(), 0)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    store = OracleStore(path)
    store.check()
    n = len(store.results())
    if n == 0:
        store.append(done(), 0)
    assert len(store.results()) == 1
    print(n, flush=True)
    if status == 0:
        break
"""


def test_a_kill_at_any_statement_of_the_first_write_leaves_a_database_that_opens(tmp_path):
    """All its tables and its row come into being at once, with the last statement."""
    words = [sys.executable, "-c", KILLED_AT, str(tmp_path)]
    run = subprocess.run(words, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert run.returncode == 0, run.stderr
    rows = run.stdout.split()
    assert len(rows) > 20
    assert rows == ["0"] * (len(rows) - 1) + ["1"]


def test_a_reader_does_not_disturb_the_writer(tmp_path):
    path = tmp_path / "oracle.db"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), "1"],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    ) as writer:
        counts = [0]
        for _ in range(20):
            written = int(writer.stdout.readline())
            counts.append(len(OracleStore(path).results()))
            assert counts[-1] >= written
        assert writer.poll() is None
        writer.kill()
    assert counts == sorted(counts)
