"""From settings to objects: the only code, beside the campaign, that knows the campaign file."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.campaign.answers import LabellingOptions
from latticesearch.enumeration import (
    LARGEST_INDEX,
    Restrictions,
    count_labelings,
    enumerate_labelings,
    require_possible,
    superlattices,
)
from latticesearch.errors import InputError
from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.lattice.parent import VACANCY
from latticesearch.learning import CandidateSet, LearningOptions
from latticesearch.oracles import AseOracle, RecordedOracle
from latticesearch.parallel import SerialComm, gather_blocks
from latticesearch.potential import MtpBasis, read_mtp
from latticesearch.search import search
from latticesearch.search.shapes import choose_shapes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from latticesearch.campaign.settings import Settings
    from latticesearch.hull import Hull
    from latticesearch.lattice import Configuration
    from latticesearch.oracles import Oracle
    from latticesearch.parallel import Communicator
    from latticesearch.potential import MtpPotential
    from latticesearch.progress import Progress
    from latticesearch.search import CandidatePool

MIN_DIST_SHARE = 0.9
"""Default min_dist as a share of the shortest distance of the parent lattice."""


@dataclass(frozen=True, eq=False)
class CandidatePlan:
    """How the space of candidates is covered.

    Parameters
    ----------
    exhaustive
        Numbers of labelings of the cells that are enumerated, by number of parent cells.
    greedy
        Numbers of labelings of the cells left to the greedy search, by number of parent cells.
    wanted
        Which labelings compete.
    supercell
        The one supercell, where the campaign names one.
    """

    exhaustive: Mapping[int, int]
    greedy: Mapping[int, int]
    wanted: Restrictions
    supercell: Supercell | None = None

    @property
    def n_possible(self) -> int:
        """Number of structures in the whole space."""
        return sum(self.exhaustive.values()) + sum(self.greedy.values())

    @property
    def n_enumerated(self) -> int:
        """Number of structures to enumerate."""
        return sum(self.exhaustive.values())

    def labelings(
        self,
        parent: ParentLattice,
        sizes: Mapping[int, int],
        comm: Communicator | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Labelings]:
        """Yield this rank's labelings of some of the plan's sizes; see `enumerate_labelings`."""
        present = [n for n, count in sizes.items() if count]
        if not present:
            return iter(())
        return enumerate_labelings(
            parent,
            min(present),
            max(present),
            self.wanted.composition,
            supercell=self.supercell,
            comm=comm,
            progress=progress,
            **self.wanted.rules,
        )


def parent_lattice(settings: Settings) -> ParentLattice:
    """Return the parent lattice of a campaign."""
    lattice = settings.lattice
    allowed = lattice.species or lattice.sublattices
    assert allowed is not None  # the settings demand one of the two
    if lattice.file is not None:
        if isinstance(allowed, list) and isinstance(allowed[0], list):
            raise InputError(
                'lattice.sublattices: with a file write a table, e.g. {Ti = ["Ti", "Hf"]}'
            )
        return ParentLattice.from_file(lattice.file, allowed)
    if isinstance(allowed, dict):
        raise InputError(
            'lattice.sublattices: with a prototype write a list per sublattice, e.g. [["Ti"], ...]'
        )
    assert lattice.prototype is not None
    assert lattice.a is not None
    return ParentLattice.from_prototype(lattice.prototype, lattice.a, allowed, c=lattice.c)


def mtp_basis(settings: Settings, parent: ParentLattice) -> MtpBasis:
    """Return the basis of the potential; the cutoff has to reach the nearest neighbours."""
    shortest = shortest_distance(parent)
    cutoff = settings.potential.cutoff
    if cutoff <= shortest:
        raise InputError(
            f"potential.cutoff = {cutoff} Å does not reach the nearest neighbours of the parent "
            f"lattice at {shortest:.3f} Å; choose 1.5 to 2.5 times that distance"
        )
    min_dist = settings.potential.min_dist or MIN_DIST_SHARE * shortest
    sizes = {} if (n := settings.potential.radial_size) is None else {"radial_size": n}
    return MtpBasis(settings.potential.level, parent.species, cutoff, min_dist=min_dist, **sizes)


def start_potential(settings: Settings, basis: MtpBasis) -> MtpPotential:
    """Return the potential before the first fit: that of the settings' file, or a random one."""
    fresh = basis.potential(seed=settings.campaign.seed)
    if settings.potential.file is None:
        return fresh
    read = read_mtp(settings.potential.file, basis.species)
    for name in ("radial_coeffs", "moment_coeffs"):
        there, wanted = getattr(read, name).shape, getattr(fresh, name).shape
        if there != wanted:
            raise InputError(
                f"potential.file {settings.potential.file}: its {name} have the shape {there}, "
                f"level {basis.level} with these species needs {wanted}; change potential.level "
                "or radial_size, or leave the file out"
            )
    for name, there, wanted in (
        ("cutoff", read.max_dist, basis.cutoff),
        ("min_dist", read.min_dist, basis.min_dist),
    ):
        if abs(there - wanted) > 1e-9:
            raise InputError(
                f"potential.file {settings.potential.file} has {name} {there} Å, the campaign "
                f"{wanted} Å; set potential.{name} = {there}"
            )
    return read


