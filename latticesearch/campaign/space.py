"""The space of candidates: what is enumerated and held, and how the rest is explored."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from itertools import groupby, product
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.campaign.factories import search_matrix
from latticesearch.enumeration import (
    LARGEST_INDEX,
    Restrictions,
    count_labelings,
    enumerate_labelings,
    require_possible,
    sample_labelings,
    superlattices,
)
from latticesearch.errors import InputError
from latticesearch.lattice import VACANCY, Configuration, Labelings, Supercell
from latticesearch.parallel import SerialComm, gather_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from latticesearch.campaign.settings import CandidateSettings, Settings
    from latticesearch.hull import Hull
    from latticesearch.lattice import ParentLattice
    from latticesearch.learning import CandidateSet
    from latticesearch.parallel import Communicator
    from latticesearch.potential import Potential
    from latticesearch.progress import Progress
    from latticesearch.search import CandidatePool

log = logging.getLogger(__name__)

ENUMERATED = "enumeration"
SAMPLED = "sample"
EXPLORED = "greedy"
"""What candidates.parquet calls the source of what an exploration found, whatever its method."""


SAMPLE_SHARE = 10
"""Sampled structures for each one of the first training set: enough to spread it."""


@dataclass(frozen=True, eq=False)
class CandidateSpace:
    """Which structures compete, and how the space of them is covered.

    Parameters
    ----------
    parent
        The lattice.
    held
        Numbers of labelings of the cells that are enumerated and held as candidates from the
        beginning, by number of parent cells.
    explored
        Numbers of labelings of the cells that every round explores, by number of parent cells.
    wanted
        Which labelings compete.
    supercell
        The one supercell, where the campaign names one.
    listed
        The structures that compete, where they are taken from another run.
    """

    parent: ParentLattice
    held: Mapping[int, int]
    explored: Mapping[int, int]
    wanted: Restrictions
    supercell: Supercell | None = None
    listed: tuple[Configuration, ...] = ()

    @property
    def sizes(self) -> dict[int, int]:
        """Numbers of labelings of all cells, by number of parent cells."""
        return {**self.held, **self.explored}

    @property
    def n_possible(self) -> int:
        """Number of structures in the whole space."""
        return sum(self.sizes.values())

    @property
    def n_held(self) -> int:
        """Number of structures that are candidates from the beginning, but for end members."""
        return sum(self.held.values())

    @property
    def n_explored(self) -> int:
        """Number of structures left to exploration."""
        return sum(self.explored.values())

    def labelings(
        self,
        sizes: Mapping[int, int],
        comm: Communicator | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Labelings]:
        """Yield this rank's labelings of some of the sizes; see `enumerate_labelings`."""
        present = [n for n, count in sizes.items() if count]
        if not present:
            return iter(())
        if self.listed:
            return _share(self.listed, comm or SerialComm())
        return enumerate_labelings(
            self.parent,
            min(present),
            max(present),
            self.wanted.composition,
            supercell=self.supercell,
            comm=comm,
            progress=progress,
            **self.wanted.rules,
        )


def candidate_space(settings: Settings, parent: ParentLattice) -> CandidateSpace:
    """Decide by exact counts what is held as candidates and what is left to exploration."""
    if not parent.is_active.any():
        raise InputError(
            "every site of the parent lattice allows one species only "
            f"({', '.join(parent.species)}): there is nothing to search; give at least two"
        )
    wanted = restrictions(settings, parent)
    if settings.candidates.from_run is not None:
        return _space_of_run(settings.candidates, parent, wanted)
    limit = settings.candidates.exhaustive_limit
    matrix = search_matrix(settings, parent)
    if matrix is None:
        return _space_of_sizes(limit, parent, _sizes(settings.candidates, parent), wanted)
    supercell = Supercell.from_matrix(parent, matrix)
    n = supercell.n_cells
    require_possible(parent, [n], wanted)
    count = count_labelings(parent, None, wanted.composition, supercell=supercell, **wanted.rules)
    held, explored = ({n: count}, {}) if count <= limit else ({}, {n: count})
    return CandidateSpace(parent, held, explored, wanted, supercell)


def _space_of_run(
    chosen: CandidateSettings, parent: ParentLattice, wanted: Restrictions
) -> CandidateSpace:
    """Hold the structures near the hull of another run."""
    from latticesearch.campaign.levels import near_hull_of

    assert chosen.from_run is not None  # the caller has seen it
    found = near_hull_of(chosen.from_run, chosen.within, parent)
    if found.n_foreign:
        log.warning(
            "candidates.from_run: %d structures hold what this lattice does not", found.n_foreign
        )
    sizes = Counter(one.supercell.n_cells for one in found.structures)
    return CandidateSpace(parent, dict(sorted(sizes.items())), {}, wanted, listed=found.structures)


def _share(structures: Sequence[Configuration], comm: Communicator) -> Iterator[Labelings]:
    """Yield this rank's part of listed structures, one batch per supercell."""
    cells: dict[bytes, list[Configuration]] = {}
    for one in structures:
        cells.setdefault(one.supercell.hnf.tobytes(), []).append(one)
    for number, members in enumerate(cells.values()):
        if number % comm.size == comm.rank:
            yield Labelings(members[0].supercell, np.array([one.labels for one in members]))


