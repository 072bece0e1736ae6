"""The kind of potential ``"clusters"``: how it is made from parameters and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.errors import InputError
from latticesearch.lattice.neighbours import nearest_distance
from latticesearch.potential.clusters.basis import ClusterBasis
from latticesearch.potential.clusters.model import ClusterModel
from latticesearch.potential.clusters.reading import parse_clusters
from latticesearch.potential.registry import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latticesearch.lattice import ParentLattice

PAIRS = 2.05
"""Default reach of pairs in nearest-neighbour distances: four shells of fcc, five of bcc, as of the
expansions that guide searches (measured there). What data do not ask for, the prior keeps small."""

TRIPLETS = 1.45
"""Default longest edge of triplets: the triangles within the first two shells of fcc, bcc and hcp,
the smallest that tell the two ends of a composition range apart."""


def make(parent: ParentLattice, parameters: Mapping[str, Any], seed: int = 0) -> ClusterModel:
    """Return an expansion of `parent` without energies.

    Parameters
    ----------
    parent
        The lattice.
    parameters
        ``pairs`` and ``triplets``: the longest edges, Å; 0 for none.
    seed
        Not used: there is nothing random in it.

    Raises
    ------
    InputError
        A parameter that there is not, or one that is no length.
    """
    del seed
    unknown = sorted(set(parameters) - {"pairs", "triplets"})
    if unknown:
        raise InputError(
            f"potential.parameters.{unknown[0]}: a cluster expansion has pairs and triplets, the "
            "longest edges in Å"
        )
    length = nearest_distance(parent)
    pairs = _length(parameters, "pairs", PAIRS * length)
    # Triplets of which no edge is among the pairs would be named first.
    triplets = _length(parameters, "triplets", min(TRIPLETS * length, pairs))
    if pairs <= length:
        raise InputError(
            f"potential.parameters.pairs = {pairs} Å does not reach the nearest neighbours of the "
            f"parent lattice at {length:.3f} Å; choose 1.5 to 3 times that distance"
        )
    if triplets > pairs:
        raise InputError(
            f"potential.parameters.triplets = {triplets} Å exceeds pairs = {pairs} Å: a triplet's "
            "edges must be among the pairs"
        )
    basis = ClusterBasis.of(parent, pairs, triplets)
    return ClusterModel(basis, np.zeros(basis.n_parameters))


def _length(parameters: Mapping[str, Any], name: str, default: float) -> float:
    value = parameters.get(name, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and np.isfinite(value) and value >= 0.0):
        raise InputError(f"potential.parameters.{name} = {value!r}: a length in Å is needed")
    return float(value)


KIND = Kind("clusters", "clusters", make, parse_clusters)
