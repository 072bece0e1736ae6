"""All symmetrically distinct labelings, in lazy batches of bounded size.

Hart & Forcade, Phys. Rev. B 77, 224115 (2008) and 80, 014120 (2009); Hart, Nelson & Forcade,
Comput. Mater. Sci. 59, 101 (2012) for fixed concentrations. Concentrations and site restrictions
prune the search; nothing is made and then thrown away but superperiodic labelings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.enumeration._kernels import Cursor, Tree, next_labelings
from latticesearch.enumeration.composition import count_bounds, require_possible
from latticesearch.enumeration.superlattices import superlattices
from latticesearch.errors import InputError
from latticesearch.lattice import Labelings, Supercell
from latticesearch.parallel import SerialComm

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from latticesearch.enumeration.composition import Composition
    from latticesearch.lattice import ParentLattice
    from latticesearch.parallel import Communicator


def enumerate_labelings(
    parent: ParentLattice,
    min_index: int = 1,
    max_index: int | None = None,
    composition: Composition | None = None,
    *,
    superperiodic: bool = False,
    supercell: Supercell | npt.ArrayLike | None = None,
    comm: Communicator | None = None,
    batch_size: int = 10_000,
) -> Iterator[Labelings]:
    """Yield all symmetrically distinct labelings, each once.

    Parameters
    ----------
    parent : ParentLattice
    min_index, max_index : int
        Range of supercell sizes in primitive cells, both included.
    composition : mapping of str to float or (low, high), optional
        Site fractions, exact or a range; fractions refer to all sites, vacancies included.
    superperiodic : bool
        Keep labelings that have a smaller cell.
    supercell : Supercell or integer matrix, optional
        The labelings of this supercell instead of all of some sizes.
    comm : Communicator, optional
        Each rank yields its own share, without communication: whole superlattices in turn, or
        branches of the tree of one supercell. The union is the same for any number of ranks.
    batch_size : int
        Most labelings in one batch.

    Yields
    ------
    Labelings
        Of one supercell each; every labeling is the smallest of its equivalent ones, and for
        sizes without a given supercell the superlattice is canonical, too.

    Raises
    ------
    InputError
        Malformed sizes or composition, or a composition that no supercell can have.
    """
    comm = comm or SerialComm()
    if batch_size < 1:
        raise InputError(f"batch_size is 1 or more; got {batch_size}")
    wanted = _Wanted(composition, superperiodic, batch_size)
    if supercell is not None:
        if not isinstance(supercell, Supercell):
            supercell = Supercell.from_matrix(parent, supercell)
        require_possible(parent, [supercell.n_cells], composition)
        return _labelings_of(supercell, wanted, _tree_share(supercell, comm))
    if max_index is None or not 1 <= min_index <= max_index:
        raise InputError(
            f"supercell sizes run from min_index = {min_index} to max_index = {max_index}; give "
            "1 <= min_index <= max_index, or a supercell"
        )
    sizes = range(min_index, max_index + 1)
    require_possible(parent, sizes, composition)
    return _labelings_of_sizes(parent, sizes, wanted, comm)


class _Wanted(NamedTuple):
    composition: Composition | None
    superperiodic: bool
    batch_size: int


_WHOLE_TREE = (1, 1, 0)
"""Share of a rank that has the whole tree: depth of the split, number of ranks, rank."""


def _tree_share(supercell: Supercell, comm: Communicator) -> tuple[int, int, int]:
    """Return a share that deals out the branches half-way down, many for each rank."""
    return max(1, supercell.n_sites // 2), comm.size, comm.rank


def _labelings_of_sizes(
    parent: ParentLattice, sizes: range, wanted: _Wanted, comm: Communicator
) -> Iterator[Labelings]:
    item = 0
    for index in sizes:
        for form in superlattices(parent, index):
            if item % comm.size == comm.rank:
                supercell = Supercell.from_matrix(parent, form)
                yield from _labelings_of(supercell, wanted, _WHOLE_TREE)
            item += 1


def _labelings_of(
    supercell: Supercell, wanted: _Wanted, share: tuple[int, int, int]
) -> Iterator[Labelings]:
    tree = _tree(supercell, wanted, share)
    n_perms, n_sites = tree.permutations.shape
    cursor = Cursor(
        position=np.zeros(2, np.int64),
        labels=np.full(n_sites, -1, np.int8),
        counts=np.zeros(supercell.parent.n_species, np.int64),
        n_active=np.zeros(n_sites + 1, np.int64),
        active=np.zeros((n_sites + 1, n_perms), np.int32),
        progress=np.zeros((n_sites + 1, n_perms), np.int32),
    )
    # Row 0 is the identity, which decides nothing.
    cursor.n_active[0] = n_perms - 1
    cursor.active[0, : n_perms - 1] = np.arange(1, n_perms)
    while cursor.position[0] >= 0:
        found = np.empty((wanted.batch_size, n_sites), np.int8)
        n_found = next_labelings(tree, cursor, found)
        if n_found:
            yield Labelings(supercell, found[:n_found].copy())


def _tree(supercell: Supercell, wanted: _Wanted, share: tuple[int, int, int]) -> Tree:
    bounds = count_bounds(supercell.parent, supercell.n_cells, wanted.composition)
    group = supercell.site_permutations
    known = {row.tobytes() for row in supercell.translation_permutations[1:]}
    # capacity[m] counts the sites from m on, and the last row none.
    capacity = np.zeros((supercell.n_sites + 1, supercell.parent.n_species), np.int64)
    capacity[:-1] = supercell.allowed[::-1].cumsum(axis=0)[::-1]
    return Tree(
        allowed=supercell.allowed,
        permutations=group,
        is_translation=np.array([row.tobytes() in known for row in group]),
        smallest=np.ascontiguousarray(bounds[:, 0]),
        largest=np.ascontiguousarray(bounds[:, 1]),
        capacity=capacity,
        share=np.array(share, dtype=np.int64),
        keep_superperiodic=wanted.superperiodic,
    )
