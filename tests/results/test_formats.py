"""Every export is read back, by ASE and by pymatgen, to the structure and energy it was made of."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import read
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.lammps.data import LammpsData
from pymatgen.io.pwscf import PWInput
from pymatgen.io.vasp import Poscar

import latticesearch as ls
from latticesearch.results import FORMATS, Entry, write_entries, write_training_set
from latticesearch.results.cells import in_cell
from latticesearch.results.formats import file_names

MATCHER = StructureMatcher(primitive_cell=True, scale=False, ltol=0.001, stol=0.001, angle_tol=0.05)


def entry_of(parent, labels, matrix, *, energy=-12.345678901234):
    """Return a structure that is distorted as far as its symmetry lets it, as by a relaxation."""
    supercell = ls.Supercell.from_matrix(parent, matrix)
    one = ls.Configuration(supercell, np.array(labels)).canonical()
    atoms = one.to_atoms()
    atoms.set_cell(atoms.cell.array @ np.diag([1.01, 1.01, 1.02]), scale_atoms=True)
    atoms.rattle(0.02, seed=len(atoms))
    rng = np.random.default_rng(3)
    forces, stress = rng.normal(size=(len(atoms), 3)), rng.normal(size=6)
    return Entry(one.key, one.formula, atoms, energy, "computed", forces, stress, 0.0123)


@pytest.fixture(scope="module")
def fcc():
    return ls.ParentLattice.from_prototype("fcc", a=3.8, species=("Pd", "Cu", "Pt"))


@pytest.fixture(scope="module")
def nitride():
    sublattices = [["Ti", "Hf"], ["N", "X"]]
    return ls.ParentLattice.from_prototype("rocksalt", a=4.3, species=sublattices)


@pytest.fixture(scope="module")
def entries(fcc, nitride):
    """A ternary with its species in mixed order, and a nitride with vacancies."""
    double = np.diag([1, 1, 4])
    names = nitride.species
    holes = [names.index(s) for s in ("Ti", "Hf", "Ti", "Ti", "N", "X", "N", "N")]
    cell = ls.Supercell.from_matrix(nitride, double)
    site_of = [int(np.flatnonzero(cell.allowed[i])[0]) for i in range(8)]
    metal = [i for i in range(8) if site_of[i] == names.index("Ti")]
    labels = np.empty(8, dtype=int)
    labels[metal] = holes[:4]
    labels[[i for i in range(8) if i not in metal]] = holes[4:]
    return [entry_of(fcc, [1, 0, 2, 1], double), entry_of(nitride, labels, double)]


def read_back(form, path, number):
    """Return the structure of a file as ASE and as pymatgen read it."""
    if form == "json":
        found = ComputedStructureEntry.from_dict(json.loads(path.read_text())[number])
        return AseAtomsAdaptor.get_atoms(found.structure), found.structure
    if form == "extxyz":
        atoms = read(path, index=number)
        return atoms, AseAtomsAdaptor.get_structure(atoms)
    if form == "lammps":
        found = LammpsData.from_file(str(path), atom_style="atomic").structure
        return read(path, format="lammps-data"), found
    if form == "espresso":
        return read(path, format="espresso-in"), PWInput.from_file(str(path)).structure
    if form == "poscar":
        return read(path, format="vasp"), Poscar.from_file(path).structure
    return read(path), Structure.from_file(path)


@pytest.mark.parametrize("cell", [None, "primitive", "conventional"])
@pytest.mark.parametrize("form", FORMATS)
def test_files_hold_the_structures_they_were_made_of(form, cell, entries, tmp_path):
    paths = write_entries(entries, tmp_path, form, ("Pd", "Cu", "Pt"), cell)
    for number, one in enumerate(entries):
        path = paths[number] if len(paths) == 2 else paths[0]
        atoms, structure = read_back(form, path, number)
        expected = one.to_pymatgen()
        assert MATCHER.fit(structure, expected)
        assert MATCHER.fit(AseAtomsAdaptor.get_structure(atoms), expected)
        assert atoms.get_volume() / len(atoms) == pytest.approx(
            one.atoms.get_volume() / len(one.atoms), rel=1e-6
        )


@pytest.mark.parametrize("form", ["cif", "poscar", "lammps", "espresso"])
def test_files_say_what_they_hold(form, entries, tmp_path):
    for path, one in zip(write_entries(entries, tmp_path, form, ()), entries, strict=True):
        first = path.read_text().splitlines()[0]
        assert f"key={one.key}" in first
        assert "energy=-12.3456789" in first
        assert one.name in first


def test_extended_xyz_holds_energy_forces_and_stress(entries, tmp_path):
    (path,) = write_entries(entries, tmp_path, "extxyz", ())
    for atoms, one in zip(read(path, index=":"), entries, strict=True):
        assert atoms.get_potential_energy() == one.energy
        assert atoms.get_forces() == pytest.approx(one.forces, abs=1e-7)
        assert atoms.get_stress() == pytest.approx(one.stress, rel=1e-12)
        assert atoms.info["key"] == one.key


def test_json_holds_entries_of_pymatgen(entries, tmp_path):
    (path,) = write_entries(entries, tmp_path, "json", ())
    found = [ComputedStructureEntry.from_dict(data) for data in json.loads(path.read_text())]
    assert [(e.entry_id, e.energy) for e in found] == [(e.key, e.energy) for e in entries]


def test_species_stand_together_in_a_poscar(entries, tmp_path):
    path, _ = write_entries(entries, tmp_path, "poscar", ())
    lines = path.read_text().splitlines()
    assert lines[5].split() == ["Cu", "Pd", "Pt"]
    assert lines[6].split() == ["2", "1", "1"]


def test_types_of_lammps_are_those_of_the_run(entries, tmp_path):
    path, _ = write_entries(entries, tmp_path, "lammps", ("Pd", "Cu", "Pt", "Ag"))
    text = path.read_text()
    assert "Atom Type Labels\n\n1 Pd\n2 Cu\n3 Pt\n4 Ag" in text
    assert "Masses" in text


def test_vacancies_and_sublattices_are_found_again(nitride, entries, tmp_path):
    one = entries[1]
    for form in ("poscar", "extxyz", "cif"):
        (path,) = write_entries([one], tmp_path / form, form, ())
        atoms, _ = read_back(form, path, 0)
        match = ls.map_to_lattice(atoms, nitride)
        assert match.configuration.key == one.key


@pytest.mark.parametrize("cell", ["primitive", "conventional"])
def test_energy_forces_and_stress_are_those_of_the_other_cell(cell):
    atoms = Atoms("Cu3Pd", cell=np.eye(3) * 3.75, pbc=True)
    atoms.set_scaled_positions([[0, 0.5, 0.53], [0.5, 0, 0.53], [0.5, 0.5, 0], [0, 0, 0]])
    atoms = atoms.repeat((1, 2, 1))
    atoms.set_cell(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]]) @ atoms.cell.array)
    atoms.calc = EMT()
    results = (atoms.get_potential_energy(), "computed", atoms.get_forces(), atoms.get_stress())
    found = in_cell(Entry("key", "Cu3Pd", atoms, *results), cell)
    assert len(found.atoms) == 4
    again = found.atoms.copy()
    again.calc = EMT()
    assert found.energy == pytest.approx(again.get_potential_energy(), abs=1e-9)
    assert found.forces == pytest.approx(again.get_forces(), abs=1e-8)
    assert np.abs(found.forces).max() > 0.1
    assert found.stress == pytest.approx(again.get_stress(), abs=1e-9)


def test_a_training_set_is_read_by_mlip_and_by_ase(entries, tmp_path):
    nothing = replace(entries[0], energy=None)
    cfg, xyz = write_training_set([*entries[:1], nothing], tmp_path, ("Pd", "Cu", "Pt"))
    (mine,) = ls.read_cfg(cfg, ("Pd", "Cu", "Pt"))
    (theirs,) = read(xyz, index=":")
    for atoms in (mine, theirs):
        assert atoms.get_potential_energy() == pytest.approx(entries[0].energy, abs=1e-10)
        assert atoms.get_forces() == pytest.approx(entries[0].forces, abs=1e-7)
        assert atoms.get_stress() == pytest.approx(entries[0].stress, abs=1e-7)


def test_names_of_files_differ_and_fit(entries):
    long = [replace(entries[0], key=f"s99-{'A' * 300}{letter}") for letter in "AB"]
    phase = replace(entries[0], key="competing: Cu/Pd (2)", name="Cu/Pd (2)")
    names = file_names([*long, entries[0], entries[0], phase])
    assert len(set(names)) == 5
    assert all(len(name) <= 120 and "/" not in name for name in names)


def test_what_cannot_be_written_is_said_in_a_line(entries, tmp_path):
    with pytest.raises(ls.InputError, match="no format"):
        write_entries(entries, tmp_path, "xsf", ())
    with pytest.raises(ls.InputError, match="no energy"):
        write_entries([replace(entries[0], energy=None)], tmp_path, "json", ())
    (tmp_path / "file").write_text("")
    with pytest.raises(ls.InputError, match="cannot write"):
        write_entries(entries, tmp_path / "file", "cif", ())
