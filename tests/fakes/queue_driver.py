"""A campaign without anything but its oracle in a queue: ``queue_driver.py FOLDER N_JOBS OPTIONS``.

OPTIONS is JSON: ``queue`` and ``resources`` for the queue, all else for the calculator. Results
are stored as in `driver`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from latticesearch.errors import Stopped
from latticesearch.oracles import AseOracle
from latticesearch.oracles.queue import Queue, Resources
from tests.fakes.driver import STOPPED, jobs, stored


def oracle(folder, options=None):
    options = dict(options or {})
    said = {"time": 600.0, **options.pop("resources", {})}
    resources = Resources(**{**said, "options": tuple(said.get("options", ()))})
    queue = Queue(resources, **{"interval": 1.0, **options.pop("queue", {})})
    return AseOracle(
        "tests.fakes.counting:Counting",
        parameters={"file": str(folder / "calls.txt"), "seconds": 0.3, **options},
        relax_cell=False,
        relax_ions=False,
        timeout=None,
        scratch=folder / "scratch",
        queue=queue,
    )


def main():
    folder, n_jobs, options = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    with oracle(folder, options) as source:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: source.interrupt())
        known = {key for key, _ in stored(folder)}
        try:
            with (folder / "stored.txt").open("a") as file:
                for result in source.run(job for job in jobs(n_jobs) if job.key not in known):
                    file.write(f"{result.key} {result.status}\n")
                    file.flush()
                    os.fsync(file.fileno())
        except Stopped:
            sys.exit(STOPPED)
        sys.exit(STOPPED if source.interrupted else 0)


if __name__ == "__main__":
    main()
