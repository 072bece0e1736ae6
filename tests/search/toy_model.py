"""A frustrated cluster model, and a many-body ring of sites that needs no lattice code."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from latticesearch.lattice import ParentLattice
from latticesearch.lattice.neighbours import nearest_distance
from latticesearch.potential.clusters import ClusterBasis, ClusterModel
from latticesearch.potential.protocol import Evaluator

FCC = ParentLattice.from_prototype("fcc", a=4.0, species=("Cu", "Pd"))
BCC = ParentLattice.from_prototype("bcc", a=3.2, species=("Mo", "Nb", "Ta"))
ROCKSALT = ParentLattice.from_prototype("rocksalt", a=4.3, species=(("Ti", "Hf"), ("N", "X")))


class ToyEvaluator(Evaluator):
    """Site energy: onsite[z_i] + sum_s sum_j J_s[z_i, z_j] / 2 + stiffness * (sum_j w[z_j])**2."""

    mean_field_cost = 1

    def __init__(self, supercell, shells, parameters):
        super().__init__(supercell)
        self.shells = shells  # per shell (n_sites, n_neighbours)
        self.parameters = parameters

    def mean_field_energies(self, occupations):
        onsite, couplings, weights, stiffness = self.parameters
        local = np.broadcast_to(onsite, occupations.shape).copy()
        for neighbours, coupling in zip(self.shells, couplings, strict=True):
            local += 0.5 * occupations[:, neighbours].sum(axis=2) @ coupling.T
        density = occupations[:, self.shells[0]].sum(axis=2) @ weights
        local += stiffness * density[:, :, None] ** 2
        return (occupations * local).sum(axis=(1, 2)) / self.supercell.n_sites

    def energies(self, labels):
        n_species = len(self.parameters[0])
        return self.mean_field_energies(np.eye(n_species)[np.asarray(labels)])


def toy_model(parent, seed=0):
    """Pairs and triplets that reach farther than the surrogates' triplets."""
    length = nearest_distance(parent)
    basis = ClusterBasis.of(parent, 2.2 * length, 1.5 * length)
    return ClusterModel.random(basis, seed, pair=0.03, triplet=0.02)


def random_parameters(n_species, n_shells, seed):
    rng = np.random.default_rng([seed, n_species])
    couplings = []
    for shell in range(n_shells):
        matrix = rng.normal(size=(n_species, n_species)) * 0.02 / (shell + 1)
        couplings.append(matrix + matrix.T)
    return rng.normal(size=n_species), couplings, rng.normal(size=n_species), 1e-3


def ring(n_sites, n_species=2, allowed=None):
    """A periodic chain with its translations and mirrors, with what the search asks of a cell."""
    rows = np.arange(n_sites)
    shifts = [(rows + s) % n_sites for s in range(n_sites)]
    permutations = np.unique(np.array(shifts + [p[::-1] for p in shifts]), axis=0)
    if allowed is None:
        allowed = np.ones((n_sites, n_species), dtype=bool)
    keeps = [np.array_equal(allowed[p], allowed) for p in permutations]
    return SimpleNamespace(
        n_sites=n_sites,
        allowed=allowed,
        site_permutations=permutations[np.array(keeps)],
        parent=SimpleNamespace(n_species=allowed.shape[1]),
    )


def ring_evaluator(n_sites, n_species=2, seed=0, allowed=None):
    supercell = ring(n_sites, n_species, allowed)
    sites = np.arange(n_sites)
    shells = [np.stack([(sites + s) % n_sites, (sites - s) % n_sites], axis=1) for s in (1, 2, 3)]
    return ToyEvaluator(supercell, shells, random_parameters(n_species, 3, seed))
