from __future__ import annotations

import gzip
import io
import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry.minkowski_reduction import minkowski_reduce
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from latticesearch.lattice import (
    Configuration,
    LatticeMatch,
    Mismatch,
    ParentLattice,
    Supercell,
    map_to_lattice,
    match_to_lattice,
)
from latticesearch.lattice.matching import MAX_SCORE, MAX_STRAIN
from tests.lattice.parents import SYMMETRIC, random_configuration
from tests.reference import matching as reference

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("MoW", "NbTa", "TaW")]
BINARIES = ("MoTa", "NbMo", *SLOW)


def symmetric_parent(rng):
    name, species = SYMMETRIC[rng.integers(len(SYMMETRIC))]
    return ParentLattice.from_prototype(name, 4.0, species)


def distorted(rng, atoms, *, rattle, strain, rotate):
    """Return the structure strained, rattled, shifted, shuffled, and in another cell."""
    atoms = atoms.copy()
    deformation = np.eye(3) * rng.uniform(0.97, 1.03)
    deformation += strain * rng.uniform(-1, 1, (3, 3))
    if rotate:
        deformation = deformation @ Rotation.random(rng=rng).as_matrix()
    change = np.eye(3, dtype=int)
    for _ in range(4):
        i, j = rng.permutation(3)[:2]
        change[i] += rng.integers(-1, 2) * change[j]
    change = change[rng.permutation(3)]
    cell = change @ atoms.cell.array @ deformation
    positions = atoms.positions @ deformation + rng.uniform(-3, 3, 3)
    steps = rng.normal(size=positions.shape)
    steps *= rattle * rng.uniform(0, 1, (len(steps), 1)) / np.linalg.norm(steps, axis=1)[:, None]
    moved = Atoms(atoms.symbols, positions=positions + steps, cell=cell, pbc=True)
    moved = moved[rng.permutation(len(moved))]
    moved.wrap()
    return moved


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_distorted_structures_keep_their_key(seed):
    rng = np.random.default_rng(seed)
    configuration = random_configuration(rng, symmetric_parent(rng), largest_index=8)
    atoms = configuration.to_atoms()
    if len(atoms) == 0:
        return
    match = map_to_lattice(
        distorted(rng, atoms, rattle=0.25, strain=0.02, rotate=False),
        configuration.supercell.parent,
    )
    assert match is not None
    assert match.configuration.key == configuration.key
    assert match.supercell is configuration.supercell


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_rotated_structures_keep_their_key(seed):
    rng = np.random.default_rng(seed)
    configuration = random_configuration(rng, symmetric_parent(rng), largest_index=8)
    atoms = configuration.to_atoms()
    if len(atoms) == 0:
        return
    match = map_to_lattice(
        distorted(rng, atoms, rattle=0.1, strain=0.005, rotate=True), configuration.supercell.parent
    )
    assert match is not None
    assert match.configuration.key == configuration.key


def test_numbers_of_a_match_are_those_of_the_distortion():
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))
    supercell = Supercell.from_matrix(parent, 2 * parent.conventional)
    atoms = supercell.to_atoms([0, 1] * 8)
    atoms.positions[3] += [0.3, 0, 0]
    stretches = np.array([1.04, 1.0, 1.0])
    atoms.set_cell(atoms.cell.array * stretches * 1.1, scale_atoms=True)
    match = map_to_lattice(atoms, parent)
    assert match.scale == pytest.approx(1.1 * np.cbrt(1.04))
    relative = stretches / np.cbrt(1.04) - 1
    assert match.strain == pytest.approx(np.sqrt((relative**2).mean()))
    moved = 0.3 * 1.04 * 1.1
    assert match.displacement_max == pytest.approx(moved * 15 / 16)
    assert match.displacement_rms == pytest.approx(moved * np.sqrt(15) / 16)
    assert match.score > match.strain
    assert sorted(match.sites) == list(range(16))
    assert match.configuration.labels[match.sites].tolist() == [0, 1] * 8


