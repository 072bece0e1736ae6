"""A small exact world: energies are sums over pairs, and a model of that form can learn them."""

from __future__ import annotations

from itertools import product

import numpy as np

from latticesearch.potential import Evaluator

SHELLS = 4


def shell_neighbours(supercell):
    """Return, per shell of a one-site parent lattice, the neighbours of each site."""
    parent = supercell.parent
    vectors = np.array(list(product(range(-3, 4), repeat=3)))
    lengths = np.linalg.norm(vectors @ parent.cell, axis=1).round(6)
    radii = np.unique(lengths)[1 : SHELLS + 1]
    sites = np.arange(supercell.n_sites)
    own = supercell.cell_vectors[sites]
    return [np.array([supercell.site_of(0, v + vectors[lengths == r]) for v in own]) for r in radii]


class PairEvaluator(Evaluator):
    """Features: composition, and the share of unlike pairs per shell and pair of species."""

    has_gradients = True

    def __init__(self, model, supercell):
        super().__init__(supercell)
        self.model = model
        self.neighbours = shell_neighbours(supercell)

    @property
    def n_parameters(self):
        return len(self.model.weights)

    def gradient_rows(self, labels):
        k = len(self.model.species)
        pairs = [(a, b) for a in range(k) for b in range(a, k)]
        columns = [(labels == s).mean(axis=1) for s in range(k)]
        for near in self.neighbours:
            other = labels[:, near]
            own = labels[:, :, None]
            for a, b in pairs[:-1]:
                hit = ((own == a) & (other == b)) | ((own == b) & (other == a))
                columns.append(hit.mean(axis=(1, 2)))
        return np.stack(columns, axis=1)

    def energies(self, labels):
        # Not a matrix product: BLAS rounds differently for different numbers of rows.
        return (self.gradient_rows(labels) * self.model.weights).sum(axis=1)


class PairModel:
    """Energy per site, linear in the pair features."""

    def __init__(self, species, weights):
        self.species, self.weights = species, np.asarray(weights)
        self._cells = {}

    @classmethod
    def random(cls, species, seed=0, scale=0.05):
        k = len(species)
        n = k + SHELLS * (k * (k + 1) // 2 - 1)
        return cls(species, np.random.default_rng(seed).normal(0, scale, n))

    def evaluator(self, supercell):
        if supercell not in self._cells:
            self._cells[supercell] = PairEvaluator(self, supercell)
        return self._cells[supercell]
