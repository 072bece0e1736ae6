"""One calculation by all ranks of a launcher: ``LAUNCHER python -m latticesearch.oracles.ranks``.

The job lies in the present folder, and the reply is written there; a worker process waits for it.
"""

from __future__ import annotations

import json
from pathlib import Path

from latticesearch.oracles.calculation import reply_to
from latticesearch.oracles.parallel_codes import JOB, REPLY
from latticesearch.parallel import world

_MEETING_TIME = 60.0
"""Seconds that a rank with an error waits for the others to come to the same one."""


def main() -> None:
    """Compute, on each rank, the job in the present folder; rank 0 writes the reply."""
    comm = world()
    reply = reply_to(json.loads(Path(JOB).read_text(encoding="utf-8")))
    # An error of one rank alone leaves the others waiting for it in the middle of something.
    is_one_of_all = comm.meet(_MEETING_TIME) if "error" in reply else True
    if comm.rank == 0 or not is_one_of_all:
        temporary = Path(f".{REPLY}-{comm.rank}")
        temporary.write_text(json.dumps(reply), encoding="utf-8")
        temporary.replace(REPLY)
    if not is_one_of_all:
        comm.abort(1)


if __name__ == "__main__":
    main()
