from __future__ import annotations

import numpy as np
import pytest

from latticesearch.enumeration import all_superlattices, superlattices
from latticesearch.errors import InputError
from latticesearch.lattice import ParentLattice
from tests.lattice.parents import random_parent
from tests.reference import enumeration as naive
from tests.shipped import read_json


@pytest.mark.parametrize("name", ["sc", "bcc", "fcc", "hcp"])
def test_numbers_are_the_published_ones(name):
    counts = read_json("enumeration/counts.json")
    parent = ParentLattice.from_prototype(name, 3.0, ("Cu", "Au"))
    for index, entry in counts[f"superlattices_{name}"].items():
        assert len(superlattices(parent, int(index))) == entry["count"]
    for index, entry in counts["n_hnf_total"].items():
        assert len(all_superlattices(int(index))) == entry["count"]


@pytest.mark.parametrize("seed", range(6))
def test_they_are_the_smallest_of_each_set(seed):
    parent = random_parent(np.random.default_rng(seed))
    for index in range(1, 5):
        ours = [tuple(map(tuple, form.tolist())) for form in superlattices(parent, index)]
        assert ours == naive.superlattices(parent, index)


def test_index_zero_is_refused():
    with pytest.raises(InputError, match="1 to 500; got 0"):
        superlattices(ParentLattice.from_prototype("sc", 3.0, ("Cu", "Au")), 0)
