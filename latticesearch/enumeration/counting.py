"""Exact numbers of distinct labelings, without making any of them.

Burnside's lemma with Polya's cycle counts; labelings with a shorter period are taken out by
Möbius inversion over the subgroups of translations. Independent of the tree search, which is
checked against it.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration.composition import count_bounds
from latticesearch.enumeration.superlattices import superlattices
from latticesearch.errors import InputError
from latticesearch.lattice import Supercell

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from latticesearch.enumeration.composition import Composition
    from latticesearch.lattice import ParentLattice

    Orbits = tuple[tuple[int, int, int], ...]


def count_labelings(
    parent: ParentLattice,
    index: int | None = None,
    composition: Composition | None = None,
    *,
    superperiodic: bool = False,
    supercell: Supercell | None = None,
) -> int:
    """Return the exact number of symmetrically distinct labelings of one supercell size.

    Parameters
    ----------
    parent : ParentLattice
    index : int, optional
        Number of primitive cells; all distinct superlattices of this index are summed.
    composition : mapping of str to float or (low, high), optional
        Site fractions, exact or a range.
    superperiodic : bool
        Count also the labelings that a translation of the parent leaves unchanged, which have
        a smaller cell.
    supercell : Supercell, optional
        Count in this supercell instead of all of one index.

    Raises
    ------
    InputError
        Neither or both of `index` and `supercell`, or a malformed composition.
    """
    if (index is None) == (supercell is None):
        raise InputError("count_labelings needs either an index or a supercell")
    if supercell is not None:
        cells = [supercell]
    else:
        forms = superlattices(parent, index or 0)
        cells = [Supercell.from_matrix(parent, form) for form in forms]
    bounds = None if not composition else count_bounds(parent, cells[0].n_cells, composition)
    weights = _Weights(parent, bounds)
    return sum(_count(cell, weights, superperiodic=superperiodic) for cell in cells)


def _count(supercell: Supercell, weights: _Weights, *, superperiodic: bool) -> int:
    group = supercell.site_permutations
    total = 0
    for factor, generators in _period_subgroups(supercell):
        if superperiodic and generators:
            continue
        orbits, numbers = _orbits(supercell, group, generators)
        total += factor * sum(n * weights.of(o) for o, n in zip(orbits, numbers, strict=True))
    count, rest = divmod(total, len(group))
    assert rest == 0, "Burnside's sum is a multiple of the order of the group"
    return count


def _orbits(
    supercell: Supercell, group: npt.NDArray[np.intp], translations: list[int]
) -> tuple[list[Orbits], list[int]]:
    """Return the orbits of the sites under each permutation together with some translations.

    Returns
    -------
    orbits : list
        Distinct multisets of orbits, as tuples (kind of site, sites in the orbit, how many).
    numbers : list of int
        How many permutations of the group have each of them.
    """
    first = np.broadcast_to(np.arange(supercell.n_sites), group.shape).copy()
    while True:
        joined = np.minimum(first, np.take_along_axis(first, group, axis=1))
        for translation in translations:
            moved = supercell.translation_permutations[translation]
            joined = np.minimum(joined, joined[:, moved])
        if (joined == first).all():
            break
        first = joined
    n_perms, n_sites = group.shape
    rows = np.repeat(np.arange(n_perms), n_sites)
    sizes = np.zeros((n_perms, n_sites), np.int64)
    np.add.at(sizes, (rows, first.reshape(-1)), 1)
    _, kinds = np.unique(supercell.allowed, axis=0, return_inverse=True)
    kinds = kinds.reshape(-1)
    histogram = np.zeros((n_perms, kinds.max() + 1, n_sites + 1), np.int64)
    np.add.at(histogram, (rows, np.tile(kinds, n_perms), sizes.reshape(-1)), 1)
    histogram[:, :, 0] = 0
    distinct, numbers = np.unique(histogram, axis=0, return_counts=True)
    orbits = [
        tuple((int(k), int(s), int(h[k, s])) for k, s in zip(*np.nonzero(h), strict=True))
        for h in distinct
    ]
    return orbits, numbers.tolist()


class _Weights:
    """Numbers of labelings that are constant on given orbits, remembered by orbit structure."""

    def __init__(self, parent: ParentLattice, bounds: npt.NDArray[np.int64] | None) -> None:
        kinds = np.unique(parent.allowed, axis=0)
        self._species = [np.flatnonzero(kind).tolist() for kind in kinds]
        self._bounds = None if bounds is None else [(int(low), int(high)) for low, high in bounds]
        self._known: dict[Orbits, int] = {}

    def of(self, orbits: Orbits) -> int:
        if orbits not in self._known:
            self._known[orbits] = self._evaluate(orbits)
        return self._known[orbits]

    def _evaluate(self, orbits: Orbits) -> int:
        if self._bounds is None:
            return prod(len(self._species[kind]) ** number for kind, _, number in orbits)
        # Coefficients of the generating function, by the number of sites of each species.
        terms = {(0,) * len(self._bounds): 1}
        for kind, size, number in orbits:
            for _ in range(number):
                terms = self._extended(terms, self._species[kind], size)
        return sum(
            value
            for counts, value in terms.items()
            if all(c >= low for c, (low, _) in zip(counts, self._bounds, strict=True))
        )

    def _extended(
        self, terms: dict[tuple[int, ...], int], species: list[int], size: int
    ) -> dict[tuple[int, ...], int]:
        assert self._bounds is not None
        longer: dict[tuple[int, ...], int] = {}
        for counts, value in terms.items():
            for s in species:
                if counts[s] + size <= self._bounds[s][1]:
                    key = (*counts[:s], counts[s] + size, *counts[s + 1 :])
                    longer[key] = longer.get(key, 0) + value
        return longer


def _period_subgroups(supercell: Supercell) -> Iterator[tuple[int, list[int]]]:
    """Yield the Möbius factor and generators of each subgroup of translations that counts.

    The Möbius function of the subgroups of an abelian group vanishes but for direct products of
    groups of prime order, where rank r of prime p gives (-1)^r p^(r(r-1)/2) (Hall, Q. J. Math.
    7, 134 (1936)).
    """
    per_prime = [list(_prime_subgroups(supercell, p)) for p in _prime_factors(supercell.n_cells)]
    for choice in product(*per_prime):
        yield prod(factor for factor, _ in choice), [g for _, gens in choice for g in gens]


def _prime_subgroups(supercell: Supercell, prime: int) -> Iterator[tuple[int, list[int]]]:
    """Yield factor and generators for the subgroups whose elements have order `prime` or one."""
    vectors = supercell.cell_vectors
    basis = np.zeros(supercell.n_cells, np.int64)
    torsion = np.flatnonzero(supercell.site_of(basis, prime * vectors) == 0).tolist()
    level: dict[frozenset[int], list[int]] = {frozenset([0]): []}
    rank = 0
    while level:
        for generators in level.values():
            yield (-1) ** rank * prime ** (rank * (rank - 1) // 2), generators
        larger: dict[frozenset[int], list[int]] = {}
        for members, generators in level.items():
            for element in torsion:
                if element not in members:
                    multiples = np.arange(prime)[:, None, None] * vectors[element]
                    sums = supercell.site_of(0, multiples + vectors[sorted(members)])
                    larger.setdefault(frozenset(sums.reshape(-1).tolist()), [*generators, element])
        level = larger
        rank += 1


def _prime_factors(n: int) -> list[int]:
    return [p for p in range(2, n + 1) if n % p == 0 and all(p % q for q in range(2, p))]