def test_ideal_structures_score_zero():
    parent = ParentLattice.from_prototype("hcp", 3.2, ("Mg", "Cd"))
    match = map_to_lattice(Supercell.from_matrix(parent, (2, 2, 1)).to_atoms([0, 1] * 4), parent)
    assert match.score == pytest.approx(0, abs=1e-9)


def test_missing_atoms_are_vacancies():
    parent = ParentLattice.from_prototype("rocksalt", 4.2, (("Ti", "Hf"), ("N", "X")))
    supercell = Supercell.from_matrix(parent, 2 * np.eye(3))
    labels = np.array([0] * 5 + [1] * 3 + [2] * 4 + [3] * 4)
    atoms = distorted(
        np.random.default_rng(0), supercell.to_atoms(labels), rattle=0.2, strain=0.01, rotate=False
    )
    match = map_to_lattice(atoms, parent)
    assert match.configuration.counts.tolist() == [5, 3, 4, 4]
    assert match.configuration.key == Configuration(supercell, labels).key


def test_a_displaced_anchor_does_not_push_atoms_into_vacancies():
    """Seen from the only Au atom, the Cu atom beside the vacancy is nearer to the vacancy."""
    parent = ParentLattice.from_prototype("fcc", 3.0, ("Cu", "Au", "X"))
    supercell = Supercell.from_matrix(parent, 2 * parent.conventional)
    labels = np.zeros(32, int)
    origin, step = supercell.positions[0], np.array([1.5, 1.5, 0])
    vacancy = supercell.site_of(0, np.rint(step @ np.linalg.inv(parent.cell)))
    far = supercell.site_of(0, parent.conventional[2])
    labels[vacancy], labels[far] = 2, 1
    atoms = supercell.to_atoms(labels)
    direction = step / np.linalg.norm(step)
    beside = np.linalg.norm(atoms.positions - origin, axis=1).argmin()
    atoms.positions[beside] += 0.55 * direction
    atoms.positions[list(atoms.symbols).index("Au")] -= 0.55 * direction
    match = map_to_lattice(atoms, parent)
    assert match.configuration.key == Configuration(supercell, labels).key


@pytest.mark.parametrize(
    "atoms",
    [
        bulk("Mo", "fcc", a=4.0),
        bulk("Mo", "hcp", a=2.8),
        bulk("Mo", "sc", a=2.5),
        bulk("W", "bcc", a=3.2),
        Atoms("Mo", cell=[3] * 3),
        Atoms("Mo", pbc=True),
        Atoms(cell=[3] * 3, pbc=True),
    ],
)
def test_other_structures_have_no_match(atoms):
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))
    assert map_to_lattice(atoms, parent) is None


def test_collapsed_structures_have_no_match():
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))
    atoms = Supercell.from_matrix(parent, 2 * parent.conventional).to_atoms([0, 1] * 8)
    atoms.positions[0] += [1.3, 0, 0]
    assert map_to_lattice(atoms, parent) is None
    assert map_to_lattice(atoms, parent, tolerance=1.4) is not None


def test_species_on_forbidden_sites_have_no_match():
    parent = ParentLattice.from_prototype("rocksalt", 4.2, (("Ti",), ("N", "C")))
    assert map_to_lattice(bulk("TiN", "rocksalt", a=4.3), parent) is not None
    assert map_to_lattice(bulk("TiN", "zincblende", a=4.3), parent) is None
    mixed = bulk("TiN", "rocksalt", a=4.3, cubic=True)
    mixed.symbols[:2] = "N", "Ti"
    mixed.symbols[2:4] = "Ti", "Ti"
    assert map_to_lattice(mixed, parent) is None


