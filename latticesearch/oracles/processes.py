"""Worker processes, seen from the campaign: started, killed when too late, replaced when dead."""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from latticesearch.oracles.blame import is_environments_exit
from latticesearch.oracles.printed import described
from latticesearch.oracles.scratch import LOG
from latticesearch.parallel import (
    OF_RANKS,
    THREAD_VARIABLES,
    scrubbed_environment,
    threads_are_set,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latticesearch.oracles.protocol import Cause

STARTUP_TIMEOUT = 300.0
"""Seconds a worker may take to import what it needs (cold network file systems are slow), and
again to make the calculator."""
_TIME_TO_DIE = 2.0
"""Seconds between the closing of a dying process's files and its end."""


class WorkerProcess:
    """One worker process, for one job at a time.

    Parameters
    ----------
    grace
        Seconds that it may go on with a calculation when this process has ended.
    remove
        Folder that it removes then.
    threads
        Of the libraries that a calculator calls, where the user has not said how many.
    cpus
        Numbers of the processors that it may use; empty: those that this process may.
    """

    def __init__(
        self,
        grace: float = 0.0,
        remove: Path | None = None,
        *,
        threads: int = 1,
        cpus: Iterable[int] = (),
    ) -> None:
        self._options = ["--grace", str(grace)]
        self._options += [] if remove is None else ["--remove", str(remove)]
        self._options += [f"--cpus={','.join(map(str, sorted(cpus)))}"] if cpus else []
        self._threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._cleanup: weakref.finalize[..., Any] | None = None
        self._buffer = b""
        self._reply: dict[str, Any] | None = None
        self._folder = Path()
        self._timeout = 0.0
        self._computing = False
        self.started = 0.0
        self.deadline = math.inf

    @property
    def is_running(self) -> bool:
        """Whether there is a process, as far as is known."""
        return self._process is not None

    @property
    def output(self) -> IO[bytes]:
        """The pipe on which replies arrive."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    def submit(self, message: dict[str, Any], folder: Path, timeout: float) -> None:
        """Hand over one job; it may take `timeout` seconds once it has begun to compute.

        Parameters
        ----------
        message
            What `latticesearch.oracles.worker` needs to know.
        folder
            Where the job runs and what it prints is kept; it exists and is empty.
        timeout
            Seconds.
        """
        self._reply, self._computing = None, False
        self._folder, self._timeout = folder, timeout
        line = (json.dumps({**message, "folder": str(folder)}) + "\n").encode()
        self._set_deadline()
        try:
            self._write(line)
        except OSError:
            # It died while it had nothing to do; a new process has the right to try.
            self.stop()
            try:
                self._write(line)
            except OSError as error:
                self._fail(f"no worker process can be started: {described(error)}")

    def _write(self, line: bytes) -> None:
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _set_deadline(self) -> None:
        self.started = time.monotonic()
        self.deadline = self.started + (self._timeout if self._computing else STARTUP_TIMEOUT)

    def _start(self) -> None:
        self._buffer = b""
        with (self._folder / LOG).open("ab") as log_file:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, options of ours
                [sys.executable, "-m", "latticesearch.oracles.worker", *self._options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                cwd=self._folder,
                env=_environment(self._threads),
                # A group of its own: killing it also ends the programs a calculator started,
                # and Ctrl-C in the terminal does not reach it.
                start_new_session=True,
            )
        self._cleanup = weakref.finalize(self, _end_process, self._process)

    def stop(self) -> None:
        """End the process, with all it started."""
        if self._cleanup is not None:
            self._cleanup()
        self._process = None

    def finished(self) -> bool:
        """Return whether `take_reply` has something to say; kill the process if it is too late."""
        if self.is_running:
            self._read()
        if self._reply is None and time.monotonic() >= self.deadline:
            doing = "timed out" if self._computing else "the calculator did not start"
            self._fail(f"{doing} after {time.monotonic() - self.started:.1f} s")
        return self._reply is not None

    def take_reply(self) -> dict[str, Any]:
        """Return the reply to the last job."""
        assert self._reply is not None
        reply, self._reply, self.deadline = self._reply, None, math.inf
        return reply

    def _read(self) -> None:
        """Take what has arrived, without waiting."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            while self._reply is None and selector.select(timeout=0):
                data = os.read(self.output.fileno(), 1 << 16)
                if not data:
                    self._fail_silent()
                    return
                self._buffer += data
                self._parse()

    def _parse(self) -> None:
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            try:
                message = dict(json.loads(line))
            except (ValueError, TypeError):
                self._fail(f"unreadable reply of the worker process: {line[:80]!r}")
                return
            if "ready" in message or "computing" in message:
                self._computing = "computing" in message
                self._set_deadline()
            else:
                self._reply = message

    def _fail(self, error: str, cause: Cause = "structure") -> None:
        # What has not begun to compute says nothing about the structure.
        self._reply = {
            "error": error,
            "cause": cause if self._computing else "environment",
            "seconds": time.monotonic() - self.started,
            "by": "campaign",
        }
        self.stop()

    def _fail_silent(self) -> None:
        """Say why nothing more can come from the process: it died, as a rule."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout=_TIME_TO_DIE)
        except subprocess.TimeoutExpired:
            self._fail("the worker process died (it closed its connection)")
            return
        # Its guard is still in the group, so the number belongs to nobody else.
        _kill_group(self._process.pid)
        cause: Cause = "environment" if is_environments_exit(code) else "structure"
        self._fail(f"the worker process died ({_ending(code)})", cause)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def module_path() -> str:
    """Return PYTHONPATH for a process that is to find the same modules as this one."""
    return os.pathsep.join(str(Path(path).absolute()) for path in sys.path)


def _environment(threads: int = 1) -> dict[str, str]:
    """Return the environment of a worker: no trace of MPI, its threads, the same modules."""
    environment = scrubbed_environment()
    if not threads_are_set(environment):
        environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    environment.pop(OF_RANKS, None)
    environment["PYTHONPATH"] = module_path()
    return environment


def _end_process(process: subprocess.Popen[bytes]) -> None:
    # Once it has been waited for, its number may belong to somebody else.
    if process.returncode is None:
        _kill_group(process.pid)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
