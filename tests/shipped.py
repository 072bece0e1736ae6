"""Data that the project ships for its tests: facts, and numbers of our own making.

What belongs to others is found by the fixture `shared_data` of ``conftest.py`` instead.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
from ase import Atoms

DATA = Path(__file__).parent / "data"


def read_text(name):
    """Text of a file by its path below ``tests/data``, unpacked where it ends in ``.gz``."""
    path = DATA / name
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()


def read_json(name):
    return json.loads(read_text(name))


def read_cells(name):
    """Yield cell, types and positions from a plain list: n, then for each its atoms and rows."""
    numbers = iter(read_text(name).split())
    for _ in range(int(next(numbers))):
        n_atoms = int(next(numbers))
        cell = np.array([float(next(numbers)) for _ in range(9)]).reshape(3, 3)
        table = np.array([float(next(numbers)) for _ in range(4 * n_atoms)]).reshape(-1, 4)
        yield cell, table[:, 0].astype(np.int8), table[:, 1:]


def read_atoms(name, species):
    """Yield the structures of a plain list of cells."""
    for cell, types, positions in read_cells(name):
        yield Atoms([species[t] for t in types], positions=positions, cell=cell, pbc=True)
