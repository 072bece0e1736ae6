"""A proof that no labeling of a small cell is lower: branch and bound over the addition tree.

For every site the least energy it can have, whatever its undecided neighbours become, is read from
a table of all its environments; the sum over the sites bounds the cell from below. It is exact
where all sites are decided, so the search ends with the ground state, or with a proven gap.

The composition of a vertex of a hull may be had in many supercells. What was enumerated is proven;
in the others anything lower is looked for. A cell of twice the size holds all that a cell holds,
so only sizes are looked at of which the search has no multiple.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.energies import cell_to_site, site_to_cell
from latticesearch.errors import InputError
from latticesearch.lattice import Labelings
from latticesearch.search import _proof_kernels as kernels
from latticesearch.search._walk_kernels import Best
from latticesearch.search.partial import random_labeling
from latticesearch.search.pool import CandidatePool, ratio_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.potential.protocol import Evaluator
    from latticesearch.search.blocks import Block
    from latticesearch.search.pool import Ratio
    from latticesearch.search.types import Problem

    Labels = npt.NDArray[np.int8]
    Floats = npt.NDArray[np.float64]

log = logging.getLogger(__name__)

SOURCE = "certificate"

MAX_NODES = 2_000_000
"""Partial cells looked at per composition and supercell, some seconds."""

LARGEST_TABLE = 50_000_000
"""Entries of a table of environments, 400 MB; two species on 16 sites need 43 million."""

CHUNK = 20_000
"""Labelings whose site energies are worked out at once."""

TOLERANCE = 1e-8
"""eV per cell: what is not lower by more is not looked for."""


@dataclass(frozen=True)
class Certificate:
    """What is proven about one composition of one supercell.

    Attributes
    ----------
    labels : (n_sites,) int8
        The lowest labeling found.
    energy : float
        Its energy, eV per site.
    bound : float
        No labeling of this composition and supercell is lower, eV per site.
    nodes : int
        Partial cells looked at.
    evaluations : int
        Labelings evaluated for the tables of environments.
    """

    labels: Labels
    energy: float
    bound: float
    nodes: int
    evaluations: int

    @property
    def gap(self) -> float:
        """Energy that a lower labeling could gain at most, eV per site; tiny where it is proven."""
        return max(self.energy - self.bound, 0.0)


def certify(
    evaluator: Evaluator,
    counts: npt.NDArray[np.int64],
    *,
    labels: Labels | None = None,
    max_nodes: int = 10_000_000,
) -> Certificate:
    """Find the ground state of one composition of a small supercell and prove that it is.

    Parameters
    ----------
    evaluator
        Energies of the cell.
    counts
        (n_species,) atoms of each species.
    labels
        A labeling of low energy, which saves branches; a random one when not given.
    max_nodes
        Partial cells after which the search ends with a gap.

    Raises
    ------
    InputError
        The sites see too many others for a table of all environments, or the model gives no
        energies of single sites.
    """
    prover = Prover(evaluator)
    proof = prover.certify(counts, labels=labels, max_nodes=max_nodes)
    return replace(proof, evaluations=proof.evaluations + prover.evaluations)


class Prover:
    """Certificates of one supercell: its tables of environments serve all compositions.

    Parameters
    ----------
    evaluator
        Energies of the cell.

    Attributes
    ----------
    evaluations : int
        Labelings evaluated for the tables.

    Raises
    ------
    InputError
        The sites see too many others for a table of all environments.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._tables, self.evaluations = _bounds(evaluator)

    def certify(
        self,
        counts: npt.NDArray[np.int64],
        *,
        labels: Labels | None = None,
        below: float = math.inf,
        max_nodes: int = 10_000_000,
    ) -> Certificate:
        """Return the certificate of one composition.

        Parameters
        ----------
        counts
            (n_species,) atoms of each species.
        labels
            A labeling of low energy, which saves branches; a random one when not given.
        below
            Energy that is known from elsewhere, eV per site: only what is lower is looked for, so
            `Certificate.bound` may be this energy while `Certificate.energy` is higher.
        max_nodes
            Partial cells after which the search ends with a gap.
        """
        evaluator, counts = self.evaluator, np.asarray(counts, dtype=np.int64)
        if labels is None:
            labels = random_labeling(evaluator.supercell.allowed, counts, np.random.default_rng(0))
        n_sites, n_species = evaluator.supercell.allowed.shape
        tree = kernels.Tree(
            np.full(n_sites, -1, dtype=np.int8),
            counts.copy(),
            (self._tables.place * n_species).sum(axis=1),
            np.zeros((n_sites, n_species), dtype=np.int64),
            np.zeros((n_sites, n_species)),
            np.zeros(n_sites, dtype=np.int64),
        )
        energy = site_to_cell(np.minimum(evaluator.energies(labels[None]), below), n_sites)
        best = Best(np.array(labels, dtype=np.int8), energy)
        nodes, bound = kernels.prove(self._tables, tree, best, TOLERANCE, max_nodes)
        found = float(evaluator.energies(best.labels[None])[0])
        return Certificate(best.labels, found, cell_to_site(bound, n_sites), int(nodes), 2)


