from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latticesearch.enumeration import (
    count_labelings,
    enumerate_labelings,
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


def total(batches):
    return sum(len(batch) for batch in batches)


def rows(batches):
    return [tuple(row) for batch in batches for row in batch.labels.tolist()]


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("name", ["sc", "bcc", "fcc", "hcp"])
def test_tables_of_complete_labelings_up_to_exchange(published, name, k):
    """The convention of Hart & Forcade (2008, 2009)."""
    parent = ParentLattice.from_prototype(name, 3.0, METALS[:k])
    rules = {"complete": True, "exchange": True}
    compared = 0
    for index, entry in published[f"{name}_k{k}_part_primitive"].items():
        n = int(index)
        if entry["count"] < 100_000 and n <= 12:
            assert count_labelings(parent, n, **rules) == entry["count"]
        if entry["count"] < 10_000 and n <= 12:
            try:
                assert total(enumerate_labelings(parent, n, n, **rules)) == entry["count"]
            except InputError:
                assert entry["count"] == 0
            compared += 1
    assert compared >= 2


def _random_rules(rng, parent):
    rules = {"superperiodic": bool(rng.integers(2)), "complete": bool(rng.integers(2))}
    rules["exchange"] = bool(rng.integers(2))
    if rng.random() < 0.6 and parent.n_species > 1:
        number = int(rng.integers(len(parent.sublattices)))
        species = rng.choice(np.flatnonzero(parent.allowed[parent.sublattices[number][0]]))
        low = float(rng.uniform(0, 0.6))
        rules["sublattices"] = {number: {parent.species[species]: (low, min(1.0, low + 0.5))}}
    return rules


def _wanted(cell, rules):
    """Return the restrictions as a plain test of one labeling, and the interchangeable species."""
    parent = cell.parent
    bounds = {}
    for number, composition in (rules.get("sublattices") or {}).items():
        sites = np.flatnonzero(np.isin(cell.basis_index, parent.sublattices[number]))
        for symbol, (low, high) in composition.items():
            bounds[parent.species.index(symbol)] = (sites, low - 5e-4, high + 5e-4)

    def test(labels):
        if rules["complete"] and len(set(labels)) < parent.n_species:
            return False
        return all(
            low <= np.mean([labels[i] == s for i in sites]) <= high
            for s, (sites, low, high) in bounds.items()
        )

    classes = {}
    for s in range(parent.n_species):
        # A species with a range of its own is unlike the others, unless the range says nothing.
        key = tuple(parent.allowed[:, s].tolist())
        if s in bounds:
            sites, low, high = bounds[s]
            n = len(sites)
            tight = (np.ceil(low * n), np.floor(high * n))
            key = (key, tight) if tight[0] > 0 or tight[1] < n else key
        classes.setdefault(key, []).append(s)
    return test, list(classes.values()) if rules["exchange"] else []


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_all_restrictions_together_give_what_brute_force_gives(seed):
    rng = np.random.default_rng(seed)
    parent = random_parent(rng)
    index = int(rng.integers(1, 5))
    while index > 1 and parent.allowed.sum(axis=1).prod() ** float(index) > 600:
        index -= 1
    rules = _random_rules(rng, parent)
    for form in superlattices(parent, index):
        cell = Supercell.from_matrix(parent, form)
        test, classes = _wanted(cell, rules)
        superperiodic = rules["superperiodic"]
        expected = naive.labelings(cell, superperiodic=superperiodic, wanted=test, classes=classes)
        assert count_labelings(parent, supercell=cell, **rules) == len(expected)
        try:
            found = rows(enumerate_labelings(parent, supercell=cell, batch_size=9, **rules))
        except InputError:
            assert not expected
            continue
        assert found == expected


def test_sites_without_a_choice_cost_nothing():
    with_oxygen = ParentLattice.from_prototype("rocksalt", 4.2, (("Ti", "Hf"), ("O",)))
    without = ParentLattice.from_prototype("fcc", 4.2, ("Ti", "Hf"))
    for n in (1, 4, 8):
        few = list(enumerate_labelings(without, n, n))
        many = list(enumerate_labelings(with_oxygen, n, n))
        assert total(few) == total(many) == count_labelings(with_oxygen, n)
        for one, other in zip(few, many, strict=True):
            np.testing.assert_array_equal(other.labels[:, :n], one.labels)
            assert (other.labels[:, n:] == 2).all()


def test_a_lattice_without_any_choice_has_one_structure():
    parent = ParentLattice.from_prototype("rocksalt", 4.2, (("Ti",), ("O",)))
    assert total(enumerate_labelings(parent, 1, 4)) == 1
    assert total(enumerate_labelings(parent, 4, 4, superperiodic=True)) == len(
        superlattices(parent, 4)
    )


def _contains(hnf, vector):
    steps = np.linalg.solve(hnf.T, vector)
    return np.allclose(steps, np.rint(steps))


def test_a_layer_is_not_stacked():
    """A vector of the lattice is a row of its normal form, whatever the axis."""
    layer = ParentLattice.from_prototype("sc", 3.0, ("Cu", "Au"))
    for axis in (0, 1, 2):
        for n in (2, 3, 4):
            forms = superlattices(layer, n, layer_axis=axis)
            flat = {
                form.tobytes()
                for form in superlattices(layer, n)
                if any(_contains(image, np.eye(3)[axis]) for image in layer.equivalent_hnfs(form))
            }
            assert {form.tobytes() for form in forms} == flat
    # Superlattices of the square lattice up to its symmetry: 2, 2, 4 for 2, 3, 4 cells.
    assert [len(superlattices(layer, n, layer_axis=2)) for n in (2, 3, 4)] == [2, 2, 4]
    number = count_labelings(layer, 4, layer_axis=2)
    assert number == total(enumerate_labelings(layer, 4, 4, layer_axis=2))
    assert number < count_labelings(layer, 4)
    with pytest.raises(InputError, match="0, 1 or 2; got 3"):
        superlattices(layer, 2, layer_axis=3)


def test_ranges_on_one_sublattice_are_no_ranges_of_the_whole():
    parent = ParentLattice.from_prototype("b2", 3.0, (("Cu", "Au"), ("Au", "Pd")))
    half = {"sublattices": {0: {"Au": 0.5}}}
    for batch in enumerate_labelings(parent, 4, 4, **half):
        assert ((batch.labels[:, :4] == 1).sum(axis=1) == 2).all()
    assert total(enumerate_labelings(parent, 4, 4, **half)) == count_labelings(parent, 4, **half)
    with pytest.raises(InputError, match="2 sublattice"):
        enumerate_labelings(parent, 1, 2, sublattices={2: {"Au": 0.5}})
    with pytest.raises(InputError, match=r"sublattice 0 .*nearest possible"):
        enumerate_labelings(parent, 3, 3, **half)
    with pytest.raises(InputError, match="nearest possible"):
        enumerate_labelings(parent, 2, 2, {"Au": 0.0}, sublattices={0: {"Au": 1.0}})


def test_more_species_than_sites_cannot_all_be_present():
    parent = ParentLattice.from_prototype("bcc", 3.2, METALS)
    with pytest.raises(InputError, match="all species present"):
        enumerate_labelings(parent, 1, 3, complete=True)


def test_large_cells_with_dilute_compositions():
    """54 sites of four species do not fit in 64 bits."""
    parent = ParentLattice.from_prototype("bcc", 3.2, METALS)
    cell = Supercell.from_matrix(parent, 3 * parent.conventional)
    dilute = {"Nb": 51 / 54, "Mo": 1 / 54, "Ta": 1 / 54, "W": 1 / 54}
    number = count_labelings(parent, composition=dilute, supercell=cell)
    batches = list(enumerate_labelings(parent, composition=dilute, supercell=cell))
    assert total(batches) == number > 50
    assert len({key for batch in batches for key in batch.keys()}) == number  # noqa: SIM118


def test_a_wrong_number_is_an_internal_error(monkeypatch):
    parent = ParentLattice.from_prototype("fcc", 3.2, ("Cu", "Au"))
    monkeypatch.setattr(Counter, "number", lambda self, group: 17)
    with pytest.raises(RuntimeError, match=r"found \d+ labelings .*\[\[1, .*gives 17"):
        list(enumerate_labelings(parent, 4, 4))


BAD = (
    ({"index": 0}, "1 to 500; got 0"),
    ({"index": -3}, "1 to 500; got -3"),
    ({"index": 2.5}, "whole number; got 2.5"),
    ({"index": 10**9}, "1 to 500"),
    ({"supercell": (1.5, 1, 1)}, "no integers"),
    ({"supercell": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}, "spans no volume"),
    ({"supercell": (1, 1)}, r"got shape \(2,\)"),
    ({"supercell": "2x2x2"}, "got '2x2x2'"),
    ({"supercell": (1e20, 1, 1)}, "too large"),
    ({"supercell": (300, 300, 300)}, "27000000 sites .* too large"),
    ({"composition": {"Xe": 0.5}}, "names Xe"),
    ({"composition": {"Nb": (0.7, 0.2)}}, "site fraction"),
    ({"composition": {"Nb": "half"}}, "Nb is 'half'"),
    ({"composition": [0.5, 0.5]}, r"like {'Nb': 0.5}; got \[0.5, 0.5\]"),
    ({"sublattices": [{"Nb": 0.5}]}, "numbers of sublattices"),
    ({"sublattices": {0: {"Xe": 0.5}}}, "names Xe"),
    ({"layer_axis": 7}, "0, 1 or 2; got 7"),
)


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_gets_one_line(arguments, message):
    parent = ParentLattice.from_prototype("bcc", 3.2, METALS[:2])
    options = {"index": None if "supercell" in arguments else 4, **arguments}
    index = options.pop("index")
    with pytest.raises(InputError, match=message) as caught:
        count_labelings(parent, index, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        enumerate_labelings(parent, index if index is None else 1, index, **options)


def test_the_sum_of_a_range_and_a_range_of_a_sublattice_may_be_impossible():
    parent = ParentLattice.from_prototype("bcc", 3.2, METALS[:2])
    rules = {"composition": {"Nb": (0.5, 0.6)}, "sublattices": {0: {"Nb": (0.1, 0.2)}}}
    assert count_labelings(parent, 4, **rules) == 0
    with pytest.raises(InputError, match="nearest possible: Nb 1/2, Mo 1/2"):
        enumerate_labelings(parent, 1, 4, **rules)
