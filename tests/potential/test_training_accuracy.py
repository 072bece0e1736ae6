"""How well few DFT energies of Mo-Ta teach the potential those it has not seen."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest

from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.mtp.training import LabelledBatch, TrainingSet, fit

SPECIES = ("Mo", "Ta")
PURE = (-10.84829802, -11.85294036)


@pytest.fixture(scope="module")
def cell():
    parent = ParentLattice.from_prototype("bcc", 3.25, SPECIES)
    return Supercell.from_matrix(parent, [[0, 2, 2], [2, 0, 2], [2, 2, 0]])


@pytest.fixture(scope="module")
def relaxed(shared_data, cell):
    """Labels, (331, 16), and relaxed energies, (331,), eV/site; the pure metals come first."""
    labels, energies = [np.zeros(16, np.int8), np.ones(16, np.int8)], list(PURE)
    with gzip.open(shared_data / "nbmotaw_vasp" / "dft.extxyz.gz", "rt") as file:
        for line in file:
            header = next(file)
            atoms = [next(file).split() for _ in range(int(line))]
            if "group=MoTa_SS" in header and "tag=relax" in header:
                labels.append(labels_of(cell, header, atoms))
                energies.append(float(re.search(r" energy=(\S+)", header)[1]) / 16)
    return np.array(labels), np.array(energies)


def labels_of(cell, header, atoms):
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


@pytest.mark.parametrize(("n", "expected"), [(30, 2.0), (80, 1.2)])
def test_error_of_unseen_energies(cell, relaxed, n, expected):
    labels, energies = relaxed
    assert len(energies) == 331
    errors, estimates = [], []
    for seed in range(3):
        order = 2 + np.random.default_rng(seed).permutation(329)
        known, unknown = np.concatenate([[0, 1], order[: n - 2]]), order[n - 2 :]
        part = LabelledBatch(Labelings(cell, labels[known]), energies[known])
        potential, report = fit(MtpBasis(8, SPECIES, cutoff=6.0), TrainingSet((part,)))
        error = potential.evaluator(cell).energies(labels[unknown]) - energies[unknown]
        errors.append(1e3 * np.sqrt(np.mean(error**2)))
        # No other datum says much of the pure metals, and the unknown ones are alloys.
        estimates.append(np.sqrt(np.mean(np.square(report.left_out_errors[2:]))))
    assert np.median(errors) < expected
    assert 0.5 < np.median(estimates) / np.median(errors) < 2.0
