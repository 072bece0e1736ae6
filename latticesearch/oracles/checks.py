"""See whether a relaxed structure still is the decoration it was meant to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latticesearch.lattice import ParentLattice
    from latticesearch.oracles.protocol import OracleResult


def still_on_lattice(result: OracleResult, parent: ParentLattice, key: str | None = None) -> bool:
    """Return whether the structure of `result` still is the labeling `key` of `parent`.

    If it has the atoms of the ideal structure in the same order it is compared with that one
    directly, and neighbours that are still neighbours settle it. Otherwise the structure is mapped
    like any other.

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
    from latticesearch.lattice import (
        Configuration,
        LatticeMatch,
        match_to_lattice,
        match_to_start,
    )

    if result.atoms is None:
        return False
    key = key or result.key
    start = Configuration.from_key(parent, key)
    if isinstance(match_to_start(result.atoms, start), LatticeMatch):
        return True
    match = match_to_lattice(result.atoms, parent, explain=False)
    if isinstance(match, LatticeMatch):
        return match.configuration.key == key
    # Where two decorations fit, having started as the better one decides.
    return match.keys[:1] == (key,)
