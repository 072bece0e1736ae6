"""The compiled tree search for labelings that are smallest among their images.

Level m of the tree decides site m; a node is the labeling of the sites up to there, a leaf one
labeling. Morgan, Hart & Forcade, Comput. Mater. Sci. 136, 144 (2017), walk the same tree with the
stabilisers of partial labelings, one species after the other; here all species of a site are tried
in turn, and a permutation is compared as far as its sources are decided (orderly generation: Read,
Ann. Discrete Math. 2, 107 (1978)). Both cut whole branches, so the time goes with the number of
distinct labelings and not with that of all labelings.

Three things make it fast. Comparisons go on where they stopped, when the site is decided that they
wait for (`Cursor.waiting`), so no permutation is looked at twice for the same sites. Bounds on the
composition cut branches as soon as they cannot be met (Hart, Nelson & Forcade, Comput. Mater. Sci.
59, 101 (2012), list the labelings of one composition instead). And the last `TOGETHER` sites of a
binary are decided all at once, as the 64 bits of a word.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

# Sources are int16 and positions int32: the numbers of all waiting permutations at all depths are
# what memory is spent on, and the walk is as fast as they come out of the cache.

TOGETHER = 6
"""Sites of two species that are decided together: their 64 labelings are the bits of a word."""

_PATTERNS = (
    -0x100000000,
    -0xFFFF00010000,
    -0xFF00FF00FF0100,
    -0xF0F0F0F0F0F0F10,
    -0x3333333333333334,
    -0x5555555555555556,
)
"""Bit b of pattern j is the second species on the jth of these sites in labeling b.

