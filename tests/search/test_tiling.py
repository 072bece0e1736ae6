"""Small cells that tile large ones: which there are, how they fill, what searches gain by them."""

from __future__ import annotations

import numpy as np
import pytest

from latticesearch.enumeration import all_superlattices, superlattices
from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential.clusters import ClusterBasis, ClusterModel
from latticesearch.search import search
from latticesearch.search.annealing import anneal, anneal_plainly
from latticesearch.search.guides import Guides
from latticesearch.search.partial import random_labeling
from latticesearch.search.tiling import (
    LARGEST_TILE,
    MOST_PER_SIZE,
    dividing_cells,
    nearest_counts,
    tiles_of,
)
from latticesearch.search.types import Budget, Task
from tests.fake_comm import run_ranks
from tests.reference import search as reference

BCC = ParentLattice.from_prototype("bcc", a=3.24, species=("Nb", "Mo", "Ta", "W"))
HCP = ParentLattice.from_prototype("hcp", a=3.2, species=("Mg", "Cd"))
CUBES = {54: [[0, 3, 3], [3, 0, 3], [3, 3, 0]], 64: [4, 4, 4]}


@pytest.mark.parametrize(
    ("parent", "matrix"), [(BCC, CUBES[54]), (BCC, [2, 3, 4]), (HCP, [2, 3, 3])]
)
def test_dividing_cells_are_all_distinct_lattices_between(parent, matrix):
    cell = Supercell.from_matrix(parent, matrix)
    cells = dividing_cells(cell)
    found: dict[int, set[bytes]] = {}
    for small in cells:
        assert reference.divides(small.hnf, cell.hnf)
        found.setdefault(small.n_cells, set()).add(small.canonical[0].hnf.tobytes())
    assert sum(map(len, found.values())) == len(cells)
    for index in range(2, min(LARGEST_TILE // parent.n_basis, cell.n_cells // 2) + 1):
        wanted = {
            parent.canonical_hnf(hnf)[0].tobytes()
            for hnf in all_superlattices(index)
            if reference.divides(hnf, cell.hnf)
        }
        if cell.n_cells % index:
            assert not wanted
        assert len(wanted) <= MOST_PER_SIZE
        assert found.get(index, set()) == wanted


def test_a_prime_or_small_cell_has_no_tiles():
    assert dividing_cells(Supercell.from_matrix(BCC, [1, 1, 29])) == ()
    assert dividing_cells(Supercell.from_matrix(BCC, [1, 1, 3])) == ()


@pytest.mark.parametrize(("parent", "matrix"), [(BCC, [2, 3, 4]), (HCP, [2, 3, 3])])
def test_tiles_repeat_the_small_cell_and_keep_the_composition(parent, matrix):
    cell, rng = Supercell.from_matrix(parent, matrix), np.random.default_rng(0)
    share = cell.n_sites // parent.n_species
    counts = np.full(parent.n_species, share)
    counts[:2] += [1, -1]
    tiles = tiles_of(cell, counts)
    assert tiles
    for tile in tiles:
        labels = rng.permutation(np.repeat(np.arange(parent.n_species, dtype=np.int8), tile.counts))
        plain = labels[tile.sites]
        assert tile.is_exact == bool((np.bincount(plain, minlength=len(counts)) == counts).all())
        np.testing.assert_array_equal(plain, reference.tiled(tile.cell, labels, cell))
        filled = tile.fill(labels, counts, cell.allowed, rng)
        np.testing.assert_array_equal(np.bincount(filled, minlength=len(counts)), counts)
        # No more sites change than the composition asks for.
        surplus = np.bincount(plain, minlength=len(counts)) - counts
        assert (filled != plain).sum() == np.abs(surplus).sum() // 2


def test_a_small_cell_of_the_same_composition_is_exact():
    tiles = tiles_of(Supercell.from_matrix(BCC, CUBES[64]), np.array([32, 24, 8, 0]))
    exact = {n: {tile.is_exact for tile in tiles if tile.cell.n_sites == n} for n in (4, 8, 16)}
    assert exact == {4: {False}, 8: {True}, 16: {True}}


def test_a_tiled_cell_has_the_energy_per_site_of_the_small_one():
    model = ClusterModel.random(ClusterBasis.of(BCC, 5.0, 3.5), 3, pair=0.03, triplet=0.02)
    cell, rng = Supercell.from_matrix(BCC, CUBES[64]), np.random.default_rng(1)
    tiles = tiles_of(cell, np.full(4, 16))
    for tile in tiles:
        labels = rng.permutation(np.repeat(np.arange(4, dtype=np.int8), tile.counts))
        small = model.evaluator(tile.cell).energies(labels[None])[0]
        large = model.evaluator(cell).energies(labels[tile.sites][None])[0]
        assert large == pytest.approx(small, abs=1e-10)


def test_the_sublattices_decide_whether_a_tile_can_be_filled():
    rocksalt = ParentLattice.from_prototype("rocksalt", a=4.2, species=(("Mg", "Ca"), ("O",)))
    cell, rng = Supercell.from_matrix(rocksalt, [2, 2, 4]), np.random.default_rng(2)
    species = list(rocksalt.species)
    counts = np.zeros(len(species), dtype=np.int64)
    counts[species.index("Mg")], counts[species.index("Ca")] = 9, 7
    counts[species.index("O")] = 16
    for tile in tiles_of(cell, counts):
        assert tile.counts[species.index("O")] == tile.cell.n_sites // 2
        labels = np.where(
            tile.cell.basis_index == 0, species.index("Mg"), species.index("O")
        ).astype(np.int8)
        filled = tile.fill(labels, counts, cell.allowed, rng)
        assert filled is not None
        assert cell.allowed[np.arange(cell.n_sites), filled].all()
        np.testing.assert_array_equal(np.bincount(filled, minlength=len(counts)), counts)


def test_nearest_counts_round_and_refuse_what_is_far():
    eight = Supercell.from_matrix(BCC, [2, 2, 2])
    fractions = np.array([0.4, 0.3, 0.2, 0.1])
    np.testing.assert_array_equal(nearest_counts(eight, fractions), [3, 2, 2, 1])
    two = Supercell.from_matrix(BCC, superlattices(BCC, 2)[0])
    assert nearest_counts(two, fractions) is None


def frustrated(seed: int) -> ClusterModel:
    return ClusterModel.random(ClusterBasis.of(BCC, 6.0, 4.2), seed, pair=0.03, triplet=0.02)


def test_the_ground_state_of_a_small_cell_is_found_in_the_large_one():
    """Of equiatomic quaternaries in 64 sites it has four; plain annealing finds others."""
    model, cell = frustrated(4), Supercell.from_matrix(BCC, CUBES[64])
    composition = dict.fromkeys(BCC.species, 0.25)
    small = search(model, BCC, max_sites=8, method="enumerate", composition=composition)
    arguments = {"supercells": [cell], "composition": composition}
    pool = search(model, BCC, budget=4000, **arguments)
    assert pool.evaluations <= 4000
    assert pool.energies.min() < small.energies.min() + 1e-9
    rng = np.random.default_rng(0)
    start = random_labeling(cell.allowed, np.full(4, 16), rng)
    plain = anneal_plainly(model.evaluator(cell), start, Budget(4000), rng)
    assert pool.energies.min() < plain.energy[0] / 64 - 1e-3


def test_ranks_do_not_change_what_tiled_cells_hold():
    model = frustrated(2)
    arguments = {
        "supercells": [[2, 3, 4], [3, 3, 3]],
        "composition": {"Nb": (0.45, 0.5), "Mo": 0.25, "Ta": (0.2, 0.3)},
    }
    pool = search(model, BCC, budget=9000, seed=3, **arguments)
    assert len(pool)
    for other in run_ranks(
        2, lambda comm: search(model, BCC, budget=9000, seed=3, comm=comm, **arguments)
    ):
        assert other.entries == pool.entries
        assert other.evaluations == pool.evaluations


def test_small_cells_are_paid_for_and_leave_the_composition():
    model, cell = frustrated(1), Supercell.from_matrix(BCC, CUBES[54])
    task, budget, searched = Task(cell, np.array([22, 16, 11, 5])), Budget(3000), set()

    def evaluator_of(supercell):
        searched.add(supercell)
        return model.evaluator(supercell)

    rng = np.random.default_rng(0)
    result = anneal(task, evaluator_of, budget=budget, rng=rng, guides=Guides.of(BCC))
    assert {small.n_sites for small in searched} > {54}
    assert 2500 < result.evaluations == budget.used <= 3000
    energies = model.evaluator(cell).energies(result.labels)
    np.testing.assert_allclose(result.energies, energies, atol=1e-9)
    for labels in result.labels:
        np.testing.assert_array_equal(np.bincount(labels, minlength=4), task.counts)
