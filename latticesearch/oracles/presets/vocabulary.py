"""One vocabulary for all codes: what defines an energy, said once and translated by each preset."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latticesearch.oracles.parallel_codes import Parallel

Spin = Literal["none", "ferromagnetic", "antiferromagnetic"]
SMEARINGS = ("methfessel-paxton", "marzari-vanderbilt", "fermi-dirac", "gaussian")
"""Names of smearings, that of Methfessel and Paxton of order 1."""
DENSER = 0.75
"""Spacing of the k-points of a pure element in units of that of the others. What the elements are
wrong by goes into every formation energy and cancels nowhere (bcc Mo at 12x12x12: 20 meV/atom),
and their cells are the smallest of all."""
ORBITALS = "spdf"


@dataclass(frozen=True)
class Hubbard:
    """The correction of an element's localised orbitals, rotationally invariant (Dudarev).

    Parameters
    ----------
    u, j
        Interaction and exchange, eV.
    orbital
        "p", "d" or "f".
    """

    u: float
    j: float = 0.0
    orbital: str = "d"

    @property
    def l(self) -> int:  # noqa: E743 - the quantum number's name
        """Angular momentum."""
        return ORBITALS.index(self.orbital)


@dataclass(frozen=True)
class Element:
    """What is said of one element.

    Parameters
    ----------
    kspacing
        Spacing of the k-points of structures of this element alone, 1/Å.
    grid
        Their k-points instead, three numbers, for the primitive cell of the parent.
    moment
        Magnetic moment of an atom at the start, Bohr magnetons.
    dataset
        Name of the pseudopotential or PAW data set, as the code's preset looks it up.
    hubbard
        Correction of localised orbitals.
    """

    kspacing: float | None = None
    grid: tuple[int, int, int] | None = None
    moment: float | None = None
    dataset: str | None = None
    hubbard: Hubbard | None = None


@dataclass(frozen=True)
class Wanted:
    """Which energy is wanted; how a code is told so is its preset's.

    Parameters
    ----------
    xc
        Exchange and correlation, such as "PBE".
    cutoff
        Of the plane waves, eV.
    kspacing
        Largest distance between k-points, 1/Å, with the factor 2π, as VASP's KSPACING. The
        inverse of what ASE calls a density of k-points.
    smearing, width
        Which of `SMEARINGS`, and its width, eV.
    spin
        Whether moments are looked for, and of which order.
    dispersion
        None, "d3" (zero damping) or "d3bj".
    elements
        What is said of single elements.
    parameters
        What is passed on in the code's own words.
    datasets
        Folder of the data sets, where the code does not know it by itself.
    command
        What starts an external program.
    file
        The potential, where the calculator is one.
    parallel
        On how many cores a program runs; known where it is started, and no part of the energy.
    """

    xc: str = "PBE"
    cutoff: float | None = None
    kspacing: float | None = None
    smearing: str = SMEARINGS[0]
    width: float = 0.2
    spin: Spin = "none"
    dispersion: str | None = None
    elements: Mapping[str, Element] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    datasets: str | None = None
    command: str | None = None
    file: str | None = None
    parallel: Parallel | None = None

    def __post_init__(self) -> None:
        for name in ("cutoff", "kspacing", "width"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InputError(f"oracle.{name} must be a positive number, not {value!r}")
        if self.smearing not in SMEARINGS:
            raise InputError(
                f"oracle.smearing: unknown kind {self.smearing!r}; known: {', '.join(SMEARINGS)}"
            )

    def element(self, symbol: str) -> Element:
        """Return what is said of an element, nothing by default."""
        return self.elements.get(symbol, Element())

    def command_line(self, default: str) -> str:
        """Return what starts a program, `default` where no command is said, on its cores."""
        command = self.command or default
        return command if self.parallel is None else self.parallel.in_front_of(command)

    def to_dict(self) -> dict[str, Any]:
        """Return all as tables of numbers and strings; what is not said is left out."""
        record: dict[str, Any] = without_none(asdict(replace(self, parallel=None)))
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Wanted:
        """Return what `to_dict` has written."""
        elements = {
            symbol: Element(
                **{
                    **one,
                    "grid": tuple(one["grid"]) if "grid" in one else None,
                    "hubbard": Hubbard(**one["hubbard"]) if "hubbard" in one else None,
                }
            )
            for symbol, one in record.get("elements", {}).items()
        }
        known = {one.name for one in fields(cls)}
        return cls(**{**{k: v for k, v in record.items() if k in known}, "elements": elements})


def without_none(value: Any) -> Any:
    """Return nested tables without the keys that have no value."""
    if isinstance(value, dict):
        return {key: without_none(one) for key, one in value.items() if one is not None}
    return list(value) if isinstance(value, tuple) else value
