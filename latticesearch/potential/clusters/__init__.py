"""Cluster expansions: points, pairs and triplets of the parent lattice's sites."""

from __future__ import annotations

from latticesearch.potential.clusters.basis import ClusterBasis
from latticesearch.potential.clusters.lattice import ClusterLatticeEvaluator
from latticesearch.potential.clusters.model import ClusterModel

__all__ = ["ClusterBasis", "ClusterLatticeEvaluator", "ClusterModel"]
