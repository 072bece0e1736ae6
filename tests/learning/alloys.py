"""Alloys whose energies are made here: of clusters, and of nothing."""

from __future__ import annotations

import numpy as np

import latticesearch as ls
from latticesearch.learning.pool import cluster_rows
from latticesearch.learning.priors import default_features, shortest


def fcc(max_sites, species=("Cu", "Au")):
    parent = ls.ParentLattice.from_prototype("fcc", 4.0, species)
    return parent, list(ls.enumerate_labelings(parent, 1, max_sites))


def cluster_energies(parent, batches, seed, triplets=0.1):
    """Return energies, eV/atom, by key: interactions fall with the sixth power of the length."""
    functions = default_features(parent)
    rng = np.random.default_rng(seed)
    falls = (np.maximum(functions.extents, 1.0) / shortest(parent)) ** -6.0
    sizes = np.where(functions.sizes < 3, 1.0, triplets)
    coefficients = 0.02 * rng.normal(size=len(sizes)) * falls * sizes
    energies = {}
    for batch in batches:
        rows = cluster_rows(functions, batch)[:, 1:]
        energies.update(zip(batch.keys(), (rows @ coefficients - 3.0).tolist(), strict=True))
    return energies


def lawless_energies(batches, seed, spread=0.05):
    """Return energies, eV/atom, by key, that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    energies = {}
    for batch in batches:
        for key, pure in zip(batch.keys(), (batch.compositions == 1.0).any(axis=1), strict=True):
            energies[key] = 0.0 if pure else float(rng.normal(-0.05, spread))
    return energies
