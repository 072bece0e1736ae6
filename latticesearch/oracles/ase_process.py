"""Any ASE calculator as an oracle, each in a process of its own, here or in a cluster's queue.

The process is started without the variables of the MPI launcher, killed when it takes too
long, and replaced when it dies; the campaign sees a failed result and goes on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import shutil
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from latticesearch.errors import InputError, OracleUnavailable
from latticesearch.oracles.dispatch import PATIENCE, Dispatch, Request, StopSignal
from latticesearch.oracles.parallel_codes import Parallel
from latticesearch.oracles.processes import WorkerProcess
from latticesearch.oracles.protocol import VACANCY, OracleJob, OracleResult
from latticesearch.oracles.queue import QueueDispatch, Slurm, in_the_queue
from latticesearch.oracles.scratch import attempt_folder, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from latticesearch.oracles.dispatch import Answer
    from latticesearch.oracles.presets import Wanted
    from latticesearch.oracles.queue import Queue

log = logging.getLogger(__name__)

CAREFUL_STEPS = 5
"""A careful relaxation may take this many times more steps."""
NO_TIMEOUT = 1e9
"""Seconds that no calculation takes."""
GRACE = 20.0
"""Seconds that running calculations have when all has to end (Slurm leaves 30 by default)."""


class AseOracle:
    """Relax structures with an ASE calculator, in worker processes.

    Every structure gets a new calculator, so results do not depend on how many workers there
    are or which of them computed what.

    Parameters
    ----------
    calculator
        "emt", the name of an ASE calculator, or "module:factory" (see
        `latticesearch.oracles.calculation.make_calculator`).
    parameters
        Keyword arguments of the calculator; numbers, strings, lists and dicts of these.
    relax_cell, relax_ions
        What is relaxed.
    fmax
        Threshold of forces, eV/Å, and of the virial per atom, eV.
    max_steps
        Steps after which a relaxation has failed. From the second attempt on, a slower and more
        careful optimiser with five times as many steps is used.
    timeout
        Seconds after which one calculation is killed; None: never.
    workers
        Number of structures computed at the same time.
    scratch
        Folder in which calculations run, each in ``KEY/attempt-N`` (see `attempt_folder`), and
        where replies wait until they are stored; those of a campaign that was killed are found
        there by the next. Failed calculations stay there, shortened. By default a temporary
        folder, from which nothing is kept.
    grace
        Seconds that running calculations have after `interrupt`, and after the death of this
        process if there is a `scratch`.

    preset
        `calculator` is the name of a preset, and this is what it is told; `parameters` stay empty.
    queue
        Calculations go to the queue of a cluster, not to workers here; all nodes have to see
        `scratch` under the same name.
    parallel
        On how many cores a calculation runs, and how its ranks are started.
    cpus
        Processors that workers may use, by number; empty: those that this process may.
    keep
        A worker makes one calculator for all its structures: it is costly to make, and its
        answers do not depend on what it has computed before.

    Raises
    ------
    InputError
        The calculator does not exist, or a number makes no sense.
    """

    def __init__(  # noqa: PLR0913 - settings of a campaign, all but the first by keyword
        self,
        calculator: str = "emt",
        *,
        parameters: Mapping[str, Any] | None = None,
        relax_cell: bool = True,
        relax_ions: bool = True,
        fmax: float = 0.01,
        max_steps: int = 200,
        timeout: float | None = 3600.0,
        workers: int = 1,
        scratch: Path | None = None,
        grace: float = GRACE,
        preset: Wanted | None = None,
        queue: Queue | None = None,
        parallel: Parallel | None = None,
        cpus: Iterable[int] = (),
        keep: bool = False,
    ) -> None:
        if preset is None:
            _check_calculator(calculator)
        timeout = NO_TIMEOUT if timeout is None else timeout
        _check_positive(fmax=fmax, max_steps=max_steps, timeout=timeout, workers=workers)
        if not (grace >= 0 and math.isfinite(grace)):
            raise InputError(f"grace must be a number of seconds, not {grace!r}")
        self.kind = calculator
        self._timeout, self._max_steps = timeout, max_steps
        self._method = {
            "calculator": calculator,
            "parameters": _checked_parameters(parameters),
            "relax_cell": relax_cell,
            "relax_ions": relax_ions,
            "fmax": fmax,
        }
        self._wanted = preset
        if preset is not None:
            self._method["preset"] = preset.to_dict()
        self._n_workers, self._grace = workers, grace
        self._parallel, self._cpus = parallel or Parallel(), tuple(cpus)
        self._queue, self._keep = queue, keep
        # Who only checks a campaign may do so where there is no queue.
        self._slurm = None if queue is None or scratch is None else Slurm()
        self._given = None if scratch is None else Path(scratch).absolute()
        self._scratch: Path | None = None
        self._remove: weakref.finalize[..., Any] | None = None
        self._workers: list[WorkerProcess] = []
        self._stop = StopSignal()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all worker processes; the next `run` starts them again."""
        for worker in self._workers:
            worker.stop()
        self._workers, self._scratch = [], None
        if self._remove is not None:
            self._remove()

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` has been called."""
        return self._stop.is_set

    def interrupt(self) -> None:
        """Start no more jobs; those that run have the time of grace; see `Oracle.interrupt`."""
        self._stop.set()

    def check_species(self, symbols: Iterable[str]) -> None:
        """Raise if the calculator cannot compute an element; vacancies are ignored.

        Raises
        ------
        InputError
            No element of that name exists, or EMT has no parameters for it.
        """
        elements = [symbol for symbol in symbols if symbol != VACANCY]
        for symbol in elements:
            if symbol not in chemical_symbols[1:]:
                raise InputError(f"{symbol!r} is no chemical element")
        if self._wanted is not None:
            from latticesearch.oracles.presets import PRESETS

            PRESETS[self.kind].check(self._wanted, elements)
        if self.kind == "emt":
            from latticesearch.oracles.emt import check_elements

            check_elements(elements)

    def run(self, jobs: Iterable[OracleJob], *, patience: int = PATIENCE) -> Iterator[OracleResult]:
        """Yield one result per job as they arrive; see `Oracle.run`.

        Results that wait in the scratch folder are not computed again. Failures of the
        environment are not yielded: the calculation is repeated.

        Parameters
        ----------
        jobs
            What to compute.
        patience
            Failures of the environment in a row after which it is given up.
        """
        self._prepare()
        requests = (self._request(job) for job in jobs)
        dispatch = self._dispatch(requests, patience)
        with contextlib.closing(dispatch.answers()) as answers:
            try:
                for answer in answers:
                    yield self._result(answer)
            except OracleUnavailable as error:
                if self._queue is not None:
                    raise OracleUnavailable(
                        f"{self.kind} cannot compute anything: {error}"
                    ) from None
                times = f"{patience} times in a row; the last time " if patience > 1 else ""
                files = f"; its files are in {self._given}" if self._given else ""
                text = f"{self.kind} cannot compute anything: {times}{error}{files}"
                raise OracleUnavailable(text) from None

    def _dispatch(self, requests: Iterator[Request], patience: int) -> Dispatch | QueueDispatch:
        """Return what hands out jobs: to workers here, or to the queue."""
        assert self._scratch is not None
        if self._queue is not None:
            self._slurm = self._slurm or Slurm()
            return QueueDispatch(
                *(self._queue, self._slurm, self._scratch), requests, self._stop, patience
            )
        if out := in_the_queue(self._scratch):
            log.warning(
                "%d calculations are in a queue still: what is wanted of them is computed here, "
                "too, unless they are done by then",
                sum(out.values()),
            )
        return Dispatch(self._workers, requests, self._stop, self._grace, patience)

    def folder(self, job: OracleJob) -> Path:
        """Return the folder in which a job runs; it is kept where the calculation fails.

        Without a scratch folder it is in a temporary one, which `close` removes.
        """
        self._prepare()
        assert self._scratch is not None
        return attempt_folder(self._scratch, job.key, job.attempt)

    def _prepare(self) -> None:
        """See that there are a folder and workers."""
        if self._scratch is None:
            # What a queue computes has to lie where other nodes see it.
            place = None if self._queue is None else Path.cwd()
            self._scratch = self._given or Path(tempfile.mkdtemp("", "latticesearch-", place))
            if self._given is None:
                self._remove = weakref.finalize(self, shutil.rmtree, self._scratch, True)  # noqa: FBT003
        if not self._workers and self._queue is None:
            # Nobody would find what is computed in a temporary folder later.
            grace, remove = (self._grace, None) if self._given else (0.0, self._scratch)
            self._workers = [
                WorkerProcess(
                    grace, remove, threads=self._parallel.threads(self.kind), cpus=self._cpus
                )
                for _ in range(self._n_workers)
            ]

    def message(self, job: OracleJob) -> dict[str, Any]:
        """Return all that has to be known to compute a job; `source_of` takes it."""
        request = self._request(job)
        record = {"key": job.key, "attempt": job.attempt}
        return {**request.message, "record": record}

    def _request(self, job: OracleJob) -> Request:
        careful = job.attempt > 1
        structure = {
            "numbers": job.atoms.numbers.tolist(),
            "positions": job.atoms.positions.tolist(),
            "cell": np.asarray(job.atoms.cell).tolist(),
            "pbc": [bool(periodic) for periodic in job.atoms.pbc],
        }
        steps = self._max_steps * (CAREFUL_STEPS if careful else 1)
        parallel, timeout = self._parallel, self._timeout
        if self._queue is not None:
            resources = self._queue.resources_for(job.atoms.get_chemical_symbols())
            parallel = replace(parallel, cores=resources.cores)
            timeout = min(timeout, resources.usable_time)
        limits = {"careful": careful, "max_steps": steps}
        record = {
            "key": job.key,
            "attempt": job.attempt,
            "request": fingerprint(self._method, structure),
            "limits": {**limits, "timeout": timeout},
        }
        message = {**self._method, **structure, **limits}
        message |= {"parallel": parallel.to_dict(), "keep": self._keep}
        return Request(job, message, record, self.folder(job), timeout, parallel.threads(self.kind))

    def _result(self, answer: Answer) -> OracleResult:
        job, reply = answer.request.job, answer.reply
        if answer.error is not None:
            log.warning("%s of %s failed: %s", self.kind, job.key, answer.error)
            return OracleResult(
                key=job.key,
                status="failed",
                atoms=job.atoms.copy(),
                seconds=float(reply.get("seconds", 0.0)),
                kind=self.kind,
                attempt=job.attempt,
                error=answer.error,
                cause="structure",
                repeatable=not reply.get("reason"),
            )
        relaxed = Atoms(
            numbers=job.atoms.numbers,
            positions=reply["positions"],
            cell=reply["cell"],
            pbc=job.atoms.pbc,
        )
        return OracleResult(
            key=job.key,
            status="done",
            energy=float(reply["energy"]),
            forces=_array_or_none(reply["forces"]),
            stress=_array_or_none(reply["stress"]),
            atoms=relaxed,
            converged=True,
            seconds=float(reply["seconds"]),
            kind=self.kind,
            attempt=job.attempt,
            provenance={**reply.get("provenance", {}), "seconds": float(reply["seconds"])},
        )


def _check_calculator(name: str) -> None:
    if ":" in name:
        module = name.partition(":")[0]
        try:
            found = importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            found = False
        if not found:
            raise InputError(
                f"calculator {name!r}: no Python module {module!r} can be found "
                "(put its folder into PYTHONPATH or install it)"
            )
        return
    from ase.calculators.calculator import names

    if name not in names:
        raise InputError(
            f"calculator {name!r} is not known to ASE; use 'emt', one of ASE's names such as "
            "'gpaw', or 'module:factory' for your own"
        )


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} must be a positive number, not {value!r}")


def _checked_parameters(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    result = dict(parameters or {})
    try:
        json.dumps(result)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"parameters of the calculator must be numbers, strings, lists and dicts: {error}"
        ) from error
    return result


def _array_or_none(values: list[Any] | None) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    return None if values is None else np.asarray(values, dtype=np.float64)
