import gzip

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from latticesearch.errors import InputError
from latticesearch.lattice import Configuration, ParentLattice, Supercell
from latticesearch.oracles import (
    AseOracle,
    OracleJob,
    OracleResult,
    RecordedOracle,
    still_on_lattice,
)


@pytest.fixture(scope="module")
def parent():
    return ParentLattice.from_prototype("fcc", 3.8, ("Cu", "Pd"))


def configuration(parent, labels, matrix=None):
    matrix = np.diag([1, 1, len(labels)]) if matrix is None else matrix
    return Configuration(Supercell.from_matrix(parent, matrix), np.array(labels, np.int8))


def frame(structure, energy, scale=1.0, **info):
    atoms = structure.to_atoms()
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    forces = np.full((len(atoms), 3), 0.5)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=np.ones(6))
    atoms.info.update(info)
    return atoms


def job(structure):
    return OracleJob(structure.key, structure.to_atoms())


@pytest.fixture
def table(parent, tmp_path):
    pair, triple = configuration(parent, [0, 1]), configuration(parent, [0, 1, 1])
    double = configuration(parent, [0, 1, 0, 1])
    other = frame(triple, -30.0, tag="relax")
    other.positions += np.random.default_rng(0).normal(size=(3, 3))
    frames = [
        frame(pair, -1.0, tag="unrelax"),
        frame(pair, -2.0, scale=1.05, tag="relax"),
        frame(double, -6.0, scale=1.1, tag="relax"),
        frame(triple, -9.0, scale=0.97, tag="relax"),
        other,
        frame(configuration(parent, [0]), -3.0, tag="pure", number=3),
    ]
    path = tmp_path / "table.extxyz"
    write(path, frames)
    return path, frames


def test_energy_follows_the_size_of_the_cell_asked_for(parent, table):
    path, _ = table
    oracle = RecordedOracle(path, parent, select={"tag": "relax"})
    assert len(oracle.keys) == 2
    assert oracle.n_skipped == 1
    assert oracle.refusals == {"atoms too far from sites": 1}
    # The lowest per atom of the frames with one key is that of the doubled cell, -1.5 eV/atom.
    (pair, triple) = oracle.run(
        [job(configuration(parent, [0, 1])), job(configuration(parent, [1, 0, 1]))]
    )
    assert pair.status == "done"
    assert pair.kind == "recorded"
    assert pair.energy == pytest.approx(-3.0)
    assert len(pair.atoms) == 2
    assert pair.forces is None
    assert pair.atoms.get_volume() == pytest.approx(2 * 3.8**3 / 4 * 1.1**3)
    assert triple.energy == pytest.approx(-9.0)
    np.testing.assert_allclose(triple.forces, 0.5)
    assert triple.atoms.get_volume() == pytest.approx(3 * 3.8**3 / 4 * 0.97**3)
    assert still_on_lattice(pair, parent)
    assert still_on_lattice(triple, parent)


def test_a_missing_key_is_a_failed_result(parent, table):
    oracle = RecordedOracle(table[0], parent)
    (missing,) = oracle.run([job(configuration(parent, [0, 0, 0, 1, 1]))])
    assert missing.status == "failed"
    assert missing.energy is None
    assert "is not in the table table.extxyz" in missing.error


@pytest.mark.parametrize("kind", ["extxyz.gz", "db", "traj"])
def test_other_files_give_the_same_answers(parent, table, tmp_path, kind):
    path, frames = table
    other = tmp_path / f"other.{kind}"
    if kind == "db":
        with connect(other) as database:
            for atoms in frames:
                database.write(atoms, atoms.info)
    elif kind == "traj":
        write(other, frames)
    else:
        other.write_bytes(gzip.compress(path.read_bytes()))
    jobs = [job(configuration(parent, labels)) for labels in ([0, 1], [0, 1, 1], [0])]
    expected = [r.energy for r in RecordedOracle(path, parent).run(jobs)]
    oracle = RecordedOracle(other, parent)
    assert [r.energy for r in oracle.run(jobs)] == pytest.approx(expected)
    assert oracle.n_skipped == 1