The first of the sites is the highest digit of b, so that ascending bits are ascending labelings.
"""


class LabelingTree(NamedTuple):
    """What is fixed during the search of one supercell; sites without a choice are left out.

    Attributes
    ----------
    allowed : (n_sites, n_species) bool
    lowest, highest : (n_sites,) int8
        First and last of the allowed species.
    sources : (n_perms * 2**shift,) int16
        The group, one permutation per 2**shift numbers, each ended by -1.
    shift : int
    is_translation : (n_perms,) bool
        True for the translations other than the identity.
    row : (n_sites,) int64
        Row of the bounds that each site counts for besides row 0, which all sites count for.
    smallest, largest : (n_rows, n_species) int64
        Bounds on the number of sites that hold each species.
    capacity : (n_rows, n_sites + 1, n_species) int64
        ``capacity[r, m, s]`` of the sites m, m + 1, ... of row r allow species s.
    remaining : (n_rows, n_sites + 1) int64
        ``remaining[r, m]`` of the sites m, m + 1, ... belong to row r.
    bounded : bool
        Some bound excludes something.
    previous : (n_species,) int64
        The interchangeable species before each species; -1 for none. Of interchangeable species
        the first must appear first.
    first : (n_species,) int64
        The first of the species interchangeable with each; itself where none is.
    exchange : bool
        Some species are interchangeable.
    share : (3,) int64
        Depth at which the tree is split among ranks, number of ranks, this rank.
    keep_superperiodic : bool
        Keep labelings that a translation leaves unchanged.
    together : int
        Number of last sites that are decided all at once, 0 or `TOGETHER`; the latter needs two
        allowed species on every site, no bounds and no exchange.
    """

    allowed: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    sources: np.ndarray
    shift: int
    is_translation: np.ndarray
    row: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray
    capacity: np.ndarray
    remaining: np.ndarray
    bounded: bool
    previous: np.ndarray
    first: np.ndarray
    exchange: bool
    share: np.ndarray
    keep_superperiodic: bool
    together: int


class Cursor(NamedTuple):
    """Where the search stands; all arrays are updated in place.

    Attributes
    ----------
    position : (2,) int64
        Depth, -1 when the tree is exhausted, and number of nodes met at the depth of the split.
    labels : (n_sites,) int8
        Species of the sites up to the depth; -1 at the depth before its first species.
    counts : (n_rows, n_species) int64
        Number of decided sites that hold each species.
    waiting : (n_sites, n_perms) int32
        Permutations whose comparison goes on when a site is decided, as positions in
        ``LabelingTree.sources`` of the entry to compare next.
    n_waiting : (n_sites + 1, n_sites) int32
        How many wait for each site when so many sites are decided.
    """

    position: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    waiting: np.ndarray
    n_waiting: np.ndarray


@numba.njit(cache=True)
def next_labelings(tree: LabelingTree, cursor: Cursor, found: np.ndarray) -> int:
    """Go on with the depth-first search until the output is full or the tree exhausted.

    Sites are decided in order, species in ascending order. A branch ends as soon as some
    permutation gives a smaller image whatever comes (orderly generation; compare Morgan, Hart &
    Forcade, Comput. Mater. Sci. 136, 144 (2017)), or the bounds on the counts cannot be met.

    Parameters
    ----------
    tree : LabelingTree
    cursor : Cursor
        Updated in place; the next call continues.
    found : (batch_size, n_sites) int8
        Receives the labelings, in lexicographic order.

    Returns
    -------
    int
        Number of labelings written.
    """
    n_sites, n_species = tree.allowed.shape
    allowed, previous, labels = tree.allowed, tree.previous, cursor.labels
    tracked = tree.bounded or tree.exchange
    value = np.zeros(n_sites, np.int64)
    for k in range(tree.together):
        value[n_sites - TOGETHER + k] = _PATTERNS[k]
    # Every visit of the deepest level may write as many labelings as are decided together.
    room = found.shape[0] - (1 << tree.together) + 1
    depth = cursor.position[0]
    n_found = 0
    while depth >= 0:
        # Go on with the next species of this site, be it the first one (labels[depth] is -1 then)
        # or the one after what a whole branch has been seen for.
        species = labels[depth]
        if tracked and species >= 0:
            _count(cursor.counts, tree.row[depth], species, -1)
        species += 1
        while species < n_species and not allowed[depth, species]:
            species += 1
        labels[depth] = species
        if species == n_species:
            labels[depth] = -1
            depth -= 1
            continue
        if tracked:
            _count(cursor.counts, tree.row[depth], species, 1)
            # Of interchangeable species the first one in the list has to appear first.
            if previous[species] >= 0 and cursor.counts[0, previous[species]] == 0:
                continue
            if tree.bounded and not _counts_possible(
                tree, cursor.counts, tree.row[depth], depth + 1
            ):
                continue
        decided = depth + 1
        if not _still_smallest(tree, cursor, depth):
            continue
        # Every rank walks through the upper part of a split tree and counts the branches below it,
        # which come in the same order everywhere: no communication.
        if decided == tree.share[0]:
            cursor.position[1] += 1
            if _owner(cursor.position[1], tree.share[1]) != tree.share[2]:
                continue
        if decided == n_sites - tree.together:
            if tree.together:
                # A decided site has one species in all 64 labelings: all bits or none.
                for site in range(decided):
                    value[site] = -(labels[site] != tree.lowest[site])
                alive = _smallest_of_all(tree, cursor.waiting, cursor.n_waiting[decided], value)
                n_found = _write_all(tree, labels, alive, found, n_found)
            elif not tree.exchange or _smallest_of_exchanged(tree, labels):
                for site in range(n_sites):
                    found[n_found, site] = labels[site]
                n_found += 1
            if n_found >= room:
                break
            continue
        depth = decided
    cursor.position[0] = depth
    return n_found


@numba.njit(cache=True)
def _still_smallest(tree: LabelingTree, cursor: Cursor, depth: int) -> bool:
    """Tell whether no permutation gives a smaller image whatever follows the site just decided.

    A permutation is looked at only when the site is decided that its comparison waits for. What it
    waits for next is noted beyond the numbers of the parent node, which stay valid for the next
    species of this site.
    """
    sources, shift = tree.sources, tree.shift
    labels, waiting, n_waiting = cursor.labels, cursor.waiting, cursor.n_waiting
    last = (1 << shift) - 1
    decided = depth + 1
    # The lists of this node begin with those of its parent, in the same memory; only their lengths
    # are copied. Going back up the tree costs nothing.
    for site in range(decided, len(labels)):
        n_waiting[decided, site] = n_waiting[depth, site]
    for k in range(n_waiting[depth, depth]):
        entry = waiting[depth, k]
        site = entry & last
        while True:
            source = sources[entry]
            if source < 0:
                # Compared to the end and never different: the permutation is a symmetry.
                if tree.is_translation[entry >> shift] and not tree.keep_superperiodic:
                    return False
                break
            # The image has labels[source] on this site: both must be decided to be compared.
            latest = max(source, site)
            if latest > depth:
                waiting[latest, n_waiting[decided, latest]] = entry
                n_waiting[decided, latest] += 1
                break
            new = labels[source]
            old = labels[site]
            if new < old:
                return False
            if new > old:
                break
            entry += 1
            site += 1
    return True


@numba.njit(cache=True)
def _owner(branch: int, n_ranks: int) -> int:
    """Return the rank that has a branch of a split tree: an even, fixed, pattern-free choice.

    Branches dealt in turn would give one rank all those that end with the first species, which
    are the larger ones. Multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4).
    """
    # 2^64 divided by the golden ratio, as a signed number; the upper bits are the mixed ones.
    mixed = branch * -7046029254386353131
    return ((mixed ^ (mixed >> 32)) & 0x7FFFFFFF) % n_ranks


@numba.njit(cache=True)
def _count(counts: np.ndarray, row: int, species: int, change: int) -> None:
    """Count one more (`change` 1) or one less (-1) site that holds a species, in all its rows."""
    counts[0, species] += change
    if row:
        counts[row, species] += change


@numba.njit(cache=True)
def _counts_possible(
    tree: LabelingTree, counts: np.ndarray, row_of_site: int, decided: int
) -> bool:
    """Tell whether the undecided sites can still bring all counts within their bounds.

    Each species can get what it lacks, what is lacking together is not more than there are sites,
    and the species together can take them all: necessary, and for one row of sites that allow the
    same species sufficient.

    Parameters
    ----------
    tree : LabelingTree
    counts : (n_rows, n_species) int64
        Decided sites that hold each species.
    row_of_site : int
        Row of the site just decided, which is checked besides row 0; other rows did not change.
    decided : int
        Number of decided sites.
    """
    for row in (0, row_of_site):
        remaining = tree.remaining[row, decided]
        missing = 0
        room = 0
        for s in range(counts.shape[1]):
            free = tree.capacity[row, decided, s]
            lacking = tree.smallest[row, s] - counts[row, s]
            left = tree.largest[row, s] - counts[row, s]
            if left < 0 or lacking > free:
                return False
            missing += max(0, lacking)
            room += min(free, left)
        if not missing <= remaining <= room:
            return False
    return True


@numba.njit(cache=True)
def _smallest_of_all(
    tree: LabelingTree, waiting: np.ndarray, n_waiting: np.ndarray, value: np.ndarray
) -> np.int64:
    """Tell which labelings of the last sites no permutation makes smaller.

    Parameters
    ----------
    tree : LabelingTree
    waiting : (n_sites, n_perms) int32
    n_waiting : (n_sites,) int32
        Permutations left to compare; see `Cursor`.
    value : (n_sites,) int64
        Bit b: the site holds the larger of its two species in labeling b.

    Returns
    -------
    int64
        Its bits are the answers.
    """
    n_sites = len(value)
    last = (1 << tree.shift) - 1
    alive = np.int64(-1)
    for latest in range(n_sites - TOGETHER, n_sites):
        for k in range(n_waiting[latest]):
            entry = waiting[latest, k]
            site = entry & last
            # Bits of the labelings for which image and labeling agree so far; a comparison ends
            # for each of them alone, and goes on while some are left.
            equal = alive
            while equal:
                source = tree.sources[entry]
                if source < 0:
                    if not tree.keep_superperiodic and tree.is_translation[entry >> tree.shift]:
                        alive &= ~equal
                    break
                # Where they differ, the image is smaller if this site holds the larger species.
                differ = (value[source] ^ value[site]) & equal
                alive &= ~(differ & value[site])
                equal &= ~differ
                entry += 1
                site += 1
            if alive == 0:
                return alive
    return alive


@numba.njit(cache=True)
def _write_all(
    tree: LabelingTree, labels: np.ndarray, alive: np.int64, found: np.ndarray, n_found: int
) -> int:
    """Write the labelings whose bit is set, in ascending order; return the new number."""
    n_sites = len(labels)
    decided = n_sites - TOGETHER
    # Eight bits at a time: most bits are 0, and an empty byte is skipped at once.
    for byte in range(8):
        bits = (alive >> (8 * byte)) & 255
        number = 8 * byte
        while bits:
            if bits & 1:
                for site in range(decided):
                    found[n_found, site] = labels[site]
                for k in range(TOGETHER):
                    second = (number >> (TOGETHER - 1 - k)) & 1
                    site = decided + k
                    found[n_found, site] = tree.highest[site] if second else tree.lowest[site]
                n_found += 1
            bits >>= 1
            number += 1
    return n_found


@numba.njit(cache=True)
def _smallest_of_exchanged(tree: LabelingTree, labels: np.ndarray) -> bool:
    """Tell whether no permutation with an exchange of interchangeable species is smaller.

    Parameters
    ----------
    tree : LabelingTree
    labels : (n_sites,) int8
        A leaf: which exchange is best shows only when the order of appearance is known.
    """
    n_species = len(tree.first)
    name = np.empty(n_species, np.int64)
    free = np.empty(n_species, np.int64)
    for p in range(len(tree.is_translation)):
        name[:] = -1
        free[:] = tree.first
        for site in range(len(labels)):
            species = labels[tree.sources[(p << tree.shift) + site]]
            if name[species] < 0:
                # The best exchange names interchangeable species in order of appearance.
                kind = tree.first[species]
                name[species] = free[kind]
                following = free[kind] + 1
                while following < n_species and tree.first[following] != kind:
                    following += 1
                free[kind] = following
            if name[species] < labels[site]:
                return False
            if name[species] > labels[site]:
                break
    return True
