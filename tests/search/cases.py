"""Small problems of searches, what brute force gives, and clocks that are moved by hand."""

from __future__ import annotations

import numpy as np

from latticesearch.enumeration import enumerate_labelings
from latticesearch.hull import Hull
from latticesearch.search.blocks import blocks_of_cells, blocks_of_sizes
from latticesearch.search.types import Budget, Problem


def name_of(composition):
    return tuple(np.round(composition, 9).tolist())


def lowest(pool):
    """Lowest energy per site of each composition of a pool."""
    result = {}
    for candidate in pool.candidates:
        name = name_of(candidate.configuration.composition)
        result[name] = min(result.get(name, np.inf), candidate.energy)
    return result


def brute_force(model, parent, **cells):
    """Lowest energy per site of each composition, and the number of labelings."""
    result, n = {}, 0
    for batch in enumerate_labelings(parent, **cells):
        energies = model.evaluator(batch.supercell).energies(batch.labels)
        n += len(batch)
        for composition, energy in zip(batch.compositions, energies, strict=True):
            name = name_of(composition)
            result[name] = min(result.get(name, np.inf), energy)
    return result, n


def hull_of_all(model, parent, **cells):
    """The hull of all labelings over fractions of all sites, eV per site, and their number."""
    lowest, n = brute_force(model, parent, **cells)
    return Hull(np.array(list(lowest)), np.array(list(lowest.values()))), n


def assert_same_vertices(pool, truth):
    """The pool's hull has the energy of the true one at each of its vertices."""
    found = Hull(pool.compositions, pool.per_site)
    x = truth.compositions[truth.vertices]
    np.testing.assert_allclose(found.energy(x), truth.energies[truth.vertices], atol=1e-8)


def same_pools(a, b):
    return a.entries == b.entries and a.evaluations == b.evaluations


def sources(pool):
    return {candidate.source for candidate in pool.candidates}


def problem_of(model, parent, *, max_sites=None, supercells=None, composition=None, **how):
    """A problem and its blocks."""
    if supercells is None:
        blocks = blocks_of_sizes(parent, 1, max_sites, composition)
    else:
        blocks = blocks_of_cells(parent, supercells, composition)
    return Problem(model, parent, composition, **how), blocks


class HandClock:
    """A clock that moves when it is read, by `per_reading`, and when it is told to."""

    def __init__(self, per_reading=0.0):
        self.now, self.per_reading = 0.0, per_reading

    def __call__(self):
        self.now += self.per_reading
        return self.now

    def budget(self, seconds):
        return Budget(deadline=self.now + seconds, clock=self)


class SlowModel:
    """Another model whose every energy moves a clock by `seconds`."""

    kind = "slow"

    def __init__(self, model, clock, seconds):
        self.model, self.species, self.clock, self.seconds = model, model.species, clock, seconds

    def evaluator(self, supercell):
        inner, owner = self.model.evaluator(supercell), self

        class Energies:
            def energies(self, labels):
                owner.clock.now += owner.seconds * len(labels)
                return inner.energies(labels)

        return Energies()
