"""How the work of an enumeration is dealt out to ranks, with no communication."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latticesearch.parallel import Communicator

SPLIT_DEPTH = 0.6
"""Part of the sites above the branches that are dealt out when one supercell is split.

Measured on cells of 8 to 32 sites and four ranks: the largest share is 1.02 to 1.10 of the mean;
half the depth gives 1.05 to 1.19, 0.7 costs more in branches that every rank walks through."""

LARGEST_WHOLE = 0.125
"""A superlattice with more than this part of a rank's share is split among all ranks."""

SMALLEST_SPLIT = 100
"""Fewer labelings than this are not worth setting up a supercell on every rank."""

SETUP = 200
"""Time to set up a supercell in labelings found in the meantime."""


class Share(NamedTuple):
    """The part of one supercell's tree that a rank walks through.

    Attributes
    ----------
    depth : int
        Number of sites above the branches that are dealt out; 1 at least.
    size, rank : int
        Number of ranks, and this one.
    """

    depth: int
    size: int
    rank: int


WHOLE = Share(1, 1, 0)


def shares(numbers: Sequence[int], sites: Sequence[int], comm: Communicator) -> list[Share | None]:
    """Return this rank's share of each supercell; None for those that other ranks have.

    Every rank computes the same distribution: large supercells are split, the others go to the
    rank that has least so far, largest first.

    Parameters
    ----------
    numbers : sequence of int
        Exact number of labelings of each supercell.
    sites : sequence of int
        Number of sites with a choice of each supercell.
    comm : Communicator
    """
    if comm.size == 1:
        return [WHOLE] * len(numbers)
    limit = max(SMALLEST_SPLIT, LARGEST_WHOLE * sum(numbers) / comm.size)
    result: list[Share | None] = [None] * len(numbers)
    loads = [0] * comm.size
    for item in sorted(range(len(numbers)), key=lambda i: (-numbers[i], i)):
        if numbers[item] > limit and sites[item] > 1:
            depth = max(1, int(SPLIT_DEPTH * sites[item]))
            result[item] = Share(depth, comm.size, comm.rank)
            continue
        owner = loads.index(min(loads))
        loads[owner] += numbers[item] + SETUP
        if owner == comm.rank:
            result[item] = WHOLE
    return result
