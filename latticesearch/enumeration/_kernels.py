"""The compiled tree search for labelings that are smallest among their images."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba

if TYPE_CHECKING:
    import numpy as np


class Tree(NamedTuple):
    """What is fixed during the search of one supercell.

    Attributes
    ----------
    allowed : (n_sites, n_species) bool
    permutations : (n_perms, n_sites) int64
        The group; row 0 is the identity.
    is_translation : (n_perms,) bool
        True for the translations other than the identity.
    smallest, largest : (n_species,) int64
        Bounds on the number of sites that hold each species.
    capacity : (n_sites + 1, n_species) int64
        ``capacity[m, s]`` of the sites m, m + 1, ... allow species s.
    share : (3,) int64
        Depth at which the tree is split among ranks, number of ranks, this rank.
    keep_superperiodic : bool
        Keep labelings that a translation leaves unchanged.
    """

    allowed: np.ndarray
    permutations: np.ndarray
    is_translation: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray
    capacity: np.ndarray
    share: np.ndarray
    keep_superperiodic: bool


class Cursor(NamedTuple):
    """Where the search stands; all arrays are updated in place.

    Attributes
    ----------
    position : (2,) int64
        Depth, -1 when the tree is exhausted, and number of nodes met at the depth of the split.
    labels : (n_sites,) int8
        Species of the sites up to the depth; -1 at the depth before its first species.
    counts : (n_species,) int64
        Number of decided sites that hold each species.
    n_active : (n_sites + 1,) int64
        Number of permutations that are still undecided before each depth.
    active, progress : (n_sites + 1, n_perms) int32
        These permutations, and the first site on which each is not yet known to agree.
    """

    position: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    n_active: np.ndarray
    active: np.ndarray
    progress: np.ndarray


@numba.njit(cache=True)
def next_labelings(tree: Tree, cursor: Cursor, found: np.ndarray) -> int:
    """Go on with the depth-first search until the output is full or the tree exhausted.

    Sites are decided in order, species in ascending order. A branch ends as soon as some
    permutation gives a smaller image whatever comes (orderly generation; compare Morgan, Hart &
    Forcade, Comput. Mater. Sci. 136, 144 (2017)), or the bounds on the counts cannot be met.

    Parameters
    ----------
    tree : Tree
    cursor : Cursor
        Updated in place; the next call continues.
    found : (batch_size, n_sites) int8
        Receives the labelings, in lexicographic order.

    Returns
    -------
    int
        Number of labelings written; fewer than `batch_size` when the tree is exhausted.
    """
    n_sites, n_species = tree.allowed.shape
    labels = cursor.labels
    counts = cursor.counts
    depth = cursor.position[0]
    n_found = 0
    while depth >= 0:
        species = labels[depth]
        if species >= 0:
            counts[species] -= 1
        species += 1
        while species < n_species and not (
            tree.allowed[depth, species] and counts[species] < tree.largest[species]
        ):
            species += 1
        if species == n_species:
            labels[depth] = -1
            depth -= 1
            continue
        labels[depth] = species
        counts[species] += 1
        decided = depth + 1
        if not _counts_possible(tree, counts, decided):
            continue
        if not _smallest_so_far(tree, cursor, decided):
            continue
        if decided == tree.share[0]:
            cursor.position[1] += 1
            if (cursor.position[1] - 1) % tree.share[1] != tree.share[2]:
                continue
        if decided < n_sites:
            depth = decided
            labels[depth] = -1
            continue
        if tree.keep_superperiodic or not _superperiodic(tree, cursor):
            for site in range(n_sites):
                found[n_found, site] = labels[site]
            n_found += 1
            if n_found == found.shape[0]:
                break
    cursor.position[0] = depth
    return n_found


@numba.njit(cache=True)
def _superperiodic(tree: Tree, cursor: Cursor) -> bool:
    """Tell whether a translation is among the permutations that leave a full labeling as it is."""
    n_sites = tree.allowed.shape[0]
    for k in range(cursor.n_active[n_sites]):
        if tree.is_translation[cursor.active[n_sites, k]]:
            return True
    return False


@numba.njit(cache=True)
def _counts_possible(tree: Tree, counts: np.ndarray, decided: int) -> bool:
    """Tell whether the undecided sites can still bring all counts within their bounds."""
    remaining = tree.allowed.shape[0] - decided
    missing = 0
    room = 0
    for s in range(len(counts)):
        free = tree.capacity[decided, s]
        if counts[s] + free < tree.smallest[s]:
            return False
        missing += max(0, tree.smallest[s] - counts[s])
        room += min(free, tree.largest[s] - counts[s])
    return bool(missing <= remaining and room >= remaining)


@numba.njit(cache=True)
def _smallest_so_far(tree: Tree, cursor: Cursor, decided: int) -> bool:
    """Tell whether no permutation makes the decided labels smaller; keep the undecided ones."""
    labels = cursor.labels
    before = decided - 1
    kept = 0
    for k in range(cursor.n_active[before]):
        p = cursor.active[before, k]
        site = cursor.progress[before, k]
        larger = False
        while site < decided:
            source = tree.permutations[p, site]
            if source >= decided:
                break
            if labels[source] < labels[site]:
                return False
            if labels[source] > labels[site]:
                larger = True
                break
            site += 1
        if not larger:
            cursor.active[decided, kept] = p
            cursor.progress[decided, kept] = site
            kept += 1
    cursor.n_active[decided] = kept
    return True
