"""Kill the process that asks, or those that compute, at any moment: nothing is paid for twice."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.fakes.counting import calls
from tests.fakes.driver import STOPPED, jobs, oracle, stored
from tests.oracles.test_ase_process import wait_until

JOBS_PER_RUN = 4
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def start(folder, n_jobs, grace=20.0, who="", what=""):
    """Start a driver, which can be recognised by its variables, as can all that it starts."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "TMPDIR": str(folder / "tmp"),
        "DRIVEN_IN": str(folder),
    }
    command = [sys.executable, REPOSITORY / "tests" / "fakes" / "driver.py", folder]
    return subprocess.Popen(
        [*command, str(n_jobs), str(grace), who, what],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def processes(folder):
    """Return the processes that a driver in `folder` has started, itself included."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"DRIVEN_IN={folder}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def nobody_is_left(folder):
    return wait_until(lambda: not processes(folder))


def kill_at_random(driver, folder, choice):
    """Send a signal at some point of the work that a driver has before it."""
    known, wanted = len(calls(folder / "calls.txt")), choice.randrange(2 * JOBS_PER_RUN)
    if wanted == 0:
        time.sleep(choice.random() * 0.5)
    while driver.poll() is None and len(calls(folder / "calls.txt")) < known + wanted:
        time.sleep(0.002)
    time.sleep(choice.random() * 0.02)
    driver.send_signal(choice.choice(SIGNALS))
    return driver.wait()


@pytest.mark.parametrize("n_kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_whatever_kills_the_campaign_each_structure_is_computed_once(n_kills, tmp_path):
    """The next campaign starts at once, beside workers that may still be at it."""
    choice = random.Random(n_kills)  # noqa: S311 - moments, not secrets
    endings = set()
    for i in range(n_kills):
        driver = start(tmp_path, JOBS_PER_RUN * (i + 1))
        endings.add(kill_at_random(driver, tmp_path, choice))
    assert {-signal.SIGKILL, STOPPED} <= endings
    with start(tmp_path, JOBS_PER_RUN * n_kills) as driver:
        assert driver.wait() == 0
    wanted = [job.key for job in jobs(JOBS_PER_RUN * n_kills)]
    assert sorted(stored(tmp_path)) == sorted([key, "done"] for key in wanted)
    for event in ("start", "end"):
        computed = [formula for what, formula, _ in calls(tmp_path / "calls.txt") if what == event]
        assert sorted(computed) == sorted(wanted)
    assert nobody_is_left(tmp_path)
    assert not list((tmp_path / "tmp").iterdir())


def test_a_worker_goes_on_for_its_grace_and_no_longer(tmp_path):
    """Even one that compiled code keeps from listening."""
    driver = start(tmp_path, 2, grace=0.1, who="H", what="hang")
    with driver:
        assert wait_until(lambda: ["end", "He"] in [c[:2] for c in calls(tmp_path / "calls.txt")])
        driver.kill()
    assert nobody_is_left(tmp_path)


def test_a_new_campaign_waits_for_a_worker_that_is_at_it(tmp_path, caplog):
    with start(tmp_path, 1, who="H", what="wait") as driver:
        assert wait_until(lambda: calls(tmp_path / "calls.txt"))
        driver.kill()

    class LetItGoOn(logging.Handler):
        def emit(self, record):
            if "by a worker of before" in record.getMessage():
                (tmp_path / "calls.go").touch()

    caplog.set_level(logging.INFO)
    logger, handler = logging.getLogger("latticesearch.oracles.dispatch"), LetItGoOn()
    logger.addHandler(handler)
    try:
        with oracle(tmp_path, who="H", what="wait") as source:
            assert [r.energy for r in source.run(jobs(1))] == [-1.0]
    finally:
        logger.removeHandler(handler)
    assert [c[:2] for c in calls(tmp_path / "calls.txt")] == [["start", "H"], ["end", "H"]]
    assert not list((tmp_path / "scratch").iterdir())


def test_a_worker_killed_from_outside_is_no_attempt(tmp_path):
    with oracle(tmp_path, who="He", what="die_once") as source:
        results = list(source.run(jobs(2)))
    assert [(r.status, r.attempt) for r in results] == [("done", 1)] * 2
    assert [c[1] for c in calls(tmp_path / "calls.txt") if c[0] == "start"] == ["H", "He", "He"]


def test_what_a_queue_sends_to_all_processes_leaves_the_end_to_the_campaign(tmp_path):
    with oracle(tmp_path, who="H", what="terminate") as source:
        assert [r.status for r in source.run(jobs(1))] == ["done"]


def test_an_interrupted_oracle_ends_what_it_is_at_and_begins_nothing(tmp_path):
    with oracle(tmp_path, workers=2) as source:
        results = source.run(jobs(9))
        keys = [next(results).key]
        source.interrupt()
        assert source.interrupted
        keys += [r.key for r in results]
        started = [c[1] for c in calls(tmp_path / "calls.txt") if c[0] == "start"]
        assert sorted(keys) == sorted(started)
        assert len(keys) <= 2
        assert list(source.run(jobs(9))) == []


def test_what_outlasts_the_grace_is_killed_and_has_no_answer(tmp_path):
    with oracle(tmp_path, grace=0.1, who="H", what="hang", workers=2) as source:
        results = []
        for result in source.run(jobs(2)):
            results.append(result.key)
            wait_until(lambda: ["start", "H"] in [c[:2] for c in calls(tmp_path / "calls.txt")])
            source.interrupt()
        assert results == ["He"]
        assert not list((tmp_path / "scratch").iterdir())
