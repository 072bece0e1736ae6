"""Exact numbers of distinct labelings, without making any of them.

Burnside's lemma with Polya's cycle counts; labelings with a shorter period are taken out by
Möbius inversion over the subgroups of translations. Independent of the tree search, which is
checked against it.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from itertools import product as cartesian
from math import factorial, prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.enumeration._cycle_kernels import cycle_types
from latticesearch.enumeration.filling import Portion, n_fillings
from latticesearch.enumeration.groups import ActiveGroup
from latticesearch.enumeration.restrictions import Restrictions
from latticesearch.enumeration.superlattices import chosen_supercells
from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Unpack

    import numpy.typing as npt

    from latticesearch.enumeration.restrictions import Composition, Rules
    from latticesearch.lattice import ParentLattice, Supercell

    Entry = tuple[int, int, int]


def count_labelings(
    parent: ParentLattice,
    index: int | None = None,
    composition: Composition | None = None,
    *,
    supercell: Supercell | npt.ArrayLike | None = None,
    **rules: Unpack[Rules],
) -> int:
    """Return the exact number of symmetrically distinct labelings of one supercell size.

    Parameters
    ----------
    parent : ParentLattice
    index : int, optional
        Number of primitive cells; all distinct superlattices of this index are summed.
    composition : mapping of str to float or (low, high), optional
        Site fractions, exact or a range.
    supercell : Supercell or integer matrix, optional
        Count in this supercell instead of all of one index.
    **rules
        superperiodic, sublattices, complete, exchange and layer_axis; see `Restrictions`.

    Raises
    ------
    InputError
        Neither or both of `index` and `supercell`, or a malformed composition.
    """
    if (index is None) == (supercell is None):
        raise InputError("count_labelings needs either an index or a supercell")
    wanted = Restrictions(composition, **rules)
    cells = chosen_supercells(parent, index, supercell, layer_axis=wanted.layer_axis)
    if not cells:
        return 0
    counter = Counter(parent, cells[0].n_cells, wanted)
    return sum(counter.number(ActiveGroup(cell)) for cell in cells)


class Exchange(NamedTuple):
    """A kind of permutation of interchangeable species.

    Attributes
    ----------
    cycles : tuple of tuple of int
        Its cycles; every species is in one.
    number : int
        How many permutations are of this kind.
    """

    cycles: tuple[tuple[int, ...], ...]
    number: int


class Counter:
    """Numbers of distinct labelings of the supercells of one size under given restrictions.

    Attributes
    ----------
    wanted : Restrictions
    limits : Limits
        What the restrictions leave for the sites that have a choice.
    kind : (n_basis,) int
        Sites of one kind have the same allowed species and count for the same bounds.
    is_free : bool
        Nothing is asked of the numbers of sites but that some species appear.
    """

    def __init__(self, parent: ParentLattice, n_cells: int, wanted: Restrictions) -> None:
        self.wanted = wanted
        self.limits = limits = wanted.active_limits(parent, n_cells)
        active = np.flatnonzero(parent.is_active)
        kinds = np.column_stack([limits.row[active], parent.allowed[active]])
        distinct, which = np.unique(kinds, axis=0, return_inverse=True)
        self.kind = np.full(parent.n_basis, -1)
        self.kind[active] = which.reshape(-1)
        self._rows = distinct[:, 0].tolist()
        self._species = [set(np.flatnonzero(kind[1:]).tolist()) for kind in distinct]
        self._smallest, self._largest = limits.smallest, limits.largest
        capacity = np.zeros_like(limits.largest)
        for row in range(len(capacity)):
            sites = active[(limits.row[active] == row) | (row == 0)]
            capacity[row] = parent.allowed[sites].sum(axis=0) * n_cells
        bounded = (self._smallest > 0) | (self._largest < capacity)
        self._is_bounded = [bool(column.any()) for column in bounded.T]
        required = self._smallest[0] > 0
        # Species that must appear at all are counted by inclusion and exclusion, which is faster.
        self.is_free = bool(
            (self._largest >= capacity).all()
            and (self._smallest[1:] <= 0).all()
            and (self._smallest[0] <= 1).all()
        )
        self._impossible = bool((self._largest < 0).any() or (self._smallest > capacity).any())
        self._required = set(np.flatnonzero(required).tolist())
        self._exchanges = list(_exchanges(limits.first))

    def number(self, group: ActiveGroup) -> int:
        """Return the number of distinct labelings of one supercell.

        Parameters
        ----------
        group : ActiveGroup
            Symmetry of a supercell of the size that this object was made for.
        """
        if self._impossible:
            return 0
        if not len(group.sites):
            return int(self.wanted.superperiodic or group.supercell.n_cells == 1)
        total = 0
        for factor, members in group.period_subgroups():
            total += factor * self._fixed(group, members)
            if self.wanted.superperiodic:
                break
        order = len(group.permutations) * sum(exchange.number for exchange in self._exchanges)
        count, rest = divmod(total, order)
        assert rest == 0, "Burnside's sum is a multiple of the order of the group"
        return count

    def _fixed(self, group: ActiveGroup, translations: npt.NDArray[np.intp]) -> int:
        """Sum over the group how many labelings with given periods each permutation fixes."""
        orbits = group.translations[translations].min(axis=0)
        # Each orbit is named by its first site, so these are in order.
        block = (np.cumsum(orbits == np.arange(len(orbits))) - 1)[orbits]
        kind = self.kind[group.supercell.basis_index[group.sites]]
        types, numbers = _cycle_types(group, block, kind)
        return sum(
            number * _fixed_by_type(self, cycles.shape, cycles.tobytes())
            for cycles, number in zip(types, numbers.tolist(), strict=True)
        )

    def fixed_by_type(self, cycles: npt.NDArray[np.int32]) -> int:
        """Return how many labelings a permutation fixes, summed over exchanges of species.

        Parameters
        ----------
        cycles : (n_kinds, n_blocks + 1) int32
            Its cycle type; see the kernel `cycle_types`.
        """
        entries = [
            (int(k), int(length), int(cycles[k, length]))
            for k, length in zip(*np.nonzero(cycles), strict=True)
            if length
        ]
        period = int(cycles[0, 0])
        return sum(
            exchange.number * self._weight(entries, exchange, period)
            for exchange in self._exchanges
        )

    def _weight(self, entries: Sequence[Entry], exchange: Exchange, period: int) -> int:
        """Return how many labelings a permutation of sites and species leaves unchanged.

        Along a cycle of sites of length L the species follow their own cycle, which must close:
        its length divides L.
        """
        if self.is_free:
            needed = [c for c in exchange.cycles if self._required.issuperset(c)]
            return sum(
                (-1) ** n_missing * self._without(entries, exchange, set().union(*missing))
                for n_missing in range(len(needed) + 1)
                for missing in combinations(needed, n_missing)
            )
        numbers = tuple(number for _, _, number in entries)
        return n_fillings(numbers, self.portions(entries, exchange, period))

    def portions(
        self, entries: Sequence[Entry], exchange: Exchange | None = None, period: int = 1
    ) -> list[Portion]:
        """Return what the cycles of a permutation may be given.

        Parameters
        ----------
        entries : sequence of (int, int, int)
            Kind, length and number of the cycles of each sort.
        exchange : Exchange, optional
            The species change along with the sites; default is that they stay.
        period : int
            Number of sites that each step along a cycle stands for.
        """
        cycles = exchange.cycles if exchange else [(s,) for s in range(self._smallest.shape[1])]
        rows = np.array([self._rows[kind] for kind, _, _ in entries])
        counted = rows == np.arange(len(self._smallest))[:, None]
        counted[0] = True
        groups = [[cycle] for cycle in cycles if self._is_bounded[cycle[0]]]
        # Species without bounds are given out together: any of them to any cycle that is left.
        groups += [free] if (free := [c for c in cycles if not self._is_bounded[c[0]]]) else []
        portions = []
        for group in groups:
            shares = np.array([[self._share(e, c) for c in group] for e in entries])
            portion = Portion(
                species=tuple(s for cycle in group for s in cycle),
                ways=(shares > 0) @ np.array([len(cycle) for cycle in group]),
                sites=shares[:, 0] * period if self._is_bounded[group[0][0]] else 0 * shares[:, 0],
                counted=counted,
                smallest=self._smallest[:, group[0][0]],
                largest=self._largest[:, group[0][0]],
            )
            portions.append(portion)
        return portions

    def _share(self, entry: Entry, cycle: tuple[int, ...]) -> int:
        """Return how often each species of a cycle stands on one cycle of sites; 0 for never."""
        kind, length, _ = entry
        fits = cycle[0] in self._species[kind] and length % len(cycle) == 0
        return length // len(cycle) if fits else 0

    def fixed_by(self, entries: tuple[Entry, ...]) -> int:
        """Return the number of labelings that a permutation with given cycles leaves unchanged.

        Parameters
        ----------
        entries : tuple of (int, int, int)
            Kind, length and number of the cycles of each sort.
        """
        still = Exchange(tuple((s,) for s in range(self._smallest.shape[1])), 1)
        return self._weight(entries, still, 1)

    def options(self, kind: int) -> list[int]:
        """Return the species that sites of a kind may hold."""
        return sorted(self._species[kind])

    def _without(self, entries: Sequence[Entry], exchange: Exchange, missing: set[int]) -> int:
        """Return the number of unchanged labelings that do not use some species."""
        return prod(
            sum(
                len(cycle)
                for cycle in exchange.cycles
                if length % len(cycle) == 0
                and cycle[0] in self._species[kind]
                and cycle[0] not in missing
            )
            ** number
            for kind, length, number in entries
        )


@lru_cache(maxsize=4096)  # a size has some hundred types, shared by all its supercells
def _fixed_by_type(counter: Counter, shape: tuple[int, ...], cycles: bytes) -> int:
    """Return `Counter.fixed_by_type` of the bytes of a cycle type of a given shape."""
    return counter.fixed_by_type(np.frombuffer(cycles, np.int32).reshape(shape))


def _cycle_types(
    group: ActiveGroup, block: npt.NDArray[np.int64], kind: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the cycle types of a group and their numbers; see the kernel of this name."""
    room = 32
    while True:
        types = np.zeros((room, kind.max() + 1, block.max() + 2), np.int32)
        numbers = np.zeros(room, np.int64)
        found = cycle_types((group.sources, group.shift), block, kind, types, numbers)
        if found < room:
            return types[:found], numbers[:found]
        room *= 4


def _exchanges(first: npt.NDArray[np.int64]) -> Iterator[Exchange]:
    """Yield the kinds of permutations of species; only those of the same `first` mix."""
    classes = [np.flatnonzero(first == s).tolist() for s in np.unique(first)]
    for choice in cartesian(*(list(_partitions(len(members))) for members in classes)):
        cycles: list[tuple[int, ...]] = []
        number = 1
        for members, lengths in zip(classes, choice, strict=True):
            ends = np.cumsum(lengths).tolist()
            cycles += [
                tuple(members[end - length : end])
                for end, length in zip(ends, lengths, strict=True)
            ]
            # Permutations of a cycle type: m! over the ways to write the same cycles.
            repeats = [factorial(lengths.count(length)) for length in set(lengths)]
            number *= factorial(len(members)) // (prod(lengths) * prod(repeats))
        yield Exchange(tuple(cycles), number)


def _partitions(total: int, largest: int | None = None) -> Iterator[tuple[int, ...]]:
    """Yield the partitions of a number, parts in descending order."""
    if total == 0:
        yield ()
    for part in range(min(total, largest or total), 0, -1):
        for rest in _partitions(total - part, part):
            yield (part, *rest)
