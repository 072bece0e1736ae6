from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latticesearch.enumeration import (
    count_bounds,
    count_labelings,
    enumerate_labelings,
    superlattices,
)
from latticesearch.errors import InputError
from latticesearch.lattice import Labelings, ParentLattice, Supercell
from tests.fake_comm import run_ranks
from tests.lattice.parents import random_parent
from tests.reference import enumeration as naive
from tests.shipped import read_json

METALS = ("Nb", "Mo", "Ta", "W")


@pytest.fixture(scope="module")
def published():
    return read_json("enumeration/counts.json")


def total(batches):
    return sum(len(batch) for batch in batches)


def _compare(published, name, k, limit, skip=0):
    parent = ParentLattice.from_prototype(name, 3.0, METALS[:k])
    compared = 0
    for index, entry in published[f"{name}_k{k}_full_primitive"].items():
        if skip <= entry["count"] < limit:
            n = int(index)
            assert total(enumerate_labelings(parent, n, n)) == entry["count"]
            compared += 1
    return compared


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("name", ["sc", "bcc", "fcc", "hcp"])
def test_numbers_are_the_published_ones(published, name, k):
    assert _compare(published, name, k, 10_000) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("name", ["sc", "bcc", "fcc", "hcp"])
def test_large_numbers_are_the_published_ones(published, name, k):
    assert _compare(published, name, k, 3_000_000, skip=10_000) >= 1


@pytest.mark.parametrize("name", ["bcc", "fcc"])
def test_numbers_at_fixed_composition_are_the_published_ones(published, name):
    for k in (3, 4):
        parent = ParentLattice.from_prototype(name, 3.0, METALS[:k])
        equiatomic = dict.fromkeys(METALS[:k], 1 / k)
        for index, entry in published[f"{name}_k{k}_equiatomic"].items():
            n = int(index)
            assert total(enumerate_labelings(parent, n, n, equiatomic)) == entry["count"]


def test_labelings_that_use_all_species_are_the_published_ones(published):
    """The tables of Hart & Forcade count complete labelings up to exchange of the species."""
    parent = ParentLattice.from_prototype("fcc", 3.0, ("Ag", "Pd"))
    expected = published["cumulative_fcc_k2_part_primitive_2..n"]
    cumulative = 0
    for index in range(2, 9):
        keys = set()
        for batch in enumerate_labelings(parent, index, index):
            complete = Labelings(batch.supercell, batch.labels[(batch.counts > 0).all(axis=1)])
            exchanged = Labelings(batch.supercell, 1 - complete.labels)
            keys |= {min(pair) for pair in zip(complete.keys(), exchanged.keys(), strict=True)}
        cumulative += len(keys)
        assert cumulative == expected[str(index)]


@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=25)
def test_labelings_are_those_of_brute_force(seed, superperiodic, restricted):
    rng = np.random.default_rng(seed)
    parent = random_parent(rng)
    index = int(rng.integers(1, 5))
    while parent.allowed.sum(axis=1).prod() ** float(index) > 800:
        if index == 1:
            return
        index -= 1
    composition, bounds = None, None
    if restricted and parent.n_species > 1:
        present = rng.choice(np.flatnonzero(parent.allowed[0]))
        low = rng.uniform(0, 1 / parent.n_basis)
        composition = {parent.species[present]: (low / 2, min(1, low + 0.6))}
        bounds = count_bounds(parent, index, composition)
    expected = {}
    for form in superlattices(parent, index):
        cell = Supercell.from_matrix(parent, form)
        expected[cell] = naive.labelings(cell, superperiodic=superperiodic, counts=bounds)
    try:
        batches = list(
            enumerate_labelings(
                parent, index, index, composition, superperiodic=superperiodic, batch_size=7
            )
        )
    except InputError:
        assert not any(expected.values())
        return
    found = {cell: [] for cell in expected}
    for batch in batches:
        assert 1 <= len(batch) <= 7
        found[batch.supercell] += [tuple(row) for row in batch.labels.tolist()]
    assert found == expected


def test_every_key_is_new_and_the_labeling_is_its_own_canonical_form():
    parent = ParentLattice.from_prototype("rocksalt", 4.2, (("Ti", "Hf"), ("N", "X")))
    seen = set()
    for batch in enumerate_labelings(parent, 1, 4):
        keys = batch.keys()
        letters = ["".join(chr(ord("A") + x) for x in row) for row in batch.labels]
        assert [key.rsplit("-", 1)[1] for key in keys] == letters
        assert seen.isdisjoint(keys)
        seen.update(keys)
    assert len(seen) == sum(count_labelings(parent, n) for n in range(1, 5))


def test_overlapping_allowed_sets_are_kept_apart():
    """Sites are equivalent only if their allowed sets agree: 9, 81, 468 labelings of B2."""
    parent = ParentLattice.from_prototype("b2", 3.0, (("Cu", "Ag", "Au"), ("Ag", "Au", "Pd")))
    assert [total(enumerate_labelings(parent, n, n)) for n in (1, 2, 3)] == [9, 81, 468]
    assert [count_labelings(parent, n) for n in (1, 2, 3)] == [9, 81, 468]


