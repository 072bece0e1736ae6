"""Who computes what next: jobs go to free workers, answers come back as they arrive.

An answer that an earlier campaign left in the scratch folder is taken before anything is
computed. Failures of the environment are no answers: the calculation is repeated, after a while,
until they are too many in a row.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import selectors
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from latticesearch.errors import OracleUnavailable
from latticesearch.oracles import scratch
from latticesearch.oracles.printed import harmless, last_lines
from latticesearch.oracles.sanity import what_is_wrong

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from latticesearch.oracles.processes import WorkerProcess
    from latticesearch.oracles.protocol import OracleJob

log = logging.getLogger(__name__)

PATIENCE = 3
"""Failures of the environment in a row after which nothing more is tried."""
PAUSES = (0.5, 2.0)
"""Seconds before the calculation is repeated, after the first failure and after later ones."""
_LOOK_AGAIN = 0.05
"""Seconds between two looks at whether a worker of an ended campaign is ready."""
_MARGIN = 1.0
"""Seconds that such a worker may take, beyond its grace, to be ended."""
_LONGEST_SLEEP = 3600.0
"""Seconds after which one looks again although nothing was expected."""


@dataclass(frozen=True, eq=False)
class Request:
    """A job, and everything a worker needs for it.

    Parameters
    ----------
    job
        The job.
    message
        What the worker is told.
    record
        What goes beside the reply: ``key``, ``attempt``, ``request`` (see
        `latticesearch.oracles.scratch.fingerprint`) and ``limits``, which decide whether a
        failure would be one again.
    folder
        Where it runs, in the folder of its structure.
    timeout
        Seconds it may take.
    threads
        Of the libraries that it calls.
    """

    job: OracleJob
    message: dict[str, Any]
    record: dict[str, Any]
    folder: Path
    timeout: float
    threads: int = 1

    def left_behind(self) -> Answer | None:
        """Return the answer that an earlier campaign left, None where there is none."""
        failure = None
        for folder, record in scratch.replies(self.folder.parent):
            if record.get("request") != self.record["request"]:
                continue
            try:
                answer = Answer(self, folder, dict(record["reply"]))
                if answer.error is None:
                    return answer
            except (KeyError, TypeError, ValueError):
                continue
            if all(record.get(name) == value for name, value in self.record.items()):
                failure = answer
        return failure


@dataclass(frozen=True, eq=False)
class Answer:
    """A reply to a request, and the folder where it is kept until it is stored.

    Parameters
    ----------
    request
        The request.
    folder
        Where it was computed.
    reply
        What the worker returned.
    """

    request: Request
    folder: Path
    reply: dict[str, Any]

    @cached_property
    def error(self) -> str | None:
        """Why it is a failure, in one line with what was printed; None if it is none."""
        error = what_is_wrong(self.request.job.atoms, self.reply)
        if error is None:
            return None
        printed = last_lines(self.folder / scratch.LOG)
        return harmless(error) + (f" (last printed: {printed})" if printed else "")

    @property
    def is_environments(self) -> bool:
        """Whether it says nothing about the structure."""
        return self.reply.get("cause") == "environment"

    def keep(self) -> None:
        """Make a failure that the campaign has found durable, as a worker does with replies."""
        if self.error is not None:
            if "by" in self.reply:
                with contextlib.suppress(OSError):
                    scratch.write_reply(self.folder, {**self.request.record, "reply": self.reply})
            scratch.shrink(self.folder.parent)

    def handed_out(self) -> Iterator[Answer]:
        """Yield itself to whoever stores it, and see to its files before and after that."""
        self.keep()
        yield self
        self.put_away()

    def put_away(self) -> None:
        """Remove what is not needed once the answer is stored: all of a success."""
        if self.error is None:
            scratch.forget(self.folder)
        else:
            with contextlib.suppress(OSError):
                (self.folder / scratch.REPLY).rename(self.folder / scratch.STORED_FAILURE)


class StopSignal:
    """Set from anywhere, a signal handler too; wakes up whoever waits for workers."""

    def __init__(self) -> None:
        self.since = math.inf
        self.wake_up, self._write = os.pipe()
        os.set_blocking(self._write, False)

    @property
    def is_set(self) -> bool:
        """Whether it has been set."""
        return self.since < math.inf

    def set(self) -> None:
        """Set it; the first time counts."""
        self.since = min(self.since, time.monotonic())
        with contextlib.suppress(OSError):
            os.write(self._write, b".")

    def __del__(self) -> None:
        """Close the pipe."""
        for descriptor in (self.wake_up, self._write):
            os.close(descriptor)


@dataclass
class _Setbacks:
    """Failures of the environment since the last calculation that was none.

    What fails at the same time is one failure: only calculations that began after the last one
    count.
    """

    patience: int
    count: int = 0
    error: str = ""
    last: float = -math.inf
    resume: float = -math.inf
    exhausted: float = math.inf

    def add(self, error: str, started: float) -> None:
        now = time.monotonic()
        self.error = error
        if started < self.last:
            return
        self.count += 1
        self.last = now
        if self.count >= self.patience:
            self.exhausted = min(self.exhausted, now)
        else:
            self.resume = now + PAUSES[min(self.count, len(PAUSES)) - 1]

    def clear(self) -> None:
        self.count, self.resume = 0, -math.inf


@dataclass(eq=False)
class _Seat:
    """A worker and what it has to do: nothing, run, or wait for something before it starts."""

    worker: WorkerProcess
    request: Request | None = None
    is_running: bool = False
    leave_alone_until: float | None = None
    """While a worker of an ended campaign is at the same structure: how long it may be."""

    def begin(self) -> None:
        """Start the calculation.

        Raises
        ------
        OSError
            Its folder cannot be made.
        """
        assert self.request is not None
        folder = scratch.fresh_folder(self.request.folder)
        self.worker.submit(
            {**self.request.message, "record": self.request.record}, folder, self.request.timeout
        )
        self.is_running, self.leave_alone_until = True, None

    def avoid_folder(self) -> None:
        """Compute elsewhere: somebody is in the folder who should have left it long ago."""
        assert self.request is not None
        folder = self.request.folder.with_name(f"attempt-{self.request.job.attempt}-{os.getpid()}")
        self.request = replace(self.request, folder=folder)

    def take(self) -> Answer:
        """Return what has become of the calculation; the seat keeps the request."""
        assert self.request is not None
        answer = Answer(self.request, self.request.folder, self.worker.take_reply())
        self.is_running = False
        # It may have died, or run out of time, after the reply was on the disk.
        return (self.request.left_behind() or answer) if "by" in answer.reply else answer

    def clear(self) -> None:
        """Give up the request; end the calculation if it runs."""
        if self.is_running and self.request is not None:
            self.worker.stop()
            if self.request.left_behind() is None:
                scratch.forget(self.request.folder)
        self.request, self.is_running, self.leave_alone_until = None, False, None


class Dispatch:
    """One list of jobs on its way through the workers.

    Parameters
    ----------
    workers
        Worker processes; not used by anybody else at the same time.
    requests
        What is to be computed; the next is taken only when there is a worker for it.
    stop
        Ends it early.
    grace
        Seconds that running calculations have then.
    patience
        Failures of the environment in a row after which it ends.
    """

    def __init__(
        self,
        workers: Sequence[WorkerProcess],
        requests: Iterable[Request],
        stop: StopSignal,
        grace: float,
        patience: int = PATIENCE,
    ) -> None:
        self._seats = [_Seat(worker) for worker in workers]
        self._requests = iter(requests)
        self._stop, self._grace = stop, grace
        self._setbacks = _Setbacks(patience)

    def answers(self) -> Generator[Answer]:
        """Yield the answers as they arrive.

        Raises
        ------
        OracleUnavailable
            The environment failed again and again; what could be answered has been.
        """
        try:
            while True:
                for seat in self._seats:
                    yield from self._occupy(seat)
                if self._is_stopping():
                    self._end_what_may_not_go_on()
                if not self._is_busy():
                    break
                yield from self._next_answer()
        finally:
            for seat in self._seats:
                seat.clear()
        if self._setbacks.exhausted < math.inf and not self._stop.is_set:
            raise OracleUnavailable(self._setbacks.error)

    def _is_busy(self) -> bool:
        return any(seat.request is not None for seat in self._seats)

    def _occupy(self, seat: _Seat) -> Iterator[Answer]:
        """Give a free seat something to do; yield the answers that are there already."""
        while seat.request is None and not self._is_stopping():
            seat.request = next(self._requests, None)
            if seat.request is None:
                return
            yield from self._begin(seat)

    def _begin(self, seat: _Seat) -> Iterator[Answer]:
        """Start a calculation if it has to be and may be now; yield its answer if it is there."""
        assert seat.request is not None
        now = time.monotonic()
        busy = scratch.waiting_time(seat.request.folder.parent)
        if busy is not None and seat.leave_alone_until is None:
            log.info("%s is being computed by a worker of before", seat.request.job.key)
            seat.leave_alone_until = now + max(busy, self._grace) + _MARGIN
        if busy is not None and now < (seat.leave_alone_until or 0.0):
            return
        if busy is not None:
            seat.avoid_folder()
        if (answer := seat.request.left_behind()) is not None:
            log.info("%s had been computed already", seat.request.job.key)
            yield from self._hand_out(seat, answer)
        elif now >= self._setbacks.resume:
            try:
                seat.begin()
            except OSError as error:
                text = f"cannot write to {seat.request.folder}: {error.strerror}"
                self._setbacks.add(text, now)

    def _hand_out(self, seat: _Seat, answer: Answer) -> Iterator[Answer]:
        seat.request, seat.leave_alone_until = None, None
        yield from answer.handed_out()

    def _next_answer(self) -> Iterator[Answer]:
        """Wait until something has happened; yield the answer if it is one."""
        seat = next((seat for seat in self._seats if self._has_news(seat)), None)
        if seat is None:
            self._sleep()
        elif seat.is_running:
            started, answer = seat.worker.started, seat.take()
            if answer.is_environments:
                log.warning("%s: %s", answer.request.job.key, answer.error)
                scratch.shrink(answer.folder.parent)
                self._setbacks.add(f"{answer.request.job.key}: {answer.error}", started)
            else:
                self._setbacks.clear()
                yield from self._hand_out(seat, answer)
        else:
            yield from self._begin(seat)

    def _has_news(self, seat: _Seat) -> bool:
        if seat.request is None:
            return False
        if seat.is_running:
            return seat.worker.finished()
        if seat.leave_alone_until is None:
            return time.monotonic() >= self._setbacks.resume
        busy = scratch.waiting_time(seat.request.folder.parent) is not None
        return not busy or time.monotonic() >= seat.leave_alone_until

    def _sleep(self) -> None:
        """Wait for the workers, the signal to stop, or the time at which there is more to do."""
        running = [seat.worker for seat in self._seats if seat.is_running]
        idle = [seat for seat in self._seats if seat.request is not None and not seat.is_running]
        times = [worker.deadline for worker in running]
        times += [self._end()] if self._is_stopping() else []
        times += [self._setbacks.resume for seat in idle if seat.leave_alone_until is None]
        now = time.monotonic()
        times += [now + _LOOK_AGAIN for seat in idle if seat.leave_alone_until is not None]
        with selectors.DefaultSelector() as selector:
            for worker in running:
                if worker.is_running:
                    selector.register(worker.output, selectors.EVENT_READ)
            if not self._stop.is_set:
                selector.register(self._stop.wake_up, selectors.EVENT_READ)
            wait = max(0.0, min(times, default=now) - now)
            # The operating system knows no times of weeks.
            selector.select(timeout=min(wait, _LONGEST_SLEEP))

    def _is_stopping(self) -> bool:
        return self._end() < math.inf

    def _end(self) -> float:
        """Return when the last calculation has to be ready."""
        return min(self._stop.since, self._setbacks.exhausted) + self._grace

    def _end_what_may_not_go_on(self) -> None:
        """Give up what has not begun, and what is not ready at the end of the grace."""
        late = time.monotonic() >= self._end()
        for seat in self._seats:
            if not seat.is_running or (late and not seat.worker.finished()):
                seat.clear()
