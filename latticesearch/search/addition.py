"""Greedy atom addition: decide site after site, judged by the mean-field energy of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.energies import cell_to_site
from latticesearch.search.partial import (
    UNDECIDED,
    children,
    complete_at_random,
    distinct,
    fill_forced,
    first_of_each,
    mean_field_occupations,
    random_labeling,
    undecided_cell,
)
from latticesearch.search.types import ENERGY_DECIMALS, SearchResult
from latticesearch.search.walk import Walk

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.protocol import Evaluator
    from latticesearch.search.types import Budget

    Labels = npt.NDArray[np.int8]
    Counts = npt.NDArray[np.int64]

BEAM_WIDTH = 8
"""Partial cells kept per level, and half as many random labelings that are improved beside them.
Measured on rugged random potentials, 16 sites: random ones find what a beam misses with fewer
energies than a wider beam needs."""


def add_atoms(
    evaluator: Evaluator,
    counts: Counts,
    *,
    beam_width: int,
    budget: Budget,
    rng: np.random.Generator,
) -> Labels:
    """Return the complete labelings, (n, n_sites), n <= beam_width, of a beam of partial cells.

    All undecided sites hold the composition that remains to be placed. At each level every
    partial cell of the beam decides one more site in every way; of all distinct results those of
    lowest mean-field energy make the next beam. Where the budget has not room for all of them, the
    levels that remain get equal parts of it, each for as many as that, drawn at random.

    Parameters
    ----------
    evaluator
        Energies of the cell.
    counts
        (n_species,) atoms of each species in the complete cell.
    beam_width
        Partial cells kept per level.
    budget
        Energies that may be asked for.
    rng
        Source of what has to be left out.

    Raises
    ------
    InputError
        No labeling of the cell has these counts.
    """
    supercell = evaluator.supercell
    allowed, permutations = supercell.allowed, supercell.site_permutations
    beam = fill_forced(undecided_cell(counts, allowed), counts, allowed)
    energies = np.zeros(1)
    while np.any(beam == UNDECIDED):
        is_open = np.any(beam == UNDECIDED, axis=1)
        fresh = children(beam[is_open], counts, allowed)
        # One partial cell has few children that are equivalent, once the first atoms are placed.
        fresh = distinct(fresh, permutations) if beam_width > 1 else fresh[first_of_each(fresh)]
        levels = int(np.count_nonzero(beam == UNDECIDED, axis=1).max())
        fresh = _affordable(fresh, evaluator.mean_field_cost, levels, budget, rng)
        if len(fresh) == 0:
            break
        occupations = mean_field_occupations(fresh, counts, allowed)
        fresh_energies = np.round(evaluator.mean_field_energies(occupations), ENERGY_DECIMALS)
        beam, energies = _lowest_distinct(
            np.concatenate([beam[~is_open], fresh]),
            np.concatenate([energies[~is_open], fresh_energies]),
            beam_width,
        )
    return np.array([complete_at_random(row, counts, allowed, rng) for row in beam])


def _affordable(
    fresh: Labels, cost: int, levels: int, budget: Budget, rng: np.random.Generator
) -> Labels:
    """Return and book the rows of `fresh`, (n, n_sites), that this level's part has room for."""
    n = int(min(budget.left / (levels * cost), len(fresh)))
    if n < len(fresh):
        fresh = fresh[np.sort(rng.choice(len(fresh), size=n, replace=False))]
    budget.take(n * cost)
    return fresh


def _lowest_distinct(
    labels: Labels, energies: npt.NDArray[np.float64], n: int
) -> tuple[Labels, npt.NDArray[np.float64]]:
    """Return the `n` lowest rows; equal energies are ordered by labels, equal rows come once.

    `labels` are (m, n_sites), `energies` (m,), eV per site.
    """
    first = first_of_each(labels)
    lowest = first[np.argsort(energies[first], kind="stable")[:n]]
    return labels[lowest], energies[lowest]


def search_by_addition(
    evaluator: Evaluator,
    counts: Counts,
    *,
    budget: Budget,
    rng: np.random.Generator,
    beam_width: int = BEAM_WIDTH,
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
    budget
        Energies that may be asked for; half of them for the addition.
    rng
        Source of the random labelings.
    beam_width
        Partial cells kept per level of the atom addition.

    Raises
    ------
    InputError
        No labeling of the cell has these counts.
    """
    part = budget.part((budget.left - 1) / 2)
    starts = add_atoms(evaluator, counts, beam_width=beam_width, budget=part, rng=rng)
    budget.used += part.used
    if len(starts) > 1 or np.count_nonzero(counts) > 1:
        allowed = evaluator.supercell.allowed
        others = [random_labeling(allowed, counts, rng) for _ in range(1 + beam_width // 2)]
        starts = np.concatenate([starts, others])
    state = rng.integers(2**63, size=1, dtype=np.uint64)
    found = []
    for number, start in enumerate(starts):
        if number and budget.left < 1:
            break  # one labeling is paid for always
        walk = Walk(evaluator, start, budget, state)
        found.append(walk.here())
        walk.descend(found[-1])
    energies = cell_to_site(np.array([best.energy[0] for best in found]), len(starts[0]))
    return SearchResult.of(np.array([best.labels for best in found]), energies, budget.used)
