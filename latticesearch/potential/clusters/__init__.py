"""Cluster expansions: points, pairs and triplets of the parent lattice's sites."""

from __future__ import annotations

from latticesearch.potential.clusters.basis import ClusterBasis
from latticesearch.potential.clusters.lattice import ClusterLatticeEvaluator
from latticesearch.potential.clusters.model import ClusterModel
from latticesearch.potential.clusters.reading import parse_clusters
from latticesearch.potential.clusters.writing import format_clusters

__all__ = [
    "ClusterBasis",
    "ClusterLatticeEvaluator",
    "ClusterModel",
    "format_clusters",
    "parse_clusters",
]
