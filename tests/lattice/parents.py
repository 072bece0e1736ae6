"""Parent lattices of high and low symmetry, made from a seed."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from latticesearch.errors import InputError
from latticesearch.lattice import Configuration, ParentLattice, Supercell

SYMMETRIC = (
    ("sc", ("Cu", "Au")),
    ("bcc", ("Nb", "Mo", "Ta")),
    ("fcc", ("Ag", "Pd")),
    ("hcp", ("Mg", "Cd")),
    ("diamond", ("Si", "Ge")),
    ("rocksalt", (("Ti", "Hf"), ("N", "X"))),
    ("perovskite", (("Ba", "Sr"), ("Ti",), ("O", "X"))),
)


def random_parent(rng):
    """Return a prototype, or a cell with random shape, sites and allowed species."""
    if rng.random() < 0.5:
        name, species = SYMMETRIC[rng.integers(len(SYMMETRIC))]
        return ParentLattice.from_prototype(name, 4.0, species)
    while True:
        cell = rng.uniform(2, 4, 3) * np.eye(3)
        if rng.random() < 0.5:
            cell = cell + rng.choice([0.0, 0.7, -1.3], (3, 3))
        n_basis = int(rng.integers(1, 4))
        sites = rng.choice([0.0, 0.25, 0.5, 0.75, 0.31], (n_basis, 3))
        names = ["Li", "Na", "K"][:n_basis]
        allowed = {
            n: [("A", "B", "AB", "BC", "ABC")[i] for i in rng.integers(0, 5, 1)] for n in names
        }
        symbols = {"A": "Cu", "B": "Ag", "C": "X"}
        allowed = {n: tuple(symbols[c] for c in a[0]) for n, a in allowed.items()}
        if abs(np.linalg.det(cell)) < 5:
            continue
        atoms = Atoms(names, scaled_positions=sites, cell=cell, pbc=True)
        try:
            return ParentLattice.from_atoms(atoms, allowed)
        except InputError:
            continue


def random_matrix(rng, largest_index, size=2):
    """Return an integer matrix with a determinant of 1 to `largest_index`, of either sign."""
    while True:
        matrix = rng.integers(-size, size + 1, (3, 3))
        if 1 <= abs(round(np.linalg.det(matrix))) <= largest_index:
            return matrix


def random_configuration(rng, parent, largest_index=4):
    supercell = Supercell.from_matrix(parent, random_matrix(rng, largest_index))
    labels = [rng.choice(np.flatnonzero(allowed)) for allowed in supercell.allowed]
    return Configuration(supercell, np.array(labels))


def redescribed(rng, configuration):
    """Return the same crystal in a larger supercell, rotated by an operation, and translated."""
    supercell = configuration.supercell
    parent = supercell.parent
    o = rng.integers(parent.n_ops)
    larger = random_matrix(rng, 3) @ supercell.hnf
    shift = rng.integers(-5, 6, 3)
    target = Supercell.from_matrix(parent, larger @ parent.rotations[o].T)
    source = Supercell.from_matrix(parent, larger)
    basis, vectors = source.basis_index, np.tile(source.cell_vectors, (parent.n_basis, 1))
    labels = np.full(target.n_sites, -1)
    sites = target.site_of(
        parent.basis_images[o][basis],
        vectors @ parent.rotations[o].T + parent.basis_shifts[o][basis] + shift,
    )
    labels[sites] = configuration.labels[supercell.site_of(basis, vectors)]
    return Configuration(target, labels)
