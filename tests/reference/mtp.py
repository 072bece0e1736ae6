"""Moment tensor potential straight from the formulas: slow, obvious, no shared code."""

from __future__ import annotations

import itertools
import math

import numpy as np


def chebyshev(b, x):
    """T_b(x) from its own recursion, any x."""
    if b < 2:
        return (1.0, x)[b]
    return 2.0 * x * chebyshev(b - 1, x) - chebyshev(b - 2, x)


def radial_function(potential, mu, centre, neighbour, distance):
    """f_mu of one pair of species."""
    if distance >= potential.max_dist:
        return 0.0
    low, high = potential.min_dist, potential.max_dist
    x = (2.0 * distance - low - high) / (high - low)
    coefficients = potential.radial_coeffs[centre, neighbour, mu]
    total = sum(c * chebyshev(b, x) for b, c in enumerate(coefficients))
    return potential.scaling * total * (high - distance) ** 2


def neighbour_vectors(cell, positions, cutoff):
    """For each site the list of (neighbour, vector), from a loop over all images."""
    cell = np.asarray(cell, dtype=float)
    heights = abs(np.linalg.det(cell)) / np.array(
        [np.linalg.norm(np.cross(cell[i - 2], cell[i - 1])) for i in range(3)]
    )
    reach = [math.ceil(cutoff / h) + 1 for h in heights]
    fractional = np.asarray(positions) @ np.linalg.inv(cell)
    wrapped = (fractional - np.floor(fractional)) @ cell
    shifts = [np.array(n) @ cell for n in itertools.product(*(range(-k, k + 1) for k in reach))]
    result = []
    for i in range(len(wrapped)):
        found = []
        for j in range(len(wrapped)):
            for shift in shifts:
                vector = wrapped[j] + shift - wrapped[i]
                if 1e-8 < np.linalg.norm(vector) < cutoff:
                    found.append((j, vector))
        result.append(found)
    return result


def basic_moments(potential, types, i, neighbours):
    """Components of M_{mu,nu} of one site, (n_basic,), with unit vectors."""
    moments = np.zeros(len(potential.alpha_index_basic))
    for j, vector in neighbours:
        distance = np.linalg.norm(vector)
        x, y, z = vector / distance
        for k, (mu, px, py, pz) in enumerate(potential.alpha_index_basic):
            f = radial_function(potential, mu, types[i], types[j], distance)
            moments[k] += f * x**px * y**py * z**pz
    return moments


def basis_values(potential, basic):
    """All basis functions B_a of one site from its basic moments, (n_scalars,)."""
    moments = np.zeros(potential.n_moments)
    moments[: len(basic)] = basic
    for a, b, factor, c in potential.alpha_index_times:
        moments[c] += factor * moments[a] * moments[b]
    return moments[potential.alpha_moment_mapping]


def site_basis_values(potential, cell, positions, types):
    """B_a of all sites, (n_sites, n_scalars)."""
    neighbours = neighbour_vectors(cell, positions, potential.max_dist)
    return np.array(
        [
            basis_values(potential, basic_moments(potential, types, i, found))
            for i, found in enumerate(neighbours)
        ]
    )


def site_energies(potential, cell, positions, types):
    """Energies of all sites, eV, (n_sites,)."""
    values = site_basis_values(potential, cell, positions, types)
    return potential.species_coeffs[types] + values @ potential.moment_coeffs


def contract(graph, vectors, radial):
    """Value of one contraction from full tensors with all indices written out.

    `vectors` (n, 3) are unit vectors to the neighbours, `radial` (n, n_radial) the radial
    functions there.
    """
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    indices = ["" for _ in graph.mus]
    for i, j in itertools.combinations(range(len(graph.mus)), 2):
        for _ in range(graph.edges[i][j]):
            letter = next(letters)
            indices[i] += letter
            indices[j] += letter
    tensors = []
    for mu, rank in graph.vertices:
        tensor = np.zeros((3,) * rank)
        for vector, f in zip(vectors, radial, strict=True):
            power = np.array(1.0)
            for _ in range(rank):
                power = np.multiply.outer(power, vector)
            tensor += f[mu] * power
        tensors.append(tensor)
    return float(np.einsum(",".join(indices) + "->", *tensors, optimize="greedy"))


def number_of_contractions(level, n_moments):
    """Contractions of n moments with levels summing to `level` at most, by Burnside's lemma.

    A permutation of the moments leaves those labelled multigraphs alone whose mu agree along its
    cycles of moments and whose numbers of edges agree along its cycles of pairs.
    """
    pairs = list(itertools.combinations(range(n_moments), 2))
    budget = level - 2 * n_moments
    total = 0
    for permutation in itertools.permutations(range(n_moments)):
        moved = {p: tuple(sorted((permutation[p[0]], permutation[p[1]]))) for p in pairs}
        costs = [4 * n for n in _cycle_lengths(dict(enumerate(permutation)))]
        costs += [2 * n for n in _cycle_lengths(moved)]
        ways = [1] + [0] * max(budget, 0)
        for cost in costs:
            for spent in range(cost, len(ways)):
                ways[spent] += ways[spent - cost]
        total += sum(ways) if budget >= 0 else 0
    assert total % math.factorial(n_moments) == 0
    return total // math.factorial(n_moments)


def _cycle_lengths(mapping):
    lengths, seen = [], set()
    for start in mapping:
        length, at = 0, start
        while at not in seen:
            seen.add(at)
            at, length = mapping[at], length + 1
        lengths += [length] * (length > 0)
    return lengths
