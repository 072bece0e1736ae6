"""Potentials as other people write them: pure Python, energies of labelings and little else."""

from __future__ import annotations

import json
from itertools import product

import numpy as np


class Shells:
    """Shares of unlike neighbours in the first two shells of a lattice of one site per cell."""

    def __init__(self, supercell):
        parent = supercell.parent
        vectors = np.array(list(product(range(-2, 3), repeat=3)))
        lengths = np.linalg.norm(vectors @ parent.cell, axis=1).round(6)
        radii = np.unique(lengths)[1:3]
        own = supercell.cell_vectors
        self.neighbours = [
            np.array([supercell.site_of(0, v + vectors[lengths == r]) for v in own]) for r in radii
        ]

    def features(self, labels):
        """Return (n, n_features): share of the second species, and of unlike pairs."""
        unlike = [(labels[:, :, None] != labels[:, near]) for near in self.neighbours]
        columns = [np.ones(len(labels)), (labels == 1).mean(axis=1)]
        return np.stack([*columns, *(pairs.mean(axis=(1, 2)) for pairs in unlike)], axis=1)


class Evaluator:
    def __init__(self, supercell, weights):
        self.supercell, self.shells, self.weights = supercell, Shells(supercell), weights

    def energies(self, labels):
        return (self.shells.features(labels) * self.weights).sum(axis=1)


class Fixed:
    """Given energies; learns nothing."""

    kind = "fixed"

    def __init__(self, species, unlike=-0.02):
        self.species = tuple(species)
        self.weights = np.array([0.0, 0.0, unlike, -unlike / 3])

    def evaluator(self, supercell):
        return Evaluator(supercell, self.weights)


class Learner:
    """Learns its weights; tells nothing about how well, but has a text."""

    kind = "learner"
    suffix = "weights"

    def __init__(self, species, weights=(0.0, 0.0, 0.0, 0.0)):
        self.species, self.weights = tuple(species), np.array(weights, dtype=float)

    def evaluator(self, supercell):
        return Evaluator(supercell, self.weights)

    def fit(self, training, *, seed=0):
        rows = [Shells(p.batch.supercell).features(p.batch.labels) for p in training.labelings]
        rows = np.concatenate(rows)
        energies = np.concatenate([part.energies for part in training.labelings])
        ridge = 1e-6 * np.eye(rows.shape[1])
        weights = np.linalg.solve(rows.T @ rows + ridge, rows.T @ energies)
        return Learner(self.species, weights)

    def text(self):
        return json.dumps([list(self.species), self.weights.tolist()])

    @classmethod
    def parse(cls, text):
        return cls(*json.loads(text))


def no_model(species):
    return len(species)
