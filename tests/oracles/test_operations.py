"""Which operations of symmetry GPAW is told."""

import numpy as np
import pytest
from ase.build import bulk

import latticesearch as ls
from latticesearch.oracles.presets.kpoints import grid_of
from latticesearch.oracles.presets.operations import paying_rotations


def structures(n):
    parent = ls.ParentLattice.from_prototype("bcc", 3.24, ["Mo", "Ta"])
    batches = ls.enumerate_labelings(parent, min_index=n, max_index=n)
    return [c.to_atoms() for batch in batches for c in batch]


def paying(atoms):
    return paying_rotations(atoms, 340.0, grid_of(atoms.cell, 0.2))


@pytest.mark.parametrize(
    "atoms",
    [
        bulk("Mo", "bcc", a=3.16),
        bulk("Cu", "fcc", a=3.6, cubic=True),
        bulk("CuPd", "cesiumchloride", a=3.0),
        bulk("Mg", "hcp", a=3.2, c=5.2),
    ],
)
def test_even_grids_keep_all(atoms):
    assert paying(atoms) is None


def test_what_is_kept_is_a_group_of_the_structure():
    seen = 0
    for atoms in structures(3) + structures(4) + structures(5):
        rotations = paying(atoms)
        if rotations is None:
            continue
        seen += 1
        names = {tuple(np.ravel(r)) for r in rotations}
        assert tuple(np.eye(3, dtype=int).ravel()) in names
        for first in rotations:
            for second in rotations:
                assert tuple((np.array(first) @ second).ravel()) in names
            turned = atoms.get_scaled_positions() @ np.array(first)
            for position, number in zip(turned, atoms.numbers, strict=True):
                gap = atoms.get_scaled_positions() - position
                here = np.abs(gap - np.rint(gap)).max(axis=1) < 1e-6
                assert atoms.numbers[here].tolist() == [number]
    assert seen > 10


def test_a_long_vector_is_not_mixed_with_short_ones():
    layered = max(structures(3), key=lambda atoms: max(atoms.cell.lengths()))
    rotations = np.array(paying(layered))
    longest = int(np.argmax(layered.cell.lengths()))
    others = [i for i in range(3) if i != longest]
    assert not rotations[:, longest, others].any()
    assert not rotations[:, others, longest].any()
