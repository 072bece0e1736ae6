from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from scipy.spatial.transform import Rotation

from latticesearch.lattice import (
    Configuration,
    LatticeMatch,
    Mismatch,
    ParentLattice,
    Supercell,
    match_to_lattice,
    match_to_start,
)
from latticesearch.oracles import OracleResult, still_on_lattice
from latticesearch.oracles.emt import FastEmt
from latticesearch.oracles.relaxation import relax
from tests.lattice.parents import SYMMETRIC, random_configuration

FCC = ParentLattice.from_prototype("fcc", 3.8, ("Ni", "Au"))


def relaxed(key):
    atoms = Configuration.from_key(FCC, key).to_atoms()
    atoms.calc = FastEmt()
    relax(atoms)
    atoms.calc = None
    return atoms


@pytest.mark.parametrize("seed", range(20))
def test_small_displacements_of_any_start_keep_it(seed):
    """However the result is rotated, shifted, wrapped and scaled."""
    rng = np.random.default_rng(seed)
    name, species = SYMMETRIC[seed % len(SYMMETRIC)]
    parent = ParentLattice.from_prototype(name, 4.0, species)
    start = random_configuration(rng, parent, largest_index=6).canonical()
    atoms = start.to_atoms()
    if len(atoms) == 0:
        return
    strain = 0.01 * rng.normal(size=(3, 3))
    deformation = 1.02 * (np.eye(3) + strain + strain.T) @ Rotation.random(rng=rng).as_matrix()
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    atoms.positions += rng.uniform(-0.1, 0.1, (len(atoms), 3)) + rng.uniform(-5, 5, 3)
    atoms.wrap()
    match = match_to_start(atoms, start)
    assert isinstance(match, LatticeMatch)
    assert match.configuration is start
    found = match_to_lattice(atoms, parent)
    assert isinstance(found, LatticeMatch)
    assert match.configuration.key == found.configuration.key
    assert match.displacement_rms == pytest.approx(found.displacement_rms)
    assert match.strain == pytest.approx(found.strain)
    assert match.scale == pytest.approx(found.scale)
    assert start.labels[match.sites].tolist() == [parent.species.index(s) for s in atoms.symbols]


@pytest.mark.parametrize("key", ["s6-1.0.0.1.5.6-AABBBB", "s7-1.0.0.1.6.7-AABBBBB"])
def test_large_relaxations_that_keep_all_neighbours_keep_the_key(key):
    """Nickel and gold differ by 14 %: layers of them move by 0.4 Å, beyond what a search takes."""
    atoms = relaxed(key)
    assert match_to_lattice(atoms, FCC).reason == Mismatch.FAR
    match = match_to_start(atoms, Configuration.from_key(FCC, key))
    assert isinstance(match, LatticeMatch)
    assert match.displacement_max > 0.3
    assert still_on_lattice(OracleResult(key, "done", atoms=atoms), FCC)


def test_a_relaxation_to_another_decoration_is_noticed():
    """Layers of (001) shear into another stacking, which is again fcc."""
    key = "s4-1.0.0.1.1.4-AABB"
    atoms = relaxed(key)
    assert match_to_lattice(atoms, FCC).configuration.key != key
    assert match_to_start(atoms, Configuration.from_key(FCC, key)).reason == Mismatch.STRAIN
    assert not still_on_lattice(OracleResult(key, "done", atoms=atoms), FCC)


@pytest.mark.parametrize(("part", "stays"), [(0.0, True), (0.6, True), (0.9, False), (1.0, False)])
def test_a_cell_on_its_way_to_bcc_stays_itself_for_three_quarters(part, stays):
    """The conventional cube becomes the cell of bcc when one edge shrinks by 1 / sqrt(2)."""
    start = Configuration(Supercell.from_matrix(FCC, FCC.conventional), [0, 0, 1, 1])
    atoms = start.to_atoms()
    stretches = 2 ** (part * np.array([-1, 0.5, 0.5]) / 3)
    atoms.set_cell(atoms.cell.array * stretches, scale_atoms=True)
    match = match_to_start(atoms, start)
    assert isinstance(match, LatticeMatch) == stays
    if not stays:
        assert match.reason == Mismatch.STRAIN


def test_swapped_neighbours_are_not_the_start():
    start = Configuration(Supercell.from_matrix(FCC, 2 * FCC.conventional), [0] * 16 + [1] * 16)
    atoms = start.to_atoms()
    step = atoms.get_all_distances(mic=True, vector=True)[0]
    near = int(np.linalg.norm(step, axis=1).argsort()[1])
    atoms.positions[[0, near]] = atoms.positions[[near, 0]]
    refused = match_to_start(atoms, start)
    assert refused.reason == Mismatch.FAR
    assert refused.message.startswith("2 atoms are closer to other sites, up to 2.6")


def test_other_atoms_cannot_be_compared():
    start = Configuration.from_key(FCC, "s2-1.0.0.1.1.2-AB")
    atoms = start.to_atoms()
    assert match_to_start(atoms[::-1], start).reason == Mismatch.OTHER_ATOMS
    assert match_to_start(bulk("Ni", "fcc", a=3.8), start).reason == Mismatch.OTHER_ATOMS
    assert match_to_start(bulk("W", "fcc", a=3.8), start).reason == Mismatch.FOREIGN
    assert still_on_lattice(OracleResult(start.key, "done", atoms=atoms[::-1]), FCC)
