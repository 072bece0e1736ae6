"""Reader of the plain list of cells used by the reference data: n, then per cell its atoms."""

from __future__ import annotations

import numpy as np
from ase import Atoms


def read_cells(path, species):
    numbers = iter(path.read_text().split())
    for _ in range(int(next(numbers))):
        n_atoms = int(next(numbers))
        cell = np.array([float(next(numbers)) for _ in range(9)]).reshape(3, 3)
        table = np.array([float(next(numbers)) for _ in range(4 * n_atoms)]).reshape(-1, 4)
        symbols = [species[int(t)] for t in table[:, 0]]
        yield Atoms(symbols, positions=table[:, 1:], cell=cell, pbc=True)
