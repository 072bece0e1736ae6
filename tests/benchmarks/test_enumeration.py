"""All ordered structures up to one size: our enumeration against icet's.

CPU seconds in one run, after warm-up; nothing is asserted about absolute times.
    pip install '.[bench]' && pytest -m benchmark -s
"""

from __future__ import annotations

import time

import pytest
from ase.build import bulk

import latticesearch as ls
from latticesearch.enumeration import enumerate_labelings

pytestmark = pytest.mark.benchmark

SPECIES = ("Nb", "Mo", "Ta", "W")


def cpu_seconds(function):
    began = time.process_time()
    number = function()
    return time.process_time() - began, number


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "k", "index"), [("fcc", 2, 10), ("fcc", 2, 12), ("bcc", 3, 6), ("hcp", 2, 5)]
)
def test_structures_of_one_size_against_icet(name, k, index, capsys):
    tools = pytest.importorskip("icet.tools")

    def ours(n=index):
        parent = ls.ParentLattice.from_prototype(name, 3.0, SPECIES[:k])
        return sum(len(batch) for batch in enumerate_labelings(parent, n, n))

    def theirs(n=index):
        atoms = bulk("Nb", name, a=3.0, **({"c": 3.0 * (8 / 3) ** 0.5} if name == "hcp" else {}))
        return sum(1 for _ in tools.enumerate_structures(atoms, [n], list(SPECIES[:k])))

    ours(4), theirs(2)
    seconds, number = cpu_seconds(ours)
    peer, same = cpu_seconds(theirs)
    assert number == same
    with capsys.disabled():
        print(
            f"\n{name}, {k} species, {index} cells, {number} structures: {seconds:.3f} s, "
            f"icet {peer:.2f} s: {peer / seconds:.0f}x"
        )
