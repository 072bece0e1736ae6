"""Labelings of a supercell, single and in batches, and the canonical key of a crystal.

The key is the same for every supercell, origin and orientation (among the parent's operations)
that describes the crystal: the labeling is reduced to its primitive superlattice, that to the
lexicographically smallest equivalent Hermite normal form, and there the lexicographically
smallest equivalent labeling is taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.lattice.images import fixed_by, smallest_images
from latticesearch.lattice.normal_forms import (
    hermite_normal_form,
    hnf_entries,
    hnf_from_entries,
)
from latticesearch.lattice.parent import VACANCY, FieldsOnlyPickle
from latticesearch.lattice.supercell import Supercell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.lattice.parent import ParentLattice

_KEY_PATTERN = re.compile(r"s(\d+)-(\d+)\.(\d+)\.(\d+)\.(\d+)\.(\d+)\.(\d+)-([A-Z]+)")


@dataclass(frozen=True, eq=False)
class Labelings(FieldsOnlyPickle):
    """A batch of labelings of one supercell.

    Attributes
    ----------
    supercell : Supercell
    labels : (n, n_sites) int8
        Indices into ``supercell.parent.species``.
    """

    supercell: Supercell
    labels: npt.NDArray[np.int8]

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", np.ascontiguousarray(self.labels, dtype=np.int8))
        shape = self.labels.shape
        if len(shape) != 2 or shape[1] != self.supercell.n_sites:
            raise InputError(
                f"labels have shape {shape}; the supercell needs (n, {self.supercell.n_sites})"
            )
        _check_range(self.labels, self.supercell)

    @classmethod
    def concatenate(cls, batches: Sequence[Labelings]) -> Labelings:
        """Join batches of one supercell.

        Raises
        ------
        InputError
            No batches, or batches of different supercells or species.
        """
        if not batches:
            raise InputError("nothing to concatenate: give at least one batch of labelings")
        first = batches[0].supercell
        for other in (batch.supercell for batch in batches[1:]):
            if (
                not np.array_equal(first.hnf, other.hnf)
                or first.parent.species != other.parent.species
            ):
                raise InputError(
                    f"labelings of different supercells cannot be joined: {first.hnf.tolist()} "
                    f"of {first.parent.species} and {other.hnf.tolist()} of {other.parent.species}"
                )
        return cls(first, np.concatenate([batch.labels for batch in batches]))

    def __len__(self) -> int:
        """Return the number of labelings."""
        return len(self.labels)

    def __getitem__(self, index: int) -> Configuration:
        """Return one labeling."""
        return Configuration(self.supercell, self.labels[index])

    def __iter__(self) -> Iterator[Configuration]:
        """Go through the labelings."""
        return (self[i] for i in range(len(self)))

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Number of sites that hold each species, (n, n_species)."""
        n_species = self.supercell.parent.n_species
        return np.stack([(self.labels == s).sum(axis=1) for s in range(n_species)], axis=1)

    @property
    def compositions(self) -> npt.NDArray[np.float64]:
        """Fractions of all sites, vacancies included, that hold each species, (n, n_species)."""
        return self.counts / self.supercell.n_sites

    @cached_property
    def n_atoms(self) -> npt.NDArray[np.int64]:
        """Number of atoms, (n,); vacancies do not count."""
        result: npt.NDArray[np.int64] = self.counts[:, self._is_element].sum(axis=1)
        return result

    @property
    def atomic_fractions(self) -> npt.NDArray[np.float64]:
        """Fractions of the atoms that are each element, (n, n_elements); NaN without atoms.

        The elements are the parent's species without the vacancy, in their order.
        """
        with np.errstate(invalid="ignore"):
            return self.counts[:, self._is_element] / self.n_atoms[:, None]

    @property
    def _is_element(self) -> list[bool]:
        """Which species are atoms, (n_species,)."""
        return [symbol != VACANCY for symbol in self.supercell.parent.species]

    def keys(self) -> list[str]:
        """Return the canonical keys, n of them."""
        keys = [""] * len(self)
        for members, canonical in self.canonical_groups():
            for member, key in zip(members.tolist(), written_keys(canonical), strict=True):
                keys[member] = key
        return keys

    def canonical(self) -> list[Configuration]:
        """Return the same n crystals, each in its primitive canonical supercell.

        Each knows that it is canonical, so its `Configuration.key` is only written.
        """
        found: list[tuple[int, Configuration]] = []
        for members, canonical in self.canonical_groups():
            cell = canonical.supercell
            rows = [Configuration(cell, row, is_canonical=True) for row in canonical.labels]
            found += zip(members.tolist(), rows, strict=True)
        return [one for _, one in sorted(found, key=lambda pair: pair[0])]

    def canonical_groups(self) -> Iterator[tuple[npt.NDArray[np.intp], Labelings]]:
        """Yield the canonical forms, one group per primitive superlattice.

        Yields
        ------
        members : (m,) int
            Indices of the labelings of this group.
        canonical : Labelings
            Their m canonical labelings in the canonical supercell.
        """
        for members, vectors in self._periods():
            primitive, sites = _primitive_supercell(self.supercell, vectors)
            target, permutation = primitive.canonical
            rows = np.ascontiguousarray(self.labels[members][:, sites[permutation]])
            smallest = smallest_images(rows, target.site_permutations)
            yield members, Labelings(target, smallest)

    def _periods(self) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]]:
        """Yield groups of labelings and the translations, (m, 3), that leave them unchanged."""
        supercell = self.supercell
        fixed = fixed_by(self.labels, supercell.translation_permutations)
        periodic = fixed[:, 1:].any(axis=1)
        aperiodic = np.flatnonzero(~periodic)
        if len(aperiodic):
            yield aperiodic, supercell.cell_vectors[:1]
        superperiodic = np.flatnonzero(periodic)
        if len(superperiodic):
            subgroups, which = np.unique(fixed[superperiodic], axis=0, return_inverse=True)
            for group, subgroup in enumerate(subgroups):
                members = superperiodic[which.reshape(-1) == group]
                yield members, supercell.cell_vectors[subgroup]


