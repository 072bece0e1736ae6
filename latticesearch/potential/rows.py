"""What a linear model learns a potential's energies from: rows of features of labelings."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from latticesearch.lattice.neighbours import nearest_distance
from latticesearch.potential.clusters.basis import ClusterBasis
from latticesearch.potential.clusters.lattice import feature_evaluator
from latticesearch.potential.protocol import evaluator_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice, Supercell
    from latticesearch.potential.protocol import Potential

PAIRS, TRIPLETS = 2.05, 1.25
"""Longest pairs and triplets in nearest-neighbour distances: of expansions that guide searches,
the ones that describe alloys with few coefficients (see `latticesearch.search`)."""

KEPT = 8
"""Lattices whose functions are kept; one problem has one."""


def learning_rows(
    model: Potential, supercell: Supercell, labels: npt.NDArray[np.int8]
) -> npt.NDArray[np.float64]:
    """Return features, (n, m), of `labels`, (n, n_sites), that a model's energies are near to.

    Those are d(energy per site)/d(parameters) of a model that has gradients, and the cluster
    functions of the parent lattice, per site, of one that has none.
    """
    evaluator = evaluator_of(model, supercell)
    if evaluator.has_gradients:
        return evaluator.gradient_rows(labels)
    return feature_evaluator(expansion_basis(supercell.parent), supercell).gradient_rows(labels)


@lru_cache(maxsize=KEPT)
def expansion_basis(parent: ParentLattice) -> ClusterBasis:
    """Return the pairs and triplets of a lattice that describe alloys with few coefficients."""
    length = nearest_distance(parent)
    return ClusterBasis.of(parent, PAIRS * length, TRIPLETS * length)