def _bounds(evaluator: Evaluator) -> tuple[kernels.Bounds, int]:
    """Return the bounds of a supercell and the labelings evaluated for them."""
    if not (evaluator.has_site_energies and hasattr(evaluator.walk_tables, "neighbours")):
        raise InputError(
            "a certificate needs the energies of single sites and which sites these depend on; "
            "the model gives energies of labelings alone"
        )
    supercell = evaluator.supercell
    n_sites, n_cells = supercell.n_sites, supercell.n_cells
    n_species = supercell.allowed.shape[1]
    place = np.zeros((n_sites, n_sites), dtype=np.int64)
    tables = []
    evaluations = 0
    for b in range(supercell.parent.n_basis):
        seen = _seen_sites(evaluator, b * n_cells)
        size = (n_species + 1.0) ** len(seen)
        if size > LARGEST_TABLE:
            raise InputError(
                f"a site sees {len(seen)} different sites of {n_species} species: a table of "
                f"{size:.0e} environments is too large for a certificate; take a smaller cell, a "
                "shorter cutoff or fewer species"
            )
        table = _table(evaluator, b * n_cells, seen)
        evaluations += n_species ** len(seen)
        tables.append(table.reshape(-1))
        weights = (n_species + 1) ** np.arange(len(seen) - 1, -1, -1, dtype=np.int64)
        basis, cells = supercell.basis_index[seen], supercell.cell_vectors[seen % n_cells]
        for t, vector in enumerate(supercell.cell_vectors):
            place[b * n_cells + t, supercell.site_of(basis, cells + vector)] = weights
    widest = max(len(table) for table in tables)
    padded = tables[0][None]
    if len(tables) > 1:
        padded = np.array([np.pad(table, (0, widest - len(table))) for table in tables])
    basis_of = supercell.basis_index.astype(np.int64)
    return kernels.Bounds(padded, basis_of, place, _order(place)), evaluations


def _seen_sites(evaluator: Evaluator, site: int) -> npt.NDArray[np.intp]:
    """Return the sites, (n,), that the energy of a site depends on, itself first."""
    tables, n_sites = evaluator.walk_tables, evaluator.supercell.n_sites
    seen = set(tables.neighbours[site].tolist())
    if hasattr(tables, "start"):  # triplets of a cluster expansion
        first, end = tables.start[site * n_sites], tables.start[(site + 1) * n_sites]
        seen |= set(tables.second[first:end].tolist())
    return np.array([site, *sorted(int(j) for j in seen if j >= 0 and j != site)], dtype=np.intp)


def _table(evaluator: Evaluator, site: int, seen: npt.NDArray[np.intp]) -> Floats:
    """Return the least energies of a site, (n_species + 1, ...), eV.

    One axis per site of `seen`, (n,): its species, or undecided.
    """
    allowed = evaluator.supercell.allowed
    n_species, shape = allowed.shape[1], (allowed.shape[1],) * len(seen)
    energies = np.empty(n_species ** len(seen))
    for first in range(0, len(energies), CHUNK):
        numbers = np.arange(first, min(first + CHUNK, len(energies)))
        labels = np.zeros((len(numbers), len(allowed)), dtype=np.int8)
        labels[:, seen] = np.array(np.unravel_index(numbers, shape)).T
        energies[first : first + len(numbers)] = evaluator.site_energies(labels)[:, site]
    table = np.empty((n_species + 1,) * len(seen))
    every, decided = slice(None), slice(n_species)
    table[(decided,) * len(seen)] = energies.reshape(shape)
    for axis, j in enumerate(seen):
        # In place: the axes before this one have their last row already.
        corner = (every,) * (axis + 1) + (decided,) * (len(seen) - axis - 1)
        by_species = np.moveaxis(table[corner], axis, 0)
        by_species[:n_species][~allowed[j]] = np.inf
        by_species[n_species] = np.inf
        for species in range(n_species):
            np.minimum(by_species[n_species], by_species[species], out=by_species[n_species])
    return table


def _order(place: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a sequence of sites, (n_sites,), each seeing as many earlier ones as possible.

    `place` is (n_sites, n_sites), not zero where one site sees another.
    """
    sees = (place > 0) | (place > 0).T
    order = [0]
    while len(order) < len(place):
        rest = [i for i in range(len(place)) if i not in order]
        order.append(max(rest, key=lambda i: (int(sees[i, order].sum()), -i)))
    return np.array(order, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked about one supercell.

    Attributes
    ----------
    supercell
    counts
        (n_species,) atoms of each species, per composition.
    energies
        The lowest known of these compositions, eV per site.
    """

    supercell: Supercell
    counts: list[npt.NDArray[np.int64]] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)