def test_mirror_images_are_not_rotated_into_each_other():
    """A parent without improper operations tells left from right."""
    sites = [[0.0, 0, 0], [0.2, 0.3, 0.1], [0.5, 0.1, 0.4]]
    atoms = Atoms("CuAgAu", scaled_positions=sites, cell=np.diag([3.0, 3.7, 4.4]), pbc=True)
    parent = ParentLattice.from_atoms(
        atoms, {"Cu": ("Cu", "Pd"), "Ag": ("Ag", "Pt"), "Au": ("Au", "Ni")}
    )
    mirrored = atoms.copy()
    mirrored.set_cell(atoms.cell.array * [-1, 1, 1], scale_atoms=True)
    turned = atoms.copy()
    turned.rotate(50, (1, 2, 3), rotate_cell=True)
    assert map_to_lattice(turned, parent).configuration.labels.tolist() == [0, 2, 4]
    assert map_to_lattice(mirrored, parent, tolerance=0.1) is None


VACANT = (
    ("fcc", ("Cu", "Pd", "X")),
    ("hcp", ("Mg", "Cd", "X")),
    ("b2", (("Ni", "Al"), ("Ni", "X"))),
    ("rocksalt", (("Ti", "Hf"), ("N", "X"))),
)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=8)
def test_the_best_labeling_is_that_of_all_matrices_and_origins(seed):
    """Compare with a search that leaves nothing out, in cells where it takes a second."""
    rng = np.random.default_rng(seed)
    name, species = (*SYMMETRIC[:4], *VACANT)[rng.integers(8)]
    parent = ParentLattice.from_prototype(name, 4.0, species)
    atoms = random_configuration(rng, parent, largest_index=3).to_atoms()
    if len(atoms) == 0:
        return
    atoms = distorted(rng, atoms, rattle=rng.uniform(0, 0.4), strain=0.03, rotate=True)
    atoms = Atoms(atoms.symbols, atoms.positions, cell=minkowski_reduce(atoms.cell)[0], pbc=True)
    expected = reference.all_labelings(
        atoms, parent, tolerance=0.6, max_strain=MAX_STRAIN, max_score=MAX_SCORE
    )
    match = match_to_lattice(atoms, parent)
    if isinstance(match, LatticeMatch):
        assert match.score == pytest.approx(min(expected.values()), abs=1e-6)
        assert match.score == pytest.approx(expected[match.configuration.key], abs=1e-6)
    elif match.reason == Mismatch.AMBIGUOUS:
        assert expected[match.keys[0]] == pytest.approx(min(expected.values()), abs=1e-6)
        assert len(expected) >= len(match.keys) > 1
    else:
        assert expected == {}


@pytest.mark.parametrize(("name", "species"), [("bcc", ("Mo", "Ta")), *VACANT])
@pytest.mark.parametrize("size", [30, 180, 500])
def test_large_cells_with_vacancies_are_found_in_any_orientation(name, species, size):
    rng = np.random.default_rng(size)
    parent = ParentLattice.from_prototype(name, 3.6, species)
    edge = round((size / parent.n_basis / abs(np.linalg.det(parent.conventional))) ** (1 / 3))
    supercell = Supercell.from_matrix(parent, max(edge, 1) * parent.conventional)
    symbols = np.array(parent.species)
    labels = [
        rng.choice(np.flatnonzero(allowed & ((symbols != "X") | (rng.random() < 0.2))))
        if (allowed & (symbols != "X")).any()
        else 0
        for allowed in supercell.allowed
    ]
    labels = np.array(labels)
    atoms = distorted(rng, supercell.to_atoms(labels), rattle=0.15, strain=0.01, rotate=True)
    match = map_to_lattice(atoms, parent)
    assert (
        match.configuration.counts.tolist()
        == np.bincount(labels, minlength=len(parent.species)).tolist()
    )
    assert match.displacement_max < 0.2
    assert match.configuration.supercell.n_sites == supercell.n_sites
    assert match.configuration.labels[match.sites].tolist() == [
        parent.species.index(symbol) for symbol in atoms.symbols
    ]
    if size == 30:
        assert match.configuration.key == Configuration(supercell, labels).key


