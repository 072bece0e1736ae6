"""One calculation on several cores: threads, programs behind a launcher, calculators in ranks.

What computes inside Python is of two kinds: some use threads, others (GPAW) expect that all ranks
of an MPI launcher call them together. The latter run in `latticesearch.oracles.ranks`, which the
worker starts behind a launcher in the folder of the calculation.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE = "latticesearch.oracles.ranks"
LAUNCHER = "mpirun -n {cores}"
"""What starts ranks where nothing else is said."""
LAUNCHERS = frozenset({"mpirun", "mpiexec", "srun", "aprun", "jsrun", "ibrun", "prun", "orterun"})
"""Programs that start ranks: a command that begins with one needs no other."""
PROGRAMS = frozenset({"vasp", "espresso", "abinit", "elk"})
"""Presets of programs that the launcher stands in front of."""
RANKS = PROGRAMS | {"gpaw"}
"""Calculators that use several cores by ranks."""
JOB, REPLY = "ranks-job.json", "ranks-reply.json"


@dataclass(frozen=True)
class Parallel:
    """On how many cores a calculation runs.

    Parameters
    ----------
    cores
        Their number.
    launcher
        What starts ranks, with ``{cores}`` for their number. None: `LAUNCHER` for programs and
        calculators that are known to run in ranks, threads for all others.

    Raises
    ------
    InputError
        The launcher has a placeholder that nobody knows.
    """

    cores: int = 1
    launcher: str | None = None

    def __post_init__(self) -> None:
        try:
            self.start()
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(
                f"oracle.launcher = {self.launcher!r}: the only placeholder is {{cores}}, as in "
                f"{LAUNCHER!r}"
            ) from error

    def threads(self, calculator: str) -> int:
        """Return the threads of a calculation: where there are ranks, each has one."""
        return 1 if self.launcher or calculator in RANKS else self.cores

    def start(self) -> str:
        """Return what starts the ranks."""
        return (self.launcher or LAUNCHER).format(cores=self.cores)

    def in_front_of(self, command: str) -> str:
        """Return a command with the launcher in front, unless it has one or needs none."""
        is_started = Path(command.split(maxsplit=1)[0]).name in LAUNCHERS
        if is_started or (self.cores == 1 and not self.launcher):
            return command
        return f"{self.start()} {command}"

    def makes_ranks_of(self, calculator: str) -> bool:
        """Return whether a calculator inside Python is to run in ranks.

        Of those that are not known to do so the user has to say it, by a launcher.
        """
        if calculator in PROGRAMS:
            return False
        return bool(self.launcher) or (calculator in RANKS and self.cores > 1)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a worker is told."""
        return asdict(self)

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> Parallel:
        """Return what a worker was told."""
        return cls(**job.get("parallel", {}))


def computed_in_ranks(job: Mapping[str, Any], parallel: Parallel) -> dict[str, Any]:
    """Return the reply to a job that all ranks compute together, in the present folder.

    Raises
    ------
    CalledProcessError
        The ranks ended without a reply.
    OSError
        The launcher is not there.
    """
    reply = Path(REPLY)
    reply.unlink(missing_ok=True)
    Path(JOB).write_text(json.dumps({**job, "parallel": {}}), encoding="utf-8")
    # GPAW's own Python sets up MPI before anything else can.
    python = [sys.executable, *(["-m", "gpaw", "python"] if job["calculator"] == "gpaw" else [])]
    words = [*shlex.split(parallel.start()), *python, "-m", MODULE]
    done = subprocess.run(words, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
    if not reply.exists():
        raise subprocess.CalledProcessError(done.returncode or 1, words[0])
    found: dict[str, Any] = json.loads(reply.read_text(encoding="utf-8"))
    return found
