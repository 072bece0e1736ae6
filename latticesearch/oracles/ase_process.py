"""Any ASE calculator as an oracle, each in a process of its own.

The process is started without the variables of the MPI launcher, killed when it takes too
long, and replaced when it dies; the campaign sees a failed result and goes on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from latticesearch.errors import InputError
from latticesearch.oracles.protocol import VACANCY, OracleJob, OracleResult
from latticesearch.parallel import scrubbed_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

log = logging.getLogger(__name__)

STARTUP_TIMEOUT = 300.0
"""Seconds a worker may take to import what it needs (cold network file systems are slow)."""
MAX_ENERGY = 1e5
"""Energies beyond this, eV/atom, are nonsense of a diverged calculation."""
CAREFUL_STEPS = 5
"""A careful relaxation may take this many times more steps."""
_SINGLE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LOG_TAIL = 300


class AseOracle:
    """Relax structures with an ASE calculator, in worker processes.

    Every structure gets a new calculator, so results do not depend on how many workers there
    are or which of them computed what.

    Parameters
    ----------
    calculator
        "emt", the name of an ASE calculator, or "module:factory" (see
        `latticesearch.oracles.worker.make_calculator`).
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
        Seconds after which one calculation is killed.
    workers
        Number of structures computed at the same time.

    Raises
    ------
    InputError
        The calculator does not exist, or a number makes no sense.
    """

    def __init__(
        self,
        calculator: str = "emt",
        *,
        parameters: Mapping[str, Any] | None = None,
        relax_cell: bool = True,
        relax_ions: bool = True,
        fmax: float = 0.01,
        max_steps: int = 200,
        timeout: float = 3600.0,
        workers: int = 1,
    ) -> None:
        _check_calculator(calculator)
        _check_positive(fmax=fmax, max_steps=max_steps, timeout=timeout, workers=workers)
        self.kind = calculator
        self._timeout = timeout
        self._max_steps = max_steps
        self._request = {
            "calculator": calculator,
            "parameters": _checked_parameters(parameters),
            "relax_cell": relax_cell,
            "relax_ions": relax_ions,
            "fmax": fmax,
        }
        self._workers = [_Worker() for _ in range(workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all worker processes; the next `run` starts them again."""
        for worker in self._workers:
            worker.stop()

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
        if self.kind == "emt":
            from latticesearch.oracles.emt import check_elements

            check_elements(elements)

    def run(self, jobs: Iterable[OracleJob]) -> Iterator[OracleResult]:
        """Yield one result per job as they arrive; see `Oracle.run`."""
        waiting = iter(jobs)
        busy: dict[_Worker, OracleJob] = {}
        try:
            # zip takes from `waiting` only when there is a worker to give the job to.
            for worker, job in zip(self._workers, waiting, strict=False):
                worker.submit(self._message(job), self._timeout)
                busy[worker] = job
            while busy:
                worker = _wait_for_one(list(busy))
                yield self._result(busy.pop(worker), worker.take_reply())
                for job in waiting:
                    worker.submit(self._message(job), self._timeout)
                    busy[worker] = job
                    break
        finally:
            for worker in busy:
                worker.stop()

    def _message(self, job: OracleJob) -> dict[str, Any]:
        careful = job.attempt > 1
        return {
            **self._request,
            "careful": careful,
            "max_steps": self._max_steps * (CAREFUL_STEPS if careful else 1),
            "numbers": job.atoms.numbers.tolist(),
            "positions": job.atoms.positions.tolist(),
            "cell": np.asarray(job.atoms.cell).tolist(),
            "pbc": [bool(periodic) for periodic in job.atoms.pbc],
        }

    def _result(self, job: OracleJob, reply: dict[str, Any]) -> OracleResult:
        seconds = float(reply.get("seconds", 0.0))
        error = _what_is_wrong(job, reply)
        if error is not None:
            log.warning("%s of %s failed: %s", self.kind, job.key, error)
            return OracleResult(
                key=job.key,
                status="failed",
                atoms=job.atoms.copy(),
                seconds=seconds,
                kind=self.kind,
                attempt=job.attempt,
                error=error,
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
            seconds=seconds,
            kind=self.kind,
            attempt=job.attempt,
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


def _what_is_wrong(job: OracleJob, reply: dict[str, Any]) -> str | None:
    """Return why `reply` is no usable result, in one line, or None if it is one."""
    if "error" in reply:
        return str(reply["error"])
    numbers = [reply["energy"], reply["positions"], reply["cell"]]
    numbers += [reply[name] for name in ("forces", "stress") if reply[name] is not None]
    if not all(np.isfinite(values).all() for values in numbers):
        return "the calculator returned a number that is not finite"
    if abs(reply["energy"]) > MAX_ENERGY * len(job.atoms):
        return f"the energy {reply['energy']:.6g} eV is absurd for {len(job.atoms)} atoms"
    if not reply["converged"]:
        return f"not converged in {reply['steps']} steps: residual {reply['residual']:.3g} eV/Å"
    return None


def _array_or_none(values: list[Any] | None) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    return None if values is None else np.asarray(values, dtype=np.float64)


def _wait_for_one(workers: list[_Worker]) -> _Worker:
    """Return a worker with a reply, which may be that it died or ran out of time."""
    while True:
        for worker in workers:
            if worker.finished():
                return worker
        with selectors.DefaultSelector() as selector:
            for worker in workers:
                selector.register(worker.output, selectors.EVENT_READ)
            nearest = min(worker.deadline for worker in workers)
            selector.select(timeout=max(0.0, nearest - time.monotonic()))


class _Worker:
    """One worker process: started when needed, killed at a deadline, replaced when dead."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._cleanup: weakref.finalize[..., Any] | None = None
        self._buffer = b""
        self._reply: dict[str, Any] | None = None
        self._folder = Path()
        self._started = 0.0
        self._timeout = 0.0
        self._ready = False
        self.deadline = math.inf

    @property
    def output(self) -> IO[bytes]:
        """The pipe on which replies arrive."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    def submit(self, message: dict[str, Any], timeout: float) -> None:
        """Hand over one job; it may take `timeout` seconds once the process is ready."""
        self._reply, self._timeout = None, timeout
        line = (json.dumps(message) + "\n").encode()
        try:
            self._write(line)
        except OSError:
            # It died while it had nothing to do; a new process has the right to try.
            self.stop()
            with contextlib.suppress(OSError):
                self._write(line)
        self._set_deadline()

    def _write(self, line: bytes) -> None:
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _set_deadline(self) -> None:
        self._started = time.monotonic()
        self.deadline = self._started + (self._timeout if self._ready else STARTUP_TIMEOUT)

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="latticesearch-worker-"))
        self._ready, self._buffer = False, b""
        with (self._folder / "worker.log").open("wb") as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "latticesearch.oracles.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                cwd=self._folder,
                env=_environment(),
                # A group of its own: killing it also ends the programs a calculator started,
                # and Ctrl-C in the terminal does not reach it.
                start_new_session=True,
            )
        self._cleanup = weakref.finalize(self, _end_process, self._process, self._folder)

    def stop(self) -> None:
        """End the process, with all it started, and remove its folder."""
        if self._cleanup is not None:
            self._cleanup()
        self._process = None

    def finished(self) -> bool:
        """Return whether `take_reply` has something to say; kill the process if it is too late."""
        self._read()
        if self._reply is None and time.monotonic() >= self.deadline:
            doing = "timed out" if self._ready else "the worker process did not start"
            self._fail(f"{doing} after {time.monotonic() - self._started:.1f} s")
        return self._reply is not None

    def take_reply(self) -> dict[str, Any]:
        """Return the reply to the last job."""
        assert self._reply is not None
        reply, self._reply, self.deadline = self._reply, None, math.inf
        return reply

    def _read(self) -> None:
        """Take what has arrived, without waiting."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            while self._reply is None and selector.select(timeout=0):
                data = os.read(self.output.fileno(), 1 << 16)
                if not data:
                    self._fail(self._epitaph())
                    return
                self._buffer += data
                self._parse()

    def _parse(self) -> None:
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                self._fail(f"unreadable reply of the worker process: {line[:80]!r}")
                return
            if "ready" in message:
                self._ready = True
                self._set_deadline()
            else:
                self._reply = message

    def _fail(self, error: str) -> None:
        self._reply = {"error": error, "seconds": time.monotonic() - self._started}
        self.stop()

    def _epitaph(self) -> str:
        """Return how the process died, with the end of what it printed."""
        assert self._process is not None
        _kill_group(self._process)
        code = self._process.wait()
        cause = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        printed = (self._folder / "worker.log").read_bytes().decode(errors="replace")
        _, fatal, rest = printed.rpartition("Fatal Python error")
        text = " ".join((fatal + rest)[:_LOG_TAIL].split() if fatal else rest[-_LOG_TAIL:].split())
        return f"the worker process died ({cause}){': ' if text else ''}{text}"


def _environment() -> dict[str, str]:
    """Return the environment of a worker: no trace of MPI, one thread, the same modules."""
    environment = scrubbed_environment()
    environment.update(dict.fromkeys(_SINGLE_THREAD, "1"))
    paths = [str(Path(path).absolute()) for path in sys.path]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _end_process(process: subprocess.Popen[bytes], folder: Path) -> None:
    _kill_group(process)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    shutil.rmtree(folder, ignore_errors=True)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # Once it has been waited for, its number may belong to somebody else.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
