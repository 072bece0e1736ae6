"""Whether a failure is the structure's or the environment's.

A structure wrongly blamed loses attempts, which can be given back; an environment wrongly blamed
stops every run at the same structure. So only what is sure is blamed on the environment.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from latticesearch.oracles.protocol import Cause

NOT_STARTED = frozenset({126, 127})
"""Exit codes with which a shell says that a program is not there or may not be run."""
FROM_OUTSIDE = frozenset(
    {
        *(signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGHUP, signal.SIGQUIT),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGXFSZ),
    }
)
"""Signals sent by people, queues and kernels to end a process, none of them by its own fault."""
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_MACHINE = _NO_SPACE | {
    *(errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EAGAIN),
}
"""Errors of disks and of limits that hold for every program of the user."""
_EXIT_CODE = re.compile(
    r"(?:error code|exit code|exit status|return code|returned an error:?)\W{0,2}?\s*(-?\d+)"
)
"""How ASE's calculators and others report the exit code of a program in their messages."""


def is_environments_exit(code: int) -> bool:
    """Return whether a process with this exit code was not started, or ended from outside.

    Parameters
    ----------
    code
        As `subprocess` gives it (minus the signal) or a shell does (128 plus the signal).
    """
    return code in NOT_STARTED or -code in FROM_OUTSIDE or code - 128 in FROM_OUTSIDE


def cause_of(error: BaseException) -> Cause:
    """Return what an exception that was raised during a calculation is blamed on."""
    blamed = any(_is_environments(link) for link in _causes(error))
    # In what happened while another error was handled only a full disk is beyond doubt.
    return "environment" if blamed or _no_space(error) else "structure"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those it was raised ``from``."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__


def _no_space(error: BaseException) -> bool:
    link: BaseException | None = error
    for _ in range(20):
        if isinstance(link, OSError) and link.errno in _NO_SPACE:
            return True
        link = link and link.__context__
    return False


def _is_environments(error: BaseException) -> bool:
    if isinstance(error, ImportError | ConnectionError | KeyboardInterrupt):
        return True
    if isinstance(error, subprocess.CalledProcessError):
        return is_environments_exit(error.returncode)
    if isinstance(error, OSError):
        return error.errno in _MACHINE or _is_missing_program(error)
    return _is_wrongly_set_up(error) or _reports_exit(error)


def _is_missing_program(error: OSError) -> bool:
    """Return whether a file that is not there, or may not be used, is no result of a calculation.

    An output that a failed calculation did not write lies in its own folder.
    """
    if not isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError):
        return False
    if _raised_in(error) == subprocess.__file__ or error.filename is None:
        return True
    if isinstance(error.filename, int):
        return False
    here = Path.cwd()
    return not (here / os.fsdecode(error.filename)).is_relative_to(here)


def _raised_in(error: BaseException) -> str:
    """Return the file of the Python code that raised an exception."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else trace.tb_frame.f_code.co_filename


def _is_wrongly_set_up(error: BaseException) -> bool:
    """Return whether an error is one that ASE has for calculators that cannot do it at all."""
    from ase.calculators import calculator

    kinds = tuple(
        getattr(calculator, name)
        for name in ("CalculatorSetupError", "BadConfiguration", "PropertyNotImplementedError")
        if hasattr(calculator, name)
    )
    return isinstance(error, kinds)


def _reports_exit(error: BaseException) -> bool:
    from latticesearch.oracles.printed import text_of

    found = _EXIT_CODE.search(text_of(error))
    return found is not None and is_environments_exit(int(found[1][:6]))
