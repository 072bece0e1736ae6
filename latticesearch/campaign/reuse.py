"""Taking over the energies of other runs of the same method, on the same lattice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.campaign import factories
from latticesearch.campaign.damage import require_sound
from latticesearch.campaign.known import settings_of_run
from latticesearch.campaign.method import method_of
from latticesearch.errors import InputError
from latticesearch.lattice import Configuration, Supercell
from latticesearch.oracles import Method
from latticesearch.storage import RunDirectory, StoredResult

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from latticesearch.lattice import ParentLattice


SHAPE_DIGITS = 4
"""Of the vectors of a cell of volume 1: records of cells have six digits after the point."""


@dataclass(frozen=True, eq=False)
class Reused:
    """What a run takes over from another one.

    Parameters
    ----------
    results
        Results that are done, with the keys of this run's parent lattice.
    refused
        How many results were not taken, by reason.
    """

    results: tuple[StoredResult, ...]
    refused: Counter[str]

    def summary(self, path: Path) -> str:
        """Return one line that says what came of it."""
        text = f"{path}: {len(self.results)} energies reused"
        for reason, n in sorted(self.refused.items()):
            text += f"; {n} not ({reason})"
        return text


def reused_results(path: Path, parent: ParentLattice, method: Method, source: str) -> Reused:
    """Return the energies of a run that hold for this one.

    Parameters
    ----------
    path
        A run directory, which may have fewer or more species.
    parent, method
        Those of the new run.
    source
        What the new run writes down as the source of each.

    Raises
    ------
    InputError
        It is no run, results of it are lost, or its lattice or method is another one.
    """
    run = RunDirectory.read(path)
    require_sound(run)
    old_parent = factories.parent_lattice(settings_of_run(run))
    _require_same(path, method_of_run(run, old_parent), method)
    found: dict[str, StoredResult] = {}
    refused: Counter[str] = Counter()
    for stored in (*run.store.results(), *_own_reused(run, method)):
        outcome = _translated(stored, old_parent, parent)
        if isinstance(outcome, str):
            refused[outcome] += 1
        else:
            found.setdefault(outcome.key, replace(outcome, source=source))
    return Reused(tuple(found[key] for key in sorted(found)), refused)


def method_of_run(run: RunDirectory, parent: ParentLattice | None = None) -> Method:
    """Return the method of a run: that of its rows, or of its settings where it has none.

    Rows of version 0.1 do not say how they were computed, but their run's settings could not
    change.
    """
    for stored in run.store.results():
        if stored.method is not None:
            return stored.method
    settings = settings_of_run(run)
    return method_of(settings, parent or factories.parent_lattice(settings))


def _own_reused(run: RunDirectory, method: Method) -> Iterator[StoredResult]:
    """Yield what the run itself took over from runs of this method."""
    wanted = method.without_lattice()
    for stored in run.known.results():
        if stored.method and not stored.method.without_lattice().differences(wanted):
            yield stored


def _require_same(path: Path, old: Method, new: Method) -> None:
    """Refuse energies of another method; species may differ, sites and cell may not.

    Raises
    ------
    InputError
        Names the first difference.
    """
    found = _geometry(old).differences(_geometry(new))
    if found:
        raise InputError(
            f"--reuse {path}: its energies are of another method: {found[0]}; energies of two "
            "methods do not mix (results computed elsewhere: [data] files, at your own risk)"
        )


def _geometry(method: Method) -> Method:
    """Return the method without what the sites may hold.

    Where every structure has the mean volume of its elements, the lengths of these have to agree:
    the cell of the lattice is an average over all species, of which others may have fewer.
    """
    lattice = method.record.get("lattice", {})
    record: dict[str, Any] = dict(method.without_lattice().record)
    geometry = {"a": "one length", "cell": lattice.get("cell"), "sites": lattice.get("sites")}
    if volume := lattice.get("volume"):
        cell = np.array(lattice["cell"])
        shape = cell / abs(np.linalg.det(cell)) ** (1 / 3)
        geometry |= {"a": volume["rule"], "cell": shape.round(SHAPE_DIGITS).tolist()}
        elements = record.get("elements", {})
        record["elements"] = {s: {**elements.get(s, {}), "a": a} for s, a in volume["a"].items()}
    return Method({**record, "lattice": geometry})


def _translated(stored: StoredResult, old: ParentLattice, new: ParentLattice) -> StoredResult | str:
    """Return a result with the key that its structure has on the new lattice, or why not."""
    if stored.status != "done":
        return "failed there"
    configuration = Configuration.from_key(old, stored.key)
    symbols = [old.species[label] for label in configuration.labels]
    if foreign := sorted({s for s in symbols if s not in new.species}):
        return f"holds {foreign[0]}"
    labels = np.array([new.species.index(symbol) for symbol in symbols], dtype=np.int8)
    cell = Supercell.from_matrix(new, configuration.supercell.hnf)
    if not cell.allowed[np.arange(cell.n_sites), labels].all():
        return "puts a species on a site that does not allow it here"
    key = Configuration(cell, labels).canonical().key
    return replace(stored, result=replace(stored.result, key=key))
