"""The best distinct candidates of every composition; pools of ranks and of rounds can be merged."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.energies import counted_per_atom, site_to_atom
from latticesearch.errors import InputError
from latticesearch.hull import hull_with
from latticesearch.lattice import Configuration, Labelings, Supercell
from latticesearch.lattice.labelings import written_keys
from latticesearch.lattice.parent import VACANCY
from latticesearch.search.types import ENERGY_DECIMALS, Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice
    from latticesearch.parallel import Communicator
    from latticesearch.search.types import SearchResult, Task

Ratio = tuple[int, ...]
"""Counts of the species divided by their greatest common divisor: the name of a composition."""

PROVEN = 1e-8
"""eV per site below which a gap between an energy and its bound is a matter of rounding."""


class Entry(NamedTuple):
    """What is kept of a candidate; the order of the fields is the order of candidates."""

    rounded: float
    """Energy, eV per site, rounded so that equal energies compare equal on every path."""
    key: str
    """Canonical key."""
    cell: tuple[int, ...]
    """Nine entries of the Hermite normal form of its primitive canonical supercell."""
    labels: bytes
    """Canonical labels, int8."""
    source: str
    """What found it."""
    energy: float
    """Energy, eV per site."""
    hnf: tuple[int, ...]
    """Nine entries of the supercell it was found in, row by row."""
    evaluations: int
    """Energies spent on the piece of work that found it."""
    is_near: bool = False
    """Kept whatever the number of lower ones: it is near a hull that was asked about."""


@dataclass(frozen=True, eq=False)
class CandidatePool:
    """The lowest distinct candidates of every composition.

    Merging is associative and commutative, so pools reduce over ranks in any order. Candidates
    are ordered by composition, then by energy, equal energies by key.

    Attributes
    ----------
    parent
        Parent lattice of all candidates.
    max_per_composition
        Candidates kept of each composition.
    entries
        Per composition the kept candidates, lowest energy first.
    evaluations
        Energy evaluations spent on finding them.
    bounds
        Proven least energies, eV per site, of some compositions, in the cells of the search that
        proved them; another search has other cells, so a merger has none.
    """

    parent: ParentLattice
    max_per_composition: int
    entries: Mapping[Ratio, tuple[Entry, ...]]
    evaluations: int = 0
    bounds: Mapping[Ratio, float] = field(default_factory=dict)

    @classmethod
    def empty(cls, parent: ParentLattice, max_per_composition: int) -> CandidatePool:
        """Return a pool without candidates."""
        return cls(parent, max_per_composition, {})

    @classmethod
    def from_labelings(
        cls,
        batch: Labelings,
        energies: npt.NDArray[np.float64],
        *,
        source: str,
        max_per_composition: int,
        evaluations: int,
        spent: int = 1,
    ) -> CandidatePool:
        """Return the pool of a batch.

        Parameters
        ----------
        batch
            n labelings; equivalent ones may repeat.
        energies
            (n,), eV per site.
        source
            Name of the method that found them.
        max_per_composition
            Candidates kept of each composition.
        evaluations
            Energy evaluations spent on the batch, for the bill of the pool.
        spent
            Those of the piece of work that found each of the candidates; one where every
            labeling was evaluated for its own sake.
        """
        return cls.empty(batch.supercell.parent, max_per_composition).with_batches(
            [(batch, energies)], source=source, evaluations=evaluations, spent=spent
        )

    def with_batches(
        self,
        batches: Iterable[tuple[Labelings, npt.NDArray[np.float64]]],
        *,
        source: str,
        evaluations: int,
        spent: int = 1,
        is_near: bool = False,
    ) -> CandidatePool:
        """Return the best candidates of this pool and of batches; see `from_labelings`.

        Parameters
        ----------
        batches
            Labelings with their energies, (n,), eV per site.
        source, evaluations, spent
            As in `from_labelings`.
        is_near
            All of them are kept, whatever the number of lower ones.
        """
        found: dict[Ratio, list[Entry]] = {}
        names: dict[tuple[int, ...], Ratio] = {}
        for batch, energies in batches:
            if not np.isfinite(energies).all():
                raise InputError(
                    "the potential gives energies that are not finite numbers: check its "
                    "coefficients"
                )
            hnf = tuple(batch.supercell.hnf.ravel().tolist())
            for members, canonical in batch.canonical_groups():
                # One group at a time: what its crystals have in common is worked out once.
                cell = tuple(canonical.supercell.hnf.ravel().tolist())
                rows = zip(
                    canonical.counts.tolist(),
                    written_keys(canonical),
                    canonical.labels,
                    energies[members].tolist(),
                    strict=True,
                )
                for counts, key, labels, energy in rows:
                    entry = Entry(
                        round(energy, ENERGY_DECIMALS), key, cell, labels.tobytes(),
                        source, energy, hnf, spent, is_near,
                    )  # fmt: skip
                    exact = tuple(counts)
                    if exact not in names:
                        names[exact] = ratio_of(counts)
                    found.setdefault(names[exact], []).append(entry)
        entries = dict(self.entries)
        for ratio, items in found.items():
            entries[ratio] = _best([*entries.get(ratio, ()), *items], self.max_per_composition)
        total = self.evaluations + evaluations
        return CandidatePool(self.parent, self.max_per_composition, entries, total)

    def with_results(
        self, found: Iterable[tuple[Task, SearchResult]], source: str
    ) -> CandidatePool:
        """Return the best candidates of this pool and of what tasks gave.

        Parameters
        ----------
        found
            Tasks with their results, energies in eV per site.
        source
            Name of the method that found them.
        """
        pool = self
        for task, (labels, energies, n) in found:
            batches = [(Labelings(task.cell, labels), energies)]
            pool = pool.with_batches(batches, source=source, evaluations=n, spent=n)
        return pool

    @property
    def per_site(self) -> npt.NDArray[np.float64]:
        """Energies of the candidates, (n,), eV per site."""
        return np.array([entry.energy for _, entry in self._ordered], dtype=np.float64)

    def merge(self, other: CandidatePool) -> CandidatePool:
        """Return the best candidates of both; evaluations add up."""
        limit = min(self.max_per_composition, other.max_per_composition)
        entries = dict(self.entries)
        if limit < self.max_per_composition:
            entries = {ratio: _best(items, limit) for ratio, items in entries.items()}
        for ratio, items in other.entries.items():
            entries[ratio] = _best([*entries.get(ratio, ()), *items], limit)
        return CandidatePool(self.parent, limit, entries, self.evaluations + other.evaluations)

    def reduce(self, comm: Communicator) -> CandidatePool:
        """Return on all ranks the merger of the pools of all ranks."""
        if comm.size == 1:
            return self
        # Only keys and numbers travel: the supercells are known, or rebuilt, on every rank.
        parts = comm.allgather((dict(self.entries), self.evaluations))
        pool = CandidatePool.empty(self.parent, self.max_per_composition)
        for entries, evaluations in parts:
            part = CandidatePool(self.parent, self.max_per_composition, entries, evaluations)
            pool = pool.merge(part)
        return pool

    def highest_kept(self, counts: Iterable[int]) -> float:
        """Return the rounded energy above which a candidate with these counts is not kept, eV."""
        kept = self.entries.get(ratio_of(counts), ())
        n = self.max_per_composition
        return kept[n - 1].rounded if len(kept) >= n else np.inf

    def __len__(self) -> int:
        """Return the number of candidates."""
        return sum(len(items) for items in self.entries.values())

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """All candidates, by composition, then by energy."""
        return tuple(self.candidate(i) for i in range(len(self)))

    @cached_property
    def _ordered(self) -> list[tuple[Ratio, Entry]]:
        """All entries in the order of the candidates, with their compositions."""
        return [(ratio, entry) for ratio in sorted(self.entries) for entry in self.entries[ratio]]

    def candidate(self, i: int) -> Candidate:
        """Return one of the candidates; to look at a few, not all need be made."""
        _, entry = self._ordered[i]
        # Canonical since it entered the pool, maybe on another rank: nothing to parse.
        cell = Supercell.from_hnf(self.parent, np.array(entry.cell, dtype=np.int64).reshape(3, 3))
        labels = np.frombuffer(entry.labels, dtype=np.int8)
        crystal = Configuration(cell, labels, is_canonical=True)
        found_in = np.array(entry.hnf, dtype=np.int64).reshape(3, 3)
        return Candidate(
            crystal, entry.energy, entry.source, entry.key, found_in, entry.evaluations
        )

    @property
    def _ratios(self) -> npt.NDArray[np.int64]:
        """Smallest whole numbers in the proportion of the species, (n, n_species)."""
        rows = [ratio for ratio, _ in self._ordered]
        return np.array(rows, dtype=np.int64).reshape(-1, self.parent.n_species)

    @property
    def _is_atom(self) -> npt.NDArray[np.bool_]:
        """Which species are atoms, (n_species,)."""
        return np.array([symbol != VACANCY for symbol in self.parent.species])

    @cached_property
    def compositions(self) -> npt.NDArray[np.float64]:
        """Fractions of all sites, vacancies included, (n, n_species)."""
        ratios = self._ratios
        fractions: npt.NDArray[np.float64] = ratios / ratios.sum(axis=1, keepdims=True)
        return fractions

    @cached_property
    def energies(self) -> npt.NDArray[np.float64]:
        """Energies of the candidates, (n,), eV per atom."""
        ratios = self._ratios
        n_sites = np.array([len(entry.labels) for _, entry in self._ordered], dtype=np.int64)
        units = n_sites // ratios.sum(axis=1)
        n_atoms = units * ratios[:, self._is_atom].sum(axis=1)
        return counted_per_atom(self.per_site, n_sites, n_atoms)

    @cached_property
    def heights(self) -> npt.NDArray[np.float64]:
        """Energies above the hull of the candidates, (n,), eV per atom, vacancies left out.

        Those of the region that the pool spans. NaN without atoms.
        """
        x = self.compositions[:, self._is_atom]
        rows = np.flatnonzero(x.sum(axis=1) > 0)
        result = np.full(len(self), np.nan)
        if len(rows):
            hull = hull_with(x[rows] / x[rows].sum(axis=1, keepdims=True), self.energies[rows])
            result[rows] = hull.energies_above_hull
        return result

    @cached_property
    def is_stable(self) -> npt.NDArray[np.bool_]:
        """Which candidates, (n,), are on the hull of the region that the pool spans.

        Only they are worth a proof, and shapes of supercells that can hold them.
        """
        return np.asarray(self.heights == 0.0)

    @property
    def stable_cells(self) -> list[Supercell]:
        """Primitive cells of the stable candidates, without that of the parent lattice itself."""
        cells = [self.candidate(i).supercell for i in np.flatnonzero(self.is_stable).tolist()]
        return [cell for cell in cells if cell.n_cells > 1]

    @cached_property
    def proven_gaps(self) -> npt.NDArray[np.float64]:
        """Energy by which the candidates' compositions may still have lower ones, (n,), eV/atom.

        0 where it is proven that there are none, NaN where nothing is proven; see `bounds`.
        """
        gaps = np.full(len(self), np.nan)
        for i, candidate in enumerate(self.candidates):
            bound = self.bounds.get(ratio_of(candidate.configuration.counts))
            if bound is not None:
                gap = (candidate.energy - bound) if candidate.energy > bound + PROVEN else 0.0
                gaps[i] = site_to_atom(gap, candidate.configuration)
        return gaps


def ratio_of(counts: Iterable[int]) -> Ratio:
    """Return the name of the composition that species counts, (n_species,), have."""
    counts = [int(n) for n in counts]
    divisor = max(gcd(*counts), 1)
    return tuple(n // divisor for n in counts)


def _best(items: Iterable[Entry], limit: int) -> tuple[Entry, ...]:
    """Return the `limit` lowest entries with different keys, and those near a hull, in order."""
    kept: dict[str, Entry] = {}
    for entry in sorted(items):
        known = kept.setdefault(entry.key, entry)
        if entry.is_near and not known.is_near:
            kept[entry.key] = known._replace(is_near=True)
    ordered = tuple(kept.values())
    return ordered[:limit] + tuple(entry for entry in ordered[limit:] if entry.is_near)
