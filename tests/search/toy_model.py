"""A many-body lattice model of a few lines, and a ring of sites that needs no lattice code."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np


class ToyEvaluator:
    """Site energy: onsite[z_i] + sum_s sum_j J_s[z_i, z_j] / 2 + stiffness * (sum_j w[z_j])**2."""

    def __init__(self, supercell, shells, parameters):
        self.supercell = supercell
        self.shells = shells  # per shell (n_sites, n_neighbours)
        self.parameters = parameters
        self.n_parameters = 0

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

    def _changes(self, labels, changed):
        if len(changed) == 0:
            return np.zeros(0)
        energies = self.energies(np.concatenate([labels[None], changed]))
        return (energies[1:] - energies[0]) * self.supercell.n_sites

    def flip_energies(self, labels, sites, species):
        changed = np.repeat(labels[None], len(sites), axis=0)
        changed[np.arange(len(sites)), sites] = species
        return self._changes(labels, changed)

    def swap_energies(self, labels, pairs):
        changed = np.repeat(labels[None], len(pairs), axis=0)
        rows = np.arange(len(pairs))
        changed[rows, pairs[:, 0]] = labels[pairs[:, 1]]
        changed[rows, pairs[:, 1]] = labels[pairs[:, 0]]
        return self._changes(labels, changed)


class ToyModel:
    """The same interactions in every supercell: shells of neighbours by distance."""

    def __init__(self, species, n_shells=3, seed=0):
        self.species = tuple(species)
        self.n_shells = n_shells
        self.parameters = random_parameters(len(self.species), n_shells, seed)

    def evaluator(self, supercell):
        return ToyEvaluator(supercell, shells_of(supercell, self.n_shells), self.parameters)


def random_parameters(n_species, n_shells, seed):
    rng = np.random.default_rng([seed, n_species])
    couplings = []
    for shell in range(n_shells):
        matrix = rng.normal(size=(n_species, n_species)) * 0.02 / (shell + 1)
        couplings.append(matrix + matrix.T)
    return rng.normal(size=n_species), couplings, rng.normal(size=n_species), 1e-3


def shells_of(supercell, n_shells):
    """Neighbours of every site, per distance, for parents of one or more basis sites."""
    parent = supercell.parent
    vectors = np.array(list(product(range(-3, 4), repeat=3)))
    per_basis = []
    for centre in range(parent.n_basis):
        found = []
        for other in range(parent.n_basis):
            shift = parent.basis[other] - parent.basis[centre] + vectors
            distances = np.linalg.norm(shift @ parent.cell, axis=1)
            found += [(round(d, 6), other, v) for d, v in zip(distances, vectors, strict=True)]
        per_basis.append([entry for entry in found if entry[0] > 0])
    lengths = sorted({d for found in per_basis for d, _, _ in found})[:n_shells]
    n_cells = supercell.n_cells
    result = []
    for length in lengths:
        rows = []
        for site in range(supercell.n_sites):
            centre, cell = divmod(site, n_cells)
            around = [(b, v) for d, b, v in per_basis[centre] if d == length]
            origin = translation(supercell, cell)
            rows.append([int(supercell.site_of(b, origin + v)) for b, v in around])
        result.append(np.array(rows))
    return result


def translation(supercell, index):
    _, d, f = np.diag(supercell.hnf)
    return np.array([index // (d * f), index // f % d, index % f])


def ring(n_sites, n_species=2, allowed=None):
    """A periodic chain with its translations and mirrors, with what the search asks of a cell."""
    rows = np.arange(n_sites)
    shifts = [(rows + s) % n_sites for s in range(n_sites)]
    permutations = np.unique(np.array(shifts + [p[::-1] for p in shifts]), axis=0)
    if allowed is None:
        allowed = np.ones((n_sites, n_species), dtype=bool)
    keeps = [np.array_equal(allowed[p], allowed) for p in permutations]
    return SimpleNamespace(
        n_sites=n_sites, allowed=allowed, site_permutations=permutations[np.array(keeps)]
    )


def ring_evaluator(n_sites, n_species=2, seed=0, allowed=None):
    supercell = ring(n_sites, n_species, allowed)
    sites = np.arange(n_sites)
    shells = [np.stack([(sites + s) % n_sites, (sites - s) % n_sites], axis=1) for s in (1, 2, 3)]
    return ToyEvaluator(supercell, shells, random_parameters(n_species, 3, seed))
