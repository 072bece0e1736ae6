"""``python -m latticesearch`` and the command ``latticesearch``.

Only here is known that this process is the program itself, and little is loaded yet: from here on a
signal ends a run in order.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from latticesearch.stopping import EXIT_INTERRUPTED, StopRequest, asked_by_signals

if TYPE_CHECKING:
    from collections.abc import Sequence


def start(words: Sequence[str]) -> int:
    """Carry out a command line; return the exit code.

    Parameters
    ----------
    words
        What follows the program's name.
    """
    stop = StopRequest()
    is_run = next((word for word in words if not word.startswith("-")), "") == "run"
    # Whoever ends another verb early has to begin it anew: it ends as programs do.
    listening = asked_by_signals(stop) if is_run else contextlib.nullcontext()
    try:
        with listening:
            from latticesearch.cli import main

            return main(words, stop)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def program() -> None:
    """Carry out the command line of this process, and end it."""
    sys.exit(start(sys.argv[1:]))


if __name__ == "__main__":
    program()
