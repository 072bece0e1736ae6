"""The symmetry group of a supercell as it acts on the sites that have a choice of species."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from latticesearch.lattice import Supercell


LARGEST_GROUP = 2**26
"""Most entries, sites times operations, of the permutations of a supercell: half a gigabyte."""


class ActiveGroup:
    """The distinct permutations of the active sites of a supercell.

    Sites with one allowed species look the same in every labeling and are left out: neither
    their number nor symmetry operations that move only them cost anything.

    Attributes
    ----------
    supercell : Supercell
    sites : (n_active,) int
        The active sites in the order of the supercell; everything here counts along them.

    Raises
    ------
    InputError
        The supercell is too large.
    """

    def __init__(self, supercell: Supercell) -> None:
        parent = supercell.parent
        n_operations = supercell.n_cells * len(supercell.point_operations)
        if n_operations * supercell.n_sites > LARGEST_GROUP:
            raise InputError(
                f"a supercell of {supercell.n_sites} sites with {n_operations} symmetry operations "
                f"is too large to count or enumerate (sites times operations up to "
                f"{LARGEST_GROUP}); choose a smaller one"
            )
        self.supercell = supercell
        self.sites = np.flatnonzero(parent.is_active[supercell.basis_index])

    @cached_property
    def translations(self) -> npt.NDArray[np.intp]:
        """Permutations of the active sites by the translations, (n_cells, n_active)."""
        return self._rank[self.supercell.translation_permutations[:, self.sites]]

    @property
    def _rank(self) -> npt.NDArray[np.intp]:
        rank = np.full(self.supercell.n_sites, -1)
        rank[self.sites] = np.arange(len(self.sites))
        return rank

    @cached_property
    def _representatives(self) -> npt.NDArray[np.intp]:
        """One permutation of each coset of the translations, (m, n_active); row 0 is no motion.

        Translations form a normal subgroup that moves every site, so the permutation of a coset
        that takes the first active site from the first cell is unique.
        """
        supercell, n_cells = self.supercell, self.supercell.n_cells
        images = supercell.images(supercell.point_operations, supercell)[:, self.sites]
        back = supercell.translation_permutations[images[:, 0] % n_cells]
        moved = self._rank[np.take_along_axis(back, images, axis=1)]
        still = np.arange(len(self.sites))
        distinct = {row.tobytes(): row for row in (still, *moved)}
        return np.array(list(distinct.values()))

    @cached_property
    def permutations(self) -> npt.NDArray[np.intp]:
        """The group, (n_perms, n_active); its first rows are `translations`."""
        if not len(self.sites):
            return np.zeros((1, 0), np.intp)
        products = self.translations[:, self._representatives]
        return products.transpose(1, 0, 2).reshape(-1, len(self.sites))

    @cached_property
    def is_translation(self) -> npt.NDArray[np.bool_]:
        """Which permutations are translations other than the identity, (n_perms,)."""
        number = np.arange(len(self.permutations))
        return (number > 0) & (number < self.supercell.n_cells)

    @property
    def shift(self) -> int:
        """Binary logarithm of the length of one permutation in `sources`."""
        return len(self.sites).bit_length()

    @cached_property
    def sources(self) -> npt.NDArray[np.int16]:
        """The group for the kernels: each permutation padded with -1 to ``2**shift`` numbers."""
        padded = np.full((len(self.permutations), 1 << self.shift), -1, np.int16)
        padded[:, : len(self.sites)] = self.permutations
        return padded.reshape(-1)

    @cached_property
    def waiting(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Which permutations wait for each site at the root of the tree, and how many.

        A permutation waits for the source of the first site it moves: no site before that one is
        moved, so the source comes after it. The first, (n_active, n_perms), holds positions in
        `sources` of the entry to compare next, unused at the end; the second is (n_active,).
        """
        moving = self.permutations[1:]
        n_perms, n_sites = self.permutations.shape
        first = (moving != np.arange(n_sites)).argmax(axis=1)
        entries = (np.arange(1, n_perms) << self.shift) + first
        waits_for = moving[np.arange(n_perms - 1), first]
        order = np.argsort(waits_for, kind="stable")
        numbers = np.bincount(waits_for, minlength=n_sites)
        ends = np.cumsum(numbers)
        waiting = np.zeros((n_sites, n_perms), np.int32)
        for site in np.flatnonzero(numbers).tolist():
            members = order[ends[site] - numbers[site] : ends[site]]
            waiting[site, : numbers[site]] = entries[members]
        return waiting, numbers

    def period_subgroups(self) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
        """Yield the Möbius factor and the members of each subgroup of translations that counts.

        The Möbius function of the subgroups of an abelian group vanishes but for direct products
        of groups of prime order, where rank r of prime p gives (-1)^r p^(r(r-1)/2) (Hall, Q. J.
        Math. 7, 134 (1936)). The first one is the trivial group.
        """
        n_cells = self.supercell.n_cells
        minus = self.supercell.translation_permutations[:, :n_cells]
        per_prime = [list(_prime_subgroups(minus, p)) for p in _prime_factors(n_cells)]
        for choice in product(*per_prime):
            members = np.zeros(1, np.intp)
            for _, subgroup in choice:
                members = minus[np.array(subgroup)[:, None], members].reshape(-1)
            yield prod(factor for factor, _ in choice), members


def _prime_subgroups(
    minus: npt.NDArray[np.intp], prime: int
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield factor and members of the subgroups whose elements have order `prime` or one.

    ``minus[t, u]`` is the number of the translation u - t.
    """
    every = np.arange(len(minus))
    multiples = [np.zeros_like(every)]
    for _ in range(prime):
        multiples.append(minus[every, multiples[-1]])
    torsion = np.flatnonzero(multiples.pop() == 0).tolist()
    level = {(0,)}
    rank = 0
    while level:
        larger = set()
        for members in level:
            yield (-1) ** rank * prime ** (rank * (rank - 1) // 2), members
            for element in torsion:
                if element not in members:
                    steps = [int(multiple[element]) for multiple in multiples]
                    sums = minus[np.array(steps)[:, None], np.array(members)]
                    larger.add(tuple(np.sort(sums, axis=None).tolist()))
        level = larger
        rank += 1


def _prime_factors(n: int) -> list[int]:
    return [p for p in range(2, n + 1) if n % p == 0 and all(p % q for q in range(2, p))]
