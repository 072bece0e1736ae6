"""See whether a relaxed structure still is the decoration it was meant to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latticesearch.lattice import ParentLattice
    from latticesearch.oracles.protocol import OracleResult


def still_on_lattice(result: OracleResult, parent: ParentLattice, key: str | None = None) -> bool:
    """Return whether the structure of `result` still is the labeling `key` of `parent`.

    Parameters
    ----------
    result
        A result that is done; without a structure the answer is False.
    parent
        The parent lattice.
    key
        Canonical key to find again; default that of the result.
    """
    # Worker processes import this package as well and need nothing of the lattice.
    from latticesearch.lattice import map_to_lattice

    if result.atoms is None:
        return False
    match = map_to_lattice(result.atoms, parent)
    return match is not None and match.configuration.key == (key or result.key)