def test_selection_by_text_number_and_slice(parent, table):
    path, _ = table
    assert len(RecordedOracle(path, parent, select={"number": 3}).keys) == 1
    assert len(RecordedOracle(path, parent, select={"tag": "pure", "number": "3"}).keys) == 1
    oracle = RecordedOracle(path, parent, select={"tag": "relax"}, index=slice(0, 1))
    (pair,) = oracle.run([job(configuration(parent, [0, 1]))])
    assert pair.energy == pytest.approx(-2.0)


def test_bad_tables_are_input_errors(parent, table, tmp_path):
    path, _ = table
    with pytest.raises(InputError, match=r"nowhere.db: No such file"):
        RecordedOracle(tmp_path / "nowhere.db", parent)
    with pytest.raises(InputError, match=r"nowhere.xyz: No such file"):
        RecordedOracle(tmp_path / "nowhere.xyz", parent)
    with pytest.raises(InputError, match="no frame has tag = relaxed"):
        RecordedOracle(path, parent, select={"tag": "relaxed"})
    with pytest.raises(InputError, match=r"none of the 6 selected frames .* foreign element"):
        RecordedOracle(path, ParentLattice.from_prototype("fcc", 3.8, ("Ag", "Pd")))
    broken = tmp_path / "broken.xyz"
    broken.write_text(path.read_text()[:-40])
    with pytest.raises(InputError, match=r"broken.xyz"):
        RecordedOracle(broken, parent)
    (tmp_path / "noise.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match=r"noise.db: DatabaseError"):
        RecordedOracle(tmp_path / "noise.db", parent)


def test_species_are_checked(parent, table):
    oracle = RecordedOracle(table[0], parent)
    oracle.check_species(["Cu", "X"])
    with pytest.raises(InputError, match=r"contains W; the table has Cu, Pd"):
        oracle.check_species(["Cu", "W"])


def test_a_structure_that_left_the_lattice_is_noticed(parent):
    structure = configuration(parent, [0, 1, 1, 0])
    atoms = structure.to_atoms()
    done = OracleResult(structure.key, "done", energy=-1.0, atoms=atoms)
    assert still_on_lattice(done, parent)
    swapped = atoms.copy()
    swapped.symbols = ["Cu", "Pd", "Cu", "Pd"]
    assert not still_on_lattice(OracleResult(done.key, "done", atoms=swapped), parent)
    bain = bulk("Cu", "bcc", a=3.0)
    assert not still_on_lattice(OracleResult("s1-1.0.0.1.0.1-A", "done", atoms=bain), parent)
    assert not still_on_lattice(OracleResult(done.key, "failed"), parent)


def test_relaxed_emt_structures_stay_on_their_lattice(parent):
    jobs = [job(configuration(parent, labels)) for labels in ([0], [1], [0, 1], [0, 0, 1])]
    with AseOracle() as oracle:
        assert all(still_on_lattice(result, parent) for result in oracle.run(jobs))


@pytest.mark.parametrize("tag", ["relax", "unrelax"])
def test_the_complete_enumeration_of_a_dft_table_is_found(shared_data, tag):
    from latticesearch.enumeration import enumerate_labelings

    parent = ParentLattice.from_prototype("bcc", 3.24, ("Mo", "Ta"))
    path = shared_data / "nbmotaw_vasp" / "dft.extxyz.gz"
    oracle = RecordedOracle(path, parent, select={"group": "MoTa_SS", "tag": tag})
    assert oracle.n_skipped == 0
    assert len(oracle.keys) == 329
    cell = 2 * np.array(parent.conventional)
    batches = enumerate_labelings(parent, supercell=cell, superperiodic=True)
    keys = {c.canonical().key for batch in batches for c in batch}
    pure = {configuration(parent, [label]).canonical().key for label in (0, 1)}
    assert keys - pure == set(oracle.keys)
