"""Site energies on the lattice from the definition: plain loops over neighbour images."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np


def neighbour_images(supercell, site, cutoff):
    """Return (neighbour site, vector) of all images within the cutoff, by brute force."""
    n = [
        math.ceil(cutoff * np.linalg.norm(np.linalg.inv(supercell.cell)[:, k])) + 1
        for k in range(3)
    ]
    found = []
    for shift in itertools.product(*(range(-m, m + 1) for m in n)):
        for j in range(supercell.n_sites):
            vector = supercell.positions[j] + shift @ supercell.cell - supercell.positions[site]
            if 1e-6 < np.linalg.norm(vector) < cutoff:
                found.append((j, vector))
    return found


def radial_function(potential, r, centre, neighbour, mu):
    x = (2 * r - potential.min_dist - potential.max_dist) / (
        potential.max_dist - potential.min_dist
    )
    value = 0.0
    for b, c in enumerate(potential.radial_coeffs[centre, neighbour, mu]):
        value += c * math.cos(b * math.acos(x))
    return potential.scaling * value * (potential.max_dist - r) ** 2


def site_energy(potential, centre, neighbours):
    """Return the energy of one site; `neighbours` are (weights over the species, vector)."""
    moments = [0.0] * potential.n_moments
    for weights, vector in neighbours:
        r = np.linalg.norm(vector)
        x, y, z = vector / r
        for species, weight in enumerate(weights):
            for k, (mu, a, b, c) in enumerate(potential.alpha_index_basic):
                f = radial_function(potential, r, centre, species, mu)
                moments[k] += weight * f * x**a * y**b * z**c
    for a, b, factor, c in potential.alpha_index_times:
        moments[c] += factor * moments[a] * moments[b]
    scalars = [moments[k] for k in potential.alpha_moment_mapping]
    return potential.species_coeffs[centre] + np.dot(potential.moment_coeffs, scalars)


def mean_field_site_energies(potential, supercell, occupations):
    """Return the site energies, (n_sites,), of one partial cell (n_sites, n_species)."""
    order = [potential.species.index(symbol) for symbol in supercell.parent.species]
    full = np.zeros((supercell.n_sites, len(potential.species)))
    full[:, order] = occupations
    energies = []
    for site in range(supercell.n_sites):
        images = neighbour_images(supercell, site, potential.max_dist)
        around = [(full[j], vector) for j, vector in images]
        energies.append(
            sum(
                full[site, z] * site_energy(potential, z, around)
                for z in range(len(potential.species))
                if full[site, z]
            )
        )
    return np.array(energies)


def site_energies(potential, supercell, labels):
    """Return the site energies, (n_sites,), of one labeling."""
    occupations = np.eye(supercell.parent.n_species)[labels]
    return mean_field_site_energies(potential, supercell, occupations)


def basis_row(potential, supercell, labels):
    """Return the mean over all sites of every basis function, (n_scalars,), of one labeling."""
    row = []
    for k in range(len(potential.moment_coeffs)):
        alone = replace(
            potential,
            species_coeffs=np.zeros(potential.n_species),
            moment_coeffs=np.eye(len(potential.moment_coeffs))[k],
        )
        row.append(site_energies(alone, supercell, labels).mean())
    return np.array(row)


def equivalent_sites(supercell, labels):
    """Return for every site the smallest one that a symmetry of the labeling maps it onto."""
    smallest = list(range(supercell.n_sites))
    for permutation in supercell.site_permutations:
        if all(labels[permutation[i]] == labels[i] for i in range(supercell.n_sites)):
            for i in range(supercell.n_sites):
                smallest[i] = min(smallest[i], permutation[i])
    return smallest
