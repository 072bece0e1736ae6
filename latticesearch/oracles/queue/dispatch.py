"""The campaign's side of a queue: hand over what is wanted, take up what is done.

Everything that has to outlive this process is in files; see `latticesearch.oracles.queue.files`.
So it makes no difference whether a campaign waits, is killed, or comes by once a day.
"""

from __future__ import annotations

import logging
import math
import re
import selectors
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latticesearch.errors import OracleUnavailable, Stopped
from latticesearch.oracles import scratch
from latticesearch.oracles.printed import last_lines
from latticesearch.oracles.queue import files
from latticesearch.oracles.queue.slurm import (
    ENDED,
    OUT_OF_MEMORY,
    OUT_OF_TIME,
    TAKEN_AWAY,
    UNKNOWN,
    WAITING,
    Refused,
    script,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from latticesearch.oracles.dispatch import Answer, Request, StopSignal
    from latticesearch.oracles.queue.files import Submission
    from latticesearch.oracles.queue.resources import Queue, Resources
    from latticesearch.oracles.queue.slurm import Slurm, States

log = logging.getLogger(__name__)

LONGEST_PAUSE = 5.0
"""Seconds between two looks at the files, which cost nobody anything."""

_RUN_IN_NAME = 20
"""Characters of a run's name that lists of jobs show."""


@dataclass(eq=False)
class _Wanted:
    """An energy that is asked for, and the calculation that may bring it."""

    request: Request
    submission: Submission | None = None


class QueueDispatch:
    """One list of jobs on its way through the queue of a cluster.

    Parameters
    ----------
    queue
        How the queue is used.
    slurm
        The queue.
    folder
        The scratch folder, seen by all nodes under this name.
    requests
        What is to be computed.
    stop
        Ends it early: what is in the queue stays there.
    patience
        Failures of the environment at one structure after which it ends.
    """

    def __init__(
        self,
        queue: Queue,
        slurm: Slurm,
        folder: Path,
        requests: Iterable[Request],
        stop: StopSignal,
        patience: int,
    ) -> None:
        self._queue, self._slurm, self._scratch = queue, slurm, folder
        self._open = [_Wanted(request) for request in requests]
        self._stop, self._patience = stop, patience
        self._next_look = -math.inf
        self._refusals = 0

    def answers(self) -> Generator[Answer]:
        """Yield the answers as they arrive.

        Raises
        ------
        OracleUnavailable
            The environment failed again and again, or the queue takes nothing.
        Stopped
            There is more to come, and nobody is to wait for it.
        """
        while True:
            yield from self._collect()
            if not self._open or self._stop.is_set:
                break
            if time.monotonic() >= self._next_look:
                try:
                    self._look()
                except OSError as error:
                    text = f"cannot write to {error.filename or self._scratch}: {error.strerror}"
                    raise OracleUnavailable(text) from None
                self._next_look = time.monotonic() + self._queue.interval
                yield from self._collect()
                if self._open and not self._queue.wait:
                    raise Stopped(_described(in_the_queue(self._scratch, self._slurm)))
            self._sleep()
        files.forget_arrays(self._scratch)

    def _collect(self) -> Iterator[Answer]:
        """Yield what has been answered."""
        for wanted in list(self._open):
            answer = wanted.request.left_behind()
            if answer is not None:
                self._open.remove(wanted)
                yield from answer.handed_out()
                if answer.error is None:
                    _forget_predecessors(answer)

    def _look(self) -> None:
        """See what has become of all that is out, and hand over what is not.

        Raises
        ------
        OracleUnavailable
            The environment failed again and again, or the queue takes nothing.
        """
        for wanted in self._open:
            wanted.submission = _submission_of(wanted.request)
        out = [one.submission for one in self._open if one.submission is not None]
        states = self._slurm.states(_numbers(self._scratch, out))
        if states is None:
            log.warning("the queue does not answer; it is asked again")
            return
        for wanted in self._open:
            if wanted.submission is not None:
                self._judge(wanted, states)
        self._submit([one for one in self._open if one.submission is None])

    def _judge(self, wanted: _Wanted, states: States) -> None:
        """Draw the conclusions from what the queue says of a calculation.

        Raises
        ------
        OracleUnavailable
            The environment failed again and again.
        """
        one = wanted.submission
        assert one is not None
        state = states.get((one.array, one.task), UNKNOWN)
        if files.has_reply(one):
            if wanted.request.left_behind() is None:
                # A failure within other limits of time or steps: no answer to this request.
                wanted.submission = None
                one.discard()
            return
        if state not in ENDED and state != UNKNOWN:
            return
        if one.is_withdrawn or (not one.has_begun and files.withdraw(one.folder)):
            # Nobody will compute it any more.
            self._set_back(wanted, state, f"its job did not begin ({state})")
            return
        state, noticed = one.missing_since(state)
        if one.setback is None and time.time() - noticed < self._queue.interval:
            # Files of another node may be late.
            return
        if state in {OUT_OF_TIME, OUT_OF_MEMORY}:
            self._blame(wanted, state)
        else:
            said = one.setback or "its job has ended"
            self._set_back(wanted, state, f"{said} ({state})")

    def _blame(self, wanted: _Wanted, state: str) -> None:
        """Write the reply of a calculation that took more than its job was given."""
        one = wanted.submission
        assert one is not None
        what = {
            OUT_OF_TIME: "timed out: the queue ended it; give it more oracle.queue.time",
            OUT_OF_MEMORY: "out of memory: give it more oracle.queue.memory",
        }
        reply = {"error": what[state], "cause": "structure", "seconds": 0.0, "by": "queue"}
        # Within the limits that the job was given, which may be others today.
        record = (files.read(one.folder / files.JOB) or {})["message"]["record"]
        scratch.write_reply(one.folder, {**record, "reply": reply})

    def _set_back(self, wanted: _Wanted, state: str, error: str) -> None:
        """Let a calculation be done again; give up where that has come to nothing too often.

        Raises
        ------
        OracleUnavailable
            It has.
        """
        one = wanted.submission
        assert one is not None
        wanted.submission = None
        key = wanted.request.job.key
        was_taken = _was_submitted(self._scratch, one.array)
        if not was_taken and (one.is_withdrawn or state == UNKNOWN):
            # Slurm keeps a record of jobs that it has refused.
            one.discard()
            return
        log.warning("%s: %s; it is handed over again", key, error)
        if state in TAKEN_AWAY:
            one.give_up(error, reported=True)
            return
        printed = last_lines(self._scratch / files.ARRAYS / one.array / f"job-{one.task}.out")
        one.give_up(error + (f" (last printed: {printed})" if printed else ""))
        earlier = [(o, o.unreported) for o in files.submissions(one.folder.parent) if o.unreported]
        if len(earlier) >= self._patience:
            for other, why in earlier:
                other.give_up(str(why), reported=True)
            text = f"{self._patience} times at the same structure; the last time"
            raise OracleUnavailable(f"{text} {key}: {earlier[-1][1]}")

    def _submit(self, wanted: Sequence[_Wanted]) -> None:
        """Hand over calculations, as many as may be in the queue.

        Raises
        ------
        OracleUnavailable
            The queue takes nothing, and nothing is out that it could be waiting for.
        """
        n_out = sum(one.submission is not None for one in self._open)
        room = len(wanted) if self._queue.jobs is None else max(0, self._queue.jobs - n_out)
        groups: dict[Resources, list[_Wanted]] = {}
        for one in wanted[:room]:
            groups.setdefault(self._resources(one.request), []).append(one)
        try:
            for resources, members in groups.items():
                for i in range(0, len(members), self._queue.array):
                    self._submit_array(members[i : i + self._queue.array], resources)
                    n_out += 1
                    self._refusals = 0
        except Refused as refusal:
            # It may have taken the job all the same, or have no room for more at the moment.
            log.warning("%s", refusal)
            self._refusals += 1
            if not n_out and (not self._queue.wait or self._refusals >= self._patience):
                raise OracleUnavailable(f"the queue takes no job: {refusal}") from None

    def _submit_array(self, members: Sequence[_Wanted], resources: Resources) -> None:
        """Write down what an array job is to compute, then hand it over.

        Raises
        ------
        Refused
            The queue did not take it.
        """
        # Recognised by its name where this process ends before it knows the number.
        run = re.sub(r"[^A-Za-z0-9._]+", "-", self._scratch.parent.name)[:_RUN_IN_NAME]
        name = f"{run}-{uuid.uuid4().hex[:12]}"
        array = self._scratch / files.ARRAYS / name
        array.mkdir(parents=True)
        folders = []
        for task, one in enumerate(members):
            folder = files.free_folder(one.request.folder)
            folder.mkdir(parents=True)
            folders.append(str(folder.relative_to(self._scratch)))
            scratch.write_durably(folder, files.JOB, _job(one.request, name, task))
        tasks = {"folders": folders, "usable_time": resources.usable_time}
        scratch.write_durably(array, files.TASKS, tasks)
        text = script(name, array, len(members), resources)
        (array / files.SCRIPT).write_text(text, encoding="utf-8")
        number = self._slurm.submit(array / files.SCRIPT)
        scratch.write_durably(array, files.SUBMITTED, {"number": number})
        log.info("handed to the queue: %d calculations, job %s", len(members), number)

    def _resources(self, request: Request) -> Resources:
        return self._queue.resources_for(request.job.atoms.get_chemical_symbols())

    def _sleep(self) -> None:
        """Wait for the signal to stop, or the time at which there may be more to see."""
        pause = min(self._queue.interval, LONGEST_PAUSE)
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop.wake_up, selectors.EVENT_READ)
            selector.select(timeout=pause)


