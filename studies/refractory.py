"""The published DFT energies of all 16-site decorations of bcc Mo-Ta, Mo-W, Nb-Mo, Nb-Ta and Ta-W.

Data: https://github.com/materialsvirtuallab/snap, converted to one extxyz file; its folder stands
in LATTICESEARCH_SHARED_DATA, or is ../shared/data beside the project.
"""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import numpy as np

from latticesearch.lattice import ParentLattice, Supercell

BINARIES = ("Mo-Ta", "Mo-W", "Nb-Mo", "Nb-Ta", "Ta-W")
SPECIES = ("Nb", "Mo", "Ta", "W")
N_PURE = 2
"""The pure metals come first among the labelings of a binary."""


def folder():
    """Where the data are."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("LATTICESEARCH_SHARED_DATA", beside)) / "nbmotaw_vasp"


def cell_of(species):
    """The bcc supercell of 2x2x2 cubes, 16 sites."""
    parent = ParentLattice.from_prototype("bcc", 3.25, species)
    return Supercell.from_matrix(parent, [[0, 2, 2], [2, 0, 2], [2, 2, 0]])


def pure_energies():
    """Energies of the bcc metals, eV per atom, by symbol."""
    lines = (folder() / "pure_references.csv").read_text().splitlines()[1:]
    return {line.split(",")[0]: float(line.split(",")[1]) for line in lines}


def labelled_binaries():
    """Labels of `SPECIES`, (331, 16), and relaxed energies, (331,), eV per site, by binary."""
    cell, pure = cell_of(SPECIES), pure_energies()
    found = {name: ([], []) for name in BINARIES}
    for name, (labels, energies) in found.items():
        for symbol in name.split("-"):
            labels.append(np.full(16, SPECIES.index(symbol), dtype=np.int8))
            energies.append(pure[symbol])
    with gzip.open(folder() / "dft.extxyz.gz", "rt") as file:
        for line in file:
            header = next(file)
            atoms = [next(file).split() for _ in range(int(line))]
            group = re.search(r"group=([A-Z][a-z]?)([A-Z][a-z]?)_SS", header)
            if group and "tag=relax" in header:
                labels, energies = found[f"{group[1]}-{group[2]}"]
                labels.append(_labels(cell, header, atoms))
                energies.append(float(re.search(r" energy=(\S+)", header)[1]) / 16)
    return {name: (np.array(lab), np.array(en)) for name, (lab, en) in found.items()}


def _labels(cell, header, atoms):
    """Which species sits on which site of the ideal lattice; relaxed atoms are near their sites."""
    numbers = re.search(r'Lattice="([^"]+)"', header)[1].split()
    lattice = np.array(numbers, dtype=float).reshape(3, 3)
    per_site = abs(np.linalg.det(lattice) / np.linalg.det(cell.cell)) ** (1 / 3)
    matrix = np.rint(lattice / per_site @ np.linalg.inv(cell.parent.cell))
    fractional = np.array([row[1:4] for row in atoms], dtype=float) @ np.linalg.inv(lattice)
    sites = cell.site_of(0, np.rint((fractional - fractional[0]) @ matrix))
    assert len(set(sites)) == 16
    labels = np.empty(16, np.int8)
    labels[sites] = [SPECIES.index(row[0]) for row in atoms]
    return labels


def binary(name, data):
    """The supercell of one binary and its labels, 0 and 1, and energies."""
    species = tuple(name.split("-"))
    labels, energies = data[name]
    own = np.zeros(len(SPECIES), dtype=np.int8)
    own[SPECIES.index(species[1])] = 1
    return cell_of(species), own[labels], energies


def random_folds(n, n_folds, seed):
    """Random folds of n data, as index arrays."""
    order = np.random.default_rng(seed).permutation(n)
    return [np.sort(order[k::n_folds]) for k in range(n_folds)]
