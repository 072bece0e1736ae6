"""Which method a campaign's settings ask for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from latticesearch.campaign.settings import PRESETS
from latticesearch.lattice import VACANCY
from latticesearch.oracles.method import Method

if TYPE_CHECKING:
    from collections.abc import Sequence
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
    lattice = lattice_record(parent)
    if isinstance(settings.lattice.a, dict):
        lattice["volume"] = {"rule": "mean of the elements", "a": dict(settings.lattice.a)}
    elements = [symbol for symbol in parent.species if symbol != VACANCY]
    return Method({"lattice": lattice, **_calculation(settings.oracle, elements)})


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


def _calculation(source: OracleSettings, elements: Sequence[str]) -> dict[str, Any]:
    """Return how the energy of a structure comes about."""
    if source.kind == "recorded":
        assert source.file is not None
        table = {"kind": "recorded", "sha256": file_digest(source.file)}
        return {"calculator": {**table, "select": dict(source.select)}}
    if source.kind in PRESETS:
        return _of_preset(source, elements)
    if source.kind == "manual":
        said = {"kind": "manual", "parameters": dict(source.parameters)}
        return {"calculator": said, "relaxation": _relaxation(source)}
    calculator = {"kind": source.calculator or "emt", "parameters": dict(source.parameters)}
    return {"calculator": calculator, "relaxation": _relaxation(source)}


def _relaxation(source: OracleSettings) -> dict[str, Any]:
    """Return what is relaxed, and how far."""
    relaxed = [
        name for name, on in (("cell", source.relax_cell), ("ions", source.relax_ions)) if on
    ]
    relaxation: dict[str, Any] = {"of": relaxed}
    if relaxed:
        relaxation["fmax"] = source.fmax
    return relaxation


def _of_preset(source: OracleSettings, elements: Sequence[str]) -> dict[str, Any]:
    """Return all that a preset is told, in its words, with what it takes for granted.

    What is said of elements stands apart: campaigns of other elements are comparable.
    """
    from latticesearch.campaign.factories import wanted
    from latticesearch.oracles.presets import PRESETS as KNOWN
    from latticesearch.oracles.presets.magnetism import start_moment
    from latticesearch.oracles.presets.vocabulary import DENSER

    preset, told = KNOWN[source.kind], wanted(source)
    record = {k: v for k, v in told.to_dict().items() if k in preset.takes | {"width"}}
    calculator = {"kind": source.kind, **record}
    if "smearing" not in preset.takes:
        calculator.pop("width", None)
    for place in ("command", "datasets", "file", "elements"):
        calculator.pop(place, None)
    found = preset.datasets(told, elements)
    parts = told.to_dict().get("elements", {})
    relaxation = _relaxation(source)
    if preset.is_costly:
        calculator["elements_denser_by"] = DENSER
        relaxation |= {"kpoints": "of the start", "symmetry": "of the start"}
    if source.relax_cell and not preset.has_stress:
        relaxation["cell"] = "volume alone"
    by_element: dict[str, Any] = {symbol: dict(parts.get(symbol, {})) for symbol in elements}
    for symbol, one in by_element.items():
        if symbol in found:
            one["dataset"] = found[symbol]
        if told.spin != "none":
            one["moment"] = start_moment(symbol, told)
    if "all" in found:
        calculator["file"] = found["all"]
    said = {symbol: one for symbol, one in by_element.items() if one}
    return {"calculator": calculator, "relaxation": relaxation, "elements": said}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
