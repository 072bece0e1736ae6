"""What runs on a node: ``python -m latticesearch.oracles.queue.task FOLDER``, FOLDER an array's.

It computes one calculation of the array as the campaign would here, in a worker process, and ends
it before the queue ends the job: what is the calculation's own fault is then in its folder, and
whatever else ends a job comes from outside.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.oracles.processes import WorkerProcess
from latticesearch.oracles.queue.files import JOB, TASKS, Submission, claim, read
from latticesearch.oracles.queue.slurm import STARTED
from latticesearch.oracles.scratch import REPLY, write_reply

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_SLEEP = 3600.0


def main() -> int:
    """Compute the calculation whose number the queue has set; return the exit code."""
    array, number = Path(sys.argv[1]), int(os.environ["SLURM_ARRAY_TASK_ID"])
    tasks = read(array / TASKS)
    if tasks is None:
        return _nothing_to_do("nobody waits for this array job any more")
    folder = array.parent.parent / tasks["folders"][number]
    job = read(folder / JOB)
    who = {"job": os.environ.get("SLURM_JOB_ID"), "host": socket.gethostname()}
    # The folder may be another array's by now.
    if job is None or job["array"] != array.name or not claim(folder, who):
        return _nothing_to_do(f"{folder.name}: withdrawn, or computed by another job")
    reply = _computed(job, folder, _seconds_left(float(tasks["usable_time"])))
    if (folder / REPLY).exists():
        # The worker has written it before it was ended.
        return 0
    if reply.get("cause") == "environment":
        submission = Submission(folder, array.name, number, job["request"])
        submission.set_back(str(reply["error"]))
        return 1
    write_reply(folder, {**job["message"]["record"], "reply": reply})
    return 0


def _nothing_to_do(why: str) -> int:
    print(f"nothing to do: {why}")  # noqa: T201 - the job's own log
    return 0


def _seconds_left(usable: float) -> float:
    """Return how long a calculation may take, of the seconds that the job has for it."""
    return usable - (time.time() - float(os.environ[STARTED]))


def _computed(job: Mapping[str, Any], folder: Path, left: float) -> dict[str, Any]:
    """Return the reply of a worker process."""
    worker, message = WorkerProcess(threads=int(job["threads"])), dict(job["message"])
    try:
        worker.submit(message, folder, min(float(job["timeout"]), max(left, 0.0)))
        while not worker.finished():
            with selectors.DefaultSelector() as selector:
                if worker.is_running:
                    selector.register(worker.output, selectors.EVENT_READ)
                wait = min(max(0.0, worker.deadline - time.monotonic()), _LONGEST_SLEEP)
                selector.select(timeout=wait)
        return worker.take_reply()
    finally:
        worker.stop()


if __name__ == "__main__":
    sys.exit(main())
