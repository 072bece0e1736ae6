"""Files that are either the old one or the new one, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_TEMPORARY = ".tmp"
_OLD = ".old"
_COUNTER = itertools.count()


def write_text_atomic(path: Path, text: str) -> None:
    """Write a UTF-8 text file; see `write_bytes_atomic`."""
    write_bytes_atomic(path, text.encode())


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write a file so that readers, and a crash, see the old or the new content, never a mixture.

    When this returns, the new content is on the disk.

    Raises
    ------
    OSError
        It cannot be written; the old file is then untouched.
    """
    temporary = _temporary_name(path)
    try:
        _write_durably(temporary, data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def replace_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Make `path` a folder that holds exactly `files` (name -> content).

    The folder is written elsewhere and then exchanged; `clean_up` repairs what a crash between
    the two renames leaves.
    """
    temporary, old = _temporary_name(path), path.with_name(f".{path.name}{_OLD}")
    _restore(path, old)
    try:
        temporary.mkdir()
        for name, data in files.items():
            _write_durably(temporary / name, data)
        sync_directory(temporary)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _restore(path, old)
    sync_directory(path.parent)


def clean_up(folder: Path) -> None:
    """Remove what a killed writer left in `folder`; call it only while no other writes there."""
    for leftover in list(folder.glob(f".*{_TEMPORARY}")):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    for old in list(folder.glob(f".*{_OLD}")):
        _restore(folder / old.name[1 : -len(_OLD)], old)


def _restore(path: Path, old: Path) -> None:
    """Put the old folder back if there is no new one, else remove it."""
    if not old.exists():
        return
    if path.exists():
        shutil.rmtree(old)
    else:
        old.rename(path)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{next(_COUNTER)}{_TEMPORARY}")


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _descriptor(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make names that were created or renamed in a folder durable."""
    # Some network file systems refuse to sync a folder; they do it by themselves.
    with contextlib.suppress(OSError), _descriptor(path, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)