def in_the_queue(folder: Path, slurm: Slurm | None = None) -> dict[str, int]:
    """Return how many calculations are out, by what is known of them.

    Parameters
    ----------
    folder
        The scratch folder of a run.
    slurm
        Is asked what it knows; without it, or where it does not answer, the files alone count.

    Returns
    -------
    dict
        ``waiting``, ``running``, ``done`` (answered, to be taken up) and ``lost``: the queue knows
        them no more, and they are handed over again. Empty where nothing is out.
    """
    out = [one for one in files.all_submissions(folder) if not one.is_given_up]
    states = slurm.states(_numbers(folder, out)) if slurm and out else None
    counts = Counter(_kind(one, states) for one in out)
    kinds = ("waiting", "running", "done", "lost")
    return {kind: counts[kind] for kind in kinds} if out else {}


def _kind(one: Submission, states: States | None) -> str:
    if files.has_reply(one):
        return "done"
    if states is None:
        return "running" if one.has_begun else "waiting"
    state = states.get((one.array, one.task), UNKNOWN)
    if state in ENDED or state == UNKNOWN:
        return "lost"
    return "waiting" if state in WAITING else "running"


def _described(counts: dict[str, int]) -> str:
    said = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    return f"in the queue: {said or 'nothing'}"


def _submission_of(request: Request) -> Submission | None:
    """Return the calculation that may still bring what is asked for, the last one if several."""
    open_ = [
        one
        for one in files.submissions(request.folder.parent)
        if one.request == request.record["request"] and not one.is_given_up
    ]
    return open_[-1] if open_ else None


