"""The compiled count of cycles, which is all that Burnside's lemma needs of a symmetry group.

A permutation of the sites leaves as many labelings unchanged as there are ways to give each of its
cycles one species, so only the number of cycles of each kind of sites and length matters (Polya's
cycle index). A group of hundreds of permutations has a few tens of such types; sums over types with
their numbers replace sums over the group.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def cycle_types(
    group: tuple[np.ndarray, int],
    block: np.ndarray,
    kind: np.ndarray,
    types: np.ndarray,
    numbers: np.ndarray,
) -> int:
    """Sort permutations by the cycles in which they move blocks of sites.

    Where a permutation does not map blocks to blocks, they are joined until it does.

    Parameters
    ----------
    group : (n_perms * 2**shift,) int16, and shift
        Permutations; see `LabelingTree`.
    block : (n_sites,) int64
        Block of each site, numbered from 0: its orbit under a group of translations.
    kind : (n_sites,) int64
        Kind of each site; permutations and blocks keep kinds.
    types : (n, n_kinds, n_blocks + 1) int32, zeros
        Receives the number of cycles of each kind and length in blocks; ``types[:, 0, 0]`` is
        the number of sites per joined block. No two types agree.
    numbers : (n,) int64, zeros
        Receives the number of permutations of each type.

    Returns
    -------
    int
        Number of types; n if there was no room for one of them.
    """
    sources, shift = group
    n_sites = len(block)
    room, _, n_lengths = types.shape
    target = np.empty(n_lengths, np.int64)
    kind_of = np.empty(n_lengths, np.int64)
    joined = np.empty_like(block)
    n_types = 0
    for p in range(len(sources) >> shift):
        if n_types == room:
            break
        _follow_blocks(sources[p << shift :], block, kind, (joined, target, kind_of))
        _count_cycles(target, kind_of, types[n_types])
        types[n_types, 0, 0] = n_sites // types[n_types, 0, 0]
        # The type is written behind the known ones and stays there only if it is a new one: the
        # search below ends at the latest where it is compared with itself.
        match = 0
        while not _same(types, match, n_types):
            match += 1
        numbers[match] += 1
        n_types = max(n_types, match + 1)
    return n_types


@numba.njit(cache=True)
def _follow_blocks(
    sources: np.ndarray,
    block: np.ndarray,
    kind: np.ndarray,
    result: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Find where one permutation moves blocks of sites, joined until it maps blocks to blocks.

    Labelings with given periods are constant on blocks, the orbits of these translations. Where
    the permutation tears one apart, the pieces' targets must hold the same species as well.

    Parameters
    ----------
    sources : (n_sites or more,) int16
    block, kind : (n_sites,) int64
        See `cycle_types`.
    result : (n_sites,), (n_blocks + 1,) and (n_blocks + 1,) int64
        Receive the joined block of each site, the block that each block goes to, -1 for those that
        were joined to another one, and its kind.
    """
    joined, target, kind_of = result
    joined[:] = block
    target[:] = -1
    site = 0
    while site < len(block):
        here = joined[site]
        there = joined[sources[site]]
        kind_of[here] = kind[site]
        other = target[here]
        target[here] = there
        site += 1
        if other >= 0 and other != there:
            # The block goes to two blocks: join these, and look at all sites once more. Blocks get
            # fewer each time, so this ends.
            for k in range(len(block)):
                if joined[k] == other:
                    joined[k] = there
            target[:] = -1
            site = 0


@numba.njit(cache=True)
def _count_cycles(target: np.ndarray, kind_of: np.ndarray, cycles: np.ndarray) -> None:
    """Count the cycles of a permutation of blocks by kind and length.

    Parameters
    ----------
    target : (n,) int64
        The block that each block goes to, -1 for none; all -1 afterwards.
    kind_of : (n,) int64
    cycles : (n_kinds, n) int32
        Receives the numbers of cycles, and in ``cycles[0, 0]`` the number of blocks.
    """
    cycles[:] = 0
    for start in range(len(target)):
        length = 0
        at = start
        # Each cycle is followed once: blocks that are done have no target any more.
        while target[at] >= 0:
            following = target[at]
            target[at] = -1
            at = following
            length += 1
        if length:
            cycles[kind_of[start], length] += 1
            cycles[0, 0] += length


@numba.njit(cache=True)
def _same(types: np.ndarray, one: int, other: int) -> bool:
    """Tell whether two tables are equal."""
    for i in range(types.shape[1]):
        for j in range(types.shape[2]):
            if types[one, i, j] != types[other, i, j]:
                return False
    return True
