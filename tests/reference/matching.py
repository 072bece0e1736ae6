"""A slow, obvious version of the search for labelings: all matrices, all origins, all images."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import linear_sum_assignment

from latticesearch.lattice import VACANCY, Configuration, Supercell


def all_labelings(atoms, parent, *, tolerance, max_strain, max_score):
    """Return the lowest score of each labeling, by key, of a structure in a compact cell."""
    cell, found = atoms.cell.array, {}
    for matrix in _matrices(cell, parent, len(atoms)):
        stretches = np.linalg.svd(np.linalg.inv(matrix @ parent.cell) @ cell, compute_uv=False)
        scale = np.prod(stretches) ** (1 / 3)
        strain = np.sqrt(np.mean((stretches / scale - 1) ** 2))
        if strain > max_strain:
            continue
        spacing = (abs(np.linalg.det(parent.cell)) / parent.n_basis) ** (1 / 3)
        for labels, distances in _placements(atoms, parent, matrix):
            score = strain + np.sqrt(np.mean(distances**2)) / (spacing * scale)
            if distances.max() <= tolerance and score <= max_score:
                key = Configuration(Supercell.from_matrix(parent, matrix), labels).key
                found[key] = min(score, found.get(key, np.inf))
    return found


def _matrices(cell, parent, n_atoms):
    """Go through all triples of lattice vectors that are about as long as those of the cell."""
    volume = np.linalg.det(cell) / np.linalg.det(parent.cell)
    if VACANCY in parent.species:
        numbers = [n for n in range(1, 99) if 1.1**-3 <= abs(volume) / n <= 1.1**3]
    else:
        numbers = [n_atoms // parent.n_basis] if n_atoms % parent.n_basis == 0 else []
    vectors = np.indices((13, 13, 13)).reshape(3, -1).T - 6
    lengths = np.linalg.norm(vectors @ parent.cell, axis=1)
    for number in numbers:
        wanted = np.linalg.norm(cell, axis=1) / np.cbrt(abs(volume) / number)
        lists = [vectors[(lengths > 0.85 * w) & (lengths < 1.18 * w)] for w in wanted]
        for rows in itertools.product(*lists):
            matrix = np.array(rows)
            if round(np.linalg.det(matrix)) == number * np.sign(volume):
                yield matrix


def _placements(atoms, parent, matrix):
    """Put every atom on every site of the basis once, and all atoms on sites from there."""
    cell = atoms.cell.array
    supercell = Supercell.from_matrix(parent, matrix)
    sites = (parent.basis[:, None] + supercell.cell_vectors).reshape(-1, 3) @ np.linalg.inv(matrix)
    fractional = atoms.positions @ np.linalg.inv(cell)
    images = np.indices((5, 5, 5)).reshape(3, -1).T - 2
    species = np.array([parent.species.index(symbol) for symbol in atoms.symbols])
    forbidden = ~supercell.allowed[:, species].T
    for atom, basis in itertools.product(range(len(atoms)), range(parent.n_basis)):
        origin = fractional[atom] - sites[basis * supercell.n_cells]
        for _ in range(20):
            rest = fractional[:, None] - sites - origin
            vectors = ((rest - np.rint(rest))[:, :, None] + images) @ cell
            nearest = (vectors**2).sum(axis=-1).argmin(axis=-1)
            vectors = np.take_along_axis(vectors, nearest[:, :, None, None], axis=2)[:, :, 0]
            rows, assigned = linear_sum_assignment((vectors**2).sum(axis=-1) + 1e6 * forbidden)
            displacements = vectors[rows, assigned]
            mean = displacements.mean(axis=0)
            origin = origin + mean @ np.linalg.inv(cell)
        vacancy = parent.species.index(VACANCY) if VACANCY in parent.species else 0
        labels = np.full(supercell.n_sites, vacancy)
        labels[assigned] = species
        if supercell.allowed[np.arange(supercell.n_sites), labels].all():
            yield labels, np.linalg.norm(displacements - mean, axis=1)
