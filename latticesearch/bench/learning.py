"""What `latticesearch bench learning` measures: calculations until the hull is right."""

from __future__ import annotations

import csv
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.errors import InputError
from latticesearch.lattice import Configuration, ParentLattice, Supercell
from latticesearch.learning.replay import (
    Limits,
    RandomOrder,
    Record,
    Replay,
    brier_score,
    calibration_error,
    reliability,
    replay,
    replay_method,
    ridge_order,
)
from latticesearch.oracles import RecordedOracle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Row = dict[str, Any]

log = logging.getLogger(__name__)

LATTICES = {"bcc": 3.2, "fcc": 4.0, "hcp": 3.0}
"""Lattices tried where none is named, with lattice constants, Å, that only say how large a
displacement is."""

RELAXED = "relax"
"""Where frames have a tag, these are the ones whose energies are a hull's."""

REFERENCES = "pure_references.csv"
"""A file beside the data with the energies of the elements, eV/atom."""


def record_of(
    path: Path,
    species: tuple[str, ...],
    lattice: str | None,
    select: Mapping[str, str],
    references: Mapping[str, float],
) -> Record:
    """Return the recorded energies of one system.

    Parameters
    ----------
    path
        Frames with energies, as for the oracle "recorded".
    species
        Of the system; frames with others are left out.
    lattice
        Name of a prototype; default the first of `LATTICES` on which the file has most frames.
    select
        Values that frames must have; default those tagged as relaxed where there are such.
    references
        Energies of elements, eV/atom; default those of the file beside the data, then those of
        selected frames, then of any.

    Raises
    ------
    InputError
        The file cannot be read, has no frame on the lattice, or lacks a pure element.
    """
    oracle, parent = _oracle(path, species, lattice, select)
    energies = oracle.energies
    given = {**_references_beside(path), **references}
    pure = _pure_anywhere(path, parent, [s for s in species if s not in given])
    for symbol in species:
        key = _pure_key(parent, symbol)
        if symbol in given:
            energies[key] = given[symbol]
        elif key not in energies and key in pure:
            log.info("pure %s: %.4f eV/atom, from a frame not selected", symbol, pure[key])
            energies[key] = pure[key]
        elif key not in energies:
            raise InputError(
                f"{path}: no frame is pure {symbol}; give its energy with --reference "
                f"{symbol}=E, eV/atom"
            )
    return Record.of(parent, energies)


def _oracle(
    path: Path, species: tuple[str, ...], lattice: str | None, select: Mapping[str, str]
) -> tuple[RecordedOracle, ParentLattice]:
    """Return the table of the frames, and its lattice."""
    choices: list[Mapping[str, str]] = [select] if select else [{"tag": RELAXED}, {}]
    error: InputError | None = None
    for chosen in choices:
        found = []
        for name in [lattice] if lattice else list(LATTICES):
            parent = ParentLattice.from_prototype(name, LATTICES.get(name, 4.0), species)
            try:
                oracle = RecordedOracle(path, parent, select=dict(chosen))
            except InputError as problem:
                error = problem
                continue
            mixed = sum(not _is_pure(parent, key) for key in oracle.keys)
            found.append((mixed, oracle, parent))
        best = max(found, key=lambda one: one[0], default=None)
        if best is not None and best[0]:
            return best[1], best[2]
    raise error or InputError(f"{path}: no frame mixes {', '.join(species)} on a known lattice")


def _pure_anywhere(path: Path, parent: ParentLattice, symbols: list[str]) -> dict[str, float]:
    """Return the lowest energies, eV/atom, of pure elements among all frames, by key."""
    if not symbols:
        return {}
    energies = RecordedOracle(path, parent).energies
    keys = [_pure_key(parent, symbol) for symbol in symbols]
    return {key: energies[key] for key in keys if key in energies}


def _is_pure(parent: ParentLattice, key: str) -> bool:
    return len(Configuration.from_key(parent, key).symbols) < 2


def _pure_key(parent: ParentLattice, symbol: str) -> str:
    cell = Supercell.from_matrix(parent, np.eye(3, dtype=int))
    labels = np.full(cell.n_sites, parent.species.index(symbol), dtype=np.int8)
    return Configuration(cell, labels).key


def _references_beside(path: Path) -> dict[str, float]:
    """Return the energies of the elements in a file beside the data, eV/atom."""
    file = path.parent / REFERENCES
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8") as rows:
        return {row["element"]: float(row["E_eV_per_atom"]) for row in csv.DictReader(rows)}


def measure(record: Record, n_seeds: int, batch: int, budget: int, tolerance: float) -> Row:
    """Replay campaigns from several starts, with two other ways of choosing beside them.

    Returns
    -------
    dict
        candidates, vertices; calls_to_hull_median, calls_to_hull_max, stop_median, stop_max,
        right_at_stop (part of the runs); ends; baselines; reliability of both probabilities.
    """
    starts = [record.start(seed) for seed in range(n_seeds)]
    budget = min(budget, len(record.keys) - len(record.ends))
    limits = Limits(batch, budget, tolerance)
    runs = [replay(one, limits) for one in starts]
    ridge = [replay_method(one, ridge_order, limits) for one in starts]
    everything = Limits(batch, len(record.keys), tolerance)
    random = [replay_method(one, RandomOrder(seed), everything) for seed, one in enumerate(starts)]
    stops = [run.stop for run in runs if run.stop is not None]
    stable = np.concatenate([run.forecasts for run in runs])
    missing = np.concatenate([run.missing for run in runs])
    return {
        "candidates": len(record.keys) - len(record.ends),
        "vertices": len(record.hull.vertices) - len(record.ends),
        "batch": batch,
        "seeds": n_seeds,
        **_to_hull("calls_to_hull", runs, budget),
        "stop_median": float(np.median(stops)),
        "stop_max": max(stops),
        "right_at_stop": float(np.mean([run.error <= tolerance for run in runs])),
        "ends": {
            kind: sum(run.end == kind for run in runs) for kind in sorted({r.end for r in runs})
        },
        **_to_hull("ridge", ridge, budget),
        **_to_hull("random", random, len(record.keys)),
        "stable": _calibration(stable),
        "missing": _calibration(missing),
    }


def _to_hull(name: str, runs: list[Replay], budget: int) -> Row:
    """Return median and largest number of calculations to the hull; never is the budget."""
    numbers = [budget if run.to_hull is None else run.to_hull for run in runs]
    return {f"{name}_median": float(np.median(numbers)), f"{name}_max": max(numbers)}


def _calibration(forecasts: Any) -> Row:
    """Return how well probabilities were kept."""
    return {
        "forecasts": len(forecasts),
        "brier": brier_score(forecasts),
        "calibration_error": calibration_error(forecasts),
        "reliability": reliability(forecasts),
    }