@pytest.mark.parametrize("vacancies", [False, True])
def test_many_atoms_that_are_no_crystal_are_refused(vacancies):
    species = ("Cu", "Pd", "X") if vacancies else ("Cu", "Pd")
    parent = ParentLattice.from_prototype("fcc", 3.8, species)
    rng = np.random.default_rng(2)
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True) * (4, 4, 4)
    atoms.set_scaled_positions(rng.random((256, 3)))
    assert match_to_lattice(atoms, parent).reason == Mismatch.FAR
    bcc = bulk("Cu", "bcc", a=3.8 / 4 ** (1 / 3) * 2 ** (1 / 3), cubic=True) * (5, 5, 5)
    bcc.rotate(40, (1, 2, 3), rotate_cell=True)
    bcc.rattle(0.05, seed=1)
    refused = match_to_lattice(bcc, parent)
    assert refused.reason == Mismatch.STRAIN
    assert re.search(r"strained by 0\.1\d\d, at most 0\.09", refused.message)


B2 = ParentLattice.from_prototype("b2", 2.88, (("Ni", "Al"), ("Ni", "X")))


@pytest.mark.parametrize("repeat", [(1, 1, 1), (3, 1, 1), (3, 3, 3)])
def test_pure_elements_need_no_cell_of_the_parent(repeat):
    """Nickel on B2 is bcc: a cell with an odd number of atoms has to be doubled."""
    atoms = bulk("Ni", "bcc", a=2.9) * repeat
    atoms.rattle(0.03, seed=3)
    atoms.rotate(20, (3, 2, 1), rotate_cell=True)
    match = map_to_lattice(atoms, B2)
    assert match.configuration.key == "s1-1.0.0.1.0.1-AA"
    assert len(match.sites) == len(atoms)
    assert match.supercell.n_sites == 2 * len(atoms)


def test_four_sublattices_can_be_one_crystal():
    sites = bulk("Ni", "fcc", a=3.6, cubic=True)
    sites.symbols = ["Al", "Ni", "Pd", "Pt"]
    parent = ParentLattice.from_atoms(
        sites, {"Al": ("Ni", "Al"), "Ni": ("Ni",), "Pd": ("Ni", "Pd"), "Pt": ("Ni", "Pt")}
    )
    match = map_to_lattice(bulk("Ni", "fcc", a=3.5), parent)
    assert match.configuration.key == "s1-1.0.0.1.0.1-AAAA"
    assert match.score == pytest.approx(0, abs=1e-9)


def test_an_element_of_one_sublattice_gets_no_cell_of_another():
    assert match_to_lattice(bulk("Al", "bcc", a=2.88), B2).reason == Mismatch.VOLUME


def relaxed(positions, symbols="Cu4", cell=3.8):
    return Atoms(symbols, scaled_positions=positions, cell=[cell] * 3, pbc=True)


CUBE = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]


@pytest.mark.parametrize(
    ("atoms", "reason", "words"),
    [
        (Atoms(cell=[3] * 3, pbc=True), "no atoms", "empty"),
        (Atoms("Cu", cell=[3] * 3, pbc=(True, True, False)), "not periodic", "pbc"),
        (Atoms("Cu", [[np.nan, 0, 0]], cell=[3] * 3, pbc=True), "broken coordinates", "finite"),
        (bulk("Ag", "fcc", a=3.8), "foreign element", "Ag; the lattice has Cu, Pd"),
        (bulk("Cu", "bcc", a=3.0), "distortion too large", r"strained by 0\.1\d\d"),
        (
            relaxed([[0.23, 0, 0], *CUBE[1:]]),
            "atoms too far from sites",
            r"up to 0\.66 Å \(at most 0\.6\), score 0\.15\d",
        ),
        (relaxed([[0, 0, 0.4], *CUBE[1:]]), "atoms too far from sites", "no supercell comes near"),
    ],
)
def test_refusals_say_why(atoms, reason, words):
    refused = match_to_lattice(atoms, ParentLattice.from_prototype("fcc", 3.8, ("Cu", "Pd")))
    assert refused.reason == reason
    assert re.search(words, refused.message)
    assert str(refused) == f"{reason}: {refused.message}"
    assert "\n" not in str(refused)


