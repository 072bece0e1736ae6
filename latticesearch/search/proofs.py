"""Certificates of a search: how much lower anything can be at the vertices of its hull.

The composition of a vertex may be had in many supercells. What was enumerated is proven; for the
others branch and bound looks for anything lower. A cell of twice the size holds all that a cell
holds, so only sizes are looked at of which the search has no multiple.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.lattice import Labelings
from latticesearch.parallel import deal_out
from latticesearch.search.certificate import Prover
from latticesearch.search.pool import CandidatePool, ratio_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.parallel import Communicator
    from latticesearch.potential.protocol import LatticeModel
    from latticesearch.progress import Progress
    from latticesearch.search.certificate import Certificate
    from latticesearch.search.plan import Block
    from latticesearch.search.pool import Ratio

log = logging.getLogger(__name__)

SOURCE = "certificate"

MAX_NODES = 2_000_000
"""Partial cells looked at per composition and supercell, some seconds."""


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
    pool: CandidatePool,
    potential: LatticeModel,
    blocks: Sequence[Block],
    max_sites: int,
    comm: Communicator,
    progress: Progress,
) -> CandidatePool:
    """Return the pool with proven bounds at the compositions of the vertices of its hull.

    Parameters
    ----------
    pool
        Result of a search, the same on all ranks.
    potential
        Model of the energies.
    blocks
        All supercells of the search that were not enumerated.
    max_sites
        Cells with up to so many sites are looked at.
    comm
        Ranks that share the work; the result does not depend on how many there are.
    progress
        Receives how far it is.

    Returns
    -------
    CandidatePool
        With `bounds`, and with lower labelings where there are any.
    """
    wanted = _lowest_vertices(pool, max_sites)
    questions = _questions(wanted, [b for b in blocks if b.n_sites <= max_sites])
    progress.start("proving", len(questions))

    def one(i: int) -> list[Certificate] | str:
        progress.advance(i)
        return _answer(potential, questions[i])

    answers = deal_out(len(questions), one, comm)
    progress.finish()
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
    if failed and comm.rank == 0:
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
    """Yield the blocks that can have a composition, with their counts of it."""
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


def _answer(potential: LatticeModel, question: Question) -> list[Certificate] | str:
    """Return the certificates of one supercell, or why there are none."""
    try:
        prover = Prover(potential.evaluator(question.supercell))
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
