"""What `latticesearch bench enumeration` measures: all ordered structures with their energies."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.enumeration import count_labelings
from latticesearch.lattice import ParentLattice
from latticesearch.potential import MtpBasis
from latticesearch.search import Problem
from latticesearch.search.blocks import blocks_of_sizes
from latticesearch.search.enumerate import enumerate_all

if TYPE_CHECKING:
    from latticesearch.parallel import Communicator

A, CUTOFF = 3.2, 5.0
"""Å: about the lattice constant of the refractory alloys, and a cutoff of three bcc shells."""


def enumerate_everything(
    species: tuple[str, ...], max_sites: int, level: int, comm: Communicator
) -> dict[str, Any]:
    """Evaluate every ordered structure of a bcc alloy; keep the best of each composition.

    Parameters
    ----------
    species
        Chemical symbols.
    max_sites
        Largest cells, in sites.
    level
        Of the moment tensor potential, whose coefficients are random: the time does not depend on
        them.
    comm
        Ranks that share the work.

    Returns
    -------
    dict
        structures, and how many Polya counting says there are; compositions; vertices of the hull;
        cpu_seconds of all ranks together, compilation left out; peak_megabytes of the largest.
    """
    parent = ParentLattice.from_prototype("bcc", A, species)
    potential = MtpBasis(level=level, species=species, cutoff=CUTOFF).potential(seed=1)
    _pool(Problem(potential, parent, keep=1, comm=comm), 2)  # compiles
    began = time.process_time()
    pool = _pool(Problem(potential, parent, keep=1, comm=comm), max_sites)
    n_stable = int(np.count_nonzero(pool.heights == 0.0))
    seconds = time.process_time() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counted = sum(int(count_labelings(parent, n)) for n in range(1, max_sites + 1))
    return {
        "species": "-".join(species),
        "sites": max_sites,
        "level": level,
        "structures": pool.evaluations,
        "counted": counted,
        "compositions": len(pool),
        "vertices": n_stable,
        "cpu_seconds": sum(comm.allgather(seconds)),
        "peak_megabytes": max(comm.allgather(memory)),
        "ranks": comm.size,
    }


def _pool(problem: Problem, max_sites: int) -> Any:
    """Return the best of each composition of all cells with up to so many sites."""
    blocks = blocks_of_sizes(problem.parent, 1, max_sites, None)
    return enumerate_all(problem, blocks).reduce(problem.comm)
