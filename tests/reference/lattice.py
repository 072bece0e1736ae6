"""Slow, obvious versions of what `latticesearch.lattice` computes."""

from __future__ import annotations

import itertools

import numpy as np


def hermite_normal_form(generators):
    """Try every upper triangular form of the right index: the one that contains all the rows."""
    rows = np.asarray(generators)
    minors = [
        round(np.linalg.det(rows[list(i)])) for i in itertools.combinations(range(len(rows)), 3)
    ]
    index = np.gcd.reduce(minors)
    for a, d in itertools.product(range(1, index + 1), repeat=2):
        if index % (a * d):
            continue
        f = index // (a * d)
        for b, c, e in itertools.product(range(d), range(f), range(f)):
            form = np.array([[a, b, c], [0, d, e], [0, 0, f]])
            coefficients = rows @ np.linalg.inv(form)
            if np.abs(coefficients - np.rint(coefficients)).max() < 1e-6:
                return form
    return None


def smallest_image(labels, permutations):
    return min(tuple(labels[i] for i in p) for p in permutations)


def fixed_by(labels, permutations):
    return [all(labels[i] == x for i, x in zip(p, labels, strict=True)) for p in permutations]


def site_of(supercell, basis_index, vector):
    """Go through the cells until one differs from the vector by a supercell vector."""
    for t, cell in enumerate(supercell.cell_vectors):
        multiples = (np.asarray(vector) - cell) @ np.linalg.inv(supercell.hnf)
        if np.abs(multiples - np.rint(multiples)).max() < 1e-6:
            return basis_index * supercell.n_cells + t
    return None


def geometric_permutations(supercell):
    """Move the positions by every operation and translation; match them to sites by distance."""
    parent = supercell.parent
    lattice = supercell.hnf @ parent.cell
    inverse = np.linalg.inv(parent.cell)
    permutations = set()
    for rotation, shift in zip(parent.rotations, parent.translations, strict=True):
        rotated = supercell.hnf @ rotation.T @ np.linalg.inv(supercell.hnf)
        if np.abs(rotated - np.rint(rotated)).max() > 1e-6:
            continue
        for vector in supercell.cell_vectors:
            moved = (supercell.positions @ inverse @ rotation.T + shift + vector) @ parent.cell
            difference = (moved[:, None] - supercell.positions) @ np.linalg.inv(lattice)
            difference -= np.rint(difference)
            distance = np.linalg.norm(difference @ lattice, axis=-1)
            image = distance.argmin(axis=1)
            assert distance.min(axis=1).max() < 1e-2
            permutation = [0] * len(image)
            for old, new in enumerate(image):
                permutation[new] = old
            permutations.add(tuple(permutation))
    return permutations


def same_crystal(one, other):
    """Compare two coloured crystals site by site under every operation and every translation."""
    parent = one.supercell.parent
    n = int(np.lcm(one.supercell.n_cells, other.supercell.n_cells))
    vectors = np.indices((n, n, n)).reshape(3, -1).T
    basis = np.repeat(np.arange(parent.n_basis), len(vectors))
    vectors = np.tile(vectors, (parent.n_basis, 1))
    before = one.labels[one.supercell.site_of(basis, vectors)]
    for o in range(parent.n_ops):
        images = parent.basis_images[o][basis]
        rotated = vectors @ parent.rotations[o].T + parent.basis_shifts[o][basis]
        for shift in other.supercell.cell_vectors:
            if (other.labels[other.supercell.site_of(images, rotated + shift)] == before).all():
                return True
    return False
