from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from latticesearch.enumeration import count_labelings, enumerate_labelings, sample_labelings
from latticesearch.enumeration.sampling import random_below
from latticesearch.errors import InputError
from latticesearch.lattice import ParentLattice

FCC = ParentLattice.from_prototype("fcc", 3.0, ("Cu", "Au"))
ROCKSALT = ParentLattice.from_prototype("rocksalt", 4.2, (("Ti", "Hf"), ("N", "X")))
TERNARY = ParentLattice.from_prototype("bcc", 3.0, ("Mo", "Ta", "W"))
CASES = (
    (FCC, {"index": 5}),
    (FCC, {"supercell": (2, 2, 2), "superperiodic": True}),
    (FCC, {"index": 6, "composition": {"Cu": 0.5}}),
    (FCC, {"supercell": (1, 2, 2), "superperiodic": True, "composition": {"Cu": (0.2, 1.0)}}),
    (ROCKSALT, {"index": 2}),
    (ROCKSALT, {"index": 3, "sublattices": {1: {"X": (0.1, 0.4)}}}),
    (TERNARY, {"index": 4, "complete": True}),
)


def _keys(parent, arguments):
    options = dict(arguments)
    index = options.pop("index", 1)
    batches = enumerate_labelings(parent, index, index, **options)
    return [key for batch in batches for key in batch.keys()]  # noqa: SIM118


@pytest.mark.parametrize(("parent", "arguments"), CASES)
def test_every_structure_is_drawn_equally_often(parent, arguments):
    expected = sorted(_keys(parent, arguments))
    numbers = dict.fromkeys(expected, 0)
    per_sample = max(1, len(expected) // 5)
    n_seeds = 20 * len(expected) // per_sample
    for seed in range(n_seeds):
        sample = sample_labelings(parent, per_sample, **arguments, seed=seed)
        keys = [configuration.key for configuration in sample]
        assert len(set(keys)) == per_sample
        for key in keys:
            numbers[key] += 1
    assert sorted(numbers) == expected
    assert chisquare(list(numbers.values())).pvalue > 1e-3


def test_the_same_seed_gives_the_same_sample():
    names = [[c.key for c in sample_labelings(FCC, 9, 12, seed=s)] for s in (3, 3, 4)]
    assert names[0] == names[1] != names[2]


def test_a_sample_of_everything_is_everything():
    sample = sample_labelings(FCC, count_labelings(FCC, 4), 4)
    assert sorted(c.key for c in sample) == sorted(_keys(FCC, {"index": 4}))


def test_spaces_beyond_64_bits():
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Nb", "Mo", "Ta", "W"))
    matrix = 3 * parent.conventional
    wanted = {"Nb": 46 / 54, "Mo": 4 / 54, "Ta": (0, 2 / 54)}
    sample = sample_labelings(parent, 3, composition=wanted, supercell=matrix)
    for configuration in sample:
        assert configuration.counts[:2].tolist() == [46, 4]
        assert configuration.counts[2] <= 2


def test_more_than_there_are_is_refused():
    with pytest.raises(InputError, match="cannot draw 100 of 19 "):
        sample_labelings(FCC, 100, 4)
    with pytest.raises(InputError, match="nearest possible"):
        sample_labelings(FCC, 1, 4, {"Cu": 0.4})
    with pytest.raises(InputError, match="need a supercell"):
        sample_labelings(FCC, 1, 4, superperiodic=True)
    with pytest.raises(InputError, match="exchange"):
        sample_labelings(FCC, 1, 4, exchange=True)


def test_random_integers_are_even():
    rng = np.random.default_rng(0)
    numbers = np.bincount([random_below(rng, 5) for _ in range(2000)], minlength=5)
    assert len(numbers) == 5
    assert chisquare(numbers).pvalue > 1e-3
    assert max(random_below(rng, 10**30) for _ in range(50)) > 10**29
