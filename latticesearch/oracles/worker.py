"""The process in which calculators run: ``python -m latticesearch.oracles.worker``.

It reads one job per line (JSON) from standard input and answers one line each on what was its
standard output. A calculator can crash, hang or print here without harm to the campaign:
nothing but text passes between the two processes. When the campaign's process ends, however it
ends, standard input closes and the worker ends with all programs it started.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from latticesearch.oracles.relaxation import relax

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

MAX_ERROR_LENGTH = 500
"""Characters of an error message that are kept."""

_JOBS: queue.SimpleQueue[str] = queue.SimpleQueue()


def main() -> None:
    """Answer jobs until standard input closes."""
    faulthandler.enable()
    replies = _private_streams()
    _send(replies, {"ready": True})
    while True:
        _send(replies, _answer(_JOBS.get()))


def _private_streams() -> int:
    """Keep the two pipes to the campaign out of reach of calculators; return the one to write.

    Whatever a calculator prints, even from C, then goes to standard error, and it finds no
    input to read.
    """
    commands, replies = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - the descriptor is what is needed
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    threading.Thread(target=_listen, args=(commands,), daemon=True).start()
    return replies


def _listen(commands: int) -> None:
    """Queue the jobs that arrive; end this process and its children when nobody is left."""
    with os.fdopen(commands, "r", encoding="utf-8") as lines:
        for line in lines:
            _JOBS.put(line)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _send(replies: int, message: dict[str, Any]) -> None:
    data = (json.dumps(message) + "\n").encode()
    while data:
        data = data[os.write(replies, data) :]


def _answer(line: str) -> dict[str, Any]:
    """Compute one job; return the reply, which names the error if there was one."""
    start = time.perf_counter()
    try:
        reply = compute(json.loads(line))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - any failure of a job is a result
        text = " ".join(str(error).split())
        reply = {"error": f"{type(error).__name__}: {text}"[:MAX_ERROR_LENGTH]}
    return {**reply, "seconds": time.perf_counter() - start}


def compute(job: dict[str, Any]) -> dict[str, Any]:
    """Relax one structure.

    Parameters
    ----------
    job
        ``numbers``, ``positions``, ``cell``, ``pbc`` of the structure; ``calculator`` and its
        ``parameters``; ``relax_cell``, ``relax_ions``, ``fmax``, ``max_steps``, ``careful`` as
        in `relax`.

    Returns
    -------
    dict
        ``energy``, ``forces``, ``stress``, ``positions``, ``cell``, ``converged``, ``steps``,
        ``residual``; only what JSON can hold.
    """
    atoms = Atoms(
        numbers=job["numbers"], positions=job["positions"], cell=job["cell"], pbc=job["pbc"]
    )
    atoms.calc = make_calculator(job["calculator"], job["parameters"])
    ended = relax(
        atoms,
        cell=job["relax_cell"],
        ions=job["relax_ions"],
        fmax=job["fmax"],
        max_steps=job["max_steps"],
        careful=job["careful"],
    )
    return {
        "energy": float(atoms.get_potential_energy()),
        "forces": _optional_property(atoms, "forces"),
        "stress": _optional_property(atoms, "stress"),
        "positions": atoms.positions.tolist(),
        "cell": np.asarray(atoms.cell).tolist(),
        "converged": ended.converged,
        "steps": ended.steps,
        "residual": ended.residual,
    }


def _optional_property(atoms: Atoms, name: str) -> list[Any] | None:
    """Return forces or stress, or None where the calculator has none."""
    if name not in atoms.calc.implemented_properties:
        return None
    values: list[Any] = np.asarray(atoms.calc.get_property(name, atoms), dtype=np.float64).tolist()
    return values


def make_calculator(name: str, parameters: dict[str, Any]) -> Calculator:
    """Return a new calculator.

    Parameters
    ----------
    name
        "emt", the name of any calculator in ASE, or "module:factory" for your own: the function
        ``factory`` of ``module`` is called with `parameters` and returns an ASE calculator.
    parameters
        Keyword arguments.
    """
    if name == "emt":
        from latticesearch.oracles.emt import FastEmt

        return FastEmt(**parameters)
    if ":" in name:
        module, _, factory = name.partition(":")
        return getattr(importlib.import_module(module), factory)(**parameters)
    from ase.calculators.calculator import get_calculator_class

    return get_calculator_class(name)(**parameters)


if __name__ == "__main__":
    main()
