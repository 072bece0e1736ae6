"""Whatever ends a run before its end: nothing paid for is lost, nothing is paid for twice."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import tempfile
import time

import numpy as np
import pandas as pd
import pytest

from latticesearch.errors import InputError, Stopped
from latticesearch.stopping import StopRequest, seconds_until
from latticesearch.storage import RunDirectory
from tests.campaign.aimed import MOMENTS
from tests.campaign.counted import counts
from tests.campaign.nursery import Nursery
from tests.campaign.runs import command, environment, in_process, wait_until_listening
from tests.campaign.test_stages import config_of, status

SLOW_CALCULATIONS = {"PAUSE": "0.05"}


def hull_of(path):
    return (path / "hull.csv").read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The hull of the campaign when nothing disturbs it, and how many calculations it takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUNTED", str(folder / "counted"))
        done = in_process("run", config_of(folder), "--output", folder / "run")
    assert done.returncode == 0, done.stderr
    return hull_of(folder / "run"), len(counts(folder / "counted")[0])


def killed_until_done(folder, n_kills, seed, ranks=1):
    """Run a campaign, kill it `n_kills` times, let it come to its end; check what must hold."""
    rng = np.random.default_rng(seed)
    config, path, counted = config_of(folder), folder / "run", folder / "counted"
    words = ("run", config, "--output", path, "--set", "oracle.grace=10")
    variables = {"COUNTED": str(counted), **SLOW_CALCULATIONS}
    stored = {}
    with Nursery(**variables) as nursery:
        for number in range(n_kills):
            log = folder / f"log-{number}"
            process = nursery.start(log, *words)
            # From the first import to the last file: a whole run takes about two seconds.
            time.sleep(rng.uniform(0.0, 2.5))
            kind = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)[number % 3]
            os.kill(process, kind)
            code = nursery.wait()
            allowed = {0, -signal.SIGKILL} if kind == signal.SIGKILL else {0, 75}
            assert code in allowed, (code, log.read_text())
            if code == 75:
                assert "stopped in" in log.read_text().splitlines()[-1]
            known = energies(path)
            assert stored.items() <= known.items()
            stored = known
        nursery.start(folder / "last", *words)
        assert nursery.wait() == 0, (folder / "last").read_text()
    begun, finished = counts(counted)
    assert set(begun.values()) == set(finished.values()) == {1}, (begun, finished)
    assert not [p for p in (path / "scratch").glob("*") if p.is_dir()]
    return hull_of(path), len(begun)


def energies(path):
    if not (path / "settings.toml").exists():
        return {}
    return {r.key: r.result.energy for r in RunDirectory.read(path).store.results()}


def test_twenty_kills_lose_nothing_and_repeat_nothing(undisturbed, tmp_path):
    assert killed_until_done(tmp_path, 20, seed=1) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 11))
def test_two_hundred_kills_lose_nothing_and_repeat_nothing(undisturbed, tmp_path, seed):
    assert killed_until_done(tmp_path, 20, seed) == undisturbed


AIMS = [*itertools.product(MOMENTS, (1,)), *itertools.product(MOMENTS, (2, 4))]


def test_kills_at_the_moments_that_count_lose_nothing_and_repeat_nothing(undisturbed, tmp_path):
    """From inside the first write of the database on; see `aimed`."""
    words = ("run", config_of(tmp_path), "--output", tmp_path / "run")
    with Nursery(COUNTED=str(tmp_path / "counted")) as nursery:
        n_hits = 0
        for number, when in enumerate(AIMS):
            nursery.start(tmp_path / f"log-{number}", *words, aim=when)
            code = nursery.wait()
            assert code in {0, -signal.SIGKILL}, (tmp_path / f"log-{number}").read_text()
            n_hits += code != 0
        nursery.start(tmp_path / "last", *words)
        assert nursery.wait() == 0, (tmp_path / "last").read_text()
    # Four results at a time are more than there are towards the end.
    assert n_hits >= 6
    begun, finished = counts(tmp_path / "counted")
    assert set(begun.values()) == set(finished.values()) == {1}, (begun, finished)
    assert (hull_of(tmp_path / "run"), len(begun)) == undisturbed
    assert status(tmp_path / "run")["damage"] == []


@pytest.mark.mpi
@pytest.mark.parametrize(
    "aims", [AIMS[1:2], pytest.param(AIMS, marks=pytest.mark.slow)], ids=["first write", "all"]
)
def test_kills_at_the_moments_that_count_under_mpirun(undisturbed, tmp_path, monkeypatch, aims):
    variables = {"COUNTED": str(tmp_path / "counted")}
    words = [str(w) for w in ("run", config_of(tmp_path), "--output", tmp_path / "run")]
    for moment, number in aims:
        start = command(ranks=2)
        start[start.index("latticesearch") :] = ["tests.campaign.aimed", moment, str(number)]
        done = subprocess.run(
            [*start, *words], env=environment(**variables), check=False, capture_output=True
        )
        assert done.returncode in {0, signal.SIGKILL, 128 + signal.SIGKILL}, done.stderr
    monkeypatch.setenv("COUNTED", variables["COUNTED"])
    done = in_process(*words)
    assert done.returncode == 0, done.stderr
    begun, finished = counts(tmp_path / "counted")
    assert set(begun.values()) == set(finished.values()) == {1}, (begun, finished)
    assert (hull_of(tmp_path / "run"), len(begun)) == undisturbed


@pytest.mark.parametrize("kind", ["TERM", "INT", "USR1"])
def test_a_signal_ends_the_run_in_order(undisturbed, tmp_path, kind):
    """What runs is finished and stored; the same command goes on."""
    words = ("run", config_of(tmp_path), "--output", tmp_path / "run")
    with Nursery(COUNTED=str(tmp_path / "counted"), PAUSE="0.3") as nursery:
        process = nursery.start(tmp_path / "log", *words)
        while len(counts(tmp_path / "counted")[0]) < 4:
            time.sleep(0.02)
        os.kill(process, signal.Signals[f"SIG{kind}"])
        assert nursery.wait() == 75
    text = (tmp_path / "log").read_text().strip().splitlines()[-1]
    assert re.search(rf"stopped in order \(.*SIG{kind}.*\), 4 of 12 calculations done", text), text
    assert f"latticesearch run {tmp_path / 'run'}" in text
    assert "stopped in order" in in_process("status", tmp_path / "run").stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUNTED", str(tmp_path / "counted"))
        assert in_process("run", tmp_path / "run").returncode == 0
    assert set(counts(tmp_path / "counted")[0].values()) == {1}
    assert hull_of(tmp_path / "run") == undisturbed[0]


@pytest.mark.parametrize("kind", ["TERM", "INT", "USR1"])
def test_a_signal_while_libraries_are_loaded_ends_the_run_in_order(tmp_path, kind):
    """From the first moment on, long before there is a run directory."""
    words = command("run", config_of(tmp_path), "--output", tmp_path / "run")
    with subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        wait_until_listening(process.pid)
        process.send_signal(signal.Signals[f"SIG{kind}"])
        _, text = process.communicate()
    assert process.returncode == 75
    line = text.splitlines()[-1]
    assert line.startswith(f"latticesearch: stopped in order (signal SIG{kind}) before anything")
    assert "Traceback" not in text
    assert not (tmp_path / "run").exists()


@pytest.mark.mpi
def test_a_signal_while_ranks_load_libraries_ends_all_of_them_in_order(tmp_path):
    words = command("run", config_of(tmp_path), "--output", tmp_path / "run", ranks=2)
    with subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        first = process.stderr.readline()
        assert "loading libraries" in first
        process.terminate()
        _, text = process.communicate()
    assert process.returncode == 75
    assert text.count("stopped in order (signal SIGTERM) before anything was written") == 1
    assert "Traceback" not in text
    assert not (tmp_path / "run").exists()


def test_a_signal_before_the_run_begins_may_look_like_a_failure_of_a_library():
    """Whoever is interrupted may swallow that, or make an error of its own of it."""

    def interrupted(error):
        stop = StopRequest()
        with stop.beginning():
            with contextlib.suppress(BaseException):
                stop.request("signal SIGTERM")
            if error:
                raise error

    for error in (None, ImportError("half of it is loaded")):
        with pytest.raises(Stopped, match="SIGTERM"):
            interrupted(error)
    with pytest.raises(ImportError), StopRequest().beginning():
        raise ImportError("nobody asked to stop")


def test_a_run_ends_when_its_time_is_up(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTED", str(tmp_path / "counted"))
    monkeypatch.setenv("PAUSE", "0.5")
    done = in_process("run", config_of(tmp_path), "--output", tmp_path / "run", "--until", "4s")
    assert done.returncode == 75, done.stderr
    assert "its time is up" in done.stderr.splitlines()[-1]


@pytest.mark.mpi
@pytest.mark.slow
def test_kills_under_mpirun_lose_nothing(undisturbed, tmp_path):
    words = ("run", config_of(tmp_path), "--output", tmp_path / "run")
    variables = {"COUNTED": str(tmp_path / "counted"), "PAUSE": "0.2"}
    for number, kind in enumerate((signal.SIGTERM, signal.SIGINT, signal.SIGKILL) * 3):
        process = subprocess.Popen(
            command(*words, ranks=2),
            env=environment(**variables),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(2.0 + 0.5 * number)
        process.send_signal(kind)
        process.wait()
        # mpirun may end before its ranks do.
        time.sleep(1.0)
    done = subprocess.run(
        command(*words, ranks=2), env=environment(**variables), check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert hull_of(tmp_path / "run") == undisturbed[0]
    assert set(counts(tmp_path / "counted")[1].values()) == {1}


def test_nothing_is_left_in_the_systems_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTED", str(tmp_path / "counted"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    config = config_of(tmp_path, learning={"budget": 3})
    assert in_process("run", config, "--output", tmp_path / "run").returncode == 0
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400.0), ("1.5h", 5400.0), ("2h30m", 9000.0), ("20 s", 20.0)]
)
def test_durations(text, seconds):
    assert seconds_until(text) == seconds


def test_a_time_may_be_a_date():
    later = pd.Timestamp.now() + pd.Timedelta(hours=2)
    assert 7100 < seconds_until(later.isoformat()) < 7201
    for bad in ("soon", "2001-01-01T00:00", "0s", ""):
        with pytest.raises(InputError):
            seconds_until(bad)


def test_the_first_reason_to_stop_counts_and_everybody_hears_of_it():
    stop, heard = StopRequest(), []
    stop.listen(lambda: heard.append(1))
    stop.check()
    stop.request("first")
    stop.request("second")
    stop.listen(lambda: heard.append(2))
    assert stop.reason == "first"
    assert heard == [1, 2]


def test_the_log_tells_of_every_result(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTED", str(tmp_path / "counted"))
    config = config_of(tmp_path, learning={"budget": 4})
    assert in_process("run", config, "--output", tmp_path / "run").returncode == 0
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [e["row"] for e in events if e["event"] == "result"] == [1, 2, 3, 4]
