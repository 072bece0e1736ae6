from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.io import write

from latticesearch.errors import InputError
from latticesearch.lattice import ParentLattice
from tests.lattice.parents import random_parent

TWO = (("Ti", "Hf"), ("N", "X"))


@pytest.mark.parametrize(
    ("name", "species", "n_basis", "n_ops", "sublattices", "sites_per_conventional_cell"),
    [
        ("sc", ("Cu", "Au"), 1, 48, [[0]], 1),
        ("BCC", ("Cu", "Au"), 1, 48, [[0]], 2),
        ("fcc", ("Cu", "Au"), 1, 48, [[0]], 4),
        ("hcp", ("Cu", "Au"), 2, 24, [[0, 1]], 2),
        ("diamond", ("Si", "Ge"), 2, 48, [[0, 1]], 8),
        ("b2", TWO, 2, 48, [[0], [1]], 2),
        ("rocksalt", TWO, 2, 48, [[0], [1]], 8),
        ("zincblende", TWO, 2, 24, [[0], [1]], 8),
        ("fluorite", TWO, 3, 48, [[0], [1, 2]], 12),
        ("perovskite", (("Ba", "Sr"), ("Ti",), ("O", "X")), 5, 48, [[0], [1], [2, 3, 4]], 5),
    ],
)
def test_prototypes(name, species, n_basis, n_ops, sublattices, sites_per_conventional_cell):
    parent = ParentLattice.from_prototype(name, 4.0, species)
    assert (parent.n_basis, parent.n_ops) == (n_basis, n_ops)
    assert [s.tolist() for s in parent.sublattices] == sublattices
    conventional = parent.conventional @ parent.cell
    assert np.linalg.det(conventional) > 0
    assert round(np.linalg.det(parent.conventional)) * n_basis == sites_per_conventional_cell
    if name != "hcp":
        assert np.allclose(conventional, 4 * np.eye(3))


@pytest.mark.parametrize(
    ("name", "ase_name", "a"), [("bcc", "bcc", 3.2), ("fcc", "fcc", 4.1), ("hcp", "hcp", 3.0)]
)
def test_prototypes_have_the_distances_of_ase_crystals(name, ase_name, a):
    parent = ParentLattice.from_prototype(name, a, ("Cu", "Au"))
    ours = Atoms("Cu" * parent.n_basis, scaled_positions=parent.basis, cell=parent.cell, pbc=True)
    c = {"c": a * np.sqrt(8 / 3)} if name == "hcp" else {}
    theirs = bulk("Cu", ase_name, a=a, **c)
    for radius in (1.01 * a, 1.7 * a):
        assert _distances(ours, radius) == pytest.approx(_distances(theirs, radius))


def _distances(atoms, radius):
    from ase.neighborlist import neighbor_list

    return np.sort(neighbor_list("d", atoms, radius)) / len(atoms)


def test_species_that_make_two_sublattices_alike_give_the_smaller_primitive_cell():
    parent = ParentLattice.from_prototype("b2", 3.0, (("Ti", "Hf"), ("Hf", "Ti")))
    assert (parent.n_basis, parent.n_ops) == (1, 48)
    assert np.allclose(parent.conventional @ parent.cell, 3 * np.eye(3))
    assert abs(np.linalg.det(parent.cell)) == pytest.approx(13.5)


def test_overlapping_allowed_sets_keep_sites_apart():
    parent = ParentLattice.from_prototype("b2", 3.0, (("Cu", "Ag", "Au"), ("Ag", "Au", "Pd")))
    assert [s.tolist() for s in parent.sublattices] == [[0], [1]]
    assert parent.species == ("Cu", "Ag", "Au", "Pd")
    assert parent.allowed.tolist() == [[True, True, True, False], [False, True, True, True]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hexagonal", 3.0, ("Cu", "Au")), "unknown parent lattice 'hexagonal'; known are sc, bcc"),
        (("bcc", -1.0, ("Cu", "Au")), "above zero; got a = -1.0"),
        (("bcc", float("nan"), ("Cu", "Au")), "above zero"),
        (("bcc", 3.0, ("Cu", "Xy")), r"unknown \['Xy'\]"),
        (("bcc", 3.0, ("Cu", "Cu")), "each once"),
        (("bcc", 3.0, ()), "at least one"),
        (("bcc", 3.0, "CuAu"), "sequence of symbols"),
        (("rocksalt", 3.0, ("Ti", "N")), r"2 sublattice\(s\) \(cation, anion\).*\('Ti', 'Hf'\)"),
        (("rocksalt", 3.0, (("Ti",), ("N",), ("O",))), "2 sublattice"),
    ],
)
def test_bad_prototypes_are_refused_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        ParentLattice.from_prototype(*arguments)
    assert "\n" not in str(caught.value)


