"""One writer per run directory; the kernel releases the lock however the writer ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
from typing import TYPE_CHECKING

from latticesearch.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

LOCK_NAME = ".lock"


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
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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


def _host() -> str:
    return socket.gethostname()
