"""Priors of coefficients: what is believed of interactions before any energy is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice.neighbours import parent_neighbours
from latticesearch.learning.correlations import Correlations
from latticesearch.learning.posterior import Prior

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice

    Floats = npt.NDArray[np.float64]

REACH = (3.0, 2.31, 2.02, 1.75)
"""Longest distances in pairs, triplets, quadruplets, quintuplets, in nearest-neighbour distances:
where the prior has fallen to about a hundredth of that of the nearest pair."""

MAX_FUNCTIONS = 400
"""More cluster functions than this are not used: those of the smallest prior go, by whole orbits.
Below, what they cost does not count beside one calculation."""

RANGE = 0.5
"""Nearest-neighbour distances over which interactions fall by e, as screened ones do in metals."""

ORDER_FACTORS = ((0.05, 0.25), (0.1, 0.5), (0.2, 0.25))
"""Spread of triplets relative to pairs, and belief in it. Cluster expansions of alloys have
triplets of some tenth of their pairs; twice and half of that are as likely as the middle."""

HIGHER = 0.3
"""Spread of quadruplets and larger clusters relative to triplets."""

NOISES = ((0.01, 0.3), (0.02, 0.3), (0.05, 0.3), (0.2, 0.09), (0.6, 0.01))
"""Part of an energy that no cluster function describes, relative to the spread of all energies,
and belief in it: one to five percent for alloys on a lattice, no value of them before another; one
in ten is described badly, and one in a hundred not at all, which the posterior has to be able to
find out."""

FREE = 30.0
"""Prior spread, relative to that of all ordering, of terms that have no scale of their own: species
on one of several sublattices."""

ABSENT = 1e-9
"""Mean square of a feature, relative to the largest, below which it is rounding."""


def default_features(parent: ParentLattice) -> Correlations:
    """Return the cluster functions of any parent lattice that energies are taken as linear in."""
    length = shortest(parent)
    functions = Correlations.of(parent, [reach * length for reach in REACH])
    sizes = np.array([one.size for one in functions.orbits])
    spreads = _decays(sizes, np.array([one.extent for one in functions.orbits]) / length, 0.1)
    order = np.argsort(-spreads, kind="stable")
    numbers = np.cumsum([len(functions.orbits[i].tables) for i in order])
    kept = np.sort(order[: max(1, int(np.searchsorted(numbers, MAX_FUNCTIONS, side="right")))])
    return Correlations(parent, tuple(functions.orbits[i] for i in kept))


def shortest(parent: ParentLattice) -> float:
    """Return the shortest distance, Å, of two sites that allow several species each.

    One site alone in the cell is nearest to its own images.
    """
    active = np.flatnonzero(parent.is_active)
    cutoff = float(np.linalg.norm(parent.cell, axis=1).max()) * 1.01
    lengths = [
        np.linalg.norm(vectors[parent.is_active[basis]], axis=1).min()
        for basis, _, vectors in (parent_neighbours(parent, int(b), cutoff) for b in active)
    ]
    return float(min(lengths, default=1.0))


def cluster_priors(functions: Correlations, mean_squares: Floats) -> list[Prior]:
    """Return the priors of the coefficients of cluster functions.

    Parameters
    ----------
    functions
        The cluster functions.
    mean_squares
        Mean square of each, (r,), over the candidates, relative to the end members; the first
        column is a constant.
    """
    sizes = np.concatenate([[0], functions.sizes])
    extents = np.concatenate([[0.0], functions.extents]) / shortest(functions.parent)
    own = np.concatenate([[1.0], functions.spreads])
    spreads = [own * _decays(sizes, extents, factor) for factor, _ in ORDER_FACTORS]
    beliefs = [belief for _, belief in ORDER_FACTORS]
    return _scaled(spreads, beliefs, mean_squares, sizes <= 1)


def plain_priors(mean_squares: Floats) -> list[Prior]:
    """Return the priors of features nothing is known of: every one explains as much as another.

    Parameters
    ----------
    mean_squares
        Mean square of each feature, (r,), over the candidates.
    """
    present = mean_squares > ABSENT * max(float(mean_squares.max(initial=0.0)), 1e-300)
    spreads = np.where(present, 1.0 / np.sqrt(np.where(present, mean_squares, 1.0)), 0.0)
    return _scaled([spreads], [1.0], mean_squares, np.zeros(len(spreads), dtype=bool))


def _decays(sizes: npt.NDArray[np.int64], extents: Floats, factor: float) -> Floats:
    """Return the spread of each function, (r,), relative to that of the nearest pair."""
    falls = np.exp(-np.maximum(extents - 1.0, 0.0) / RANGE)
    orders = np.where(sizes <= 2, 1.0, np.where(sizes == 3, factor, HIGHER * factor))
    decays: Floats = falls * orders
    return decays


def _scaled(
    spreads: list[Floats],
    beliefs: list[float],
    mean_squares: Floats,
    is_free: npt.NDArray[np.bool_],
) -> list[Prior]:
    """Return priors whose energies have a mean variance of one over the candidates."""
    largest = max(float(mean_squares.max(initial=0.0)), 1e-300)
    free = np.where(mean_squares > ABSENT * largest, FREE, 0.0)
    priors = []
    for own, belief in zip(spreads, beliefs, strict=True):
        bound = np.where(is_free, 0.0, own)
        variance = float(bound**2 @ mean_squares)
        scaled = bound / np.sqrt(variance) if variance > 0.0 else bound
        priors += [
            Prior(np.where(is_free, free, scaled), noise, belief * trust) for noise, trust in NOISES
        ]
    return priors
