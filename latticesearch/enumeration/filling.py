"""In how many ways the cycles of a permutation can be given species within bounds.

Cycles of one sort (same kind of sites, same length) are alike, so only how many of each sort get
each species matters. Species are taken one after the other: a table over the numbers of cycles
that are already filled, one axis per sort, becomes the next one by a convolution with binomial
weights. That is small where a generating function in the numbers of sites of all species is huge:
54 like sites of four species have 55 entries instead of 29 000. Numbers are Python integers, exact
at any size.
"""

from __future__ import annotations

from math import comb, prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Amounts = tuple[int, ...]


class Portion(NamedTuple):
    """What cycles of sites may be given: species that are bounded alike, or not at all.

    Attributes
    ----------
    species : tuple of int
    ways : (n_sorts,) int
        In how many ways one cycle of each sort can be given these species; 0 for none.
    sites : (n_sorts,) int
        Number of sites that a cycle of each sort then adds to each of these species.
    counted : (n_rows, n_sorts) bool
        Whether the bounds of a row count the sites of a sort.
    smallest, largest : (n_rows,) int
        Bounds on the number of sites of each of these species.
    """

    species: tuple[int, ...]
    ways: npt.NDArray[np.int64]
    sites: npt.NDArray[np.int64]
    counted: npt.NDArray[np.bool_]
    smallest: npt.NDArray[np.int64]
    largest: npt.NDArray[np.int64]

    def permits(self, amounts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Tell which amounts, (n, n_sorts) numbers of cycles, can be given these species."""
        sums = amounts @ (self.counted * self.sites).T
        within = ((sums >= self.smallest) & (sums <= self.largest)).all(axis=1)
        permitted: npt.NDArray[np.bool_] = within & ((amounts == 0) | (self.ways > 0)).all(axis=1)
        return permitted

    def amounts(self, numbers: Amounts) -> list[Amounts]:
        """Return how many cycles of each sort, out of `numbers`, can be given these species."""
        most = [n if ways else 0 for n, ways in zip(numbers, self.ways.tolist(), strict=True)]
        grid = np.indices([n + 1 for n in most]).reshape(len(most), -1).T
        return [tuple(row) for row in grid[self.permits(grid)].tolist()]

    def begins(self, amount: Amounts) -> int:
        """Return in how many ways so many chosen cycles can be given these species."""
        return prod(w**a for w, a in zip(self.ways.tolist(), amount, strict=True))


def n_fillings(numbers: Amounts, portions: list[Portion]) -> int:
    """Return in how many ways all cycles can be filled.

    Parameters
    ----------
    numbers : (n_sorts,) int
        Number of cycles of each sort.
    portions : list of Portion
        What they can be given; at least one.
    """
    table = filling_tables(numbers, portions)[-1]
    return sum(ways for _, ways in table.last_steps(numbers, portions[-1]))


def filling_tables(numbers: Amounts, portions: list[Portion]) -> list[Table]:
    """Return the tables before the first, second, ... of the portions is given out."""
    tables = [Table.empty(numbers)]
    for portion in portions[:-1]:
        tables.append(tables[-1].extended(portion))
    return tables


class Table:
    """Numbers of ways to fill so many cycles of each sort with the portions so far.

    Attributes
    ----------
    ways : (n_1 + 1, n_2 + 1, ...) int of any size
        ``ways[t]`` for t filled cycles of each sort.
    """

    def __init__(self, ways: npt.NDArray[np.object_]) -> None:
        self.ways = ways

    @classmethod
    def empty(cls, numbers: Amounts) -> Table:
        """Return the table without any portion: one way to fill nothing."""
        ways = np.zeros([n + 1 for n in numbers], dtype=object)
        ways[(0,) * len(numbers)] = 1
        return cls(ways)

    def extended(self, portion: Portion) -> Table:
        """Return the table with one portion more."""
        ways = np.zeros_like(self.ways)
        numbers = tuple(n - 1 for n in ways.shape)
        if np.count_nonzero(self.ways) == 1 and self.ways.flat[0]:
            for amount in portion.amounts(numbers):
                ways[amount] = portion.begins(amount)
            return Table(ways)
        for amount in portion.amounts(numbers):
            rest = tuple(slice(0, n + 1 - a) for n, a in zip(numbers, amount, strict=True))
            term = self.ways[rest] * portion.begins(amount)
            for axis, (n, a) in enumerate(zip(numbers, amount, strict=True)):
                if a:
                    # Which of the t cycles that are filled afterwards are the a new ones.
                    choices = np.array([comb(t, a) for t in range(a, n + 1)], dtype=object)
                    term = term * np.expand_dims(choices, tuple(range(1, term.ndim - axis)))
            ways[tuple(slice(a, None) for a in amount)] += term
        return Table(ways)

    def last_steps(self, filled: Amounts, portion: Portion) -> Iterator[tuple[Amounts, int]]:
        """Yield what a portion can take of the filled cycles, and in how many ways, if any."""
        before = np.argwhere(self.ways[tuple(slice(0, t + 1) for t in filled)])
        amounts = np.array(filled) - before
        permitted = portion.permits(amounts)
        pairs = zip(before[permitted].tolist(), amounts[permitted].tolist(), strict=True)
        for rest, amount in pairs:
            choices = prod(comb(t, a) for t, a in zip(filled, amount, strict=True))
            yield tuple(amount), self.ways[tuple(rest)] * choices * portion.begins(amount)