def test_refusals_name_numbers_volumes_and_sublattices():
    rocksalt = ParentLattice.from_prototype("rocksalt", 4.2, (("Ti", "Hf"), ("N", "C")))
    cube = bulk("TiN", "rocksalt", a=4.2, cubic=True)
    assert str(match_to_lattice(cube[1:], rocksalt)) == (
        "number of atoms: 7 atoms, where cells without vacancies have 2 sites each"
    )
    crowded = cube.copy()
    crowded.symbols[:2] = "Ti", "Ti"
    assert match_to_lattice(crowded, rocksalt).message == (
        "5 atoms of Ti need 5 cells with 1 sites for them, the other atoms fill no more than 3"
    )
    swapped = cube.copy()
    swapped.symbols[:4] = "N", "Ti", "Ti", "N"
    refused = match_to_lattice(swapped, rocksalt)
    assert refused.reason == Mismatch.SUBLATTICE
    assert refused.message == "2 of 8 atoms (N, Ti) on sites that forbid them"
    with_vacancies = ParentLattice.from_prototype("fcc", 3.8, ("Cu", "X"))
    dense = match_to_lattice(bulk("Cu", "fcc", a=3.0), with_vacancies)
    assert dense.reason == Mismatch.VOLUME
    assert "1 atoms in the volume of 0.49 primitive cells" in dense.message


def test_two_decorations_that_fit_alike_are_both_named():
    """Half way between neighbouring sites of a row, an atom belongs to neither."""
    parent = ParentLattice.from_prototype("sc", 2.0, ("Cu", "Pd", "X"))
    supercell = Supercell.from_matrix(parent, (1, 1, 19))
    first, second = (np.array([*row, *[1] * 16]) for row in ([0, 2, 2], [2, 0, 2]))
    atoms = supercell.to_atoms(first)
    heights = atoms.positions[:, 2]
    atoms.positions[:, 2] = np.where(atoms.symbols == "Cu", heights + 0.98, heights)
    refused = match_to_lattice(atoms, parent, tolerance=1.0)
    assert refused.reason == Mismatch.AMBIGUOUS
    keys = [Configuration(supercell, labels).key for labels in (first, second)]
    assert sorted(refused.keys) == sorted(keys)
    assert all(key in refused.message for key in keys)
    assert map_to_lattice(atoms, parent, tolerance=1.0) is None


@pytest.fixture(scope="module")
def recorded_frames(shared_data):
    """Frames of the complete 16-site enumerations, as text by group."""
    path = shared_data / "nbmotaw_vasp" / "dft.extxyz.gz"
    with gzip.open(path, "rt") as file:
        lines = file.readlines()
    frames, start = {}, 0
    while start < len(lines):
        stop = start + 2 + int(lines[start])
        if "kind=SS" in lines[start + 1]:
            group = re.search(r"group=(\w+)_SS", lines[start + 1])[1]
            frames.setdefault(group, []).append("".join(lines[start:stop]))
        start = stop
    return frames


@pytest.mark.parametrize("binary", BINARIES)
def test_recorded_relaxations_keep_all_329_decorations(recorded_frames, binary):
    species = re.findall("[A-Z][a-z]?", binary)
    parent = ParentLattice.from_prototype("bcc", 3.2, species)
    keys = {}
    frames = read(io.StringIO("".join(recorded_frames[binary])), ":", format="extxyz")
    for tag in ("unrelax", "relax"):
        tagged = [atoms for atoms in frames if atoms.info["tag"] == tag]
        matches = [map_to_lattice(atoms, parent) for atoms in tagged]
        keys[tag] = {match.configuration.key for match in matches}
        assert len(keys[tag]) == len(matches) == 329
    assert keys["relax"] == keys["unrelax"]
