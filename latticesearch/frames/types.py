"""Frames, what is read of them, and why some are refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt
    from ase import Atoms

NO_ENERGY = "no energy"
NOT_CONVERGED = "not converged"
NOT_LAST = "not the last step of its calculation"
UNREADABLE = "cannot be read"

MAX_EXAMPLES = 3
"""Refused frames that are named for each reason."""


@dataclass(frozen=True)
class Reading:
    """What is read of the frames of a file.

    Parameters
    ----------
    energy_key
        Name of the energy, eV per cell; by default what the file's format calls the energy.
    select
        Only frames with these values among their ``info`` (of a database: key-value pairs).
    types
        Symbols in the order of the type numbers of MLIP's ``.cfg`` files.
    """

    energy_key: str | None = None
    select: Mapping[str, Any] = field(default_factory=dict)
    types: tuple[str, ...] = ()

    def selects(self, info: Mapping[str, Any]) -> bool:
        """Tell whether all wanted values are there; numbers and their texts count as equal."""
        return all(
            k in info and (info[k] == v or str(info[k]) == str(v)) for k, v in self.select.items()
        )

    def judge(self, atoms: Atoms, origin: str, start: Atoms | None = None) -> Frame | Refusal:
        """Return a structure as a frame, or why it is none.

        Parameters
        ----------
        atoms
            With results attached and further values in ``info``; both are taken off, and so are
            constraints.
        origin
            Where it comes from.
        start
            The structure before relaxation.
        """
        results = {} if atoms.calc is None else dict(atoms.calc.results)
        info = dict(atoms.info)
        atoms.calc = None
        atoms.info.clear()
        atoms.set_constraint()
        key = self.energy_key or "energy"
        known = {**info, **results}
        if not _is_number(known.get(key)):
            return Refusal(self._no_energy(), origin, _keys_there(known))
        if str(info.get("converged", "True")) in {"False", "0", "F"}:
            return Refusal(NOT_CONVERGED, origin)
        # Forces belong to the energy that the calculator gave, not to one noted beside it.
        shown = results if key in results else {}
        forces, stress = shown.get("forces"), shown.get("stress")
        return Frame(atoms, float(known[key]), origin, forces, stress, start, info)

    def _no_energy(self) -> str:
        return NO_ENERGY if self.energy_key is None else f"{NO_ENERGY} under {self.energy_key}"


@dataclass(frozen=True, eq=False)
class Frame:
    """A structure with its energy.

    Parameters
    ----------
    atoms
        The structure, without calculator and ``info``.
    energy
        eV per cell.
    origin
        File and position in it, ``file#index``.
    forces
        (n_atoms, 3) eV/Å; None where unknown.
    stress
        (6,) eV/Å³, order xx, yy, zz, yz, xz, xy, in ASE's sign; None where unknown.
    start
        The structure before relaxation; None where unknown.
    info
        What else the file says of it.
    """

    atoms: Atoms
    energy: float
    origin: str
    forces: npt.NDArray[np.float64] | None = None
    stress: npt.NDArray[np.float64] | None = None
    start: Atoms | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Where it comes from, without the position."""
        return self.origin.rpartition("#")[0]

    @property
    def energy_per_atom(self) -> float:
        """Its energy, eV/atom."""
        return self.energy / len(self.atoms)


@dataclass(frozen=True)
class Refusal:
    """Why something that was read cannot be used.

    Parameters
    ----------
    reason
        The same for all that are counted together.
    origin
        File and position in it.
    detail
        What is particular to this one.
    """

    reason: str
    origin: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.origin} ({self.detail})" if self.detail else self.origin


@dataclass(eq=False)
class Refusals:
    """Refusals counted by reason.

    Attributes
    ----------
    by_reason : dict
        All refusals of each reason, in the order in which they were found.
    """

    by_reason: dict[str, list[Refusal]] = field(default_factory=dict)

    def add(self, refusal: Refusal) -> None:
        """Count one more."""
        self.by_reason.setdefault(refusal.reason, []).append(refusal)

    def __len__(self) -> int:
        return sum(map(len, self.by_reason.values()))

    @property
    def counts(self) -> dict[str, int]:
        """Number of refusals of each reason."""
        return {reason: len(found) for reason, found in self.by_reason.items()}

    def lines(self) -> list[str]:
        """Return one sentence per reason, the most frequent first, with examples."""
        ordered = sorted(self.by_reason.items(), key=lambda item: -len(item[1]))
        return [f"{len(found)} {reason}: {_examples(found)}" for reason, found in ordered]


def _examples(found: list[Refusal]) -> str:
    named = ", ".join(map(str, found[:MAX_EXAMPLES]))
    return f"{named}, ..." if len(found) > MAX_EXAMPLES else named


def _is_number(value: object) -> bool:
    # Python counts True as a number.
    return isinstance(value, Real) and str(value) not in {"True", "False"} and math.isfinite(value)


def _keys_there(known: Mapping[str, Any]) -> str:
    """Return the names of the numbers that could have been meant."""
    names = sorted(name for name, value in known.items() if _is_number(value))
    return f"numbers there: {', '.join(names)}" if names else "it has no number at all"
