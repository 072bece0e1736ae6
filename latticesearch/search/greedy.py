"""Greedy atom addition: decide site after site, judged by the mean-field energy of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.errors import InputError
from latticesearch.lattice import smallest_images
from latticesearch.search.partial import (
    UNDECIDED,
    children,
    complete_at_random,
    distinct,
    fill_forced,
    first_of_each,
    is_feasible,
    mean_field_occupations,
)
from latticesearch.search.polish import ENERGY_DECIMALS, Allowance, Descent, descend

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.protocol import LatticeEvaluator


class SearchResult(NamedTuple):
    """Distinct complete labelings of one composition in one supercell, lowest energy first."""

    labels: npt.NDArray[np.int8]
    """(n, n_sites)."""
    energies: npt.NDArray[np.float64]
    """(n,), eV per site."""
    evaluations: int
    """Energies computed: of partial cells, of complete ones and of swaps."""


def add_atoms(
    evaluator: LatticeEvaluator,
    counts: npt.NDArray[np.int64],
    *,
    beam_width: int,
    allowance: Allowance,
    rng: np.random.Generator,
) -> npt.NDArray[np.int8]:
    """Return the complete labelings, (n, n_sites), n <= beam_width, of a beam of partial cells.

    All undecided sites hold the composition that remains to be placed. At each level every
    partial cell of the beam decides one more site in every way; of all distinct results those of
    lowest mean-field energy make the next beam.

    Parameters
    ----------
    evaluator
        Energies of the cell.
    counts
        (n_species,) atoms of each species in the complete cell.
    beam_width
        Partial cells kept per level.
    allowance
        Evaluations that may be used. When they end, the beam is completed at random.
    rng
        Source of what has to be left out when the allowance ends.
    """
    supercell = evaluator.supercell
    allowed, permutations = supercell.allowed, supercell.site_permutations
    beam = fill_forced(_undecided_cell(supercell.n_sites, counts, allowed), counts, allowed)
    energies = np.zeros(1)
    while np.any(beam == UNDECIDED):
        is_open = np.any(beam == UNDECIDED, axis=1)
        fresh = distinct(children(beam[is_open], counts, allowed), permutations)
        if len(fresh) > allowance.left:
            kept = rng.choice(len(fresh), size=max(int(allowance.left), 0), replace=False)
            fresh = fresh[np.sort(kept)]
        if not allowance.take(len(fresh)) or len(fresh) == 0:
            break
        occupations = mean_field_occupations(fresh, counts, allowed)
        fresh_energies = np.round(evaluator.mean_field_energies(occupations), ENERGY_DECIMALS)
        beam, energies = _lowest_distinct(
            np.concatenate([beam[~is_open], fresh]),
            np.concatenate([energies[~is_open], fresh_energies]),
            beam_width,
        )
    return np.array([complete_at_random(row, counts, allowed, rng) for row in beam])


def _undecided_cell(
    n_sites: int, counts: npt.NDArray[np.int64], allowed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int8]:
    """Return one partial cell, (1, n_sites), without any decision."""
    cell = np.full((1, n_sites), UNDECIDED, dtype=np.int8)
    if not is_feasible(cell, counts, allowed)[0]:
        raise InputError(
            f"no labeling of this cell of {n_sites} sites has the species counts "
            f"{tuple(int(n) for n in counts)}: give counts that its sites allow"
        )
    return cell


def _lowest_distinct(
    labels: npt.NDArray[np.int8], energies: npt.NDArray[np.float64], n: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
    """Return the `n` lowest rows; equal energies are ordered by labels, equal rows come once."""
    first = first_of_each(labels)
    lowest = first[np.argsort(energies[first], kind="stable")[:n]]
    return labels[lowest], energies[lowest]


def greedy_search(
    evaluator: LatticeEvaluator,
    counts: npt.NDArray[np.int64],
    *,
    beam_width: int = 8,
    restarts: int | None = None,
    max_results: int = 16,
    allowance: Allowance | None = None,
    rng: np.random.Generator | None = None,
) -> SearchResult:
    """Search one composition of one supercell: atom addition, then swap descents.

    Each result of the addition starts a descent, and so do some random labelings: where the
    mean field misleads the whole beam, these do not follow it.

    Parameters
    ----------
    evaluator
        Energies of the cell.
    counts
        (n_species,) atoms of each species in the cell; their sum is n_sites.
    beam_width
        Partial cells kept per level of the atom addition.
    restarts
        Random labelings that start a descent; `default_restarts` when not given.
    max_results
        Most labelings returned: the minima of the descents and the lowest labelings around them.
    allowance
        Evaluations that may be used; unlimited when not given.
    rng
        Source of the random labelings; seeded with 0 when not given.

    Raises
    ------
    InputError
        No labeling of the cell has these counts.
    """
    allowance = allowance or Allowance()
    # The energies of the minima are part of the bill, so they are set aside first.
    n_restarts = default_restarts(beam_width) if restarts is None else restarts
    inner = Allowance(max(allowance.left - beam_width - n_restarts, (allowance.left - 1) // 2))
    counts = np.asarray(counts, dtype=np.int64)
    rng = rng or np.random.default_rng(0)
    added = add_atoms(evaluator, counts, beam_width=beam_width, allowance=inner, rng=rng)
    chosen = _random_labelings(evaluator, counts, n_restarts, rng)
    visited: set[bytes] = set()
    descents = [
        descend(evaluator, row, allowance=inner, visited=visited, n_neighbours=4 * max_results)
        for row in np.concatenate([added, chosen])
    ]
    allowance.used += inner.used
    labels, energies = _energies_of(evaluator, [d for d in descents if d.is_new], allowance)
    images = _distinct_first(labels, energies, evaluator)
    return SearchResult(
        labels[images[:max_results]], energies[images[:max_results]], allowance.used
    )


def default_restarts(beam_width: int) -> int:
    """Return the number of random starts that go with a beam.

    Measured on rugged random potentials, 16 sites: two restarts find what a beam of one misses
    with fewer evaluations than a beam of eight needs to come close.
    """
    return 1 + beam_width // 2


def _random_labelings(
    evaluator: LatticeEvaluator, counts: npt.NDArray[np.int64], n: int, rng: np.random.Generator
) -> npt.NDArray[np.int8]:
    """Return `n` complete labelings, (n, n_sites); none where there is no choice."""
    supercell = evaluator.supercell
    empty = fill_forced(
        _undecided_cell(supercell.n_sites, counts, supercell.allowed), counts, supercell.allowed
    )
    n = n if np.any(empty == UNDECIDED) else 0
    rows = [complete_at_random(empty[0], counts, supercell.allowed, rng) for _ in range(n)]
    return np.array(rows, dtype=np.int8).reshape(n, supercell.n_sites)


def _energies_of(
    evaluator: LatticeEvaluator, descents: list[Descent], allowance: Allowance
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
    """Return labels and energies per site of the ends of descents and of their neighbours."""
    n_sites = evaluator.supercell.n_sites
    descents = descents[: int(min(len(descents), allowance.left))]
    allowance.take(len(descents))
    labels = [np.zeros((0, n_sites), dtype=np.int8)]
    energies = [np.zeros(0)]
    if descents:
        ends = np.array([descent.labels for descent in descents])
        for descent, energy in zip(descents, evaluator.energies(ends), strict=True):
            labels += [descent.labels[None], descent.neighbours]
            energies += [np.array([energy]), energy + descent.changes / n_sites]
    return np.concatenate(labels), np.concatenate(energies)


def _distinct_first(
    labels: npt.NDArray[np.int8], energies: npt.NDArray[np.float64], evaluator: LatticeEvaluator
) -> npt.NDArray[np.intp]:
    """Return the rows that are no image of another, lowest energy first, ties by labels."""
    images = smallest_images(labels, evaluator.supercell.site_permutations)
    first = first_of_each(images)
    order = np.argsort(np.round(energies[first], ENERGY_DECIMALS), kind="stable")
    return np.asarray(first[order], dtype=np.intp)
