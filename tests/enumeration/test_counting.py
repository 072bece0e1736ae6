from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latticesearch.enumeration import (
    Restrictions,
    count_bounds,
    count_labelings,
    superlattices,
)
from latticesearch.enumeration.counting import Counter
from latticesearch.errors import InputError
from latticesearch.lattice import ParentLattice, Supercell
from tests.lattice.parents import random_parent
from tests.reference import enumeration as naive
from tests.shipped import read_json

METALS = ("Nb", "Mo", "Ta", "W")


@pytest.fixture(scope="module")
def published():
    return read_json("enumeration/counts.json")


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("name", ["sc", "bcc", "fcc", "hcp"])
def test_numbers_are_the_published_ones(published, name, k):
    """To the end of the tables: counting costs milliseconds."""
    parent = ParentLattice.from_prototype(name, 3.0, METALS[:k])
    for index, entry in published[f"{name}_k{k}_full_primitive"].items():
        assert count_labelings(parent, int(index)) == entry["count"]


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("name", ["sc", "bcc", "fcc", "hcp"])
def test_numbers_up_to_exchange_are_the_published_ones(published, name, k):
    parent = ParentLattice.from_prototype(name, 3.0, METALS[:k])
    for index, entry in published[f"{name}_k{k}_part_primitive"].items():
        number = count_labelings(parent, int(index), complete=True, exchange=True)
        assert number == entry["count"]


def test_sums_of_numbers_up_to_exchange_are_the_published_ones(published):
    """Table IV of Hart & Forcade (2008), 27 507 921 structures of up to 24 sites."""
    parent = ParentLattice.from_prototype("fcc", 3.0, METALS[:2])
    total = 0
    expected = published["cumulative_fcc_k2_part_primitive_2..n"]
    for index in range(2, 25):
        total += count_labelings(parent, index, complete=True, exchange=True)
        assert total == expected[str(index)]


@pytest.mark.parametrize("name", ["bcc", "fcc"])
def test_numbers_at_fixed_composition_are_the_published_ones(published, name):
    for k in (3, 4):
        parent = ParentLattice.from_prototype(name, 3.0, METALS[:k])
        equiatomic = dict.fromkeys(METALS[:k], 1 / k)
        for index, entry in published[f"{name}_k{k}_equiatomic"].items():
            assert count_labelings(parent, int(index), equiatomic) == entry["count"]


def test_numbers_in_a_composition_range_are_the_published_ones(published):
    parent = ParentLattice.from_prototype("bcc", 3.0, METALS[:3])
    for index, entry in published["bcc_k3_x1_x2_le_0.2"].items():
        composition = {"Nb": (0, 0.2), "Mo": (0, 0.2)}
        assert count_labelings(parent, int(index), composition) == entry["count"]


@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=25)
def test_counts_are_those_of_brute_force(seed, superperiodic, restricted):
    rng = np.random.default_rng(seed)
    parent = random_parent(rng)
    index = int(rng.integers(1, 5))
    while parent.allowed.sum(axis=1).prod() ** float(index) > 800:
        if index == 1:
            return
        index -= 1
    composition, bounds = None, None
    if restricted:
        composition = {parent.species[0]: tuple(np.sort(rng.uniform(0, 1, 2)))}
        if parent.n_species == 1:
            composition = {parent.species[0]: 1.0}
        bounds = count_bounds(parent, index, composition)
    cells = [Supercell.from_matrix(parent, form) for form in superlattices(parent, index)]
    brute = [
        len(naive.labelings(cell, superperiodic=superperiodic, counts=bounds)) for cell in cells
    ]
    counted = count_labelings(parent, index, composition, superperiodic=superperiodic)
    assert counted == sum(brute)
    for cell, number in zip(cells, brute, strict=True):
        single = count_labelings(
            parent, composition=composition, superperiodic=superperiodic, supercell=cell
        )
        assert single == number


def test_superperiodic_labelings_add_up():
    """A labeling of a large cell is a primitive one of a cell of some divisor of its size."""
    parent = ParentLattice.from_prototype("sc", 3.0, ("Cu", "Au"))
    cell = Supercell.from_matrix(parent, (2, 2, 2))
    assert count_labelings(parent, supercell=cell, superperiodic=True) == 22
    assert count_labelings(parent, supercell=cell) < 22


def test_huge_counts_are_exact_integers():
    parent = ParentLattice.from_prototype("sc", 3.0, ("Cu", "Au"))
    cell = Supercell.from_matrix(parent, (1, 1, 70))
    number = count_labelings(parent, supercell=cell, superperiodic=True)
    # Bracelets of 70 beads in two colours: translations and the mirror of a chain.
    rotations = sum(2 ** math.gcd(70, k) for k in range(70))
    mirrors = 35 * 2**36 + 35 * 2**35
    assert number == (rotations + mirrors) // 140


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_labelings_along_cycles_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    parent = ParentLattice.from_prototype("b2", 3.0, (("Cu", "Ag", "Au"), ("Ag", "Au", "Pd")))
    cycles = [(int(rng.integers(2)), int(rng.integers(1, 4))) for _ in range(rng.integers(1, 6))]
    n_cells = sum(length for _, length in cycles)
    composition = {
        symbol: tuple(np.sort(rng.uniform(0, 0.8, 2)))
        for symbol in parent.species
        if rng.random() < 0.5
    }
    bounds = [(0, n_cells) for _ in parent.species]
    for symbol, (low, high) in composition.items():
        bounds[parent.species.index(symbol)] = (
            math.ceil((low - 5e-4) * 2 * n_cells),
            math.floor((high + 5e-4) * 2 * n_cells),
        )
    try:
        counter = Counter(parent, n_cells, Restrictions(composition))
    except InputError:
        return  # fractions that cannot add up to one
    options = [counter.options(0), counter.options(1)]
    entries = tuple((*name, cycles.count(name)) for name in sorted(set(cycles)))
    assert counter.fixed_by(entries) == naive.fillings(cycles, options, bounds)


def test_compositions_add_up_where_numbers_are_huge():
    """54 sites of four species: 10^29 labelings, every number of Nb counted by itself."""
    parent = ParentLattice.from_prototype("bcc", 3.2, METALS)
    cell = Supercell.from_matrix(parent, 3 * parent.conventional)
    space = {"supercell": cell, "superperiodic": True}
    numbers = [count_labelings(parent, None, {"Nb": n / 54}, **space) for n in range(55)]
    assert sum(numbers) == count_labelings(parent, **space) > 10**29
    ranges = {"Nb": (0, 20 / 54), "Mo": (0.1, 0.6), "Ta": (0.05, 0.9), "W": (0.0, 0.5)}
    below = count_labelings(parent, None, ranges, **space)
    above = count_labelings(parent, None, {**ranges, "Nb": (21 / 54, 1)}, **space)
    free = {symbol: r for symbol, r in ranges.items() if symbol != "Nb"}
    assert below + above == count_labelings(parent, None, free, **space) > 10**28


def test_neither_index_nor_supercell_is_refused():
    parent = ParentLattice.from_prototype("sc", 3.0, ("Cu", "Au"))
    with pytest.raises(InputError, match="either an index or a supercell"):
        count_labelings(parent)
