"""The search with a real potential, against the energies of all labelings."""

from itertools import product

import numpy as np
import pytest

from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.mtp.files import parse_mtp
from latticesearch.search import search
from latticesearch.search.addition import search_by_addition
from latticesearch.search.types import Budget
from tests.shipped import read_text

SPECIES = ("Mo", "Ta")


def minima(evaluator):
    """Lowest energy per site for each number of atoms of the second species."""
    labels = np.array(list(product((0, 1), repeat=evaluator.supercell.n_sites)), dtype=np.int8)
    energies, counts = evaluator.energies(labels), labels.sum(axis=1)
    return np.array([energies[counts == k].min() for k in range(labels.shape[1] + 1)])


@pytest.mark.parametrize(
    ("lattice", "a", "matrix"),
    [("bcc", 3.25, [[1, 0, 5], [0, 2, 1], [0, 0, 6]]), ("fcc", 4.0, [1, 3, 4])],
)
def test_finds_the_minima_of_twelve_sites(lattice, a, matrix):
    parent = ParentLattice.from_prototype(lattice, a=a, species=SPECIES)
    hits = 0
    for seed in range(3):
        potential = MtpBasis(level=8, species=SPECIES, cutoff=5.0).potential(seed=seed)
        evaluator = potential.evaluator(Supercell.from_matrix(parent, matrix))
        for k, lowest in enumerate(minima(evaluator)):
            rng, counts = np.random.default_rng(0), np.array([12 - k, k])
            energy = search_by_addition(evaluator, counts, budget=Budget(), rng=rng).energies[0]
            assert energy > lowest - 1e-9
            hits += bool(energy < lowest + 1e-9)
    assert hits >= 37  # of 39: addition is a heuristic


@pytest.mark.parametrize("method", ["addition", "annealing"])
def test_sixteen_site_cell_with_all_compositions(method):
    potential = parse_mtp(read_text("mtp/random_level08.mtp"), ("Mo", "Ta", "Nb", "W"))
    parent = ParentLattice.from_prototype("bcc", a=3.25, species=SPECIES)
    cell = Supercell.from_matrix(parent, 2 * parent.conventional)
    pool = search(potential, parent, supercells=[cell], method=method, budget=40_000)
    lowest = minima(potential.evaluator(cell))
    found = np.full(17, np.inf)
    for candidate in pool.candidates:
        k = round(16 * candidate.configuration.composition[1])
        found[k] = min(found[k], candidate.energy)
    np.testing.assert_allclose(found, lowest, atol=1e-9)
    # Brute force took 65536.
    assert pool.evaluations <= 40_000
