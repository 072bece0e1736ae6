"""Progress of long steps: what the library tells, and what the command line shows."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

REDRAW_INTERVAL = 0.1
"""Seconds between two drawings of a bar."""

LOG_INTERVAL = 20.0
"""Seconds between two lines where stderr is a file."""

BAR_WIDTH = 28

LAUNCHERS = frozenset({"mpirun", "mpiexec", "orterun", "prterun"})
"""Programs that start the ranks and pass on what they print."""

TERMINALS = ("/dev/pts/", "/dev/tty")
"""What the names of terminals begin with."""

DEEPEST_LAUNCHER = 8
"""Processes between a rank and its launcher that are looked at."""


class Progress(Protocol):
    """Receives how far a step is."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Begin the step `task` of `total` units, `done` of which were there before."""

    def advance(self, done: int) -> None:
        """Say that `done` units are ready."""

    def finish(self) -> None:
        """End the step."""


class NoProgress:
    """Tells nobody."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Do nothing."""

    def advance(self, done: int) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


class StreamProgress:
    """A bar on a terminal, a line now and then in a file.

    Parameters
    ----------
    stream
        Where the bar goes; lines go to the log.
    clock
        Seconds since some start.
    """

    def __init__(
        self, stream: TextIO = sys.stderr, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._clock = stream, clock
        self._is_terminal = is_watched(stream)
        self._task, self._total, self._begin, self._shown = "", 0, 0.0, 0.0
        self._before = 0

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Begin the step `task` of `total` units, `done` of which were there before."""
        self._task, self._total, self._before = task, total, done
        self._begin = self._shown = self._clock()

    def advance(self, done: int) -> None:
        """Show `done` of the total, the rate and the time left, if it is time to."""
        now = self._clock()
        if now - self._shown < (REDRAW_INTERVAL if self._is_terminal else LOG_INTERVAL):
            return
        self._shown = now
        text = self._text(done, now - self._begin)
        if self._is_terminal:
            filled = BAR_WIDTH * done // max(self._total, 1)
            bar = "█" * filled + "·" * (BAR_WIDTH - filled)
            self._stream.write(f"\r\033[K  {bar} {text}")
            self._stream.flush()
        else:
            log.info("%s", text)

    def finish(self) -> None:
        """Remove the bar."""
        if self._is_terminal:
            self._stream.write("\r\033[K")
            self._stream.flush()

    def _text(self, done: int, seconds: float) -> str:
        pace = (done - self._before) / seconds if seconds > 0 else 0.0
        left = f"{duration((self._total - done) / pace)} left" if pace > 0 else "time unknown"
        return f"{self._task}: {done} of {self._total}, {rate(pace)}, {left}"


def is_watched(stream: TextIO, processes: Path = Path("/proc")) -> bool:
    """Tell whether somebody sees a stream at once: it is a terminal, or mpirun passes it on to one.

    Parameters
    ----------
    stream
        What is written to; launchers make it a pipe.
    processes
        Where Linux lists processes; elsewhere only what is a terminal itself counts.
    """
    if stream.isatty():
        return True
    if stream is not sys.stderr and stream is not sys.__stderr__:
        return False
    number = os.getpid()
    for _ in range(DEEPEST_LAUNCHER):
        folder = processes / str(number)
        try:
            # "number (name) state parent ...", and the name may hold brackets itself.
            text = (folder / "stat").read_text(encoding="utf-8")
            name, _, rest = text.partition("(")[2].rpartition(")")
            if name.partition(".")[0] in LAUNCHERS:
                return str((folder / "fd" / "2").readlink()).startswith(TERMINALS)
            number = int(rest.split()[1])
        except (OSError, ValueError, IndexError):
            return False
    return False


def rate(per_second: float) -> str:
    """Return a rate in words, per second, minute or hour, so that the number is none below one."""
    for factor, unit in ((1.0, "second"), (60.0, "minute"), (3600.0, "hour")):
        if per_second * factor >= 1.0 or unit == "hour":
            return f"{per_second * factor:.1f} per {unit}"
    raise AssertionError


def duration(seconds: float) -> str:
    """Return a time in words, as exact as anybody wants it."""
    if seconds < 100.0:
        return f"{seconds:.0f} s"
    minutes = seconds / 60.0
    return f"{minutes:.0f} min" if minutes < 100.0 else f"{minutes / 60.0:.1f} h"