def _numbers(folder: Path, submissions: Iterable[Submission]) -> dict[str, str | None]:
    """Return the numbers of the array jobs that submissions belong to, by name."""
    names = {one.array for one in submissions}
    records = {name: files.read(folder / files.ARRAYS / name / files.SUBMITTED) for name in names}
    return {name: None if one is None else str(one["number"]) for name, one in records.items()}


def _was_submitted(folder: Path, name: str) -> bool:
    return (folder / files.ARRAYS / name / files.SUBMITTED).exists()


def _job(request: Request, name: str, task: int) -> dict[str, Any]:
    """Return what a task has to know of a calculation."""
    message = {**request.message, "record": request.record}
    return {
        "array": name,
        "task": task,
        "request": request.record["request"],
        "message": message,
        "timeout": request.timeout,
        "threads": request.threads,
    }


def _forget_predecessors(answer: Answer) -> None:
    """Remove what came to nothing before a calculation succeeded."""
    structure, request = answer.folder.parent, answer.request.record["request"]
    for one in list(files.submissions(structure)):
        if one.is_given_up and one.request == request:
            scratch.forget(one.folder)
    for folder in list(structure.glob("attempt-*")):
        # A driver that was killed at the wrong moment leaves it empty.
        if not any(folder.iterdir()):
            scratch.forget(folder)
