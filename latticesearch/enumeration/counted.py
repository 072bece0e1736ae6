"""Supercells to decorate, each with the exact number of its labelings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from latticesearch.enumeration.counting import Counter
from latticesearch.enumeration.groups import ActiveGroup
from latticesearch.enumeration.shares import WHOLE, Share
from latticesearch.enumeration.superlattices import chosen_supercells
from latticesearch.enumeration.tree import tree_of

if TYPE_CHECKING:
    from latticesearch.enumeration._tree_kernels import LabelingTree
    from latticesearch.enumeration.restrictions import Restrictions
    from latticesearch.lattice import ParentLattice, Supercell

HELD = 2**22
"""Entries of the permutations that one enumeration holds from counting on: 64 MB with all that
belongs to them. Groups beyond are made again, which takes far less time than their labelings."""

SMALL = 2**14
"""Entries, sites times operations, of the permutations of a supercell that is small: all of up to
16 sites on bcc or fcc. Where potential after potential is asked about the same small cells,
counting would take longer than the energies."""

SMALL_KEPT = 512
"""Small supercells kept: all of bcc or fcc up to 16 sites; at most 16 bytes per entry, 128 MB."""


@dataclass(frozen=True, eq=False)
class CountedSupercell:
    """One supercell, with what is asked of it and the exact number of labelings.

    Attributes
    ----------
    group : ActiveGroup
        Its symmetry.
    counter : Counter
        What is asked.
    number : int
        Exact number of distinct labelings.
    """

    group: ActiveGroup
    counter: Counter
    number: int

    def tree(self, share: Share, *, many: bool) -> LabelingTree:
        """Return what is fixed during the search; see `tree_of`."""
        if share == WHOLE and many:
            return self._whole_tree
        return tree_of(self.group, self.counter, share, many=many)

    @cached_property
    def _whole_tree(self) -> LabelingTree:
        return tree_of(self.group, self.counter, WHOLE, many=True)


def counted_supercells(
    parent: ParentLattice, sizes: range, wanted: Restrictions, cells: list[Supercell] | None
) -> list[CountedSupercell]:
    """Count the labelings of all supercells of some sizes, or of given ones.

    Parameters
    ----------
    parent : ParentLattice
    sizes : range
        Numbers of primitive cells; that of `cells` if there are some.
    wanted : Restrictions
    cells : list of Supercell, optional
        Supercells of one size.
    """
    counted = []
    held = 0
    for index in sizes:
        every = cells or chosen_supercells(parent, index, None, layer_axis=wanted.layer_axis)
        for cell in every:
            entries = len(cell.point_operations) * cell.n_cells * cell.n_sites
            item = _small(cell, wanted) if entries <= SMALL else _counted(cell, wanted)
            held += entries
            counted.append(item if held < HELD else _let_go(item))
    return counted


def _counted(cell: Supercell, wanted: Restrictions) -> CountedSupercell:
    counter = _counter(cell.parent, cell.n_cells, wanted)
    group = ActiveGroup(cell)
    return CountedSupercell(group, counter, counter.number(group))


@lru_cache(maxsize=SMALL_KEPT)
def _small(cell: Supercell, wanted: Restrictions) -> CountedSupercell:
    return _counted(cell, wanted)


@lru_cache(maxsize=64)  # sizes at a time; next to nothing each
def _counter(parent: ParentLattice, n_cells: int, wanted: Restrictions) -> Counter:
    return Counter(parent, n_cells, wanted)


def _let_go(item: CountedSupercell) -> CountedSupercell:
    """Return the same with a group that holds no permutations yet."""
    return CountedSupercell(ActiveGroup(item.group.supercell), item.counter, item.number)
