"""Ending a run before its end, in order: on a signal, or when its time is up.

What is under way gets a grace time, everything computed is on disk, and the same command goes on
later. Nothing here is collective: root asks, and its answer travels like any other exception.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from latticesearch.errors import InputError, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXIT_STOPPED = 75
"""EX_TEMPFAIL of sysexits.h: nothing is wrong, try again later."""

EXIT_INTERRUPTED = 130
"""What shells say of a program that Ctrl-C has ended."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""What launchers and queues send: Slurm sends USR1 where --signal asks for it, TERM at the end."""

MARGIN = 5.0
"""Seconds after the grace time in which a step between two calculations may end by itself."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class _BreakOff(BaseException):
    """Leaves a block from inside a signal handler; what handles exceptions lets it pass."""


class StopRequest:
    """Whether the run has to stop; anybody may ask it, a signal or a clock answers.

    Attributes
    ----------
    reason : str
        Why, in a few words; empty while the run may go on.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._listeners: list[Callable[[], None]] = []
        self._is_beginning = False

    def __bool__(self) -> bool:
        return bool(self.reason)

    def request(self, reason: str) -> None:
        """Ask the run to stop; the first reason stays. Safe in a signal handler."""
        if not self.reason:
            self.reason = reason
            for listener in self._listeners:
                listener()
            if self._is_beginning:
                raise _BreakOff

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the run is asked to stop, at once where it was already."""
        self._listeners.append(listener)
        if self.reason:
            listener()

    def check(self) -> None:
        """Raise if the run has to stop.

        Raises
        ------
        Stopped
            It was asked to.
        """
        if self.reason:
            raise Stopped(self.reason)

    def check_beginning(self) -> None:
        """Raise if the run has to stop before it has written or computed anything.

        Raises
        ------
        Stopped
            Its message is the line for the user.
        """
        if self.reason:
            raise Stopped(
                f"stopped in order ({self.reason}) before anything was written; the same command "
                "goes on"
            )

    @contextlib.contextmanager
    def beginning(self) -> Iterator[None]:
        """End a block at once when asked to stop: it writes nothing, so it may break off anywhere.

        Raises
        ------
        Stopped
            As `check_beginning`.
        """
        self.check_beginning()
        self._is_beginning = True
        try:
            yield
        except BaseException:
            # Libraries may take what interrupts them while they are loaded for a failure of theirs.
            self.check_beginning()
            raise
        finally:
            self._is_beginning = False
        self.check_beginning()


def seconds_until(text: str) -> float:
    """Return the seconds from now to a time.

    Parameters
    ----------
    text
        An ISO 8601 date and time (local where it names no zone), or a duration: a number with
        s, m, h or d, such as 90m or 1.5h, or 2h30m.

    Raises
    ------
    InputError
        It is neither, or has passed.
    """
    parts = re.findall(r"(\d+(?:\.\d*)?)\s*([smhd])", text)
    if parts and not re.sub(r"(\d+(?:\.\d*)?)\s*([smhd])", "", text).strip():
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise InputError(
                f"--until {text!r} is no time: write a duration (90m, 1.5h, 2h30m) or a date and "
                "time (2026-05-01T18:00)"
            ) from error
        seconds = moment.timestamp() - time.time()
    if not seconds > 0:
        raise InputError(f"--until {text} has passed already")
    return seconds


@contextlib.contextmanager
def stopping_in_order(
    stop: StopRequest,
    *,
    is_root: bool,
    grace: float,
    abort: Callable[[int], Any],
    seconds: float | None = None,
) -> Iterator[None]:
    """Let the signals of launchers and queues, and a clock, stop the run in order.

    A queue kills what does not end soon after its signal. So where a search or a fit goes on when
    the grace time is over, all ranks are ended in the middle of it: files are written so that any
    moment will do, and what was cut off is done again.

    Parameters
    ----------
    stop
        Asked by the handlers on root. Other ranks let the signals pass: they end with root.
    is_root
        Whether this process is rank 0.
    grace
        Seconds that running calculations get.
    abort
        Ends all ranks with an exit code.
    seconds
        The run is asked to stop after this time; default never.
    """
    timers: list[threading.Timer] = []
    if is_root:
        stop.listen(lambda: timers.append(_timer(grace + MARGIN, lambda: _end(abort))))
        if seconds is not None:
            timers.append(_timer(seconds, lambda: stop.request("its time is up")))
    with asked_by_signals(stop, hears=is_root):
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()


@contextlib.contextmanager
def asked_by_signals(stop: StopRequest, *, hears: bool = True) -> Iterator[None]:
    """Let the signals of launchers, queues and keyboards ask to stop inside a block.

    Parameters
    ----------
    stop
        What they ask.
    hears
        Whether they ask; where they do not, signals pass.
    """

    def handle(number: int, _: Any) -> None:
        if stop and number == signal.SIGINT:
            # Whoever presses Ctrl-C twice does not want to wait.
            raise KeyboardInterrupt
        if hears:
            stop.request(f"signal {signal.Signals(number).name}")

    with _handling(handle):
        yield


@contextlib.contextmanager
def _handling(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle `SIGNALS` inside a block, where this is the thread that gets them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [(number, signal.signal(number, handle)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, old in before:
            signal.signal(number, old)


def _timer(seconds: float, function: Callable[[], None]) -> threading.Timer:
    """Call a function after a time, unless the process ends before."""
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
    return timer


def _end(abort: Callable[[int], Any]) -> None:
    """End all ranks at once."""
    os.write(2, b"latticesearch: stopped in the middle of a step; the same command goes on\n")
    try:
        abort(EXIT_STOPPED)
    finally:
        # One rank alone leaves by an exception, which would end this thread and nothing else.
        os._exit(EXIT_STOPPED)