def shortest_distance(parent: ParentLattice) -> float:
    """Return the shortest distance between two sites of a parent lattice, Å."""
    images = np.array(list(product((-2, -1, 0, 1, 2), repeat=3)))
    between = parent.basis[:, None, None] - parent.basis[None, :, None] + images
    lengths = np.linalg.norm(between @ parent.cell, axis=-1)
    return float(lengths[lengths > 1e-6].min())


def oracle(settings: Settings, parent: ParentLattice, n_ranks: int) -> Oracle:
    """Return the oracle; it refuses species it cannot compute."""
    source = settings.oracle
    result: Oracle
    if source.kind == "recorded":
        assert source.file is not None
        result = RecordedOracle(source.file, parent, select=source.select)
    else:
        result = AseOracle(
            source.calculator or "emt",
            parameters=source.parameters,
            relax_cell=source.relax_cell,
            relax_ions=source.relax_ions,
            fmax=source.fmax,
            max_steps=source.max_steps,
            timeout=source.timeout,
            workers=source.workers or n_ranks,
        )
    result.check_species(parent.species)
    unknown = sorted(set(source.references) - set(parent.species))
    if unknown:
        raise InputError(
            f"oracle.references: {unknown[0]} is not among the species {', '.join(parent.species)}"
        )
    return result


def labelling_options(settings: Settings) -> LabellingOptions:
    """Return how the oracle's answers are judged."""
    source = settings.oracle
    return LabellingOptions(source.attempts, source.max_formation_energy, source.references)


def learning_options(settings: Settings) -> LearningOptions:
    """Return the limits and tolerances of active learning."""
    return LearningOptions(**settings.learning.model_dump())


def candidate_plan(settings: Settings, parent: ParentLattice) -> CandidatePlan:
    """Decide by exact counts what is enumerated and what is left to the greedy search."""
    chosen = settings.candidates
    if not parent.is_active.any():
        raise InputError(
            "every site of the parent lattice allows one species only "
            f"({', '.join(parent.species)}): there is nothing to search; give at least two"
        )
    wanted = restrictions(settings, parent)
    if chosen.supercell is not None:
        supercell = Supercell.from_matrix(parent, _supercell_matrix(settings, parent))
        n = supercell.n_cells
        require_possible(parent, [n], wanted)
        count = count_labelings(
            parent, None, wanted.composition, supercell=supercell, **wanted.rules
        )
        split = ({n: count}, {}) if count <= chosen.exhaustive_limit else ({}, {n: count})
        return CandidatePlan(*split, wanted, supercell)
    assert chosen.max_sites is not None
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
    return _plan_sizes(chosen.exhaustive_limit, parent, range(smallest, largest + 1), wanted)


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


def _plan_sizes(
    limit: int, parent: ParentLattice, sizes: range, wanted: Restrictions
) -> CandidatePlan:
    """Enumerate sizes from the smallest on, as long as the limit allows."""
    require_possible(parent, sizes, wanted)
    exhaustive: dict[int, int] = {}
    greedy: dict[int, int] = {}
    for n in sizes:
        count = count_labelings(parent, n, wanted.composition, **wanted.rules)
        fits = not greedy and sum(exhaustive.values()) + count <= limit
        (exhaustive if fits else greedy)[n] = count
    if sum(exhaustive.values()) + sum(greedy.values()) == 0:
        raise InputError(
            f"no cell of {sizes[0]} to {sizes[-1]} primitive cells has a structure of its own with "
            f"{wanted}; widen the ranges or allow larger cells"
        )
    return CandidatePlan(exhaustive, greedy, wanted)


