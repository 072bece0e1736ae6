"""Uniform random samples of distinct structures, of spaces too large to enumerate.

A permutation of a supercell's symmetry group, drawn with a probability proportional to the number
of labelings it leaves unchanged, and one of these labelings drawn evenly, give every orbit of
labelings the same probability (Dixon & Wilf, J. Algorithms 4, 205 (1983)): the labelings of an
orbit are together left unchanged as often as the group has elements. Supercells are drawn with
their numbers of orbits; superperiodic labelings are drawn and rejected unless wanted, and repeated
ones are rejected, which leaves what remains uniform.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration.counting import Counter, count_labelings
from latticesearch.enumeration.filling import filling_tables
from latticesearch.enumeration.generation import enumerate_labelings
from latticesearch.enumeration.groups import ActiveGroup
from latticesearch.enumeration.restrictions import Restrictions, require_possible, whole_number
from latticesearch.enumeration.superlattices import chosen_supercells
from latticesearch.errors import InputError
from latticesearch.lattice import Configuration, Supercell

if TYPE_CHECKING:
    from typing import Unpack

    import numpy.typing as npt

    from latticesearch.enumeration.counting import Entry
    from latticesearch.enumeration.filling import Portion, Table
    from latticesearch.enumeration.restrictions import Composition, Rules
    from latticesearch.lattice import ParentLattice

    Sorts = dict[tuple[int, int], list[list[int]]]

LARGEST_SHARE = 0.25
"""Part of the space above which it is enumerated: drawing ever more repeated structures is slow."""


def sample_labelings(
    parent: ParentLattice,
    n_samples: int,
    index: int | None = None,
    composition: Composition | None = None,
    *,
    supercell: Supercell | npt.ArrayLike | None = None,
    seed: int = 0,
    **rules: Unpack[Rules],
) -> list[Configuration]:
    """Return a uniform random sample, without repetition, of the distinct structures of one size.

    Parameters
    ----------
    parent : ParentLattice
    n_samples : int
        Number of structures.
    index : int, optional
        Number of primitive cells; structures of all distinct superlattices of this index.
    composition : mapping of str to float or (low, high), optional
        Site fractions, exact or a range.
    supercell : Supercell or integer matrix, optional
        Sample the labelings of this supercell instead of all of one index.
    seed : int
        The same seed gives the same sample.
    **rules
        superperiodic, sublattices, complete and layer_axis; see `Restrictions`.

    Returns
    -------
    list of Configuration
        In their canonical form, in the order drawn.

    Raises
    ------
    InputError
        More samples than there are structures, `exchange`, `superperiodic` without a supercell,
        or what `count_labelings` refuses.
    """
    n_samples = whole_number("n_samples", n_samples)
    total = count_labelings(parent, index, composition, supercell=supercell, **rules)
    wanted = Restrictions(composition, **rules)
    if wanted.exchange:
        raise InputError("sample_labelings cannot identify exchanged species; leave exchange out")
    if wanted.superperiodic and supercell is None:
        raise InputError(
            "superperiodic structures need a supercell to sample; of one index they are the "
            "structures of smaller indices"
        )
    if not 0 <= n_samples <= total:
        if index is not None and total == 0:
            require_possible(parent, [index], wanted)
        raise InputError(f"cannot draw {n_samples} of {total} distinct structures")
    rng = np.random.default_rng([seed, n_samples])
    if n_samples > LARGEST_SHARE * total:
        chosen = set(rng.choice(total, n_samples, replace=False).tolist())
        sizes = (index or 1, index)
        batches = enumerate_labelings(parent, *sizes, composition, supercell=supercell, **rules)
        every = (batch[i] for batch in batches for i in range(len(batch)))
        kept = [item.canonical() for number, item in enumerate(every) if number in chosen]
        return [kept[i] for i in rng.permutation(len(kept))]
    cells = chosen_supercells(parent, index, supercell, layer_axis=wanted.layer_axis)
    urn = _Urn(cells, wanted, rng)
    drawn: dict[str, Configuration] = {}
    while len(drawn) < n_samples:
        configuration = urn.draw()
        if configuration is not None:
            drawn.setdefault(configuration.key, configuration)
    return [configuration.canonical() for configuration in drawn.values()]


class _Urn:
    """Draws labelings so that every orbit has the same probability."""

    def __init__(
        self, cells: list[Supercell], wanted: Restrictions, rng: np.random.Generator
    ) -> None:
        self._wanted = wanted
        self._rng = rng
        # Incomplete and superperiodic labelings are drawn, too, and rejected.
        drawn = dataclasses.replace(wanted, superperiodic=True, complete=False)
        counter = Counter(cells[0].parent, cells[0].n_cells, drawn)
        self._counter = counter
        self._cells = [_Cell(ActiveGroup(cell), counter) for cell in cells]
        self._orbits = list(accumulate(counter.number(cell.group) for cell in self._cells))

    def draw(self) -> Configuration | None:
        """Return a labeling; None if one was drawn that is not wanted."""
        cell = self._cells[self._pick(self._orbits)]
        group = cell.group
        cycles = _cycles(group.permutations[self._pick(cell.cumulative_fixed)])
        active = self._labels(cycles, cell.kinds)
        labels = group.supercell.allowed.argmax(axis=1).astype(np.int8)
        labels[group.sites] = active
        repeated = (active[group.translations[1:]] == active).all(axis=1).any()
        configuration = Configuration(group.supercell, labels)
        if (repeated and not self._wanted.superperiodic) or (
            self._wanted.complete and not configuration.counts.all()
        ):
            return None
        return configuration

    def _pick(self, cumulative: list[int]) -> int:
        """Return an index with a probability proportional to the increase of some numbers."""
        return bisect_right(cumulative, random_below(self._rng, cumulative[-1]))

    def _labels(self, cycles: list[list[int]], kinds: list[int]) -> npt.NDArray[np.int8]:
        """Return a random one of the labelings that are constant on given cycles.

        With bounds on the composition, how many cycles of each sort each species has is drawn
        first, the last species first, with the number of ways to fill the rest.
        """
        labels = np.empty(sum(map(len, cycles)), np.int8)
        sorts = _sorted(cycles, kinds)
        entries = _entries(sorts)
        undecided = [
            [members[i] for i in self._rng.permutation(len(members)).tolist()]
            for members in sorts.values()
        ]
        portions, tables = _filling(self._counter, entries)
        for table, portion in zip(tables[::-1], portions[::-1], strict=True):
            steps = table.last_steps(tuple(map(len, undecided)), portion)
            amounts, weights = zip(*steps, strict=True)
            amount = amounts[self._pick(list(accumulate(weights)))]
            for (kind, _, _), members, number in zip(entries, undecided, amount, strict=True):
                options = [s for s in portion.species if s in self._counter.options(kind)]
                for _ in range(number):
                    labels[members.pop()] = self._rng.choice(options)
        return labels


@dataclass(frozen=True, eq=False)
class _Cell:
    """A supercell in the urn.

    Attributes
    ----------
    group : ActiveGroup
    counter : Counter
        Counts what is drawn.
    """

    group: ActiveGroup
    counter: Counter

    @cached_property
    def kinds(self) -> list[int]:
        """Kind of each active site, n_active of them."""
        group = self.group
        kinds: list[int] = self.counter.kind[group.supercell.basis_index[group.sites]].tolist()
        return kinds

    @cached_property
    def cumulative_fixed(self) -> list[int]:
        """How many labelings the first 1, 2, ... permutations of the group leave unchanged."""
        sorts = (_sorted(_cycles(row), self.kinds) for row in self.group.permutations)
        return list(accumulate(_fixed_by(self.counter, _entries(sort)) for sort in sorts))


@lru_cache(maxsize=4096)  # a size has some hundred cycle types, shared by all its supercells
def _fixed_by(counter: Counter, entries: tuple[Entry, ...]) -> int:
    return counter.fixed_by(entries)


@lru_cache(maxsize=256)  # types drawn at a time; a table has some thousand numbers at most
def _filling(counter: Counter, entries: tuple[Entry, ...]) -> tuple[list[Portion], list[Table]]:
    """Return what cycles may be given, and the tables before each of these portions."""
    portions = counter.portions(entries)
    return portions, filling_tables(tuple(number for _, _, number in entries), portions)


def _sorted(cycles: list[list[int]], kinds: list[int]) -> Sorts:
    """Return the cycles by kind of the sites and length."""
    sorts: Sorts = {}
    for cycle in cycles:
        sorts.setdefault((kinds[cycle[0]], len(cycle)), []).append(cycle)
    return {name: sorts[name] for name in sorted(sorts)}


def _entries(sorts: Sorts) -> tuple[Entry, ...]:
    """Return kind, length and number of the cycles of each sort."""
    return tuple((*name, len(members)) for name, members in sorts.items())


def _cycles(permutation: npt.NDArray[np.intp]) -> list[list[int]]:
    """Return the cycles of a permutation, (n,)."""
    target = permutation.tolist()
    cycles = []
    seen = [False] * len(target)
    for start in range(len(target)):
        cycle = []
        at = start
        while not seen[at]:
            seen[at] = True
            cycle.append(at)
            at = target[at]
        if cycle:
            cycles.append(cycle)
    return cycles


def random_below(rng: np.random.Generator, limit: int) -> int:
    """Return an even random integer from 0 to limit - 1, of any size."""
    n_bytes = (limit.bit_length() + 7) // 8
    surplus = 8 * n_bytes - limit.bit_length()
    while True:
        number = int.from_bytes(rng.bytes(n_bytes), "little") >> surplus
        if number < limit:
            return number