def _check_range(labels: npt.NDArray[np.int8], supercell: Supercell) -> None:
    species = supercell.parent.species
    if labels.size and not (labels.min() >= 0 and labels.max() < len(species)):
        raise InputError(
            f"labels run from {labels.min()} to {labels.max()}; with the species {species} they "
            f"are indices from 0 to {len(species) - 1}"
        )


def written_keys(canonical: Labelings) -> list[str]:
    """Return the keys, n of them, of labelings that are canonical already."""
    letters = (canonical.labels + ord("A")).astype(np.uint8).tobytes().decode()
    prefix, width = key_prefix(canonical.supercell), canonical.supercell.n_sites
    return [prefix + letters[start : start + width] for start in range(0, len(letters), width)]


def reduced_formula(symbols: Iterable[str], counts: Iterable[int]) -> str:
    """Return the formula of numbers of atoms, e.g. "CuPd3"; vacancies and zeros are left out."""
    pairs = zip(symbols, counts, strict=True)
    present = [(symbol, n) for symbol, n in pairs if n and symbol != VACANCY]
    divisor = gcd(*(n for _, n in present))
    return "".join(s + (str(n // divisor) if n > divisor else "") for s, n in present)


def key_prefix(supercell: Supercell) -> str:
    """Return what the keys of all primitive labelings of a canonical supercell begin with."""
    entries = ".".join(map(str, hnf_entries(supercell.hnf).tolist()))
    return f"s{supercell.n_cells}-{entries}-"


def _primitive_supercell(
    supercell: Supercell, vectors: npt.NDArray[np.int64]
) -> tuple[Supercell, npt.NDArray[np.intp]]:
    """Return the supercell with `vectors` as further periods, and a source for each of its sites.

    ``labels[sites]`` is the labeling of the smaller supercell when `labels` has these periods.
    """
    if len(vectors) == 1:
        return supercell, np.arange(supercell.n_sites)
    hnf = hermite_normal_form(np.vstack([supercell.hnf, vectors]))
    primitive = Supercell.from_matrix(supercell.parent, hnf)
    basis = np.arange(supercell.parent.n_basis)[:, None]
    return primitive, supercell.site_of(basis, primitive.cell_vectors).reshape(-1)


@dataclass(frozen=True, eq=False)
class Configuration(FieldsOnlyPickle):
    """One labeling of a supercell: one ordered structure.

    Attributes
    ----------
    supercell : Supercell
    labels : (n_sites,) int8
        Indices into ``supercell.parent.species``.
    is_canonical : bool
        True where the supercell is known to be primitive and canonical, and the labels the
        smallest of all equivalent ones: what made the configuration vouches for it.
    """

    supercell: Supercell
    labels: npt.NDArray[np.int8]
    is_canonical: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", np.ascontiguousarray(self.labels, dtype=np.int8))
        if self.labels.shape != (self.supercell.n_sites,):
            raise InputError(
                f"labels have shape {self.labels.shape}; the supercell has "
                f"{self.supercell.n_sites} sites"
            )
        _check_range(self.labels, self.supercell)

    @classmethod
    def from_key(cls, parent: ParentLattice, key: str) -> Configuration:
        """Make the configuration with a given canonical key.

        Raises
        ------
        InputError
            The key is malformed or belongs to another parent lattice.
        """
        match = _KEY_PATTERN.fullmatch(key)
        if match is None:
            raise InputError(f"{key!r} is no canonical key; they look like 's2-1.0.1.1.1.2-AB'")
        n_cells, *entries = map(int, match.groups()[:-1])
        hnf = hnf_from_entries(entries)
        labels = np.frombuffer(match[8].encode(), dtype=np.uint8).astype(np.int8) - ord("A")
        if round(np.linalg.det(hnf)) != n_cells or n_cells * parent.n_basis != len(labels):
            raise InputError(
                f"key {key!r} has {len(labels)} sites in {n_cells} cells; this parent lattice has "
                f"{parent.n_basis} per cell"
            )
        supercell = Supercell.from_matrix(parent, hnf)
        inside = labels < parent.n_species
        if not (inside.all() and supercell.allowed[np.arange(len(labels)), labels].all()):
            raise InputError(f"key {key!r} puts species where this parent lattice forbids them")
        configuration = cls(supercell, labels)
        if configuration.key != key:
            raise InputError(
                f"{key!r} is not canonical; this crystal has key {configuration.key!r}"
            )
        return cls(supercell, labels, is_canonical=True)

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Number of sites that hold each species, (n_species,)."""
        return np.bincount(self.labels, minlength=self.supercell.parent.n_species)

    @property
    def composition(self) -> npt.NDArray[np.float64]:
        """Fractions of all sites, vacancies included, that hold each species, (n_species,)."""
        return self.counts / self.supercell.n_sites

    @property
    def n_atoms(self) -> int:
        """Number of atoms; vacancies do not count."""
        pairs = zip(self.supercell.parent.species, self.counts.tolist(), strict=True)
        return sum(n for symbol, n in pairs if symbol != VACANCY)

    @property
    def atomic_fractions(self) -> npt.NDArray[np.float64]:
        """Fractions of the atoms that are each element, (n_elements,); see `Labelings`."""
        fractions: npt.NDArray[np.float64] = self._batch.atomic_fractions[0]
        return fractions

    @property
    def symbols(self) -> tuple[str, ...]:
        """The elements that are there, in the parent's order of species."""
        pairs = zip(self.supercell.parent.species, self.counts.tolist(), strict=True)
        return tuple(symbol for symbol, n in pairs if n and symbol != VACANCY)

    @property
    def formula(self) -> str:
        """Reduced formula in the parent's order of species, e.g. "CuPd3"; vacancies left out."""
        return reduced_formula(self.supercell.parent.species, self.counts.tolist())

    @cached_property
    def key(self) -> str:
        """Canonical key, the same for every description of the same crystal."""
        return (written_keys(self._batch) if self.is_canonical else self._batch.keys())[0]

    @property
    def _batch(self) -> Labelings:
        return Labelings(self.supercell, self.labels[None])

    def canonical(self) -> Configuration:
        """Return the same crystal in its primitive canonical supercell."""
        return self if self.is_canonical else self._batch.canonical()[0]

    def to_atoms(self) -> Atoms:
        """Return the structure with ideal positions, in the supercell's reduced cell."""
        return self.supercell.to_atoms(self.labels)
