"""Folders of calculations, and replies that outlive the process that asked for them.

``SCRATCH/KEY/attempt-N/`` is where a calculation runs. A worker writes its reply to
``reply.json`` there before it sends it, and holds a lock on ``SCRATCH/KEY/lock`` as long as it
computes, so that a campaign that was killed and started again pays for nothing twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
from typing import TYPE_CHECKING, Any

from latticesearch.locks import holders_note, leave_note, take

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

REPLY = "reply.json"
LOG = "worker.log"
STORED_FAILURE = "failed.json"
"""The reply of a failure, once it is stored."""
LOCK = "lock"
NOTE = "NOTE.txt"
MAX_BYTES = 20_000_000
"""Bytes that are kept of all failed attempts of one structure."""
KEPT_OF_TEXT = 200_000
"""Bytes that are kept, from its end, of a text file that is too large."""
_LOCK_PATIENCE = 1.0
_DIGITS = 6
"""Decimals of positions and cells, Å, that make two structures different for a calculator."""


def folder_of(scratch: Path, key: str) -> Path:
    """Return the folder of a structure: a readable part of its key and a hash of all of it."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", key)[:40].strip("._-")
    return scratch / f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:10]}".lstrip("-")


def attempt_folder(scratch: Path, key: str, attempt: int) -> Path:
    """Return the folder in which an attempt at a structure runs."""
    return folder_of(scratch, key) / f"attempt-{attempt}"


def fingerprint(method: Mapping[str, Any], structure: Mapping[str, Any]) -> str:
    """Return a text that is the same if and only if the same energy is asked for.

    Parameters
    ----------
    method
        Calculator, parameters and what is relaxed.
    structure
        ``numbers``, ``positions`` and ``cell`` (Å), ``pbc``; coordinates count to 1e-6 Å.
    """
    rounded = {name: _rounded(value) for name, value in structure.items()}
    text = json.dumps([method, rounded], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    # Adding zero makes minus zero zero.
    return round(value, _DIGITS) + 0.0 if isinstance(value, float) else value


def fresh_folder(folder: Path) -> Path:
    """Return `folder`, made and empty: what an ended calculation left there is gone.

    Files of old could be taken for those of the new calculation, such as a wave function.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_reply(folder: Path, reply: Mapping[str, Any]) -> None:
    """Write a reply to the folder of an attempt; see `write_durably`.

    Raises
    ------
    OSError
        It cannot be written.
    """
    write_durably(folder, REPLY, reply)


def write_durably(folder: Path, name: str, record: Mapping[str, Any]) -> None:
    """Write a record to a file; it is on the disk, whole, when this returns.

    Raises
    ------
    OSError
        It cannot be written.
    """
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(dict(record), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / name)
    _sync(folder)
    # A power cut must not take away the folders themselves either.
    _sync(folder.parent)
    _sync(folder.parent.parent)


def _sync(folder: Path) -> None:
    # Some network file systems refuse to sync a folder; they do it by themselves.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replies(structure: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the attempts at a structure that have a reply, with it, in order of their names."""
    for path in sorted(structure.glob(f"attempt-*/{REPLY}")):
        with contextlib.suppress(OSError, ValueError):
            reply = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(reply, dict):
                yield path.parent, reply


def forget(folder: Path) -> None:
    """Remove the folder of an attempt, and that of its structure if nothing else is there."""
    shutil.rmtree(folder, ignore_errors=True)
    structure = folder.parent
    with contextlib.suppress(OSError):
        if {path.name for path in structure.iterdir()} <= {LOCK}:
            (structure / LOCK).unlink(missing_ok=True)
            structure.rmdir()


def forget_done(scratch: Path, keys: Iterable[str]) -> None:
    """Remove what a killed campaign left of calculations whose results are stored.

    Parameters
    ----------
    scratch
        The folder of all calculations; it may be missing.
    keys
        Structures whose calculations are done, and stored.
    """
    present = {path.name for path in scratch.iterdir()} if scratch.is_dir() else set()
    for key in keys:
        structure = folder_of(scratch, key)
        if structure.name in present and waiting_time(structure) is None:
            for folder, record in list(replies(structure)):
                if "error" not in record.get("reply", {"error": ""}):
                    forget(folder)


@contextlib.contextmanager
def locked(structure: Path, grace: float) -> Iterator[None]:
    """Hold the lock of a structure, with a note by whom and for how long it may be held.

    Where the file system has no locks, or another process keeps it, go on without: whoever
    sent us here knows.
    """
    descriptor = os.open(structure / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with contextlib.suppress(OSError):
            if take(descriptor, _LOCK_PATIENCE):
                owner = {"pid": os.getpid(), "host": socket.gethostname(), "grace": grace}
                leave_note(descriptor, json.dumps(owner))
        yield
    finally:
        os.close(descriptor)


def waiting_time(structure: Path) -> float | None:
    """Return how long a worker that computes a structure may go on, s; None where there is none.

    Workers of a campaign that was killed end what they do within its grace.
    """
    note = holders_note(structure / LOCK)
    if note is None:
        return None
    try:
        return float(json.loads(note)["grace"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def shrink(structure: Path, max_bytes: int = MAX_BYTES) -> None:
    """Cut down the files of a structure's attempts to `max_bytes`, the largest first.

    Of text the end is kept, other files go; a note in the folder says which.
    """
    files = sorted(_files(structure), reverse=True)
    excess = sum(size for size, _ in files) - max_bytes
    notes = []
    for size, path in files:
        if excess <= 0:
            break
        if path.name in {REPLY, NOTE, LOCK}:
            continue
        with contextlib.suppress(OSError):
            kept = _cut(path)
            excess -= size - kept
            what = f"the last {kept} kept" if kept else "removed"
            notes.append(f"{path.relative_to(structure)}: {size} bytes, {what}\n")
    if notes:
        with contextlib.suppress(OSError), (structure / NOTE).open("a", encoding="utf-8") as file:
            file.write(f"Cut down to {max_bytes} bytes in all:\n" + "".join(notes))


def _files(structure: Path) -> Iterator[tuple[int, Path]]:
    for path in structure.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                yield path.stat().st_size, path


def _cut(path: Path) -> int:
    """Keep the end of a text file, in place, or remove the file; return the bytes kept."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - KEPT_OF_TEXT))
        end = file.read(KEPT_OF_TEXT)
        if size > KEPT_OF_TEXT and (path.name == LOG or b"\0" not in end):
            file.seek(0)
            file.write(end)
            file.truncate()
            return len(end)
    path.unlink()
    return 0
