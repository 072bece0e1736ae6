from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latticesearch.errors import InputError
from latticesearch.lattice import Configuration, Labelings, ParentLattice, Supercell
from latticesearch.lattice.images import fixed_by, smallest_images
from tests.lattice.parents import (
    random_configuration,
    random_matrix,
    random_parent,
    redescribed,
)
from tests.reference import lattice as naive

seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def bcc():
    return ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))


@given(seeds)
@settings(deadline=None, max_examples=80)
def test_every_description_of_a_crystal_has_the_same_key(seed):
    rng = np.random.default_rng(seed)
    configuration = random_configuration(rng, random_parent(rng))
    other = redescribed(rng, configuration)
    assert other.key == configuration.key
    assert redescribed(rng, other).key == configuration.key
    assert np.array_equal(
        other.counts * configuration.supercell.n_sites,
        configuration.counts * other.supercell.n_sites,
    )


@given(seeds)
@settings(deadline=None, max_examples=80)
def test_keys_agree_exactly_when_a_symmetry_relates_the_crystals(seed):
    rng = np.random.default_rng(seed)
    parent = random_parent(rng)
    one = random_configuration(rng, parent, largest_index=3)
    if rng.random() < 0.7:  # the same composition makes equivalence likely
        allowed = one.supercell.allowed
        labels = one.labels[rng.permutation(len(one.labels))]
        labels = np.where(allowed[np.arange(len(labels)), labels], labels, one.labels)
        other = Configuration(one.supercell, labels)
    else:
        other = random_configuration(rng, parent, largest_index=3)
    assert (one.key == other.key) == naive.same_crystal(one, other)


@given(seeds)
@settings(deadline=None, max_examples=30)
def test_canonical_form_is_a_fixed_point_and_its_key_leads_back(seed):
    rng = np.random.default_rng(seed)
    configuration = random_configuration(rng, random_parent(rng), largest_index=6)
    canonical = configuration.canonical()
    assert naive.same_crystal(configuration, canonical)
    again = Configuration.from_key(configuration.supercell.parent, configuration.key)
    assert again.supercell is canonical.supercell
    assert np.array_equal(again.labels, canonical.labels)
    assert again.key == configuration.key
    assert canonical.supercell.allowed[np.arange(len(canonical.labels)), canonical.labels].all()


def test_keys_of_known_bcc_structures(bcc):
    b2 = Supercell.from_matrix(bcc, bcc.conventional)
    assert Configuration(b2, [0, 1]).key == Configuration(b2, [1, 0]).key
    assert Configuration(b2, [0, 0]).key == "s1-1.0.0.1.0.1-A"
    cell = Supercell.from_matrix(bcc, 2 * bcc.conventional)
    assert Configuration(cell, [1] * 16).key == "s1-1.0.0.1.0.1-B"
    corner = np.abs(np.sin(np.pi * cell.positions[:, 0] / 3.2)) < 0.1
    assert Configuration(cell, corner.astype(int)).key == Configuration(b2, [0, 1]).key


def test_the_16_site_bcc_cell_has_331_distinct_binary_crystals(bcc):
    cell = Supercell.from_matrix(bcc, 2 * bcc.conventional)
    labels = (np.arange(2**16)[:, None] >> np.arange(16)) & 1
    assert len(set(Labelings(cell, labels).keys())) == 331


def test_batch_and_single_keys_agree(bcc):
    cell = Supercell.from_matrix(bcc, (2, 2, 2))
    batch = Labelings(cell, np.random.default_rng(0).integers(0, 2, (50, 8)))
    assert batch.keys() == [c.key for c in batch]
    assert batch.keys() == [batch[i].key for i in range(50)]
    assert Labelings(cell, batch.labels[:0]).keys() == []


@pytest.mark.parametrize("seed", range(5))
def test_kernels_agree_with_their_twins(seed):
    rng = np.random.default_rng(seed)
    supercell = Supercell.from_matrix(random_parent(rng), random_matrix(rng, 8))
    labels = rng.integers(0, 2, (20, supercell.n_sites)).astype(np.int8)
    group = supercell.site_permutations
    smallest = smallest_images(labels, group)
    fixed = fixed_by(labels, group)
    for row in range(len(labels)):
        assert tuple(smallest[row]) == naive.smallest_image(labels[row], group)
        assert fixed[row].tolist() == naive.fixed_by(labels[row], group)


