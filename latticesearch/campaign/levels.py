"""Candidates of a higher level: the structures near the hull of a finished run.

What a cheap method leaves near the hull is computed again by a better one. The structures are taken
over as decorations, the energies are not: those of two methods do not mix.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from latticesearch.campaign import factories
from latticesearch.campaign.settings import settings_of_record
from latticesearch.errors import InputError
from latticesearch.lattice import Configuration, Supercell
from latticesearch.storage import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

    from latticesearch.lattice import ParentLattice

log = logging.getLogger(__name__)

COLUMNS = ("formula", "energy_above_hull", "hnf", "symbols")
"""Of the table that a run keeps: the height, eV/atom, in the old run; nine integers and the symbol
of each site, with blanks in between."""
SAME_SITES = 1e-3
"""Difference of fractional coordinates within which two lattices have the same sites."""


@dataclass(frozen=True, eq=False)
class NearHull:
    """Structures of another run.

    Parameters
    ----------
    structures
        Canonical, on the lattice of this run, the lowest first.
    n_foreign
        How many near the hull there are that this lattice cannot hold.
    """

    structures: tuple[Configuration, ...]
    n_foreign: int


def near_hull_of(path: Path, within: float, parent: ParentLattice) -> NearHull:
    """Return the structures, computed and predicted, near the hull of another run.

    Parameters
    ----------
    path
        The run directory, or the table that a run keeps of one.
    within
        Height above the hull, eV/atom.
    parent
        The lattice of this run: the same sites, other lengths and species if need be.

    Raises
    ------
    InputError
        It is no run, has no candidates yet, or another lattice.
    """
    table = _kept_table(path) if path.is_file() else _table_of(path, parent)
    chosen = table[table["energy_above_hull"] <= within].sort_values(
        ["energy_above_hull", "hnf", "symbols"]
    )
    found: dict[str, Configuration] = {}
    n_foreign = 0
    for hnf, symbols in zip(chosen["hnf"], chosen["symbols"], strict=True):
        one = _on(parent, hnf, symbols)
        if one is None:
            n_foreign += 1
        else:
            found.setdefault(one.key, one)
    if not found:
        raise InputError(
            f"candidates.from_run: no structure within {1000 * within:g} meV/atom of the hull of "
            f"{path} fits the species {', '.join(parent.species)}; raise candidates.within"
        )
    return NearHull(tuple(found.values()), n_foreign)


def table_bytes(path: Path) -> bytes:
    """Return the candidates of a run as the table that other runs keep.

    All of them, so that the height may be changed when the run is gone.

    Raises
    ------
    InputError
        It is no run, or has no candidates yet.
    """
    buffer = io.StringIO()
    _table_of(path).to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue().encode()


def _kept_table(path: Path) -> pd.DataFrame:
    """Return the table that a run keeps of another."""
    try:
        table = pd.read_csv(path, keep_default_na=False)
    except (ValueError, UnicodeDecodeError):
        table = pd.DataFrame()
    if tuple(table.columns) != COLUMNS:
        raise InputError(f"candidates.from_run: {path} is neither a run nor a table of one")
    return table


def _table_of(path: Path, parent: ParentLattice | None = None) -> pd.DataFrame:
    """Return the candidates of a run, after a look at its lattice where there is one to compare."""
    directory = RunDirectory.read(path)
    candidates = directory.read_candidates()
    if candidates is None:
        raise InputError(f"candidates.from_run: {path} has no candidates yet; run it first")
    old = factories.parent_lattice(settings_of_record(directory.read_settings(), path))
    if parent is not None:
        _require_same_sites(path, old, parent)
        if not any(event["event"] == "end" for event in directory.events()):
            log.warning(
                "candidates.from_run: %s is not finished; what it knows so far counts", path
            )
    species = np.array(old.species)
    return pd.DataFrame(
        {
            "formula": candidates["formula"],
            "energy_above_hull": candidates["energy_above_hull"],
            "hnf": [" ".join(map(str, hnf)) for hnf in candidates["hnf"]],
            "symbols": [" ".join(species[np.asarray(one)]) for one in candidates["labels"]],
        }
    )


def _require_same_sites(path: Path, old: ParentLattice, new: ParentLattice) -> None:
    """Refuse decorations of another lattice; its lengths and species may differ.

    Raises
    ------
    InputError
        The sites or the symmetry differ.
    """
    same = old.basis.shape == new.basis.shape and len(old.rotations) == len(new.rotations)
    if same:
        difference = old.basis - new.basis
        same = bool(np.abs(difference - np.rint(difference)).max() < SAME_SITES)
        same &= {r.tobytes() for r in old.rotations} == {r.tobytes() for r in new.rotations}
    if not same:
        raise InputError(
            f"candidates.from_run: {path} has another parent lattice ({old.n_basis} sites, "
            f"{old.n_ops} operations; here {new.n_basis}, {new.n_ops})"
        )


def _on(parent: ParentLattice, hnf: str, symbols: str) -> Configuration | None:
    """Return a structure of the table on a lattice, canonical; None where it has no place."""
    names = symbols.split()
    if any(name not in parent.species for name in names):
        return None
    cell = Supercell.from_matrix(parent, np.array(hnf.split(), dtype=int).reshape(3, 3))
    labels = np.array([parent.species.index(name) for name in names], dtype=np.int8)
    if len(labels) != cell.n_sites or not cell.allowed[np.arange(cell.n_sites), labels].all():
        return None
    return Configuration(cell, labels).canonical()
