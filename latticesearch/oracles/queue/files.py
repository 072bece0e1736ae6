"""What a queue leaves in the scratch folder, beside what all calculations do.

``SCRATCH/KEY/attempt-N/`` (the second time, where the first came to nothing, ``attempt-N-2``):

``job.json``
    Written by the campaign: what is to be computed, and in which array job.
``claim.json``
    Made by whoever has the right to compute it, once and for all: the job that begins, or the
    campaign, which withdraws it. File systems promise that only one of them succeeds.
``setback.json``
    Written by a job: what kept it from computing that is not the structure's fault.
``gone.json``
    The queue knows the job no more, or says that it has ended: how, and when this was noticed.
``given-up.json``
    Written by the campaign: nothing will come of it, why, and whether that has been reported.
``reply.json``
    See `latticesearch.oracles.scratch`.

``SCRATCH/queue/NAME/`` is an array job: its script, ``tasks.json`` with the folders of its
calculations, ``submitted.json`` with its number, and what its jobs print.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latticesearch.oracles.scratch import REPLY, STORED_FAILURE, forget, write_durably

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ARRAYS = "queue"
JOB = "job.json"
CLAIM = "claim.json"
SETBACK = "setback.json"
GIVEN_UP = "given-up.json"
GONE = "gone.json"
TASKS = "tasks.json"
SUBMITTED = "submitted.json"
SCRIPT = "script.sh"
WITHDRAWN = "withdrawn"


def read(path: Path) -> dict[str, Any] | None:
    """Return the record in a file, None where there is none, or not yet all of it."""
    with contextlib.suppress(OSError, ValueError):
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record, dict):
            return record
    return None


def claim(folder: Path, who: Mapping[str, Any]) -> bool:
    """Take the right to compute what lies in a folder; return whether it is ours.

    Raises
    ------
    OSError
        The folder is gone, or cannot be written to.
    """
    try:
        descriptor = os.open(folder / CLAIM, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(dict(who), file)
    return True


def withdraw(folder: Path) -> bool:
    """See to it that a job which has not begun never will; return whether it had not."""
    try:
        return claim(folder, {"by": WITHDRAWN})
    except OSError:
        return False


@dataclass(frozen=True, eq=False)
class Submission:
    """One calculation that was handed to the queue, as far as its folder tells.

    Parameters
    ----------
    folder
        Where it is computed.
    array
        Name of the array job.
    task
        Its number in there.
    request
        Fingerprint of the energy that is asked for.
    """

    folder: Path
    array: str
    task: int
    request: str

    @property
    def has_begun(self) -> bool:
        """Whether a job is at it, or was."""
        return (self.folder / CLAIM).exists()

    @property
    def is_withdrawn(self) -> bool:
        """Whether the campaign has taken the right to compute it."""
        return (read(self.folder / CLAIM) or {}).get("by") == WITHDRAWN

    @property
    def is_given_up(self) -> bool:
        """Whether nothing will come of it."""
        return (self.folder / GIVEN_UP).exists()

    @property
    def setback(self) -> str | None:
        """What was in its way, as its job says; None where it says nothing."""
        record = read(self.folder / SETBACK)
        return None if record is None else str(record.get("error"))

    @property
    def unreported(self) -> str | None:
        """Why it was given up, where that has not been reported yet; else None."""
        record = read(self.folder / GIVEN_UP)
        return None if record is None or record.get("reported") else str(record.get("error"))

    def missing_since(self, state: str) -> tuple[str, float]:
        """Note that the queue says that it has ended; return what it said first, and when.

        Later the queue may not know it any more.

        Raises
        ------
        OSError
            It cannot be noted.
        """
        known = read(self.folder / GONE)
        if known is None:
            known = {"state": state, "noticed": time.time()}
            # Writing here makes network file systems look again at what else is here.
            write_durably(self.folder, GONE, known)
        return str(known["state"]), float(known["noticed"])

    def set_back(self, error: str) -> None:
        """Write down what is in the way of its job.

        Raises
        ------
        OSError
            It cannot be written.
        """
        write_durably(self.folder, SETBACK, {"error": error})

    def give_up(self, error: str, *, reported: bool = False) -> None:
        """Write down that nothing will come of it, and why; what is reported counts no more.

        Raises
        ------
        OSError
            It cannot be written.
        """
        write_durably(self.folder, GIVEN_UP, {"error": error, "reported": reported})

    def discard(self) -> None:
        """Remove its folder, at once for all who may look for it."""
        aside = self.folder.with_name(f".{self.folder.name}-discarded")
        with contextlib.suppress(OSError):
            self.folder.rename(aside)
        forget(aside)


def submissions(structure: Path) -> Iterator[Submission]:
    """Yield what was handed to the queue for a structure and is not stored, in order of names."""
    for path in sorted(structure.glob(f"attempt-*/{JOB}")):
        record = read(path)
        if record is not None and not (path.parent / STORED_FAILURE).exists():
            try:
                yield Submission(
                    path.parent, str(record["array"]), int(record["task"]), record["request"]
                )
            except (KeyError, TypeError, ValueError):
                continue


def all_submissions(scratch: Path) -> Iterator[Submission]:
    """Yield all that was handed to the queue and is not stored yet."""
    if scratch.is_dir():
        for structure in sorted(scratch.iterdir()):
            yield from submissions(structure)


def has_reply(submission: Submission) -> bool:
    """Return whether its answer waits to be stored."""
    return (submission.folder / REPLY).exists()


def free_folder(folder: Path) -> Path:
    """Return the folder of an attempt, or the first of its successors that nobody has used."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def forget_arrays(scratch: Path) -> None:
    """Remove the folders of array jobs that no calculation belongs to any more."""
    arrays = scratch / ARRAYS
    if not arrays.is_dir():
        return
    needed = {one.array for one in all_submissions(scratch) if not one.is_given_up}
    for folder in arrays.iterdir():
        if folder.name not in needed:
            shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        arrays.rmdir()
