"""A proof that no labeling of a small cell is lower: branch and bound over the addition tree.

For every site the least energy it can have, whatever its undecided neighbours become, is read from
a table of all its environments; the sum over the sites bounds the cell from below. It is exact
where all sites are decided, so the search ends with the ground state, or with a proven gap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.search import _proof_kernels as kernels
from latticesearch.search.annealing._kernels import Best
from latticesearch.search.annealing.walks import random_start

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.protocol import LatticeEvaluator

    Labels = npt.NDArray[np.int8]
    Floats = npt.NDArray[np.float64]

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
    evaluator: LatticeEvaluator,
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
        The sites see too many others for a table of all environments.
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

    def __init__(self, evaluator: LatticeEvaluator) -> None:
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
            labels = random_start(evaluator, counts, np.random.default_rng(0))
        n_sites, n_species = evaluator.supercell.allowed.shape
        tree = kernels.Tree(
            np.full(n_sites, -1, dtype=np.int8),
            counts.copy(),
            (self._tables.place * n_species).sum(axis=1),
            np.zeros((n_sites, n_species), dtype=np.int64),
            np.zeros((n_sites, n_species)),
            np.zeros(n_sites, dtype=np.int64),
        )
        energy = np.minimum(evaluator.energies(labels[None]), below) * n_sites
        best = Best(np.array(labels, dtype=np.int8), energy)
        nodes, bound = kernels.prove(self._tables, tree, best, TOLERANCE, max_nodes)
        found = float(evaluator.energies(best.labels[None])[0])
        return Certificate(best.labels, found, bound / n_sites, int(nodes), 2)


def _bounds(evaluator: LatticeEvaluator) -> tuple[kernels.Bounds, int]:
    """Return the bounds of a supercell and the labelings evaluated for them."""
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


def _seen_sites(evaluator: LatticeEvaluator, site: int) -> npt.NDArray[np.intp]:
    """Return the sites that the energy of a site depends on, itself first."""
    tables, n_sites = evaluator.walk_tables, evaluator.supercell.n_sites
    seen = set(tables.neighbours[site].tolist())
    if hasattr(tables, "start"):  # triplets of a cluster expansion
        first, end = tables.start[site * n_sites], tables.start[(site + 1) * n_sites]
        seen |= set(tables.second[first:end].tolist())
    return np.array([site, *sorted(int(j) for j in seen if j >= 0 and j != site)], dtype=np.intp)


def _table(evaluator: LatticeEvaluator, site: int, seen: npt.NDArray[np.intp]) -> Floats:
    """Return the least energies of a site, one axis per seen site: its species, or undecided."""
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
    """Return a sequence of sites in which each sees as many of the earlier ones as possible."""
    sees = (place > 0) | (place > 0).T
    order = [0]
    while len(order) < len(place):
        rest = [i for i in range(len(place)) if i not in order]
        order.append(max(rest, key=lambda i: (int(sees[i, order].sum()), -i)))
    return np.array(order, dtype=np.int64)
