"""The supercells of a search, by size, and the compositions they can have."""

import math

import numpy as np
import pytest

from latticesearch.enumeration import enumerate_labelings
from latticesearch.errors import InputError
from latticesearch.lattice import Supercell
from latticesearch.search.blocks import (
    blocks_of_cells,
    blocks_of_sizes,
    feasible_counts,
    in_random_order,
    n_distinct,
    tasks_of,
)
from tests.search.toy_model import BCC, FCC, ROCKSALT


def test_counts_of_a_cell():
    supercell = Supercell.from_matrix(BCC, [1, 1, 4])
    assert len(feasible_counts(supercell)) == 15
    assert feasible_counts(supercell, {"Mo": 0.5, "Nb": (0.25, 1.0)}).tolist() == [
        [2, 1, 1],
        [2, 2, 0],
    ]
    rocksalt = Supercell.from_matrix(ROCKSALT, [1, 1, 2])
    assert len(feasible_counts(rocksalt)) == 9


def test_number_of_labelings_of_a_supercell():
    for parent, matrix in ((FCC, [2, 2, 2]), (BCC, [1, 2, 3]), (ROCKSALT, [1, 2, 2])):
        supercell = Supercell.from_matrix(parent, matrix)
        found = enumerate_labelings(parent, supercell=supercell, superperiodic=True)
        assert n_distinct(supercell) == sum(len(batch) for batch in found)


@pytest.mark.parametrize("composition", [None, {"Pd": (0.25, 0.5)}])
def test_blocks_of_sizes_hold_what_enumeration_gives(composition):
    blocks = blocks_of_sizes(FCC, 2, 6, composition)
    assert [block.n_sites for block in blocks] == [2, 3, 4, 5, 6]
    for block in blocks:
        n = block.n_sites
        batches = enumerate_labelings(FCC, min_index=n, max_index=n, composition=composition)
        assert block.n_labelings(composition) == sum(len(batch) for batch in batches)
        assert len(tasks_of([block])) == len(block.supercells) * len(block.counts)


def test_sizes_are_in_sites_and_those_between_are_left_out():
    assert [block.n_sites for block in blocks_of_sizes(ROCKSALT, 3, 7, None)] == [4, 6]
    with pytest.raises(InputError, match="nothing to search"):
        blocks_of_sizes(ROCKSALT, 3, 3, None)


def test_given_cells_come_once_and_smallest_first():
    cell = Supercell.from_matrix(FCC, [2, 2, 2])
    blocks = blocks_of_cells(FCC, [cell, [1, 1, 3], [2, 2, 2]], None)
    assert [block.n_sites for block in blocks] == [3, 8]
    assert blocks[1].n_labelings(None) == n_distinct(cell)
    huge = blocks_of_cells(FCC, [[8, 8, 8]], None)[0]
    assert huge.n_labelings(None) == math.inf


def test_random_order_is_a_permutation_that_prefers_symmetric_cells():
    tasks = tasks_of(blocks_of_cells(FCC, [[1, 1, 8], [2, 2, 2]], None))
    first = []
    for seed in range(200):
        order = in_random_order(tasks, seed)
        assert set(order) == set(tasks)
        first.append(len(order[0].cell.point_operations))
    # 48 operations against 12: four draws out of five.
    weights = [len(task.cell.point_operations) for task in tasks]
    expected = sum(w for w in weights if w == 48) / sum(weights)
    assert np.mean(np.array(first) == 48) == pytest.approx(expected, abs=0.1)
