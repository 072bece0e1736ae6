"""Calculations that other people's hands start: a folder for each, and nothing computed here.

``python -m latticesearch.oracles.by_hand FOLDER ...`` computes such folders on any machine that has
this package and the calculator, in just the way the campaign would.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from latticesearch.errors import Waiting
from latticesearch.oracles.calculation import source_of, start_of
from latticesearch.oracles.printed import described
from latticesearch.oracles.sanity import what_is_wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from latticesearch.oracles.protocol import Oracle, OracleJob, OracleResult

JOB = "job.json"
"""What a folder is for: key, campaign, method, the structure, and what a worker would be sent."""
RESULT = "result.extxyz"
PROVENANCE = "provenance.json"


class ByHandOracle:
    """An oracle that answers nothing: it says what it waits for.

    Parameters
    ----------
    kind
        What computes the energies.
    checker
        The oracle that would compute them here; None where nobody here knows how.
    """

    def __init__(self, kind: str, checker: Oracle | None = None) -> None:
        self.kind = kind
        self._checker = checker
        self._interrupted = False

    def check_species(self, symbols: Iterable[str]) -> None:
        """Raise if an element cannot be computed; see `Oracle.check_species`."""
        if self._checker is not None:
            self._checker.check_species(symbols)

    def run(self, jobs: Iterable[OracleJob]) -> Iterator[OracleResult]:
        """Say which energies are wanted.

        Raises
        ------
        Waiting
            Always, but without jobs.
        """
        keys = [job.key for job in jobs]
        if keys:
            raise Waiting(keys)
        return iter(())

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` has been called."""
        return self._interrupted

    def interrupt(self) -> None:
        """Note that all has to end; nothing runs."""
        self._interrupted = True

    def close(self) -> None:
        """Give back what the oracle that checks has taken."""
        if self._checker is not None:
            self._checker.close()


def compute_folder(folder: Path) -> str | None:
    """Compute what a folder asks for, in it; write the result, and how it came about.

    Parameters
    ----------
    folder
        As `latticesearch ask` writes it.

    Returns
    -------
    str or None
        Why there is no result; None where there is one.
    """
    try:
        message = json.loads((folder / JOB).read_text(encoding="utf-8"))["message"]
    except (OSError, ValueError, KeyError) as error:
        return f"no folder that latticesearch ask has written: {described(error)}"
    if message is None:
        return "what computes it is not known here: its oracle is manual"
    began = time.perf_counter()
    try:
        with contextlib.chdir(folder):
            reply = source_of(message).compute(message)
    except Exception as error:  # noqa: BLE001 - whatever a calculator raises
        return described(error)
    if (wrong := what_is_wrong(start_of(message), reply)) is not None:
        return wrong
    provenance = {**reply.get("provenance", {}), "seconds": time.perf_counter() - began}
    _write_result(folder, reply, provenance)
    return None


def _write_result(folder: Path, reply: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Write both files, the result last: where it is, all is there."""
    atoms = Atoms(
        numbers=reply["numbers"], positions=reply["positions"], cell=reply["cell"], pbc=True
    )
    known = {k: reply[k] for k in ("energy", "forces", "stress") if reply[k] is not None}
    atoms.calc = SinglePointCalculator(atoms, **known)
    (folder / PROVENANCE).write_text(json.dumps(provenance, indent=1), encoding="utf-8")
    buffer = io.StringIO()
    write(buffer, atoms, format="extxyz", parallel=False)
    temporary = folder / f".{RESULT}.tmp"
    temporary.write_text(buffer.getvalue(), encoding="utf-8")
    temporary.replace(folder / RESULT)


def main() -> int:
    """Compute folders one after the other; those with a result are left alone."""
    parser = argparse.ArgumentParser(prog="python -m latticesearch.oracles.by_hand")
    parser.add_argument("folders", metavar="FOLDER", type=Path, nargs="+")
    failed = 0
    for folder in parser.parse_args().folders:
        error = None if (folder / RESULT).exists() else compute_folder(folder)
        failed += error is not None
        print(f"{folder}: {error or 'done'}", flush=True)  # noqa: T201 - a program of its own
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
