"""The command line: one function per verb.

Exit codes: 0 done, 1 failure, 2 bad input, 75 stopped in order (the same command goes on).
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from typing import TYPE_CHECKING

from latticesearch import __version__
from latticesearch.cli import (
    bench,
    by_hand,
    export,
    hull,
    oracle_test,
    predict,
    prepare,
    run,
    search,
    status,
    threads,
    train,
)
from latticesearch.cli import enumerate as enumeration
from latticesearch.errors import InputError, Stopped
from latticesearch.parallel import world
from latticesearch.progress import is_watched
from latticesearch.stopping import EXIT_INTERRUPTED, EXIT_STOPPED, StopRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latticesearch.parallel import Communicator

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2

MEETING_TIME = 3.0
"""Seconds a failing rank waits for the others to fail with it before it ends them."""

STOPPING_TIME = 20.0
"""The same after a signal, of which a rank that loads a large library hears only afterwards. Queues
kill half a minute after their signal."""


def main(arguments: Sequence[str] | None = None, stop: StopRequest | None = None) -> int:
    """Run the command line; return the exit code.

    Parameters
    ----------
    arguments
        Words after the program's name; default those of the process.
    stop
        May have been asked already to end a run before its end; default not.
    """
    threads.one_per_rank()
    options = _parser().parse_args(arguments)
    # One that was not asked yet is false.
    options.stop = StopRequest() if stop is None else stop
    try:
        comm = world()
    except RuntimeError as error:
        return _complain(error, EXIT_FAILURE)
    _start_logging(comm, verbose=options.verbose)
    try:
        code: int = options.function(options, comm)
    except InputError as error:
        return _end(comm, error, EXIT_BAD_INPUT)
    except Stopped as stopped:
        return _end(comm, stopped, EXIT_STOPPED)
    except KeyboardInterrupt:
        comm.abort(EXIT_INTERRUPTED)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, all ranks must end
        if options.verbose or not isinstance(error, RuntimeError):
            traceback.print_exc()
        return _end(comm, error, EXIT_FAILURE)
    return code


def _end(comm: Communicator, error: Exception, code: int) -> int:
    """Say once what is wrong and end all ranks, gently if all know of it."""
    if comm.rank == 0:
        _complain(error, code)
    if not comm.meet(STOPPING_TIME if code == EXIT_STOPPED else MEETING_TIME):
        if comm.rank != 0:
            _complain(error, code)
        comm.abort(code)
    return code


def _complain(error: Exception, code: int) -> int:
    """Print one line on stderr."""
    text = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"latticesearch: {text}\n")
    return code


def _start_logging(comm: Communicator, *, verbose: bool) -> None:
    """Send the package's log to stderr: rank 0 tells the story, the others only warn."""
    handler = logging.StreamHandler()
    # Who looks at a log later wants to know when; who watches a terminal knows.
    times = "" if is_watched(sys.stderr) else "%(asctime)s "
    handler.setFormatter(logging.Formatter(f"{times}%(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    package = logging.getLogger("latticesearch")
    package.handlers = [handler]
    package.propagate = False
    story = logging.DEBUG if verbose else logging.INFO
    package.setLevel(story if comm.rank == 0 else logging.ERROR)


_MODULES = (
    *(
        run,
        prepare,
        oracle_test,
        by_hand,
        status,
        hull,
        export,
        predict,
        search,
        train,
        enumeration,
    ),
    bench,
)


def _parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="latticesearch",
        description="Find the stable ordered structures of multicomponent alloys.",
        epilog="With MPI: mpirun -n N latticesearch VERB ...",
    )
    parser.add_argument("--version", action="version", version=f"latticesearch {__version__}")
    parser.add_argument("--verbose", action="store_true", help="more log lines, tracebacks")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for module in _MODULES:
        module.add_verbs(verbs)
    return parser
