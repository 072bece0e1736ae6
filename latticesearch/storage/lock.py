"""One writer per run directory; the kernel releases the lock however the writer ends."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING

from latticesearch.errors import InputError
from latticesearch.locks import holders_note, leave_note, note_in, take

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

LOCK_NAME = ".lock"

PATIENCE = 0.1
"""Seconds that a taken lock is tried again: `writer_of` holds it for some microseconds."""


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
            is_ours = take(self._descriptor, PATIENCE)
        except OSError as error:
            # File systems without locks exist on clusters; refusing to run there helps nobody.
            log.warning("cannot lock %s: %s; start no second run there", folder, error.strerror)
            return
        if not is_ours:
            owner = note_in(self._descriptor)
            self.release()
            raise InputError(
                f"another run is writing to {folder} ({owner or 'owner unknown'}); "
                "wait for it or choose another output directory"
            )
        leave_note(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}\n")

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
    note = holders_note(folder / LOCK_NAME)
    return note if note is None else note or "owner unknown"
