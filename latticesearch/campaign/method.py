"""Which method a campaign's settings ask for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from latticesearch.oracles.method import Method

if TYPE_CHECKING:
    from pathlib import Path

    from latticesearch.campaign.settings import OracleSettings, Settings
    from latticesearch.lattice import ParentLattice

DIGITS = 6
"""Of lengths (Å) and fractions: more than any file gives, less than rounding disturbs."""


def method_of(settings: Settings, parent: ParentLattice) -> Method:
    """Return the method by which a campaign computes energies.

    How often and how long a calculation is tried, how many run at once, and what is done with
    the energies are no part of it.
    """
    return Method({"lattice": lattice_record(parent), **_calculation(settings.oracle)})


def lattice_record(parent: ParentLattice) -> dict[str, Any]:
    """Return the parent lattice as a record: cell in Å, fractional sites, allowed species."""
    allowed = [
        [s for s, yes in zip(parent.species, row, strict=True) if yes] for row in parent.allowed
    ]
    return {
        "species": list(parent.species),
        "cell": _rounded(parent.cell),
        "sites": _rounded(parent.basis),
        "allowed": allowed,
    }


def _rounded(values: Any) -> list[list[float]]:
    """Return rows of numbers without the digits, and the sign of zero, that are rounding."""
    rows: list[list[float]] = (values.round(DIGITS) + 0.0).tolist()
    return rows


def _calculation(source: OracleSettings) -> dict[str, Any]:
    """Return how the energy of a structure comes about."""
    if source.kind == "recorded":
        assert source.file is not None
        table = {"kind": "recorded", "sha256": file_digest(source.file)}
        return {"calculator": {**table, "select": dict(source.select)}}
    relaxed = [
        name for name, on in (("cell", source.relax_cell), ("ions", source.relax_ions)) if on
    ]
    relaxation: dict[str, Any] = {"of": relaxed}
    if relaxed:
        relaxation["fmax"] = source.fmax
    calculator = {"kind": source.calculator or "emt", "parameters": dict(source.parameters)}
    return {"calculator": calculator, "relaxation": relaxation}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
