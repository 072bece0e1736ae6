"""Locks on files that end with the process that holds them, however it ends.

Where a file system has no locks, taking one raises `OSError`; what to do without is for whoever
asks. Who holds one leaves a note in the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TAKEN = frozenset({errno.EWOULDBLOCK, errno.EACCES})
"""What the system answers where somebody else holds the lock."""

PAUSE = 0.01
"""Seconds between two tries to take one."""

NOTE_SIZE = 1000
"""Bytes of a note that are read."""


def take(descriptor: int, patience: float) -> bool:
    """Take the lock of an open file; return whether it is ours.

    Parameters
    ----------
    descriptor
        Of a file opened for writing.
    patience
        Seconds to try: whoever only looks who holds the lock has it for a moment.

    Raises
    ------
    OSError
        The file system has no locks.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in TAKEN:
                raise
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE)
        else:
            return True


def leave_note(descriptor: int, note: str) -> None:
    """Say in a file whose lock is ours who we are."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, note.encode(), 0)


def note_in(descriptor: int) -> str:
    """Return the note in an open file."""
    return os.pread(descriptor, NOTE_SIZE, 0).decode(errors="replace").strip()


def holders_note(path: Path) -> str | None:
    """Return the note of whoever holds the lock of a file; None where nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    with contextlib.closing(os.fdopen(descriptor, "rb", buffering=0)):
        try:
            # Shared: those who look do not hide the lock from each other.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return note_in(descriptor) if error.errno in TAKEN else None
    return None
