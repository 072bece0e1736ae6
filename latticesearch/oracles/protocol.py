"""Structures in, energies out: what the campaign knows of whatever computes true energies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    import numpy.typing as npt
    from ase import Atoms

Cause = Literal["structure", "environment"]
"""What a failure is blamed on; see `OracleResult`."""
VACANCY = "X"
"""Symbol of an empty site; structures handed to an oracle simply lack these atoms."""


@dataclass(frozen=True, eq=False)
class OracleJob:
    """One structure whose energy is wanted.

    Parameters
    ----------
    key
        Canonical key of the structure.
    atoms
        The structure before relaxation, without vacancies.
    attempt
        1 for the first try; later tries may be computed more carefully.
    """

    key: str
    atoms: Atoms
    attempt: int = 1


@dataclass(frozen=True, eq=False)
class OracleResult:
    """The answer to one `OracleJob`; a failure is an answer as well.

    Parameters
    ----------
    key, attempt
        Those of the job.
    status
        "done" or "failed".
    energy
        eV per cell of `atoms`; None where failed.
    forces
        (n_atoms, 3), eV/Å; None where unknown.
    stress
        (6,), eV/Å³, order xx, yy, zz, yz, xz, xy, in ASE's sign; None where unknown.
    atoms
        The relaxed structure, with as many atoms as the job's; where failed, the job's own.
    converged
        Whether the relaxation reached its threshold.
    seconds
        Wall time of the calculation.
    kind
        What computed it, e.g. "emt".
    error
        One line that says why it failed, with the last lines that the calculator printed.
    on_lattice
        False where the structure has left the parent lattice.
    cause
        What the failure is blamed on, None where it is done: the "structure" (not converged,
        wrong numbers, out of time, a crash of the calculation), or the "environment" (the
        calculator does not start, no space, ended from outside), which says nothing about the
        structure and must not count as an attempt.
    repeatable
        False where another attempt would end in the same way.
    provenance
        How it came about, as far as is known: code and version, data sets, parameters, k-points,
        moments, where and how long; tables of numbers and strings. It defines nothing, which the
        method does.
    """

    key: str
    status: Literal["done", "failed"]
    energy: float | None = None
    forces: npt.NDArray[np.float64] | None = None
    stress: npt.NDArray[np.float64] | None = None
    atoms: Atoms | None = None
    converged: bool = False
    seconds: float = 0.0
    kind: str = ""
    attempt: int = 1
    error: str | None = None
    on_lattice: bool = True
    cause: Cause | None = None
    provenance: Mapping[str, Any] | None = None
    repeatable: bool = True


class Oracle(Protocol):
    """A source of true energies."""

    @property
    def kind(self) -> str:
        """Short name that is stored with every result."""

    def check_species(self, symbols: Iterable[str]) -> None:
        """Raise if an element cannot be computed; vacancies are ignored.

        Raises
        ------
        InputError
            An element is unknown.
        """

    def run(self, jobs: Iterable[OracleJob]) -> Iterator[OracleResult]:
        """Yield one result per job, in the order they arrive.

        The next job starts only when the caller comes back for the next result, so what the
        caller does with a result (write it to disk) is done before more work begins. No
        failure of a job raises. After `interrupt` it ends early.

        Raises
        ------
        OracleUnavailable
            The environment failed again and again; all results so far have been yielded.
        """

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` has been called."""

    def interrupt(self) -> None:
        """Start no more jobs; `run` yields what still ends and leaves the others unanswered.

        May be called from a signal handler.
        """

    def close(self) -> None:
        """Give back processes and files; the next `run` takes them again."""