def test_c_is_for_hexagonal_lattices_only():
    hcp = ParentLattice.from_prototype("hcp", 3.0, ("Mg", "Cd"), c=5.5)
    assert hcp.cell[2, 2] == 5.5
    with pytest.raises(InputError, match="takes no c"):
        ParentLattice.from_prototype("bcc", 3.0, ("Mg", "Cd"), c=5.5)
    with pytest.raises(InputError, match="got c = 0"):
        ParentLattice.from_prototype("hcp", 3.0, ("Mg", "Cd"), c=0)


def test_file_is_reduced_to_its_primitive_cell_and_keeps_its_orientation(tmp_path):
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rotate(37, (1, 2, 3), rotate_cell=True)
    atoms = make_supercell(atoms, [[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    path = tmp_path / "POSCAR"
    write(path, atoms, format="vasp")
    parent = ParentLattice.from_file(path, {"Na": ("Na", "K"), "Cl": "Cl"})
    assert (parent.n_basis, parent.n_ops) == (2, 48)
    assert parent.species == ("Na", "K", "Cl")
    assert parent.is_active.tolist() == [True, False]
    assert np.allclose(parent.conventional @ parent.cell, atoms.cell.array, atol=1e-6)
    assert round(abs(np.linalg.det(parent.conventional))) == 8


def test_rounded_coordinates_of_a_file_are_symmetric_within_the_tolerance(tmp_path):
    atoms = bulk("Mg", "hcp", a=3.2, c=5.2)
    atoms.set_scaled_positions([[0.3333, 0.6667, 0.25], [0.6667, 0.3333, 0.75]])
    write(tmp_path / "mg.cif", atoms)
    parent = ParentLattice.from_file(tmp_path / "mg.cif", ("Mg", "Cd"))
    assert (parent.n_basis, parent.n_ops) == (2, 24)


@pytest.mark.parametrize(
    ("atoms", "species", "message"),
    [
        (bulk("NaCl", "rocksalt", a=5.6), {"Na": ("Na", "K")}, r"missing \['Cl'\]"),
        (bulk("Cu"), {"Cu": ("Cu",), "Zn": ("Zn",)}, r"not in the structure \['Zn'\]"),
        (Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.9]], cell=[3] * 3, pbc=True), ("Cu",), "0.1"),
        (Atoms("Cu", cell=[3] * 3), ("Cu",), "three periodic"),
        (Atoms("Cu", pbc=True), ("Cu",), "three periodic"),
    ],
)
def test_bad_structures_are_refused(atoms, species, message):
    with pytest.raises(InputError, match=message):
        ParentLattice.from_atoms(atoms, species)


def test_unreadable_files_are_refused_with_their_path(tmp_path):
    path = tmp_path / "parent.cif"
    with pytest.raises(InputError, match=r"parent\.cif"):
        ParentLattice.from_file(path, ("Cu",))
    path.write_text("no crystal")
    with pytest.raises(InputError, match=r"parent\.cif"):
        ParentLattice.from_file(path, ("Cu",))


@pytest.mark.parametrize("seed", range(30))
def test_operations_map_sites_to_sites_that_allow_the_same_species(seed):
    parent = random_parent(np.random.default_rng(seed))
    assert parent.n_ops == len(np.unique(parent.rotations, axis=0))
    for o in range(parent.n_ops):
        images = parent.basis @ parent.rotations[o].T + parent.translations[o]
        found = parent.basis[parent.basis_images[o]] + parent.basis_shifts[o]
        assert np.abs(images - found).max() < 1e-4
        assert sorted(parent.basis_images[o]) == list(range(parent.n_basis))
        assert (parent.allowed[parent.basis_images[o]] == parent.allowed).all()
