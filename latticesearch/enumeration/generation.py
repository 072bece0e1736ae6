"""All symmetrically distinct labelings, in lazy batches of bounded size.

Hart & Forcade, Phys. Rev. B 77, 224115 (2008) and 80, 014120 (2009); Hart, Nelson & Forcade,
Comput. Mater. Sci. 59, 101 (2012) for fixed concentrations. Concentrations and site restrictions
prune the search; nothing is made and then thrown away but superperiodic labelings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration._tree_kernels import TOGETHER, next_labelings
from latticesearch.enumeration.counted import counted_supercells
from latticesearch.enumeration.groups import ActiveGroup
from latticesearch.enumeration.restrictions import Restrictions, require_possible, whole_number
from latticesearch.enumeration.shares import Share, shares
from latticesearch.enumeration.superlattices import LARGEST_INDEX
from latticesearch.enumeration.tree import start_of
from latticesearch.errors import InputError
from latticesearch.lattice import Labelings, Supercell
from latticesearch.parallel import SerialComm
from latticesearch.progress import NoProgress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    import numpy.typing as npt

    from latticesearch.enumeration.counted import CountedSupercell
    from latticesearch.enumeration.restrictions import Composition, Rules
    from latticesearch.lattice import ParentLattice
    from latticesearch.parallel import Communicator
    from latticesearch.progress import Progress


def enumerate_labelings(
    parent: ParentLattice,
    min_index: int = 1,
    max_index: int | None = None,
    composition: Composition | None = None,
    *,
    supercell: Supercell | npt.ArrayLike | None = None,
    comm: Communicator | None = None,
    batch_size: int = 10_000,
    progress: Progress | None = None,
    **rules: Unpack[Rules],
) -> Iterator[Labelings]:
    """Yield all symmetrically distinct labelings, each once.

    Parameters
    ----------
    parent : ParentLattice
    min_index, max_index : int
        Range of supercell sizes in primitive cells, both included.
    composition : mapping of str to float or (low, high), optional
        Site fractions, exact or a range; fractions refer to all sites, vacancies included.
    supercell : Supercell or integer matrix, optional
        The labelings of this supercell instead of all of some sizes.
    comm : Communicator, optional
        Each rank yields its own share: whole superlattices, or branches of the tree of a large
        one. The union is the same for any number of ranks. There is no communication but at the
        end, where the numbers found are compared; a rank that stops early takes part in that
        when its iterator is closed (in a for loop that is left, at once), and waits there for
        the others. So all ranks should go through their iterators, to the end or not.
    batch_size : int
        Most labelings in one batch.
    progress : Progress, optional
        Is told the exact number of labelings of all ranks before the first one is made, and how
        many are ready: on several ranks an estimate from this rank's share.
    **rules
        superperiodic, sublattices, complete, exchange and layer_axis; see `Restrictions`.

    Yields
    ------
    Labelings
        Of one supercell each; every labeling is the smallest of its equivalent ones, and for
        sizes without a given supercell the superlattice is canonical, too. Within a supercell
        they come in lexicographic order, which is found fastest where the most frequent species
        of a dilute composition is the last one of the parent.

    Raises
    ------
    InputError
        Malformed sizes or composition, or a composition that no supercell can have.
    RuntimeError
        At the end, on all ranks, if the number of labelings of some supercell is not the one
        that Burnside's lemma gives; this would be a mistake in this package.
    """
    comm = comm or SerialComm()
    if whole_number("batch_size", batch_size) < 1:
        raise InputError(f"batch_size is 1 or more; got {batch_size}")
    wanted = Restrictions(composition, **rules)
    if supercell is not None:
        if not isinstance(supercell, Supercell):
            supercell = Supercell.from_matrix(parent, supercell)
        ActiveGroup(supercell)  # refuses what is too large before anything is yielded
        sizes = range(supercell.n_cells, supercell.n_cells + 1)
    else:
        sizes = _sizes(min_index, max_index)
    require_possible(parent, sizes, wanted)
    cells = None if supercell is None else [supercell]
    return _labelings(parent, sizes, wanted, cells, batch_size, (comm, progress or NoProgress()))


def _sizes(min_index: int, max_index: int | None) -> range:
    """Return the sizes from the smallest to the largest.

    Raises
    ------
    InputError
        There are none.
    """
    smallest = whole_number("min_index", min_index)
    largest = 0 if max_index is None else whole_number("max_index", max_index)
    if not 1 <= smallest <= largest <= LARGEST_INDEX:
        raise InputError(
            f"supercell sizes run from min_index = {min_index} to max_index = {max_index}; give "
            f"1 <= min_index <= max_index <= {LARGEST_INDEX}, or a supercell"
        )
    return range(smallest, largest + 1)


def _labelings(
    parent: ParentLattice,
    sizes: range,
    wanted: Restrictions,
    cells: list[Supercell] | None,
    batch_size: int,
    world: tuple[Communicator, Progress],
) -> Iterator[Labelings]:
    """Count, yield this rank's labelings, and compare; see `enumerate_labelings`."""
    comm, progress = world
    items = counted_supercells(parent, sizes, wanted, cells)
    parts = shares([item.number for item in items], [len(i.group.sites) for i in items], comm)
    total = sum(item.number for item in items)
    expected = sum(i.number / p.size for i, p in zip(items, parts, strict=True) if p)
    progress.start("enumeration", total)
    found = [0] * len(items)
    done = 0
    try:
        for k, (item, part) in enumerate(zip(items, parts, strict=True)):
            if part is None:
                continue
            for batch in _labelings_of(item, batch_size, part):
                found[k] += len(batch)
                done += len(batch)
                # Every rank is taken to be as far as this one.
                progress.advance(min(total, int(done / expected * total)) if expected else 0)
                yield batch
            if comm.size == 1:
                _check_number(item, found[k])
    except GeneratorExit:
        comm.allgather(None)
        raise
    finally:
        progress.finish()
    everywhere = comm.allgather(found)
    if all(numbers is not None for numbers in everywhere):
        for item, *numbers in zip(items, *everywhere, strict=True):
            _check_number(item, sum(numbers))


