"""All symmetrically distinct labelings, in lazy batches of bounded size.

Hart & Forcade, Phys. Rev. B 77, 224115 (2008) and 80, 014120 (2009); Hart, Nelson & Forcade,
Comput. Mater. Sci. 59, 101 (2012) for fixed concentrations. Concentrations and site restrictions
prune the search; nothing is made and then thrown away but superperiodic labelings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration._kernels import TOGETHER, Cursor, Tree, next_labelings
from latticesearch.enumeration.composition import Restrictions, require_possible
from latticesearch.enumeration.counting import Counter
from latticesearch.enumeration.groups import ActiveGroup
from latticesearch.enumeration.superlattices import superlattices
from latticesearch.errors import InputError
from latticesearch.lattice import Labelings, Supercell
from latticesearch.parallel import SerialComm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    import numpy.typing as npt

    from latticesearch.enumeration.composition import Composition, Rules
    from latticesearch.lattice import ParentLattice
    from latticesearch.parallel import Communicator


def enumerate_labelings(
    parent: ParentLattice,
    min_index: int = 1,
    max_index: int | None = None,
    composition: Composition | None = None,
    *,
    supercell: Supercell | npt.ArrayLike | None = None,
    comm: Communicator | None = None,
    batch_size: int = 10_000,
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
        Each rank yields its own share, without communication: whole superlattices in turn, or
        branches of the tree of one supercell. The union is the same for any number of ranks.
    batch_size : int
        Most labelings in one batch.
    **rules
        superperiodic, sublattices, complete, exchange and layer_axis; see `Restrictions`.

    Yields
    ------
    Labelings
        Of one supercell each; every labeling is the smallest of its equivalent ones, and for
        sizes without a given supercell the superlattice is canonical, too. Within a supercell
        they come in lexicographic order.

    Raises
    ------
    InputError
        Malformed sizes or composition, or a composition that no supercell can have.
    RuntimeError
        After a supercell whose number of labelings is not the one that Burnside's lemma gives;
        this would be a mistake in this package.
    """
    comm = comm or SerialComm()
    if batch_size < 1:
        raise InputError(f"batch_size is 1 or more; got {batch_size}")
    wanted = Restrictions(composition, **rules)
    if supercell is not None:
        if not isinstance(supercell, Supercell):
            supercell = Supercell.from_matrix(parent, supercell)
        require_possible(parent, [supercell.n_cells], wanted)
        counter = Counter(parent, supercell.n_cells, wanted)
        return _labelings_of(supercell, counter, batch_size, _tree_share(supercell, comm))
    if max_index is None or not 1 <= min_index <= max_index:
        raise InputError(
            f"supercell sizes run from min_index = {min_index} to max_index = {max_index}; give "
            "1 <= min_index <= max_index, or a supercell"
        )
    sizes = range(min_index, max_index + 1)
    require_possible(parent, sizes, wanted)
    return _labelings_of_sizes(parent, sizes, wanted, batch_size, comm)


_WHOLE_TREE = (1, 1, 0)
"""Share of a rank that has the whole tree: depth of the split, number of ranks, rank."""


def _tree_share(supercell: Supercell, comm: Communicator) -> tuple[int, int, int]:
    """Return a share that deals out the branches half-way down, many for each rank."""
    n_active = int(np.count_nonzero(supercell.parent.is_active)) * supercell.n_cells
    return max(1, n_active // 2), comm.size, comm.rank


def _labelings_of_sizes(
    parent: ParentLattice,
    sizes: range,
    wanted: Restrictions,
    batch_size: int,
    comm: Communicator,
) -> Iterator[Labelings]:
    item = 0
    for index in sizes:
        counter = Counter(parent, index, wanted)
        for form in superlattices(parent, index, layer_axis=wanted.layer_axis):
            if item % comm.size == comm.rank:
                supercell = Supercell.from_matrix(parent, form)
                yield from _labelings_of(supercell, counter, batch_size, _WHOLE_TREE)
            item += 1


def _labelings_of(
    supercell: Supercell, counter: Counter, batch_size: int, share: tuple[int, int, int]
) -> Iterator[Labelings]:
    group = ActiveGroup(supercell)
    if not len(group.sites):
        # The only labeling; a split tree has it on the first rank.
        if share[2] == 0 and counter.number(group):
            yield Labelings(supercell, supercell.allowed.argmax(axis=1)[None])
        return
    tree = _tree(group, counter, share, many=batch_size >= 1 << TOGETHER)
    cursor = _start(tree, group)
    fixed = supercell.allowed.argmax(axis=1).astype(np.int8)
    total = 0
    while cursor.position[0] >= 0:
        found = np.empty((batch_size, len(group.sites)), np.int8)
        n_found = next_labelings(tree, cursor, found)
        total += n_found
        if len(group.sites) < supercell.n_sites:
            labels = np.tile(fixed, (n_found, 1))
            labels[:, group.sites] = found[:n_found]
        else:
            # A copy lets go of the unused part of a large buffer.
            labels = found[:n_found] if 2 * n_found > batch_size else found[:n_found].copy()
        if n_found:
            yield Labelings(supercell, labels)
    if share[1] == 1:
        _check_number(group, counter, total)


def _check_number(group: ActiveGroup, counter: Counter, total: int) -> None:
    """Compare the number of labelings found with the exact one.

    Raises
    ------
    RuntimeError
        They differ.
    """
    expected = counter.number(group)
    if total != expected:
        supercell = group.supercell
        raise RuntimeError(
            f"internal error: found {total} labelings of the supercell {supercell.hnf.tolist()} "
            f"of {', '.join(supercell.parent.species)} on {supercell.parent.n_basis} site(s) per "
            f"primitive cell {supercell.parent.cell.tolist()}, but Burnside's lemma gives "
            f"{expected}; please report this"
        )


def _tree(group: ActiveGroup, counter: Counter, share: tuple[int, int, int], *, many: bool) -> Tree:
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
    return Tree(
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
        # The tree must be deep enough to be split among ranks above these sites.
        together=TOGETHER if simple and len(row) >= 2 * TOGETHER and many else 0,
    )


def _start(tree: Tree, group: ActiveGroup) -> Cursor:
    """Return the cursor at the root, where each permutation waits for the first site it moves."""
    moving = group.permutations[1:]
    n_perms, n_sites = group.permutations.shape
    first = (moving != np.arange(n_sites)).argmax(axis=1)
    entries = (np.arange(1, n_perms) << tree.shift) + first
    # No site before the first moved one is moved, so its source comes after it.
    waits_for = moving[np.arange(n_perms - 1), first]
    order = np.argsort(waits_for, kind="stable")
    numbers = np.bincount(waits_for, minlength=n_sites)
    ends = np.cumsum(numbers)
    waiting = np.empty((n_sites, n_perms), np.int32)
    for site in np.flatnonzero(numbers).tolist():
        members = order[ends[site] - numbers[site] : ends[site]]
        waiting[site, : numbers[site]] = entries[members]
    n_waiting = np.zeros((n_sites + 1, n_sites), np.int32)
    n_waiting[0] = numbers
    return Cursor(
        position=np.zeros(2, np.int64),
        labels=np.full(n_sites, -1, np.int8),
        counts=np.zeros_like(tree.smallest),
        waiting=waiting,
        n_waiting=n_waiting,
    )
