"""The command line, killed from inside at a moment that no clock can aim at.

`python -m tests.campaign.aimed MOMENT NUMBER WORDS ...` carries out a command line. When the moment
comes for the NUMBER-th time in this process it ends as `kill -9` ends it:

- ``computed``: a result is there, nothing of it is stored;
- ``writing``: its row is written, tables are made if it is the first, nothing is committed;
- ``stored``: the row is on the disk, the log does not tell of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

MOMENTS = ("computed", "writing", "stored")


def aim(moment, number):
    """Have this process killed; on other ranks than root the moments never come."""
    from latticesearch.storage import OracleStore, RunDirectory

    left = iter(range(number - 1, -1, -1))

    def hit():
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    append, connected, log_event = (
        OracleStore.append,
        OracleStore._connected,
        RunDirectory.log_event,
    )

    def computed(store, *arguments, **options):
        hit()
        return append(store, *arguments, **options)

    @contextlib.contextmanager
    def writing(store, *, write=False):
        with connected(store, write=write) as database:
            yield database
            if write:
                hit()

    def stored(directory, event, **fields):
        if event == "result":
            hit()
        return log_event(directory, event, **fields)

    if moment == "computed":
        OracleStore.append = computed
    elif moment == "writing":
        OracleStore._connected = writing
    else:
        RunDirectory.log_event = stored


if __name__ == "__main__":
    from latticesearch.__main__ import start

    aim(sys.argv[1], int(sys.argv[2]))
    sys.exit(start(sys.argv[3:]))
