"""Calculations in a real Slurm on this machine (apt install slurm-wlm munge), which is set up here.

Everything may be killed: each structure is computed once, counted in the calculator.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import ase.db
import pytest

from tests.campaign.counted import counts
from tests.campaign.runs import command, environment, latticesearch, write_config
from tests.conftest import HANG, REPOSITORY
from tests.fakes.counting import calls
from tests.fakes.driver import STOPPED, jobs, stored
from tests.pages import blocks_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("slurmctld") is None or os.geteuid() != 0,
        reason="needs slurm-wlm and munge, and root to start them",
    ),
]
SCRIPT = REPOSITORY / "tests" / "slurm.sh"


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory):
    """Start a Slurm of one node; its commands find it by SLURM_CONF."""
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run(["sh", SCRIPT, "start", folder], check=True, timeout=HANG)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield folder
    subprocess.run(["sh", SCRIPT, "stop", folder], check=True, timeout=HANG)
    del os.environ["SLURM_CONF"]
    if before is not None:
        os.environ["SLURM_CONF"] = before


@pytest.fixture
def node():
    """Return a function that sets the state of the only node; it is idle again at the end."""
    name = os.uname().nodename.split(".")[0]

    def set_state(state):
        words = [f"nodename={name}", f"state={state}", "reason=test"]
        # A node that comes back by itself cannot be resumed.
        subprocess.run(["scontrol", "update", *words], check=state != "resume")

    yield set_state
    if squeue("-h", "-o", "%i"):
        subprocess.run(["scancel", "--user=root"], check=False)
    set_state("resume")


def squeue(*words):
    done = subprocess.run(["squeue", *words], capture_output=True, text=True, check=True)
    return done.stdout.split()


def start(folder, n_jobs, **options):
    """Start a driver, which can be recognised by a variable, as can all that comes of it."""
    script = REPOSITORY / "tests" / "fakes" / "queue_driver.py"
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "DRIVEN_IN": str(folder)}
    with (folder / "driver.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, script, folder, str(n_jobs), json.dumps(options)],
            env=variables,
            stdout=log,
            stderr=log,
        )


def wait_for(condition):
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def formulas(folder, event):
    return [formula for what, formula, _ in calls(folder / "calls.txt") if what == event]


def all_once(folder, n_jobs):
    wanted = sorted(job.key for job in jobs(n_jobs))
    assert sorted(stored(folder)) == [[key, "done"] for key in wanted]
    assert sorted(formulas(folder, "start")) == sorted(formulas(folder, "end")) == wanted
    assert not any((folder / "scratch").iterdir())


def test_an_array_of_jobs_whose_driver_is_killed_and_comes_by(tmp_path):
    """It does not wait; what its jobs have done by then is taken up by the next ones."""
    driver = start(tmp_path, 8, seconds=3.0)
    wait_for(lambda: formulas(tmp_path, "start"))
    driver.kill()
    driver.wait()
    options = {"seconds": 3.0, "queue": {"wait": False, "interval": 1.0}}
    codes = []
    while not codes or codes[-1] == STOPPED:
        codes.append(start(tmp_path, 8, **options).wait())
        time.sleep(2)
    assert codes[0] == STOPPED
    assert codes[-1] == 0
    all_once(tmp_path, 8)


def test_a_drained_node_lets_jobs_wait_and_a_node_that_fails_costs_no_attempt(tmp_path, node):
    node("drain")
    driver = start(tmp_path, 2, seconds=20.0)
    wait_for(lambda: squeue("-h", "-r", "-t", "PENDING", "-o", "%i"))
    node("resume")
    wait_for(lambda: len(formulas(tmp_path, "start")) == 2)
    node("down")
    wait_for(lambda: "NODE_FAIL" in (tmp_path / "driver.log").read_text() or driver.poll())
    node("resume")
    assert driver.wait() == 0
    assert sorted(stored(tmp_path)) == [["H", "done"], ["He", "done"]]
    assert Counter(formulas(tmp_path, "end")) == {"H": 1, "He": 1}


def test_a_cancelled_job_is_handed_over_again(tmp_path):
    driver = start(tmp_path, 2, seconds=10.0)
    wait_for(lambda: len(formulas(tmp_path, "start")) == 2)
    first = squeue("-h", "-r", "-o", "%i")[0]
    subprocess.run(["scancel", first], check=True)
    assert driver.wait() == 0
    assert sorted(stored(tmp_path)) == [["H", "done"], ["He", "done"]]
    assert Counter(formulas(tmp_path, "end")) == {"H": 1, "He": 1}
    assert len(formulas(tmp_path, "start")) == 3


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"time": 20.0}, "timed out after"),
        # The job does not know of this limit: the queue itself ends it, after a minute.
        ({"options": ["--time=1"]}, "timed out: the queue ended it"),
    ],
)
def test_a_job_over_its_time_is_an_attempt(resources, said, tmp_path):
    options = {"who": "H", "what": "hang", "resources": resources}
    assert start(tmp_path, 2, **options).wait() == 0
    assert sorted(stored(tmp_path)) == [["H", "failed"], ["He", "done"]]
    assert Counter(formulas(tmp_path, "start")) == {"H": 1, "He": 1}
    (reply,) = (tmp_path / "scratch").glob("*/attempt-1/failed.json")
    assert said in json.loads(reply.read_text())["reply"]["error"]


def test_random_kills_of_driver_and_workers_lose_nothing_and_repeat_nothing(tmp_path):
    choice = random.Random(60)  # noqa: S311 - moments, not secrets
    options = {"seconds": 2.0, "queue": {"interval": 1.0, "array": 25, "jobs": 45}}
    killed, n_drivers = set(), 0
    driver = start(tmp_path, 60, **options)
    while driver.poll() is None:
        time.sleep(choice.uniform(0.2, 4.0))
        # What is killed three times is not the structure's fault, and ends the campaign.
        workers = at_work(tmp_path, besides=killed)
        if workers and len(killed) < 8 and choice.random() < 0.5:
            victim = choice.choice(sorted(workers))
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)
        elif n_drivers < 8:
            n_drivers += 1
            driver.send_signal(choice.choice([signal.SIGKILL, signal.SIGTERM]))
            driver.wait()
            driver = start(tmp_path, 60, **options)
    assert driver.returncode == 0
    assert len(killed) >= 3
    assert n_drivers >= 3
    wanted = sorted(job.key for job in jobs(60))
    assert sorted(stored(tmp_path)) == [[key, "done"] for key in wanted]
    of_killed = [c[1] for c in calls(tmp_path / "calls.txt") if int(c[2]) in killed]
    for event in ("start", "end"):
        twice = [f for f, n in Counter(formulas(tmp_path, event)).items() if n > 1]
        assert set(twice) <= set(of_killed), event
        assert set(formulas(tmp_path, event)) == set(wanted)
    wait_for(lambda: not squeue("-h", "-o", "%i"))


def at_work(folder, besides):
    """Return the processes in the middle of calculations that none of `besides` was at."""
    lines = [
        (what, formula, int(process)) for what, formula, process in calls(folder / "calls.txt")
    ]
    ended = {process for what, _, process in lines if what == "end"}
    spared = {formula for _, formula, process in lines if process in besides}
    return {p for what, f, p in lines if what == "start" and p not in ended and f not in spared}


def test_a_campaign_in_the_queue_decides_as_one_here(tmp_path):
    """Killed in the middle, and by calls that do not wait."""
    counted = "tests.campaign.counted:factory"
    small = {
        "candidates": {"max_sites": 3},
        "learning": {"budget": 12},
        "oracle": {"kind": "ase", "calculator": counted},
    }
    config = write_config(tmp_path, **small)
    here = {"COUNTED": str(tmp_path / "calls-here"), "cwd": tmp_path}
    assert latticesearch("run", config, "--output", "here", **here).returncode == 0
    small["oracle"]["queue"] = {"time": "10m", "interval": 1.0}
    config = write_config(tmp_path, **small)
    there = {"COUNTED": str(tmp_path / "calls-there"), "PAUSE": "2"}
    run = subprocess.Popen(command("run", config), cwd=tmp_path, env=environment(**there))
    wait_for(lambda: counts(tmp_path / "calls-there")[0])
    run.kill()
    run.wait()
    status = latticesearch("status", "runs/small", "--json", cwd=tmp_path)
    assert sum(json.loads(status.stdout)["queue"].values()) == 2
    codes = []
    while not codes or codes[-1] == STOPPED:
        done = latticesearch("run", "runs/small", "--no-wait", cwd=tmp_path, **there)
        codes.append(done.returncode)
        wait_for(lambda: not squeue("-h", "-o", "%i"))
    assert codes[-1] == 0, done.stderr
    assert len(codes) > 2
    begun, ended = counts(tmp_path / "calls-there")
    assert begun == ended == counts(tmp_path / "calls-here")[1]
    assert energies(tmp_path / "runs" / "small") == energies(tmp_path / "here")


@pytest.mark.parametrize("name", ["campaign.sh", "loop.sh"])
def test_a_campaign_is_itself_a_job_by_the_scripts_of_the_documentation(name, tmp_path):
    page = REPOSITORY / "docs" / "clusters.md"
    (text,) = [block.text for block in blocks_of(page) if block.says.get("file") == name]
    (tmp_path / name).write_text(text)
    binaries = tmp_path / "venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "activate").write_text(f'export PATH="{binaries}:$PATH" PYTHONPATH={REPOSITORY}\n')
    (binaries / "latticesearch").write_text(f'#!/bin/sh\n{sys.executable} -m latticesearch "$@"\n')
    (binaries / "latticesearch").chmod(0o755)
    queue = {"time": "10m", "interval": 1.0}
    small = {"candidates": {"max_sites": 2}, "oracle": {"queue": queue}}
    write_config(tmp_path, campaign={"name": "mo-ta"}, **small)
    variables = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run(["sbatch", name], check=True, cwd=tmp_path, env=variables)
    wait_for(lambda: not squeue("-h", "-o", "%i"))
    run = tmp_path / "runs" / "mo-ta"
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "end"
    stops = [event["reason"] for event in events if event["event"] == "stopped"]
    assert len(stops) >= 2 if name == "loop.sh" else stops == []


def energies(run: Path):
    with ase.db.connect(run / "oracle.db") as database:
        return sorted((row.key, round(row.energy, 9), row.round) for row in database.select())