def require_searchable(plan: CandidatePlan) -> None:
    """Refuse restrictions that make sense for counting and enumerating, but not for a campaign.

    Raises
    ------
    InputError
        Exchanged species, superperiodic structures of many sizes, or restrictions that the greedy
        search does not know while structures are left to it.
    """
    wanted = plan.wanted
    if wanted.exchange:
        raise InputError(
            "candidates.exchange: structures with exchanged species differ in energy; it is for "
            "count and enumerate only, leave it out of a campaign"
        )
    if wanted.superperiodic and plan.supercell is None:
        raise InputError(
            "candidates.superperiodic: structures with a smaller cell are those of smaller sizes "
            "once more; leave it out, or name a supercell"
        )
    unknown = [
        name
        for name, there in (
            ("sublattices", bool(wanted.sublattices)),
            ("complete", wanted.complete),
            ("superperiodic = false", plan.supercell is not None and not wanted.superperiodic),
        )
        if there
    ]
    left = sum(plan.greedy.values())
    if unknown and left:
        raise InputError(
            f"candidates.{unknown[0]}: the greedy search, to which {left} structures are left, "
            "does not know this restriction; leave it out, or set exhaustive_limit = "
            f"{plan.n_possible}"
        )


def search_matrix(settings: Settings, parent: ParentLattice) -> list[list[int]] | None:
    """Return a campaign's supercell in units of the primitive cell; None where it has sizes."""
    if settings.candidates.supercell is None:
        return None
    return _supercell_matrix(settings, parent)


def _supercell_matrix(settings: Settings, parent: ParentLattice) -> list[list[int]]:
    """Return the campaign's supercell in units of the primitive cell, (3, 3)."""
    matrix = np.array(settings.candidates.supercell)
    if matrix.ndim == 1:
        matrix = np.diag(matrix)
    if settings.candidates.cell == "conventional":
        matrix = matrix @ parent.conventional
    result: list[list[int]] = matrix.tolist()
    return result


def candidate_set(
    parent: ParentLattice,
    plan: CandidatePlan,
    comm: Communicator | None = None,
    progress: Progress | None = None,
) -> CandidateSet:
    """Enumerate the candidates: the end members and everything the plan calls exhaustive."""
    comm = comm or SerialComm()
    candidates = CandidateSet(parent)
    candidates.add(end_members(parent), "end member")
    found = list(plan.labelings(parent, plan.exhaustive, comm, progress))
    # Which rank found what must not show: the order is that of the cells and labels themselves.
    batches = gather_blocks(found, comm)
    n_found = sum(len(batch) for batch in batches)
    if n_found != plan.n_enumerated:
        raise RuntimeError(
            f"internal error: {n_found} structures enumerated, {plan.n_enumerated} expected by "
            "Polya counting; please report the campaign file"
        )
    for batch in sorted(batches, key=_batch_order):
        candidates.add(batch, "enumeration")
    return candidates


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


def warm_up(parent: ParentLattice, basis: MtpBasis, plan: CandidatePlan) -> None:
    """Compile the kernels of a campaign, or load them from the disk cache, on a tiny problem."""
    potential = basis.potential()
    cell = Supercell.from_matrix(parent, [1, 1, 2])
    batch = next(enumerate_labelings(parent, supercell=cell, superperiodic=True, batch_size=8))
    potential.energies(batch)
    potential.evaluator(cell).gradient_rows(batch.labels)
    batch.keys()
    if plan.greedy:
        search(potential, parent, supercells=[cell], mode="target", exhaustive_up_to=0, budget=200)


def search_supercells(
    plan: CandidatePlan, parent: ParentLattice, shapes: int, stable: Sequence[Supercell] = ()
) -> list[Supercell]:
    """Return the supercells of the greedy search: so many shapes of every size at most.

    Some are the least skewed, some hosts of what is stable; see `choose_shapes`.
    """
    if not plan.greedy:
        return []
    if plan.supercell is not None:
        return [plan.supercell]
    cells = []
    for n in [n for n, count in plan.greedy.items() if count]:
        forms = superlattices(parent, n, layer_axis=plan.wanted.layer_axis)
        of_size = [Supercell.from_matrix(parent, hnf) for hnf in forms]
        cells += choose_shapes(of_size, shapes, stable)
    return cells


def near_hull(pool: CandidatePool, hull: Hull, window: float) -> list[Configuration]:
    """Return the candidates of a search up to `window`, eV/atom, above a hull."""
    found = [c for c in pool.candidates if c.configuration.n_atoms > 0]
    if not found:
        return []
    is_element = [i for i, s in enumerate(found[0].supercell.parent.species) if s != VACANCY]
    counts = np.array([c.configuration.counts[is_element] for c in found])
    x = counts / counts.sum(axis=1, keepdims=True)
    above = hull.energy_above_hull(x, [c.energy_per_atom for c in found])
    return [c.configuration for c, e in zip(found, above, strict=True) if e < window]