def _labelings_of(item: CountedSupercell, batch_size: int, share: Share) -> Iterator[Labelings]:
    """Yield the labelings of this rank's share of a supercell."""
    group = item.group
    supercell = group.supercell
    if not len(group.sites):
        if item.number:
            yield Labelings(supercell, supercell.allowed.argmax(axis=1)[None])
        return
    tree = item.tree(share, many=batch_size >= 1 << TOGETHER)
    cursor = start_of(tree, group)
    fixed = supercell.allowed.argmax(axis=1).astype(np.int8)
    rows = min(batch_size, item.number + (1 << TOGETHER))
    while cursor.position[0] >= 0:
        found = np.empty((rows, len(group.sites)), np.int8)
        n_found = next_labelings(tree, cursor, found)
        if len(group.sites) < supercell.n_sites:
            labels = np.tile(fixed, (n_found, 1))
            labels[:, group.sites] = found[:n_found]
        else:
            # A copy lets go of the unused part of a large buffer.
            labels = found[:n_found] if 2 * n_found > rows else found[:n_found].copy()
        if n_found:
            yield Labelings(supercell, labels)


def _check_number(item: CountedSupercell, found: int) -> None:
    """Compare the number of labelings found with the exact one.

    Raises
    ------
    RuntimeError
        They differ.
    """
    if found != item.number:
        supercell = item.group.supercell
        raise RuntimeError(
            f"internal error: found {found} labelings of the supercell {supercell.hnf.tolist()} "
            f"of {', '.join(supercell.parent.species)} on {supercell.parent.n_basis} site(s) per "
            f"primitive cell {supercell.parent.cell.tolist()}, but Burnside's lemma gives "
            f"{item.number}; please report this"
        )
