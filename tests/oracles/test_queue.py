"""What becomes of calculations in a queue, with a stand-in for Slurm (`test_slurm` is real)."""

from __future__ import annotations

import shutil

import pytest

from latticesearch.errors import InputError, OracleUnavailable, Stopped
from latticesearch.oracles import AseOracle
from latticesearch.oracles.queue import ElementResources, Queue, Resources, files, in_the_queue
from latticesearch.oracles.queue.slurm import Slurm, script
from latticesearch.oracles.scratch import write_reply
from tests.fakes.counting import calls
from tests.fakes.driver import jobs
from tests.fakes.queue_driver import oracle
from tests.fakes.slurm import FakeSlurm


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(fake.bin), prepend=":")
    return fake


class Campaign:
    """A campaign that comes by now and then, each time as a process of its own would."""

    def __init__(self, folder, n_jobs, **options):
        self.folder, self.n_jobs, self.scratch = folder, n_jobs, folder / "scratch"
        queue = {"wait": False, "interval": 1e-9, **options.pop("queue", {})}
        self.options = {"queue": queue, **options}
        self.results = []

    def comes_by(self):
        """Return the results that it has found, by formula."""
        known = {result.key for result in self.results if result.status == "done"}
        found = []
        with oracle(self.folder, self.options) as source:
            try:
                for result in source.run(j for j in jobs(self.n_jobs) if j.key not in known):
                    found.append(result)  # noqa: PERF402 - what came before an exception counts
            except Stopped:
                pass
        self.results += found
        return {result.key: result for result in found}

    def submissions(self):
        return list(files.all_submissions(self.scratch))

    def answer(self, one, **reply):
        """Reply as a job on a node does."""
        assert files.claim(one.folder, {"job": "1"})
        job = files.read(one.folder / files.JOB)
        message = job["message"]
        done = {k: message[k] for k in ("numbers", "positions", "cell")}
        done |= {"energy": -1.0, "forces": None, "stress": None, "converged": True, "seconds": 1.0}
        write_reply(one.folder, {**message["record"], "reply": reply or done})


@pytest.fixture
def campaign(tmp_path, slurm):
    return Campaign(tmp_path, 2)


def test_jobs_compute_what_the_script_says_and_the_next_call_takes_it_up(campaign, slurm):
    assert campaign.comes_by() == {}
    assert [slurm.run(task) for task in (0, 1)] == [0, 0]
    # A job that the cluster starts again finds that its work is done.
    assert slurm.run(0) == 0
    slurm.say("COMPLETED", "RUNNING")
    found = campaign.comes_by()
    assert {key: one.energy for key, one in found.items()} == {"H": -1.0, "He": -2.0}
    begun = [formula for what, formula, _ in calls(campaign.folder / "calls.txt")]
    assert begun == ["H", "H", "He", "He"]
    assert not list(campaign.scratch.iterdir())
    assert len(slurm.scripts) == 1


def test_a_calculation_that_takes_too_long_is_ended_by_its_own_job(tmp_path, slurm):
    campaign = Campaign(tmp_path, 1, who="H", what="hang", resources={"time": 2.0})
    campaign.comes_by()
    assert slurm.run(0) == 0
    (result,) = campaign.comes_by().values()
    assert result.status == "failed"
    assert result.cause == "structure"
    assert "timed out after" in result.error


@pytest.mark.parametrize("state", ["TIMEOUT", "OUT_OF_MEMORY"])
def test_what_a_job_takes_too_much_of_is_its_fault(state, campaign, slurm):
    campaign.comes_by()
    for one in campaign.submissions():
        files.claim(one.folder, {"job": "1"})
    slurm.say(state, "RUNNING")
    (result,) = campaign.comes_by().values()
    assert (result.key, result.status, result.cause) == ("H", "failed", "structure")
    assert len(slurm.scripts) == 1


@pytest.mark.parametrize("state", ["CANCELLED", "NODE_FAIL", "PREEMPTED", "FAILED", ""])
@pytest.mark.parametrize("has_begun", [True, False])
def test_what_the_cluster_takes_away_is_handed_over_again(state, has_begun, campaign, slurm):
    campaign.comes_by()
    first = campaign.submissions()
    for one in first if has_begun else []:
        files.claim(one.folder, {"job": "1"})
    slurm.say(state, "PENDING")
    campaign.comes_by()
    assert len(slurm.scripts) == 2
    (again,) = [one for one in campaign.submissions() if not one.is_given_up and one.task == 0]
    assert again.folder.name == "attempt-1-2"
    assert in_the_queue(campaign.scratch, Slurm())["waiting"] == 2
    # Nothing is given to those who come too late.
    assert not files.claim(first[0].folder, {"job": "1"})
    campaign.answer(again)
    assert campaign.comes_by()["H"].status == "done"
    assert len(slurm.scripts) == 2


def test_a_late_answer_of_a_job_that_was_lost_counts_all_the_same(campaign, slurm):
    campaign.comes_by()
    late = campaign.submissions()[0]
    campaign.answer(late)
    reply = late.folder / "reply.json"
    reply.rename(late.folder / "not-yet.json")
    slurm.say("NODE_FAIL", "RUNNING")
    campaign.comes_by()
    assert len(slurm.scripts) == 2
    (late.folder / "not-yet.json").rename(reply)
    assert campaign.comes_by()["H"].status == "done"