def certify_vertices(
    problem: Problem, pool: CandidatePool, blocks: Sequence[Block], max_sites: int
) -> CandidatePool:
    """Return the pool with proven bounds at the compositions of the vertices of its hull.

    Parameters
    ----------
    problem
        What is searched, by whom; the result does not depend on the number of ranks.
    pool
        Result of a search, the same on all ranks.
    blocks
        All supercells of the search that were not enumerated.
    max_sites
        Cells with up to so many sites are looked at.

    Returns
    -------
    CandidatePool
        With `bounds`, and with lower labelings where there are any.
    """
    wanted = _lowest_vertices(pool, max_sites)
    questions = _questions(wanted, [b for b in blocks if b.n_sites <= max_sites])
    answers = problem.deal_out("proving", len(questions), lambda i: _answer(problem, questions[i]))
    bounds = dict(wanted)
    for question, answer in zip(questions, answers, strict=True):
        for i, counts in enumerate(question.counts):
            ratio = ratio_of(counts)
            if isinstance(answer, str):
                bounds.pop(ratio, None)
            elif ratio in bounds:
                bounds[ratio] = min(bounds[ratio], answer[i].bound)
        if not isinstance(answer, str):
            pool = pool.merge(_found(pool, question, answer))
    failed = [answer for answer in answers if isinstance(answer, str)]
    if failed and problem.comm.rank == 0:
        log.warning("%d supercells are without certificate: %s", len(failed), failed[0])
    return replace(pool, bounds=bounds)


def _lowest_vertices(pool: CandidatePool, max_sites: int) -> dict[Ratio, float]:
    """Return the compositions of stable candidates of up to so many sites, with their energies."""
    wanted: dict[Ratio, float] = {}
    for i in np.flatnonzero(pool.is_stable).tolist():
        candidate = pool.candidates[i]
        if candidate.supercell.n_sites <= max_sites:
            wanted.setdefault(ratio_of(candidate.configuration.counts), candidate.energy)
    return wanted


def _questions(wanted: dict[Ratio, float], blocks: list[Block]) -> list[Question]:
    """Return what to ask about every supercell, largest cells first."""
    questions: dict[Supercell, Question] = {}
    for ratio, energy in wanted.items():
        if np.count_nonzero(ratio) == 1:
            continue  # one species alone has one labeling
        for block, counts in _necessary(ratio, blocks):
            for cell in block.supercells:
                question = questions.setdefault(cell, Question(cell))
                question.counts.append(counts)
                question.energies.append(energy)
    order = sorted(questions, key=lambda cell: (-cell.n_sites, cell.hnf.ravel().tolist()))
    return [questions[cell] for cell in order]


def _necessary(ratio: Ratio, blocks: list[Block]) -> Iterator[tuple[Block, npt.NDArray[np.int64]]]:
    """Yield the blocks that can have a composition, with their counts of it, (n_species,)."""
    n_formula = sum(ratio)
    fitting = []
    for block in blocks:
        counts = np.array(ratio, dtype=np.int64) * (block.n_sites // n_formula)
        if block.n_sites % n_formula == 0 and (block.counts == counts).all(axis=1).any():
            fitting.append((block, counts))
    sizes = [block.n_cells for block, _ in fitting]
    for block, counts in fitting:
        if block.is_given or not any(n > block.n_cells and n % block.n_cells == 0 for n in sizes):
            yield block, counts


def _answer(problem: Problem, question: Question) -> list[Certificate] | str:
    """Return the certificates of one supercell, or why there are none."""
    try:
        prover = Prover(problem.evaluator(question.supercell))
    except InputError as error:
        return str(error)
    proofs = [
        prover.certify(counts, below=energy, max_nodes=MAX_NODES)
        for counts, energy in zip(question.counts, question.energies, strict=True)
    ]
    proofs[0] = replace(proofs[0], evaluations=proofs[0].evaluations + prover.evaluations)
    return proofs


def _found(pool: CandidatePool, question: Question, proofs: list[Certificate]) -> CandidatePool:
    """Return the pool of labelings that are lower than what was known, with the costs of all."""
    lower = [p for p, known in zip(proofs, question.energies, strict=True) if p.energy < known]
    labels = np.array([p.labels for p in lower], dtype=np.int8)
    return CandidatePool.from_labelings(
        Labelings(question.supercell, labels.reshape(len(lower), question.supercell.n_sites)),
        np.array([p.energy for p in lower]),
        source=SOURCE,
        max_per_composition=pool.max_per_composition,
        evaluations=sum(p.evaluations for p in proofs),
        spent=sum(p.evaluations for p in proofs),
    )