def test_one_supercell_with_and_without_superperiodic_labelings():
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))
    matrix = 2 * parent.conventional
    everything = list(enumerate_labelings(parent, supercell=matrix, superperiodic=True))
    assert total(everything) == 331
    assert len({key for batch in everything for key in batch.keys()}) == 331  # noqa: SIM118
    primitive = total(enumerate_labelings(parent, supercell=matrix))
    cell = Supercell.from_matrix(parent, matrix)
    assert primitive == count_labelings(parent, supercell=cell) < 331


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_ranks_share_the_work_and_miss_nothing(size):
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta", "W"))

    def keys(comm, **arguments):
        batches = enumerate_labelings(parent, comm=comm, **arguments)
        return [key for batch in batches for key in batch.keys()]  # noqa: SIM118

    for arguments in (
        {"max_index": 5, "composition": {"Mo": (0.2, 0.7)}},
        {"supercell": (2, 2, 2), "superperiodic": True},
        {"supercell": (1, 1, 1)},
    ):
        serial = keys(None, **arguments)
        parts = run_ranks(size, lambda comm, a=arguments: keys(comm, **a))
        assert sorted(key for part in parts for key in part) == sorted(serial)
        if len(serial) > 100:
            assert min(len(part) for part in parts) > 0.2 * len(serial) / size


def test_batches_do_not_share_memory():
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))
    batches = list(enumerate_labelings(parent, 4, 4, batch_size=2))
    assert (
        len({row.tobytes() + b.supercell.hnf.tobytes() for b in batches for row in b.labels}) == 19
    )


@pytest.mark.parametrize(
    ("composition", "message"),
    [
        ({"Xe": 0.5}, "names Xe.*Mo, Ta"),
        ({"Mo": 1.5}, "site fraction from 0 to 1"),
        ({"Mo": (0.6, 0.2)}, "site fraction"),
        ({"Mo": float("nan")}, "site fraction"),
        ({"Mo": 0.7, "Ta": 0.7}, "cannot add up to 1"),
        ({"Mo": 0.2, "Ta": 0.2}, "cannot add up to 1"),
        ({"Mo": 0.1}, r"1 to 4 primitive cells.*nearest possible: Ta 1/1$"),
        ({"Mo": 0.36}, r"nearest possible: Mo 1/3, Ta 2/3; Mo 1/4, Ta 3/4"),
    ],
)
def test_impossible_compositions_are_refused(composition, message):
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))
    with pytest.raises(InputError, match=message):
        enumerate_labelings(parent, 1, 4, composition)


def test_impossible_compositions_of_sublattices_name_what_is_possible():
    parent = ParentLattice.from_prototype("rocksalt", 4.2, (("Ti", "Hf"), ("N", "X")))
    with pytest.raises(InputError, match=r"nearest possible: .*N 2/4"):
        enumerate_labelings(parent, 2, 2, {"N": 0.75})
    assert total(enumerate_labelings(parent, 2, 2, {"N": 0.5, "Ti": 0.25})) > 0


def test_fractions_may_be_rounded_as_people_write_them():
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))
    assert (
        count_labelings(parent, 3, {"Mo": 0.333}) == count_labelings(parent, 3, {"Mo": 1 / 3}) > 0
    )


@pytest.mark.parametrize(
    "arguments",
    [{}, {"min_index": 3, "max_index": 2}, {"min_index": 0, "max_index": 2}],
)
def test_bad_sizes_are_refused(arguments):
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))
    with pytest.raises(InputError, match="1 <= min_index <= max_index"):
        enumerate_labelings(parent, **arguments)


def test_bad_batch_size_is_refused():
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))
    with pytest.raises(InputError, match="batch_size"):
        enumerate_labelings(parent, 1, 2, batch_size=0)


WIDE = (
    ("fcc", ("Cu", "Au"), (2, 2, 3)),
    ("sc", ("Cu", "Au"), (1, 1, 13)),
    ("hcp", ("Mg", "Cd"), (1, 2, 3)),
    ("rocksalt", (("Ti", "Hf"), ("N", "X")), (1, 2, 3)),
    ("perovskite", (("Ba", "Sr"), ("Ti",), ("O", "X")), (1, 1, 3)),
)


@pytest.mark.parametrize("superperiodic", [True, False])
@pytest.mark.parametrize(("name", "species", "matrix"), WIDE)
def test_deciding_many_sites_at_once_changes_nothing(name, species, matrix, superperiodic):
    """Small batches leave no room for the labelings of the last sites together."""
    cell = Supercell.from_matrix(ParentLattice.from_prototype(name, 4.0, species), matrix)
    rows = [
        np.concatenate(
            [
                batch.labels
                for batch in enumerate_labelings(
                    cell.parent, supercell=cell, superperiodic=superperiodic, batch_size=size
                )
            ]
        )
        for size in (5, 64, 5000)
    ]
    np.testing.assert_array_equal(rows[1], rows[0])
    np.testing.assert_array_equal(rows[2], rows[0])
    if name != "sc":
        expected = naive.labelings(cell, superperiodic=superperiodic)
        np.testing.assert_array_equal(rows[0], expected)