def test_a_driver_that_ended_before_it_knew_of_its_jobs_finds_them_by_name(campaign, slurm):
    campaign.comes_by()
    (slurm.scripts[0].parent / files.SUBMITTED).unlink()
    slurm.say("RUNNING", "PENDING")
    campaign.comes_by()
    assert len(slurm.scripts) == 1
    for one in campaign.submissions():
        campaign.answer(one)
    assert len(campaign.comes_by()) == 2


def test_what_never_reached_the_queue_is_taken_back_before_it_is_handed_over_again(campaign, slurm):
    campaign.comes_by()
    (slurm.scripts[0].parent / files.SUBMITTED).unlink()
    slurm.say("", "")
    campaign.comes_by()
    assert len(slurm.scripts) == 2
    # An sbatch that outlived its driver comes through only now, to the folders of its successor.
    assert [slurm.run(task, job=0) for task in (0, 1)] == [0, 0]
    assert not calls(campaign.folder / "calls.txt")


def test_an_environment_that_fails_again_and_again_ends_the_run_and_then_counts_anew(
    campaign, slurm
):
    campaign.n_jobs = 1
    campaign.comes_by()
    for n in (1, 2, 3):
        assert len(slurm.scripts) == n
        (one,) = [one for one in campaign.submissions() if not one.is_given_up]
        files.claim(one.folder, {"job": "1"})
        one.set_back("no licence: the server does not answer")
        slurm.say("FAILED")
        if n < 3:
            campaign.comes_by()
    with pytest.raises(OracleUnavailable, match=r"3 times .* H: no licence"):
        campaign.comes_by()
    campaign.comes_by()
    assert len(slurm.scripts) == 4


def test_a_queue_that_does_not_answer_is_asked_again(campaign, slurm):
    campaign.comes_by()
    (slurm.folder / "silent").touch()
    campaign.comes_by()
    (slurm.folder / "silent").unlink()
    campaign.comes_by()
    assert len(slurm.scripts) == 1


def test_a_queue_that_takes_nothing_says_why(campaign, slurm):
    slurm.refuse("sbatch: error: invalid partition specified: fast")
    with pytest.raises(OracleUnavailable, match=r"takes no job: .*invalid partition"):
        campaign.comes_by()
    slurm.refuse("")
    campaign.comes_by()
    assert len(slurm.scripts) == 1
    assert not any(one.is_given_up for one in campaign.submissions())


def test_no_more_in_the_queue_than_allowed_and_no_more_in_an_array(tmp_path, slurm):
    campaign = Campaign(tmp_path, 9, queue={"jobs": 5, "array": 2})
    campaign.comes_by()
    sizes = [len(files.read(s.parent / files.TASKS)["folders"]) for s in slurm.scripts]
    assert sizes == [2, 2, 1]
    campaign.answer(campaign.submissions()[0])
    campaign.comes_by()
    assert len(campaign.submissions()) == 5


def test_limits_that_changed_do_not_repeat_what_is_out(tmp_path, slurm):
    campaign = Campaign(tmp_path, 1, resources={"time": 100.0})
    campaign.comes_by()
    (one,) = campaign.submissions()
    campaign.options["resources"] = {"time": 1000.0}
    campaign.comes_by()
    assert len(slurm.scripts) == 1
    # A failure within the old limits is none within the new ones.
    campaign.answer(one, error="timed out after 90 s", cause="structure", seconds=90.0, by="job")
    campaign.comes_by()
    campaign.comes_by()
    assert len(slurm.scripts) == 2


def test_resources_are_those_of_the_most_demanding_element():
    queue = Queue(
        Resources(time=60.0, cores=4, partition="fast", prologue=("module load gpaw",)),
        elements={
            "W": ElementResources(time=90.0, memory=4096, partition="long"),
            "Ta": ElementResources(cores=8, memory=2048, partition="other"),
        },
    )
    assert queue.resources_for(["Mo"]) == queue.resources
    wanted = queue.resources_for(["Ta", "W", "Mo"])
    assert (wanted.time, wanted.cores, wanted.memory) == (90.0, 8, 4096)
    assert wanted.partition == "long"
    assert wanted.prologue == ("module load gpaw",)


def test_the_script_says_all_that_is_asked_for(tmp_path):
    folder = tmp_path / "with space"
    wanted = Resources(3599.0, 8, 1024, "fast", "me", ("module load gpaw",), ("--qos=long",))
    lines = script("name", folder, 3, wanted).splitlines()
    options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert options[0] == "--job-name=name"
    assert options[-1] == "--qos=long"
    expected = {"--array=0-2", "--ntasks=8", "--time=01:00:00", "--mem=1024M", "--no-requeue"}
    assert expected <= {*options}
    assert lines.index("module load gpaw") < len(lines) - 1
    assert lines[-1].endswith(f"'{folder}'")


def test_without_a_queue_here_one_line_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("sbatch") is None
    queue = Queue(Resources(time=60.0))
    AseOracle(queue=queue)  # who only checks a campaign may do so anywhere
    with pytest.raises(InputError, match="there is no sbatch here"):
        AseOracle(queue=queue, scratch=tmp_path)