def _sizes(chosen: CandidateSettings, parent: ParentLattice) -> range:
    """Return the sizes that compete, in parent cells.

    Raises
    ------
    InputError
        There are none, or some are beyond what can be enumerated.
    """
    assert chosen.max_sites is not None  # the settings demand it without a supercell
    largest = chosen.max_sites // parent.n_basis
    smallest = -(-chosen.min_sites // parent.n_basis)
    if largest == 0:
        raise InputError(
            f"candidates.max_sites = {chosen.max_sites} is less than the {parent.n_basis} sites "
            "of the parent lattice's cell"
        )
    if largest > LARGEST_INDEX:
        raise InputError(
            f"candidates.max_sites = {chosen.max_sites} asks for superlattices of up to {largest} "
            f"primitive cells; they go from 1 to {LARGEST_INDEX}"
        )
    if smallest > largest:
        raise InputError(
            f"no multiple of the {parent.n_basis} sites of the parent lattice's cell lies between "
            f"candidates.min_sites = {chosen.min_sites} and max_sites = {chosen.max_sites}"
        )
    return range(smallest, largest + 1)


def _space_of_sizes(
    limit: int, parent: ParentLattice, sizes: range, wanted: Restrictions
) -> CandidateSpace:
    """Hold sizes from the smallest on, as long as the limit allows."""
    require_possible(parent, sizes, wanted)
    held: dict[int, int] = {}
    explored: dict[int, int] = {}
    for n in sizes:
        count = count_labelings(parent, n, wanted.composition, **wanted.rules)
        fits = not explored and sum(held.values()) + count <= limit
        (held if fits else explored)[n] = count
    space = CandidateSpace(parent, held, explored, wanted)
    if space.n_possible == 0:
        raise InputError(
            f"no cell of {sizes[0]} to {sizes[-1]} primitive cells has a structure of its own with "
            f"{wanted}; widen the ranges or allow larger cells"
        )
    return space


def restrictions(settings: Settings, parent: ParentLattice) -> Restrictions:
    """Return which labelings compete."""
    chosen = settings.candidates
    if len(chosen.sublattices) not in {0, len(parent.sublattices)}:
        there = ", ".join(
            "/".join(parent.species[s] for s in np.flatnonzero(parent.allowed[sites[0]]))
            for sites in parent.sublattices
        )
        raise InputError(
            f"candidates.sublattices has {len(chosen.sublattices)} tables; this parent lattice has "
            f"{len(parent.sublattices)} sublattice(s): {there}; give one table for each, {{}} for "
            "any composition"
        )
    superperiodic = chosen.superperiodic
    return Restrictions(
        composition=chosen.composition or None,
        sublattices={n: c for n, c in enumerate(chosen.sublattices) if c} or None,
        complete=chosen.complete,
        exchange=chosen.exchange,
        layer_axis=chosen.layer_axis,
        superperiodic=chosen.supercell is not None if superperiodic is None else superperiodic,
    )


def require_searchable(space: CandidateSpace) -> None:
    """Refuse restrictions that make sense for counting and enumerating, but not for a campaign.

    Raises
    ------
    InputError
        Exchanged species, superperiodic structures of many sizes, or restrictions that the
        search does not know while structures are left to it.
    """
    wanted = space.wanted
    if wanted.exchange:
        raise InputError(
            "candidates.exchange: structures with exchanged species differ in energy; it is for "
            "count and enumerate only, leave it out of a campaign"
        )
    if wanted.superperiodic and space.supercell is None:
        raise InputError(
            "candidates.superperiodic: structures with a smaller cell are those of smaller sizes "
            "once more; leave it out, or name a supercell"
        )
    unknown = [
        name
        for name, there in (
            ("sublattices", bool(wanted.sublattices)),
            ("complete", wanted.complete),
            ("superperiodic = false", space.supercell is not None and not wanted.superperiodic),
        )
        if there
    ]
    if unknown and space.n_explored:
        raise InputError(
            f"candidates.{unknown[0]}: the search, to which {space.n_explored} structures are "
            "left, does not know this restriction; leave it out, or set exhaustive_limit = "
            f"{space.n_possible}"
        )


def candidate_set(
    space: CandidateSpace, comm: Communicator | None = None, progress: Progress | None = None
) -> CandidateSet:
    """Enumerate the candidates: the end members and all that the space holds."""
    from latticesearch.learning import CandidateSet

    comm = comm or SerialComm()
    candidates = CandidateSet(space.parent)
    candidates.add(end_members(space.parent), "end member")
    found = list(space.labelings(space.held, comm, progress))
    # Which rank found what must not show: the order is that of the cells and labels themselves.
    batches = gather_blocks(found, comm)
    n_found = sum(len(batch) for batch in batches)
    if n_found != space.n_held:
        raise RuntimeError(
            f"internal error: {n_found} structures enumerated, {space.n_held} expected by "
            "Polya counting; please report the campaign file"
        )
    for batch in sorted(batches, key=_batch_order):
        candidates.add(batch, ENUMERATED)
    return candidates


def add_known(candidates: CandidateSet, known: Sequence[tuple[str, str]]) -> None:
    """Add the structures whose energies are known, whatever the settings would look at today.

    Parameters
    ----------
    candidates
        Grows by those that are not there.
    known
        Key and source of each, in the order of the keys.
    """
    parent = candidates.parent
    for source, group in groupby(sorted(known, key=lambda one: one[::-1]), key=lambda one: one[1]):
        there = (Configuration.from_key(parent, key) for key, _ in group)
        candidates.add_configurations(there, source)


def add_sample(candidates: CandidateSet, space: CandidateSpace, settings: Settings) -> None:
    """Add a random sample of the cells left to the search, where there is too little to learn from.

    The search needs a potential, which needs energies to learn from. A sample to choose these
    from is all that can be looked at before.
    """
    if space.n_held >= settings.learning.initial:
        return
    wanted = SAMPLE_SHARE * settings.learning.initial
    sizes = {n: count for n, count in space.explored.items() if count}
    for n, count in sizes.items():
        share = min(count, -(-wanted // len(sizes)))
        if share <= 0:
            continue
        sample = sample_labelings(
            space.parent,
            share,
            n if space.supercell is None else None,
            space.wanted.composition,
            supercell=space.supercell,
            seed=settings.campaign.seed,
            **space.wanted.rules,
        )
        candidates.add_configurations(sample, SAMPLED)


def _batch_order(batch: Labelings) -> tuple[int, list[int], list[int]]:
    """Return a sort key that two different batches never share."""
    first = batch.labels[0].tolist() if len(batch) else []
    return batch.supercell.n_cells, batch.supercell.hnf.ravel().tolist(), first


def end_members(parent: ParentLattice) -> Labelings:
    """Return the labelings of the primitive cell with one species per sublattice.

    They span the composition space, so formation energies exist also where the campaign
    restricts the composition of its candidates.
    """
    cell = Supercell.from_matrix(parent, np.eye(3, dtype=int))
    choices = [np.flatnonzero(parent.allowed[sites[0]]) for sites in parent.sublattices]
    labels = np.zeros((int(np.prod([len(c) for c in choices])), parent.n_basis), dtype=np.int8)
    for row, pick in enumerate(product(*choices)):
        for sites, label in zip(parent.sublattices, pick, strict=True):
            labels[row, sites] = label
    return Labelings(cell, labels)


def explore(
    model: Potential,
    space: CandidateSpace,
    near: tuple[Hull, float],
    window: float,
    comm: Communicator,
    **limits: Any,
) -> tuple[list[Configuration], int]:
    """Search the cells whose structures are not held.

    Parameters
    ----------
    model
        Gives the energies.
    space
        Says which cells those are.
    near
        The hull of what is known, eV/atom, and how far above it all structures are wanted, not
        only the best of each composition.
    window
        How far above the hull the best of each composition are wanted, eV/atom.
    comm
        The ranks that call this together.
    limits
        max_per_composition, shapes, budget and seed, as `search` takes them.

    Returns
    -------
    found
        Canonical structures near the hull.
    evaluations
        Energies that were computed.
    """
    from latticesearch.search import search

    arguments = {
        **_cells(space),
        "near": near,
        "composition": space.wanted.composition,
        "comm": comm,
        **limits,
    }
    pool = search(model, space.parent, **arguments)
    return near_hull(pool, near[0], max(window, near[1])), pool.evaluations


def _cells(space: CandidateSpace) -> dict[str, Any]:
    """Return the arguments of `search` that name the cells to explore."""
    sizes = [n for n, count in space.explored.items() if count]
    if space.supercell is not None:
        return {"supercells": [space.supercell]}
    if space.wanted.layer_axis is not None:
        # All superlattices of the sizes would be too many: those with several layers are out.
        return {"supercells": _layers(space, sizes)}
    n_basis = space.parent.n_basis
    return {"min_sites": min(sizes) * n_basis, "max_sites": max(sizes) * n_basis}


def _layers(space: CandidateSpace, sizes: Sequence[int]) -> list[Supercell]:
    """Return the superlattices of some sizes in which nothing is stacked along the layer axis."""
    axis, parent = space.wanted.layer_axis, space.parent
    forms = (hnf for n in sizes for hnf in superlattices(parent, n, layer_axis=axis))
    return [Supercell.from_matrix(parent, hnf) for hnf in forms]


def near_hull(pool: CandidatePool, hull: Hull, window: float) -> list[Configuration]:
    """Return the candidates of a search up to `window`, eV/atom, above a hull."""
    is_element = [symbol != VACANCY for symbol in pool.parent.species]
    x = pool.compositions[:, is_element]
    rows = np.flatnonzero(x.sum(axis=1) > 0.0)
    if not len(rows):
        return []
    x = x[rows] / x[rows].sum(axis=1, keepdims=True)
    near = rows[hull.energy_above_hull(x, pool.energies[rows]) < window]
    return [pool.candidate(i).configuration for i in near.tolist()]
