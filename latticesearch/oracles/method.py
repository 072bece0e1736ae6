"""What defines an energy: the parent lattice and how it was computed.

Energies of one method can be compared and mixed, those of two cannot. So every stored energy
carries its method, as a record that a person can read and as a fingerprint that is quick to
compare; nothing else about a campaign has to agree for its energies to stay usable.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LENGTH = 16
"""Hexadecimal digits of a fingerprint: two of a million methods share one with 1e-8."""


@dataclass(frozen=True, eq=False)
class Method:
    """How energies are computed.

    Parameters
    ----------
    record
        Tables of numbers, strings, lists and tables: ``lattice`` (cell, sites and the species
        each allows), ``calculator`` (its name and parameters), ``relaxation``, and what is said of
        single ``elements``.
    """

    record: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits after an m, the same for equal records."""
        text = json.dumps(self.record, sort_keys=True)
        # The letter keeps it from looking like a number, which ASE's databases refuse.
        return f"m{hashlib.sha256(text.encode()).hexdigest()[:LENGTH]}"

    def differences(self, other: Method) -> list[str]:
        """Return "name: ours != theirs" for every value that differs.

        What is said of an element of which the other says nothing has no energy to disagree about.
        """
        ours, theirs = dict(_flat(self.record)), dict(_flat(other.record))
        names = sorted({*ours, *theirs})
        shared = set(self.record.get("elements", {})) & set(other.record.get("elements", {}))
        names = [name for name in names if _is_of(name, shared)]
        return [
            f"{name}: {_shown(ours.get(name))} != {_shown(theirs.get(name))}"
            for name in names
            if ours.get(name) != theirs.get(name)
        ]

    def without_lattice(self) -> Method:
        """Return the method of a calculator alone, for campaigns on several lattices."""
        return Method({name: part for name, part in self.record.items() if name != "lattice"})


def _is_of(name: str, elements: set[str]) -> bool:
    """Tell whether a dotted name is that of one of the elements, or of no element."""
    first, _, rest = name.partition(".")
    return first != "elements" or rest.partition(".")[0] in elements


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables with their dotted names."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    """Return a value as a message shows it."""
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
