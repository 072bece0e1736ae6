"""A campaign whose calculations are in a queue, by the command line; Slurm is a stand-in."""

from __future__ import annotations

import json

import ase.db
import pytest

from latticesearch.oracles.calculation import reply_to
from latticesearch.oracles.queue import files
from latticesearch.oracles.scratch import write_reply
from latticesearch.stopping import EXIT_STOPPED
from tests.campaign.runs import in_process, write_config
from tests.fakes.slurm import FakeSlurm

SMALL = {"candidates": {"max_sites": 2}, "learning": {"budget": 8}}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(fake.bin), prepend=":")
    return fake


def compute(run):
    """Compute what is out, as the jobs on the nodes do; return how much that was."""
    out = [one for one in files.all_submissions(run / "scratch") if not files.has_reply(one)]
    for one in out:
        assert files.claim(one.folder, {"job": "1"})
        message = files.read(one.folder / files.JOB)["message"]
        reply = {**reply_to(message), "seconds": 0.1}
        write_reply(one.folder, {**message["record"], "reply": reply})
    return len(out)


def energies(run):
    with ase.db.connect(run / "oracle.db") as database:
        return {row.key: (round(row.energy, 9), row.round) for row in database.select()}


def test_calls_that_do_not_wait_decide_as_one_that_computes_here(tmp_path, slurm):
    config = write_config(tmp_path, **SMALL)
    assert in_process("run", config, "--output", tmp_path / "here").returncode == 0
    queue = ["--set", 'oracle.queue={ time = "1h", cores = 2 }']
    run = tmp_path / "there"
    first = in_process("run", config, "--output", run, "--no-wait", *queue)
    assert first.returncode == EXIT_STOPPED
    assert "in the queue: 2 waiting), 0 of 8 calculations done" in first.stderr
    status = in_process("status", run)
    assert "in the queue: 2 waiting, 0 running, 0 done, 0 lost" in status.stdout
    slurm.say("RUNNING", "NODE_FAIL")
    answer = json.loads(in_process("status", run, "--json").stdout)
    assert answer["queue"] == {"waiting": 0, "running": 1, "done": 0, "lost": 1}
    slurm.say("RUNNING", "RUNNING")
    calls = 0
    while compute(run):
        # Who waits how is no setting that decides anything.
        done = in_process("run", run, "--no-wait", "--set", f"oracle.queue.jobs={5 + calls}")
        calls += 1
    assert calls >= 2
    assert done.returncode == 0, done.stderr
    assert energies(run) == energies(tmp_path / "here")
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {event["stage"] for event in events if event["event"] == "round"} == {1}
    assert json.loads(in_process("status", run, "--json").stdout)["queue"] == {}
    assert not (run / "scratch").exists()


def test_not_to_wait_needs_somebody_else_who_computes(tmp_path):
    done = in_process(
        "run", write_config(tmp_path, **SMALL), "--no-wait", "--output", tmp_path / "x"
    )
    assert done.returncode == 2
    assert "--no-wait belongs to [oracle.queue]" in done.stderr
    assert not (tmp_path / "x").exists()
