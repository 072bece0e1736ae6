"""Partial cells: labelings of fixed composition in which some sites are still undecided."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.lattice import smallest_images

if TYPE_CHECKING:
    import numpy.typing as npt

UNDECIDED = -1
"""The label of a site whose species is still open."""

BALANCE_TOLERANCE = 1e-12
"""Largest error, in atoms, of the composition of balanced mean-field occupations."""

BALANCE_ITERATIONS = 200
"""Overlapping sublattices balance geometrically; where species are forced only as 1/iterations,
and a guide for the search needs no more than a few digits there."""

FORCED_OCCUPATION = 1.0 - 1e-9
"""Occupation above which no other completion than this species exists."""


def remaining_counts(
    labels: npt.NDArray[np.int8], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the atoms of each species still to be placed, (n, n_species).

    Parameters
    ----------
    labels
        (n, n_sites), `UNDECIDED` where open.
    counts
        (n_species,) of the complete cell.
    """
    species = np.arange(len(counts))
    return np.asarray(counts - (labels[:, :, None] == species).sum(axis=1), dtype=np.int64)


def fits_sites(
    remaining: npt.NDArray[np.int64], is_open: npt.NDArray[np.bool_], allowed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return which rows, (n,), of atoms can be placed on their open sites, one each.

    Hall's marriage theorem (J. London Math. Soc. 10, 26 (1935)): exactly if for each set of
    species there are no more atoms than open sites that allow one of them.

    Parameters
    ----------
    remaining
        (n, n_species) atoms to place; row sums equal the numbers of open sites.
    is_open
        (n, n_sites).
    allowed
        (n_sites, n_species).
    """
    fits = (remaining >= 0).all(axis=1) & (remaining.sum(axis=1) == is_open.sum(axis=1))
    if allowed.all():  # then no set of species has fewer sites than all have
        return np.asarray(fits)
    subsets = np.array(list(product((0, 1), repeat=allowed.shape[1])), dtype=np.int64)
    touches = (allowed.astype(np.int64) @ subsets.T > 0).astype(np.int64)
    capacity = is_open.astype(np.int64) @ touches
    return np.asarray(fits & np.all(remaining @ subsets.T <= capacity, axis=1))


def is_feasible(
    labels: npt.NDArray[np.int8], counts: npt.NDArray[np.int64], allowed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return which partial cells, (n,), can be completed to `counts` on allowed sites.

    Parameters
    ----------
    labels
        (n, n_sites), `UNDECIDED` where open.
    counts
        (n_species,) of the complete cell.
    allowed
        (n_sites, n_species).
    """
    return fits_sites(remaining_counts(labels, counts), labels == UNDECIDED, allowed)


def mean_field_occupations(
    labels: npt.NDArray[np.int8], counts: npt.NDArray[np.int64], allowed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return the expected occupations, (n, n_sites, n_species), of partial cells.

    A decided site holds its species. The atoms that remain are spread evenly over the undecided
    sites; where these differ in what they allow, the occupations are those of largest entropy,
    by iterative proportional fitting (Deming & Stephan, Ann. Math. Stat. 11, 427 (1940)).

    Parameters
    ----------
    labels
        (n, n_sites), `UNDECIDED` where open; each row feasible.
    counts
        (n_species,) of the complete cell.
    allowed
        (n_sites, n_species).
    """
    occupations = (labels[:, :, None] == np.arange(len(counts))).astype(np.float64)
    is_open = labels == UNDECIDED
    kinds, kind_of_site = _site_kinds(allowed.tobytes(), allowed.shape)
    n_open = is_open.astype(np.float64) @ (kind_of_site[:, None] == np.arange(len(kinds)))
    remaining = counts - occupations.sum(axis=1)
    if np.count_nonzero(n_open.any(axis=0)) == 1:
        # One kind of open sites, the common case: nothing to balance.
        per_kind = _ratio(remaining, n_open.sum(axis=1, keepdims=True))[:, None]
        return np.where(is_open[:, :, None], per_kind, occupations)
    per_kind = _ratio(_balanced(n_open, remaining, kinds), n_open[:, :, None])
    return np.where(is_open[:, :, None], per_kind[:, kind_of_site], occupations)


@lru_cache(maxsize=16)
def _site_kinds(
    allowed: bytes, shape: tuple[int, int]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """Return the different rows of `allowed`, (n_kinds, n_species), and which each site has.

    The latter is (n_sites,).
    """
    rows = np.frombuffer(allowed, dtype=np.bool_).reshape(shape)
    kinds, kind_of_site = np.unique(rows, axis=0, return_inverse=True)
    return kinds, kind_of_site.reshape(-1)


def _balanced(
    n_open: npt.NDArray[np.float64],
    remaining: npt.NDArray[np.float64],
    kinds: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Return atoms of each species on the open sites of each kind, (n, n_kinds, n_species).

    Rows and columns are scaled in turn until both sums are met (iterative proportional fitting;
    Deming & Stephan, Ann. Math. Stat. 11, 427 (1940)).

    Parameters
    ----------
    n_open
        (n, n_kinds): open sites of each kind.
    remaining
        (n, n_species): atoms still to be placed.
    kinds
        (n_kinds, n_species): which species each kind may have.
    """
    shares = np.where(kinds, 1.0, 0.0) * (n_open > 0.0)[:, :, None]
    for _ in range(BALANCE_ITERATIONS):
        shares = shares * _ratio(remaining, shares.sum(axis=1))[:, None, :]
        shares = shares * _ratio(n_open, shares.sum(axis=2))[:, :, None]
        if np.abs(shares.sum(axis=1) - remaining).max(initial=0.0) < BALANCE_TOLERANCE:
            break
    return np.asarray(shares)


def _ratio(
    numerator: npt.NDArray[np.float64], denominator: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Divide arrays of shapes that fit; zero where the denominator is zero."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.divide(numerator, denominator, out=np.zeros(shape), where=denominator > 0.0)


def fill_forced(
    labels: npt.NDArray[np.int8], counts: npt.NDArray[np.int64], allowed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int8]:
    """Return the partial cells, (n, n_sites), with all sites decided that have no choice left.

    Parameters
    ----------
    labels
        (n, n_sites), `UNDECIDED` where open; each row feasible.
    counts
        (n_species,) of the complete cell.
    allowed
        (n_sites, n_species).
    """
    occupations = mean_field_occupations(labels, counts, allowed)
    forced = (labels == UNDECIDED) & (occupations.max(axis=2) > FORCED_OCCUPATION)
    return np.where(forced, occupations.argmax(axis=2), labels).astype(np.int8)


def children(
    labels: npt.NDArray[np.int8], counts: npt.NDArray[np.int64], allowed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int8]:
    """Return the partial cells, (m, n_sites), that decide one more site than those of `labels`.

    Every undecided site with every species that remains and may stand there, if the rest can
    still be completed; sites left without a choice by that are decided too.

    Parameters
    ----------
    labels
        (n, n_sites), `UNDECIDED` where open; each row feasible.
    counts
        (n_species,) of the complete cell.
    allowed
        (n_sites, n_species).
    """
    remaining = remaining_counts(labels, counts)
    possible = (labels == UNDECIDED)[:, :, None] & allowed & (remaining > 0)[:, None, :]
    rows, sites, species = np.nonzero(possible)
    result = labels[rows]
    result[np.arange(len(rows)), sites] = species
    if not _open_sites_agree(labels, allowed):
        return fill_forced(result[is_feasible(result, counts, allowed)], counts, allowed)
    # Any atoms fit then, and what has no choice left are the last atoms of one species.
    left = remaining[rows]
    left[np.arange(len(rows)), species] -= 1
    last = np.count_nonzero(left, axis=1) == 1
    fill = np.where(last, left.argmax(axis=1), UNDECIDED).astype(np.int8)
    return np.where(result == UNDECIDED, fill[:, None], result)


def _open_sites_agree(labels: npt.NDArray[np.int8], allowed: npt.NDArray[np.bool_]) -> bool:
    """Return whether all undecided sites of partial cells, (n, n_sites), allow the same species."""
    rows = allowed[(labels == UNDECIDED).any(axis=0)]
    return bool((rows == rows[:1]).all())


def distinct(
    labels: npt.NDArray[np.int8], permutations: npt.NDArray[np.intp]
) -> npt.NDArray[np.int8]:
    """Return one representative of each class of equivalent rows, in a fixed order.

    Parameters
    ----------
    labels
        (n, n_sites), complete or partial.
    permutations
        (n_perms, n_sites), the symmetry group of the cell.
    """
    # Rows that are the same to begin with need no search for their smallest image.
    rows = np.ascontiguousarray(labels[first_of_each(labels)])
    images: npt.NDArray[np.int8] = smallest_images(rows, permutations)
    return images[first_of_each(images)]


def first_of_each(labels: npt.NDArray[np.int8]) -> npt.NDArray[np.intp]:
    """Return where each different row of `labels`, (n, n_sites), comes first, ordered by row."""
    # Rows as opaque bytes sort many times faster than by np.unique along an axis.
    rows = np.ascontiguousarray(labels).view(np.dtype((np.void, labels.shape[1]))).reshape(-1)
    return np.asarray(np.unique(rows, return_index=True)[1])


def complete_at_random(
    labels: npt.NDArray[np.int8],
    counts: npt.NDArray[np.int64],
    allowed: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> npt.NDArray[np.int8]:
    """Return one complete labeling, (n_sites,), that agrees with the partial one.

    Parameters
    ----------
    labels
        (n_sites,), `UNDECIDED` where open; feasible.
    counts
        (n_species,) of the complete cell.
    allowed
        (n_sites, n_species).
    rng
        Source of the choice.
    """
    result = np.array(labels, dtype=np.int8)[None]
    if _open_sites_agree(result, allowed):
        atoms = np.repeat(
            np.arange(len(counts), dtype=np.int8), remaining_counts(result, counts)[0]
        )
        result[result == UNDECIDED] = rng.permutation(atoms)
        return np.asarray(result[0])
    for site in rng.permutation(np.flatnonzero(labels == UNDECIDED)):
        remaining = remaining_counts(result, counts)[0]
        # Drawing in proportion to what remains makes all completions equally likely
        # wherever the sites allow the same species.
        options = np.flatnonzero(allowed[site] & (remaining > 0))
        trials = np.repeat(result, len(options), axis=0)
        trials[:, site] = options
        fits = is_feasible(trials, counts, allowed)
        weights = remaining[options] * fits
        result = trials[[rng.choice(len(options), p=weights / weights.sum())]]
    return np.asarray(result[0])


def random_labeling(
    allowed: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.int8]:
    """Return a random complete labeling, (n_sites,), with these counts.

    Parameters
    ----------
    allowed
        (n_sites, n_species).
    counts
        (n_species,); feasible.
    rng
        Source of the choice.
    """
    if allowed.all():
        return rng.permutation(np.repeat(np.arange(len(counts), dtype=np.int8), counts))
    empty = fill_forced(undecided_cell(counts, allowed), counts, allowed)
    return complete_at_random(empty[0], counts, allowed, rng)


def undecided_cell(
    counts: npt.NDArray[np.int64], allowed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int8]:
    """Return one partial cell, (1, n_sites), without any decision.

    Raises
    ------
    InputError
        No labeling has these counts.
    """
    cell = np.full((1, len(allowed)), UNDECIDED, dtype=np.int8)
    if not is_feasible(cell, counts, allowed)[0]:
        raise InputError(
            f"no labeling of this cell of {len(allowed)} sites has the species counts "
            f"{tuple(int(n) for n in counts)}: give counts that its sites allow"
        )
    return cell


def has_choice(counts: npt.NDArray[np.int64], allowed: npt.NDArray[np.bool_]) -> bool:
    """Tell whether more than one labeling has these counts, (n_species,).

    `allowed` are (n_sites, n_species).
    """
    if allowed.all():
        return bool(np.count_nonzero(counts) > 1)
    return bool((fill_forced(undecided_cell(counts, allowed), counts, allowed) == UNDECIDED).any())
