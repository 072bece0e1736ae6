"""A sweep through all compositions: every level of the atom addition is a real structure.

From every pure cell atom after atom changes its species; the lowest labelings of each composition
make those of the next ones. One pass gives candidates of all compositions of a supercell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.search.greedy import SearchResult
from latticesearch.search.partial import distinct, first_of_each
from latticesearch.search.polish import ENERGY_DECIMALS, Allowance

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.protocol import LatticeEvaluator

    Labels = npt.NDArray[np.int8]
    Floats = npt.NDArray[np.float64]
    Beams = dict[tuple[int, ...], tuple[Labels, Floats]]


def sweep(
    evaluator: LatticeEvaluator, *, beam_width: int = 4, allowance: Allowance | None = None
) -> SearchResult:
    """Return labelings of all compositions of a supercell, the lowest of each.

    Parameters
    ----------
    evaluator
        Energies of the cell.
    beam_width
        Labelings kept of each composition.
    allowance
        Evaluations that may be used; one flip counts as one. Unlimited when not given.
    """
    allowance = allowance or Allowance()
    starts = _purest(evaluator.supercell.allowed)
    allowance.take(len(starts))
    energies = evaluator.energies(starts)
    done: Beams = {}
    for start, energy in zip(starts, energies, strict=True):
        level: Beams = {_counts(start, evaluator): (start[None], np.array([energy]))}
        while level:
            for counts, (labels, values) in level.items():
                done[counts] = _lowest(labels, values, done.get(counts), beam_width)
            level = _next_level(evaluator, level, start, beam_width, allowance)
    labels = np.concatenate([rows for rows, _ in done.values()])
    values = np.concatenate([rows for _, rows in done.values()])
    order = np.argsort(np.round(values, ENERGY_DECIMALS), kind="stable")
    return SearchResult(labels[order], values[order], allowance.used)


def _purest(allowed: npt.NDArray[np.bool_]) -> Labels:
    """Return per species the labeling, (n_sites,), with as much of it as sites allow."""
    first = allowed.argmax(axis=1)
    rows = [np.where(allowed[:, z], z, first) for z in range(allowed.shape[1])]
    return np.unique(np.array(rows, dtype=np.int8), axis=0)


def _counts(labels: Labels, evaluator: LatticeEvaluator) -> tuple[int, ...]:
    n_species = evaluator.supercell.allowed.shape[1]
    return tuple(np.bincount(labels, minlength=n_species).tolist())


def _lowest(
    labels: Labels, values: Floats, known: tuple[Labels, Floats] | None, n: int
) -> tuple[Labels, Floats]:
    """Return the `n` lowest different rows of both."""
    if known is not None:
        labels = np.concatenate([known[0], labels])
        values = np.concatenate([known[1], values])
    first = first_of_each(labels)
    order = first[np.argsort(np.round(values[first], ENERGY_DECIMALS), kind="stable")[:n]]
    return labels[order], values[order]


def _next_level(
    evaluator: LatticeEvaluator, level: Beams, start: Labels, width: int, allowance: Allowance
) -> Beams:
    """Return the lowest labelings with one more atom that is not the one of the start."""
    allowed = evaluator.supercell.allowed
    permutations = evaluator.supercell.site_permutations
    found: dict[tuple[int, ...], list[tuple[Labels, Floats]]] = {}
    for rows, values in level.values():
        for row, value in zip(rows, values, strict=True):
            sites, species = np.nonzero((row == start)[:, None] & allowed)
            keep = species != start[sites]
            sites, species = sites[keep], species[keep].astype(np.int8)
            if not len(sites) or not allowance.take(len(sites)):
                continue
            changes = evaluator.flip_energies(row, sites, species) / len(row)
            for z in np.unique(species):
                mine = species == z
                children = np.repeat(row[None], int(mine.sum()), axis=0)
                children[np.arange(len(children)), sites[mine]] = z
                counts = _counts(children[0], evaluator)
                found.setdefault(counts, []).append((children, value + changes[mine]))
    result: Beams = {}
    for counts, parts in found.items():
        labels = np.concatenate([rows for rows, _ in parts])
        values = np.concatenate([rows for _, rows in parts])
        # Equivalent children have equal energies: the few lowest are enough to look at.
        order = np.argsort(np.round(values, ENERGY_DECIMALS), kind="stable")
        few = order[: width * max(8, len(permutations) // 4)]
        images = distinct(labels[few], permutations)
        if len(images) < len(few):
            few = _representatives(labels[few], images, permutations, few)
        result[counts] = _lowest(labels[few], values[few], None, width)
    return result


def _representatives(
    labels: Labels,
    images: Labels,
    permutations: npt.NDArray[np.intp],
    rows: npt.NDArray[np.intp],
) -> npt.NDArray[np.intp]:
    """Return one of `rows` per class of equivalent `labels`, lowest energy first."""
    from latticesearch.lattice._kernels import smallest_images

    smallest = smallest_images(np.ascontiguousarray(labels), permutations)
    first = np.sort(first_of_each(smallest))
    assert len(first) == len(images)
    return np.asarray(rows[first], dtype=np.intp)