def test_counts_compositions_formula_and_atoms():
    parent = ParentLattice.from_prototype("rocksalt", 4.2, (("Ti", "Hf"), ("N", "X")))
    supercell = Supercell.from_matrix(parent, (1, 1, 4))
    batch = Labelings(supercell, [[0, 0, 0, 1, 2, 2, 3, 3], [0, 0, 1, 1, 3, 3, 3, 3]])
    assert batch.counts.tolist() == [[3, 1, 2, 2], [2, 2, 0, 4]]
    assert batch.compositions[0].tolist() == [0.375, 0.125, 0.25, 0.25]
    first, second = batch
    assert (first.formula, first.n_atoms) == ("Ti3HfN2", 6)
    assert (second.formula, second.n_atoms) == ("TiHf", 4)
    assert second.composition.tolist() == [0.25, 0.25, 0, 0.5]
    assert len(first.to_atoms()) == 6
    assert first.to_atoms().get_chemical_formula() == "HfN2Ti3"


def _copied(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own bytes


def test_concatenation_and_pickles(bcc):
    cell = Supercell.from_matrix(bcc, (1, 1, 2))
    one, other = Labelings(cell, [[0, 1]]), Labelings(cell, [[1, 1], [0, 0]])
    both = Labelings.concatenate([one, _copied(other)])
    assert both.labels.tolist() == [[0, 1], [1, 1], [0, 0]]
    assert len(both) == 3
    with pytest.raises(InputError, match="different supercells"):
        Labelings.concatenate([one, Labelings(Supercell.from_matrix(bcc, (1, 2, 1)), [[0, 1]])])
    with pytest.raises(InputError, match="at least one"):
        Labelings.concatenate([])


def test_bad_labels_are_refused(bcc):
    cell = Supercell.from_matrix(bcc, (1, 1, 2))
    with pytest.raises(InputError, match=r"\(n, 2\)"):
        Labelings(cell, [[0, 1, 0]])
    with pytest.raises(InputError, match="from 0 to 2"):
        Labelings(cell, [[0, 2]])
    with pytest.raises(InputError, match="from -1 to 0"):
        Configuration(cell, [0, -1])
    with pytest.raises(InputError, match="2 sites"):
        Configuration(cell, [0])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("nonsense", "no canonical key"),
        ("s2-1.0.1.1.1.2-ab", "no canonical key"),
        ("s2-1.0.1.1.1.2-ABA", "3 sites in 2 cells"),
        ("s3-1.0.1.1.1.2-AB", "2 sites in 3 cells"),
        ("s2-1.0.1.1.1.2-AC", "forbids"),
        ("s2-1.0.0.1.0.2-BA", "not canonical; this crystal has key 's2-1.0.0.1.0.2-AB'"),
        ("s2-1.0.0.1.0.2-AA", "not canonical"),
        ("s2-2.0.0.1.0.1-AB", "not canonical"),
    ],
)
def test_bad_keys_are_refused(bcc, key, message):
    with pytest.raises(InputError, match=message):
        Configuration.from_key(bcc, key)


def test_canonical_labelings_write_their_keys():
    parent = ParentLattice.from_prototype("fcc", 3.8, ("Cu", "Pd", "X"))
    cell = Supercell.from_matrix(parent, [2, 1, 3])
    labels = np.random.default_rng(3).integers(0, 3, (40, cell.n_sites)).astype(np.int8)
    labels[7:9] = [[0] * 6, [0, 1] * 3]  # with smaller periods
    batch = Labelings(cell, labels)
    canonical = batch.canonical()
    assert [one.key for one in canonical] == batch.keys()
    for one, key in zip(canonical, batch.keys(), strict=True):
        assert one.is_canonical
        assert one.canonical() is one
        again = Configuration.from_key(parent, key)
        assert again.is_canonical
        np.testing.assert_array_equal(again.labels, one.labels)
        assert again.supercell is one.supercell


def test_atoms_are_what_is_no_vacancy():
    parent = ParentLattice.from_prototype("fcc", 3.8, ("Cu", "X", "Pd"))
    cell = Supercell.from_matrix(parent, [1, 1, 4])
    batch = Labelings(cell, np.array([[0, 1, 2, 2], [1, 1, 1, 1]], dtype=np.int8))
    assert batch.n_atoms.tolist() == [3, 0]
    np.testing.assert_allclose(batch.atomic_fractions[0], [1 / 3, 2 / 3])
    assert np.isnan(batch.atomic_fractions[1]).all()
    assert [one.n_atoms for one in batch] == [3, 0]
    assert [one.symbols for one in batch] == [("Cu", "Pd"), ()]
    assert batch[0].formula == "CuPd2"
