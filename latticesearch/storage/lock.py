"""One writer per run directory; the kernel releases the lock however the writer ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

from latticesearch.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

LOCK_NAME = ".lock"

LOOKS = 5
"""Times that a taken lock is tried again ..."""

LOOK = 0.02
"""... after so many seconds: `writer_of` holds it for some microseconds."""


class DirectoryLock:
    """An exclusive lock on a folder, held until `release` or the end of the process.

    Parameters
    ----------
    folder
        An existing folder.

    Raises
    ------
    InputError
        Another process holds the lock.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(self._descriptor)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                owner = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
                self.release()
                raise InputError(
                    f"another run is writing to {folder} ({owner or 'owner unknown'}); "
                    "wait for it or choose another output directory"
                ) from error
            # File systems without locks exist on clusters; refusing to run there helps nobody.
            log.warning("cannot lock %s: %s; start no second run there", folder, error.strerror)
        else:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"process {os.getpid()} on {_host()}\n".encode(), 0)

    def release(self) -> None:
        """Let others write; may be called twice."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


def writer_of(folder: Path) -> str | None:
    """Return who is writing to a folder, in words; None where nobody is.

    Parameters
    ----------
    folder
        An existing folder.
    """
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
            return None
        return os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "owner unknown"
    finally:
        os.close(descriptor)
    return None


def _take(descriptor: int) -> None:
    """Take the lock; wait for those who only look whether it is taken, which is over at once."""
    for _ in range(LOOKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise
            time.sleep(LOOK)
        else:
            return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _host() -> str:
    return socket.gethostname()
