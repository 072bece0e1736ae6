"""Slurm, by its own commands: ``sbatch``, ``squeue``, and ``sacct`` where there is one."""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

from latticesearch.errors import InputError
from latticesearch.oracles.printed import harmless
from latticesearch.oracles.processes import module_path
from latticesearch.parallel import scrubbed_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from latticesearch.oracles.queue.resources import Resources

STARTED = "LATTICESEARCH_JOB_STARTED"
"""Variable in which a job keeps when it has begun, seconds since 1970."""
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD"})
ENDED = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    }
)
"""Slurm's words for jobs that have ended; all others are on their way."""
OUT_OF_TIME, OUT_OF_MEMORY = "TIMEOUT", "OUT_OF_MEMORY"
"""Ends that are the job's own doing."""
TAKEN_AWAY = frozenset({"PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"})
"""Ends that come with clusters, and say nothing about what a job would have done."""
UNKNOWN = "unknown to the queue"
_PATIENCE = 120.0
"""Seconds that a command may take; a busy controller answers late."""

States = dict[tuple[str, int], str]
"""What Slurm says, by name and number in the array."""


class Refused(RuntimeError):  # noqa: N818 - an answer of the queue
    """The queue does not take a job, or did not say that it has."""


class Slurm:
    """The queue of a cluster.

    Raises
    ------
    InputError
        Its commands are not here.
    """

    def __init__(self) -> None:
        self._has_accounting = True
        for command in ("sbatch", "squeue"):
            if _run([command, "--version"], _PATIENCE) is None:
                raise InputError(
                    f'oracle.queue: there is no {command} here; kind = "slurm" needs a machine '
                    "from which jobs can be submitted"
                )

    def submit(self, script: Path) -> str:
        """Hand over a script; return the number of the job.

        Raises
        ------
        Refused
            The queue did not take it, or did not say so: it may be there all the same.
        """
        done = _run(["sbatch", "--parsable", str(script)], _PATIENCE)
        if done is None or done.returncode != 0:
            said = "no answer" if done is None else harmless(done.stderr or done.stdout)
            raise Refused(f"sbatch: {said.removeprefix('sbatch: ')}")
        return done.stdout.split(";")[0].strip()

    def states(self, numbers: Mapping[str, str | None]) -> States | None:
        """Return what has become of jobs; None where the queue does not answer.

        Parameters
        ----------
        numbers
            Names of array jobs, and their numbers as far as they are known.
        """
        if not numbers:
            return {}
        words = ["squeue", "--noheader", "--array", "--states=all", f"--name={','.join(numbers)}"]
        done = _run([*words, "--format=%j|%K|%T"], _PATIENCE)
        if done is None or done.returncode != 0:
            return None
        found: States = {}
        for line in done.stdout.splitlines():
            name, _, rest = line.strip().partition("|")
            task, _, state = rest.partition("|")
            if name in numbers and task.isdigit():
                found[name, int(task)] = state
        return {**self._accounted(numbers), **found}

    def _accounted(self, numbers: Mapping[str, str | None]) -> States:
        """Return what the accounting knows, which forgets later than the queue."""
        names = {number: name for name, number in numbers.items() if number}
        if not (self._has_accounting and names):
            return {}
        words = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State"]
        done = _run([*words, f"--jobs={','.join(names)}"], _PATIENCE)
        if done is None or done.returncode != 0:
            # Without a database of jobs it never will.
            self._has_accounting = False
            return {}
        found: States = {}
        for line in done.stdout.splitlines():
            job, _, state = line.strip().partition("|")
            number, _, task = job.partition("_")
            if number in names and task.isdigit() and state:
                found[names[number], int(task)] = state.split()[0]
        return found


def script(name: str, folder: Path, n_tasks: int, resources: Resources) -> str:
    """Return the script of an array job.

    Parameters
    ----------
    name
        Of the job.
    folder
        The array job's own.
    n_tasks
        Calculations in it.
    resources
        What each of them asks for.
    """
    minutes = math.ceil(resources.time / 60)
    options = {
        "job-name": name,
        "array": f"0-{n_tasks - 1}",
        "output": f"{str(folder).replace('%', '%%')}/job-%a.out",
        "chdir": str(folder),
        "nodes": "1",
        "ntasks": str(resources.cores),
        "time": f"{minutes // 60:02}:{minutes % 60:02}:00",
        "mem": None if resources.memory is None else f"{resources.memory}M",
        "partition": resources.partition,
        "account": resources.account,
    }
    lines = [f"--{key}={_quoted(value)}" for key, value in options.items() if value is not None]
    # What comes back after a failure is decided by the campaign.
    lines += ["--no-requeue", *resources.options]
    python = f"{shlex.quote(sys.executable)} -m latticesearch.oracles.queue.task"
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {line}" for line in lines),
            f"export {STARTED}=$(date +%s)",
            *resources.prologue,
            f'export PYTHONPATH={shlex.quote(module_path())}"${{PYTHONPATH:+:$PYTHONPATH}}"',
            f"exec {python} {shlex.quote(str(folder))}",
            "",
        ]
    )


def _quoted(value: str) -> str:
    """Return a value as sbatch reads it in a script."""
    return f'"{value}"' if " " in value else value


def _run(words: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str] | None:
    """Run a command of the queue; return None where it is missing or does not answer."""
    try:
        return subprocess.run(  # noqa: S603 - commands of the queue, names of ours
            words,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=_environment(scrubbed_environment().items()),
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _environment(variables: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the environment for the queue's commands: no trace of a job that we may be in.

    Jobs inherit it, and would take the memory and the tasks of this one for their own.
    """
    kept = {name: value for name, value in variables if not name.startswith("SLURM_")}
    if "SLURM_CONF" in os.environ:
        kept["SLURM_CONF"] = os.environ["SLURM_CONF"]
    return kept
