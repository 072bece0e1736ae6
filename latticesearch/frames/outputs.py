"""Outputs of single calculations: the last step counts, if the calculation has come to its end.

ASE reads structures and energies, but not whether they are converged. That is asked here as
pymatgen does: a self-consistent cycle or a relaxation that used up its steps has not converged.
"""

from __future__ import annotations

import gzip
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latticesearch.errors import InputError
from latticesearch.frames.collections import open_text
from latticesearch.frames.types import NO_ENERGY, NOT_CONVERGED, NOT_LAST, Frame, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ase import Atoms

    from latticesearch.frames.types import Reading

UNENDED = "the calculation has not come to its end"

RELAXATIONS = frozenset({-1, 1, 2, 3})
"""Values of VASP's IBRION whose last step is the result; others are dynamics and vibrations."""


def read_output(
    path: Path,
    wanted: Reading,
    form: str | None = None,
    complaint: Callable[[Path], str] | None = None,
) -> Iterator[Frame | Refusal]:
    """Read the output of one calculation.

    Parameters
    ----------
    path
        The file.
    wanted
        What is read of the last step.
    form
        ASE's name of the format; by default ASE finds it out.
    complaint
        Returns why the calculation has not converged, nothing if it has.
    """
    from ase.io import iread

    options: dict[str, Any] = {"index": ":", "parallel": False, "do_not_split_by_at_sign": True}
    why_not = complaint(path) if complaint else ""
    try:
        steps: list[Atoms] = list(iread(path, format=form, **options))
    except Exception as error:
        # Readers trip over outputs that break off; that they do is what there is to say.
        if why_not:
            yield Refusal(NOT_CONVERGED, f"{path}#0", why_not)
            return
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise InputError(f"cannot read structures from {path}: {reason}") from error
    if not steps:
        yield Refusal(NO_ENERGY, f"{path}#0", why_not or "it has no complete step")
        return
    if not wanted.selects(steps[-1].info):
        return
    yield from (Refusal(NOT_LAST, f"{path}#{index}") for index in range(len(steps) - 1))
    yield _last(path, wanted, steps, why_not)


def _last(path: Path, wanted: Reading, steps: list[Atoms], why_not: str) -> Frame | Refusal:
    origin = f"{path}#{len(steps) - 1}"
    if why_not:
        return Refusal(NOT_CONVERGED, origin, why_not)
    start = None
    if len(steps) > 1:
        start = steps[0].copy()
        start.calc = None
    return wanted.judge(steps[-1], origin, start)


@dataclass
class _Vasp:
    """What a calculation of VASP was allowed, and what it took."""

    nelm: int = 60
    nsw: int = 0
    ibrion: int = -1
    electronic: int = 0
    ionic: int = 0
    has_ended: bool = False
    is_accurate: bool = False

    def complaint(self) -> str:
        """Return why the calculation has not converged, nothing if it has."""
        if not self.has_ended:
            return UNENDED
        if self.ibrion not in RELAXATIONS:
            return f"IBRION = {self.ibrion} is neither a relaxation nor a static calculation"
        if self.electronic >= self.nelm:
            return f"the last self-consistent cycle used up its NELM = {self.nelm} steps"
        if self.nsw > 1 and self.ionic >= self.nsw and not self.is_accurate:
            return f"the relaxation used up its NSW = {self.nsw} steps"
        return ""


def vasprun_complaint(path: Path) -> str:
    """Return why the calculation of a ``vasprun.xml`` has not converged, nothing if it has."""
    found = _Vasp()
    opener: Any = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rb") as file:
        try:
            for _, element in ET.iterparse(file):  # noqa: S314 - the user's own files
                _take_element(found, element)
            found.has_ended = True
        except ET.ParseError:
            pass
    return found.complaint()


def _take_element(found: _Vasp, element: ET.Element) -> None:
    """Take what one element, read to its end, says."""
    name = element.get("name", "").lower()
    # INCAR comes first, PARAMETERS with the defaults later: the last word counts.
    if element.tag == "i" and name in {"nelm", "nsw", "ibrion"} and element.text:
        setattr(found, name, int(element.text))
    elif element.tag == "calculation":
        found.ionic += 1
        found.electronic = len(element.findall("scstep"))
        element.clear()


_INTEGER = re.compile(r"^\s*(NELM|NSW|IBRION)\s*=\s*(-?\d+)")
_ITERATION = re.compile(r"Iteration\s+(\d+)\(\s*(\d+)\)")


def outcar_complaint(path: Path) -> str:
    """Return why the calculation of an ``OUTCAR`` has not converged, nothing if it has."""
    found = _Vasp()
    with open_text(path) as file:
        for line in file:
            if match := _INTEGER.match(line):
                setattr(found, match[1].lower(), int(match[2]))
            elif match := _ITERATION.search(line):
                found.ionic, found.electronic = int(match[1]), int(match[2])
            elif "reached required accuracy" in line:
                found.is_accurate = True
            elif "General timing and accounting" in line:
                found.has_ended = True
    return found.complaint()


_ENERGY = re.compile(r"^!\s+total energy", re.MULTILINE)
_UNCONVERGED = "convergence NOT achieved"
_OUT_OF_STEPS = "The maximum number of steps has been reached"


def espresso_complaint(path: Path) -> str:
    """Return why the calculation of ``pw.x`` has not converged, nothing if it has."""
    with open_text(path) as file:
        text = file.read()
    last_energy = max((match.start() for match in _ENERGY.finditer(text)), default=-1)
    if text.rfind(_UNCONVERGED) > last_energy:
        return "the last self-consistent cycle did not converge"
    if _OUT_OF_STEPS in text:
        return "the relaxation used up its steps (nstep)"
    return "" if "JOB DONE" in text else UNENDED
