"""The process in which calculators run: ``python -m latticesearch.oracles.worker``.

It reads one job per line (JSON) from standard input and answers on what was its standard output.
A calculator can crash, hang or print here without harm to the campaign: nothing but text passes
between the two processes. Each job runs in a folder of its own, where its reply is written, on
the disk, before it is sent.

When the campaign's process ends, however it ends, standard input closes. The worker then has a
time of grace for the calculation it is at; a second process, which no calculator can keep busy,
sees to it that the worker, and all programs it started, live no longer.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.oracles.blame import cause_of
from latticesearch.oracles.calculation import reply_to
from latticesearch.oracles.parallel_codes import Parallel, computed_in_ranks
from latticesearch.oracles.printed import described
from latticesearch.oracles.scratch import LOG, locked, write_reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SURVIVED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that a queue sends to all processes of a job: the campaign decides what they mean."""

_MANY_FILES = 256
"""More than a worker has open when it starts."""


@dataclass
class _Signals:
    """Whether one of `SURVIVED` has arrived since the calculation began.

    It then has reached the programs of the calculator as well, which do not survive it.
    """

    arrived: bool = False

    def note(self, *_: object) -> None:
        self.arrived = True


_SIGNALS = _Signals()


def main() -> None:
    """Answer jobs until standard input closes and the grace is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grace", type=float, default=0.0)
    parser.add_argument("--remove", type=Path, help="folder that nobody needs afterwards")
    parser.add_argument("--cpus", help="numbers of the processors that may be used")
    options = parser.parse_args()
    if options.cpus:
        _spread(map(int, options.cpus.split(",")))
    for number in SURVIVED:
        # A handler, not SIG_IGN, which the programs of a calculator would inherit.
        signal.signal(number, _SIGNALS.note)
    commands, replies = _private_streams()
    _start_guard(commands, options.grace, options.remove)
    faulthandler.enable()
    _send(replies, {"ready": True})
    with os.fdopen(commands, "r", encoding="utf-8") as lines:
        for line in lines:
            _serve(json.loads(line), commands, replies, options.grace)
    if options.remove is not None:
        shutil.rmtree(options.remove, ignore_errors=True)
    _end_group()


def _spread(cpus: Iterable[int]) -> None:
    """Use all these processors, not the one that a launcher has bound our parent to."""
    # Where they may not be used, what was inherited is as good.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setaffinity(0, cpus)


def _private_streams() -> tuple[int, int]:
    """Keep the two pipes to the campaign out of reach of calculators; return them.

    Whatever a calculator prints, even from C, then goes to standard error, and it finds no
    input to read.
    """
    commands, replies = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - the descriptor is what is needed
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return commands, replies


def _start_guard(commands: int, grace: float, remove: Path | None) -> None:
    """Start the process that ends this one, and its children, `grace` after the campaign."""
    worker = os.getpid()
    if os.getpgrp() != worker or os.fork() > 0:
        return
    try:
        # The campaign learns that a worker died when nobody is left that could write.
        os.closerange(0, commands)
        os.closerange(commands + 1, _MANY_FILES)
        _wait_for_end(commands)
        time.sleep(grace)
        if remove is not None:
            os.kill(worker, signal.SIGKILL)
            shutil.rmtree(remove, ignore_errors=True)
    finally:
        os.killpg(0, signal.SIGKILL)


def _wait_for_end(commands: int) -> None:
    """Return when nobody is left that could send a job; jobs stay in the pipe."""
    poll = select.poll()
    poll.register(commands, 0)
    while not poll.poll():
        pass


def _end_group() -> None:
    """End this process and all it has started."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


def _is_alone(commands: int) -> bool:
    poll = select.poll()
    poll.register(commands, 0)
    return bool(poll.poll(0))


def _send(replies: int, message: dict[str, Any]) -> None:
    data = (json.dumps(message) + "\n").encode()
    # With nobody there to read it the reply waits in its folder.
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(replies, data) :]


def _serve(job: dict[str, Any], commands: int, replies: int, grace: float) -> None:
    """Compute one job in its folder; leave the reply there and send it."""
    folder, reply = Path(job["folder"]), None
    try:
        with _inside(folder), locked(folder.parent, grace):
            # A new campaign that saw no lock may be at it already.
            if _is_alone(commands):
                return
            reply = _answer(job, replies)
            if reply.get("cause") != "environment":
                _keep(folder, {**job["record"], "reply": reply})
    except OSError as error:
        # What is computed is sent even if its folder is gone.
        reply = reply or {"error": described(error), "cause": "environment", "seconds": 0.0}
    _send(replies, reply)


def _keep(folder: Path, record: dict[str, Any]) -> None:
    try:
        write_reply(folder, record)
    except OSError as error:
        # It can still be sent; whoever stores it will say that there is no space.
        print(f"cannot write the reply: {error}", file=sys.stderr)  # noqa: T201 - the log


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in `folder` and print to its log; leave both, so that they can be removed."""
    os.chdir(folder)
    try:
        _print_to(folder / LOG)
        yield
    finally:
        _print_to(Path(os.devnull))
        os.chdir(folder.parent.parent)


def _print_to(path: Path) -> None:
    sys.stderr.flush()
    # What C has buffered belongs to the calculation that ends here.
    ctypes.CDLL(None).fflush(None)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _answer(job: dict[str, Any], replies: int) -> dict[str, Any]:
    """Compute one job; return the reply, which names the error if there was one."""
    start = time.perf_counter()
    _SIGNALS.arrived = False
    parallel = Parallel.of(job)
    if parallel.makes_ranks_of(job["calculator"]):
        _send(replies, {"computing": True})
        try:
            reply = computed_in_ranks(job, parallel)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            reply = {"error": described(error), "cause": cause_of(error)}
    else:
        reply = reply_to(job, lambda: _send(replies, {"computing": True}))
    if "error" in reply and _SIGNALS.arrived:
        reply["cause"] = "environment"
    return {**reply, "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    main()
