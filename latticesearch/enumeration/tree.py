"""The tree of labelings of one supercell, as the compiled search walks through it.

A level is a site, a branch one of the species that it may hold; see `LabelingTree`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration._tree_kernels import TOGETHER, Cursor, LabelingTree

if TYPE_CHECKING:
    from latticesearch.enumeration.counting import Counter
    from latticesearch.enumeration.groups import ActiveGroup
    from latticesearch.enumeration.shares import Share


def tree_of(group: ActiveGroup, counter: Counter, share: Share, *, many: bool) -> LabelingTree:
    """Return what is fixed during the search of one supercell.

    Parameters
    ----------
    group : ActiveGroup
        Symmetry of the supercell.
    counter : Counter
        What is asked of its labelings.
    share : Share
        The branches that this rank follows.
    many : bool
        There is room for all labelings of the last sites at once.
    """
    supercell = group.supercell
    limits = counter.limits
    row = limits.row[supercell.basis_index[group.sites]]
    allowed = np.ascontiguousarray(supercell.allowed[group.sites])
    n_rows, n_species = limits.smallest.shape
    # capacity[:, m] and remaining[:, m] count the sites from m on, and the last ones none.
    belongs = (row == np.arange(n_rows)[:, None]) | (np.arange(n_rows) == 0)[:, None]
    capacity = np.zeros((n_rows, len(row) + 1, n_species), np.int64)
    capacity[:, :-1] = (belongs[:, ::-1, None] & allowed[::-1]).cumsum(axis=1)[:, ::-1]
    remaining = np.zeros((n_rows, len(row) + 1), np.int64)
    remaining[:, :-1] = belongs[:, ::-1].cumsum(axis=1)[:, ::-1]
    bounded = bool((limits.smallest > 0).any() or (limits.largest < capacity[:, 0]).any())
    exchange = bool((limits.previous >= 0).any())
    simple = not (bounded or exchange) and bool((allowed.sum(axis=1) == 2).all())
    # The tree must be deep enough to be split among ranks above the sites decided together.
    wide = max(2 * TOGETHER, share.depth + TOGETHER)
    return LabelingTree(
        allowed=allowed,
        lowest=allowed.argmax(axis=1).astype(np.int8),
        highest=(n_species - 1 - allowed[:, ::-1].argmax(axis=1)).astype(np.int8),
        sources=group.sources,
        shift=group.shift,
        is_translation=group.is_translation,
        row=row,
        smallest=limits.smallest,
        largest=limits.largest,
        capacity=capacity,
        remaining=remaining,
        bounded=bounded,
        previous=limits.previous,
        first=limits.first,
        exchange=exchange,
        share=np.array(share, dtype=np.int64),
        keep_superperiodic=counter.wanted.superperiodic,
        together=TOGETHER if simple and many and len(row) >= wide else 0,
    )


def start_of(tree: LabelingTree, group: ActiveGroup) -> Cursor:
    """Return the cursor at the root."""
    waiting, numbers = group.waiting
    n_sites = len(group.sites)
    n_waiting = np.zeros((n_sites + 1, n_sites), np.int32)
    n_waiting[0] = numbers
    return Cursor(
        position=np.zeros(2, np.int64),
        labels=np.full(n_sites, -1, np.int8),
        counts=np.zeros_like(tree.smallest),
        waiting=waiting.copy(),
        n_waiting=n_waiting,
    )
