"""A campaign without anything but its oracle: ``driver.py FOLDER N_JOBS GRACE WHO WHAT``.

Results are stored in ``stored.txt``, each on the disk before the next is asked for.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from ase import Atoms

from latticesearch.oracles import AseOracle, OracleJob

STOPPED = 75


def jobs(n_jobs):
    """Return different structures of one to some atoms."""
    cell = [4.0, 4.0, 4.0]
    atoms = [Atoms([1 + i % 90] * (1 + i // 90), cell=cell, pbc=True) for i in range(n_jobs)]
    return [OracleJob(one.get_chemical_formula(), one) for one in atoms]


def oracle(folder, grace=20.0, who="", what="", **settings):
    parameters = {"file": str(folder / "calls.txt"), "seconds": 0.02, "who": who, "what": what}
    return AseOracle(
        "tests.fakes.counting:Counting",
        parameters=parameters,
        relax_cell=False,
        relax_ions=False,
        scratch=folder / "scratch",
        grace=grace,
        **settings,
    )


def stored(folder):
    """Return the stored results: key and status."""
    file = folder / "stored.txt"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def main():
    folder, n_jobs, grace = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with oracle(folder, grace, *sys.argv[4:], workers=2) as source:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: source.interrupt())
        known = {key for key, _ in stored(folder)}
        open_jobs = [job for job in jobs(n_jobs) if job.key not in known]
        with (folder / "stored.txt").open("a") as file:
            for result in source.run(open_jobs):
                file.write(f"{result.key} {result.status}\n")
                file.flush()
                os.fsync(file.fileno())
        sys.exit(STOPPED if source.interrupted else 0)


if __name__ == "__main__":
    main()
