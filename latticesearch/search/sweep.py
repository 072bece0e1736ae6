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

CHUNK = 20_000_000
"""Labels of children that are made at once, bytes."""


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
        Evaluations that may be used; one distinct labeling counts as one. Unlimited when not given.
    """
    allowance = allowance or Allowance()
    supercell = evaluator.supercell
    starts = _affordable(_purest(supercell.allowed), allowance)
    n_species = supercell.allowed.shape[1]
    found = [(starts, evaluator.energies(starts))]
    for start in starts:
        beam = start[None]
        while len(beam):
            children = _children(beam, start, supercell.allowed, supercell.site_permutations)
            children = _affordable(children, allowance)
            energies = evaluator.energies(children)
            beam, values = _lowest(children, energies, n_species, beam_width)
            found.append((beam, values))
    labels, energies = _lowest(
        np.concatenate([rows for rows, _ in found]),
        np.concatenate([values for _, values in found]),
        n_species,
        beam_width,
    )
    order = np.argsort(np.round(energies, ENERGY_DECIMALS), kind="stable")
    return SearchResult(labels[order], energies[order], allowance.used)


def _purest(allowed: npt.NDArray[np.bool_]) -> Labels:
    """Return per species the labeling, (n_sites,), with as much of it as sites allow."""
    first = allowed.argmax(axis=1)
    rows = [np.where(allowed[:, z], z, first) for z in range(allowed.shape[1])]
    return np.unique(np.array(rows, dtype=np.int8), axis=0)


def _affordable(labels: Labels, allowance: Allowance) -> Labels:
    """Return and book the rows that an allowance has room for, spread evenly over all of them."""
    n = int(min(len(labels), max(allowance.left, 0)))
    allowance.take(n)
    return labels if n == len(labels) else labels[np.arange(n) * len(labels) // max(n, 1)]


def _children(
    labels: Labels,
    start: Labels,
    allowed: npt.NDArray[np.bool_],
    permutations: npt.NDArray[np.intp],
) -> Labels:
    """Return all distinct labelings with one more atom that is not the one of the start.

    The start is as symmetric as the supercell, so an image of a labeling has grown from it, too.
    """
    other = allowed & (np.arange(allowed.shape[1]) != start[:, None])
    step = max(CHUNK // (other.sum() * len(start)), 1) if other.any() else len(labels)
    parts = [np.zeros((0, len(start)), dtype=np.int8)]
    for first in range(0, len(labels), step):
        rows = labels[first : first + step]
        parents, sites, species = np.nonzero((rows == start)[:, :, None] & other)
        children = rows[parents]
        children[np.arange(len(children)), sites] = species
        parts.append(distinct(children, permutations))
    children = np.concatenate(parts)
    return children[first_of_each(children)]


def _lowest(labels: Labels, energies: Floats, n_species: int, n: int) -> tuple[Labels, Floats]:
    """Return the `n` lowest different rows of each composition; equal energies by labels."""
    first = first_of_each(labels)
    labels, energies = labels[first], energies[first]
    weights = (labels.shape[1] + 1) ** np.arange(n_species, dtype=np.int64)
    codes = weights[labels].sum(axis=1)
    order = np.lexsort((np.round(energies, ENERGY_DECIMALS), codes))
    places = np.arange(len(order)) - np.searchsorted(codes[order], codes[order])
    kept = order[places < n]
    return labels[kept], energies[kept]
