"""Every format gives the same frames, and says of each of the others why it is none."""

import gzip

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from latticesearch.errors import InputError
from latticesearch.frames import Frame, Reading, Refusal, read_all, read_frames
from latticesearch.storage import write_cfg
from tests.frames.outputs import outcar, pw_out, vasprun


def structure(symbols=("Cu", "Pd"), scale=1.0):
    atoms = bulk("Cu", "fcc", a=3.6) * (1, 1, len(symbols))
    atoms.symbols = list(symbols)
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    return atoms


def with_energy(atoms, energy, **info):
    forces = np.full((len(atoms), 3), 0.25)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    atoms.info.update(info)
    return atoms


@pytest.fixture
def frames():
    return [
        with_energy(structure(), -7.0, tag="first"),
        with_energy(structure(("Cu",)), -3.5, tag="second"),
        with_energy(structure(("Cu", "Pd", "Pd")), -12.0, tag="third"),
    ]


def save(frames, path):
    if path.suffix in {".db", ".json"}:
        with connect(path) as database:
            for atoms in frames:
                database.write(atoms, atoms.info)
    elif path.suffix == ".cfg":
        write_cfg(path, frames, ("Cu", "Pd"))
    else:
        write(path, frames)


@pytest.mark.parametrize("kind", ["extxyz", "extxyz.gz", "db", "json", "cfg", "traj"])
def test_a_collection_gives_all_its_structures(frames, tmp_path, kind):
    path = tmp_path / f"own@home.{kind}"
    save(frames, path)
    wanted = Reading(types=("Cu", "Pd"))
    found = list(read_frames(path, wanted))
    assert [f.energy for f in found] == pytest.approx([-7.0, -3.5, -12.0])
    assert [str(f.atoms.symbols) for f in found] == ["CuPd", "Cu", "CuPd2"]
    np.testing.assert_allclose(found[2].forces, 0.25)
    assert all(f.start is None and f.file == str(path) for f in found)
    (second,) = read_frames(path, Reading(select={"tag": "second"}, types=("Cu", "Pd")))
    assert second.origin == found[1].origin
    assert second.info["tag"] == "second"
    assert second.atoms.info == {}


def test_the_energy_may_have_a_name_of_its_own(frames, tmp_path):
    frames[0].info["pbe"] = -8.0
    path = tmp_path / "own.extxyz"
    write(path, frames)
    named, without, _ = read_frames(path, Reading(energy_key="pbe"))
    assert named.energy == -8.0
    assert named.forces is None  # those there belong to another energy
    assert without.reason == "no energy under pbe"
    assert "numbers there: energy" in without.detail
    frames[0].info["pbe"] = "low"
    frames[0].calc = None
    write(path, frames[:1])
    (refusal,) = read_frames(path)
    assert (refusal.reason, refusal.detail) == ("no energy", "it has no number at all")


def test_what_says_it_has_not_converged_is_refused(frames, tmp_path):
    frames[1].info["converged"] = False
    save(frames, tmp_path / "own.db")
    reasons = [item.reason for item in read_all([tmp_path]) if isinstance(item, Refusal)]
    assert reasons == ["not converged"]


OUTPUTS = [
    (vasprun, "vasprun.xml"),
    (vasprun, "vasprun.xml.gz"),
    (outcar, "OUTCAR"),
    (outcar, "OUTCAR.gz"),
    (pw_out, "pw.out"),
]


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


STEPS = [(structure(), -7.0), (structure(scale=1.01), -7.2), (structure(scale=1.02), -7.5)]


@pytest.mark.parametrize(("form", "name"), OUTPUTS)
def test_of_a_calculation_the_last_step_counts(tmp_path, form, name):
    path = put(tmp_path / name, form(STEPS))
    *earlier, last = read_frames(path)
    assert [item.reason for item in earlier] == ["not the last step of its calculation"] * 2
    assert isinstance(last, Frame)
    assert last.energy == pytest.approx(-7.5, abs=1e-5)
    assert last.origin == f"{path}#2"
    assert last.atoms.get_volume() == pytest.approx(STEPS[2][0].get_volume())
    assert last.start.get_volume() == pytest.approx(STEPS[0][0].get_volume())
    assert last.start.calc is None


@pytest.mark.parametrize(
    ("form", "name", "changes", "why"),
    [
        (vasprun, "vasprun.xml", {"cycles": 60}, "used up its NELM = 60 steps"),
        (vasprun, "vasprun.xml", {"nsw": 3}, "used up its NSW = 3 steps"),
        (vasprun, "vasprun.xml", {"ibrion": 0}, "IBRION = 0 is neither"),
        (vasprun, "vasprun.xml", {"ended": False}, "not come to its end"),
        (outcar, "OUTCAR", {"cycles": 60}, "used up its NELM = 60 steps"),
        (outcar, "OUTCAR", {"nsw": 3}, "used up its NSW = 3 steps"),
        (outcar, "OUTCAR", {"ended": False}, "not come to its end"),
        (pw_out, "pw.out", {"converged": False}, "cycle did not converge"),
        (pw_out, "pw.out", {"out_of_steps": True}, "used up its steps"),
        (pw_out, "pw.out", {"ended": False}, "not come to its end"),
    ],
)
def test_a_calculation_must_have_converged(tmp_path, form, name, changes, why):
    last = list(read_frames(put(tmp_path / name, form(STEPS, **changes))))[-1]
    assert last.reason == "not converged"
    assert why in last.detail


def test_a_relaxation_may_converge_in_the_last_step_it_had(tmp_path):
    text = outcar(STEPS, nsw=3, accurate=True)
    assert isinstance(list(read_frames(put(tmp_path / "OUTCAR", text)))[-1], Frame)


def test_a_calculation_that_broke_off_before_its_first_energy_is_no_error(tmp_path):
    text = outcar(STEPS).partition("FREE ENERGIE")[0]
    (refusal,) = read_frames(put(tmp_path / "OUTCAR", text))
    assert refusal.detail == "the calculation has not come to its end"


def test_folders_are_read_whole_and_bad_files_counted(frames, tmp_path):
    save(frames, tmp_path / "a.extxyz")
    put(tmp_path / "deep" / "er" / "vasprun.xml", vasprun(STEPS))
    put(tmp_path / "deep" / "er" / "OUTCAR", outcar(STEPS))  # of the same calculation
    put(tmp_path / "pw" / "scf.out", pw_out(STEPS[:1]))
    put(tmp_path / "pw" / "slurm.out", "nothing of interest")
    put(tmp_path / "z" / "noise.db", "no database at all" * 100)
    put(tmp_path / "z" / "half.xyz", "2\n\nCu 0 0 0\n")
    put(tmp_path / "z" / "odd.xyz", "1\nProperties=species:S:1:pos:R:3 pbc=T\nCu 0 zero 0\n")
    found = list(read_all([tmp_path]))
    assert sorted(f.energy for f in found if isinstance(f, Frame)) == pytest.approx(
        [-12.0, -7.5, -7.0, -7.0, -3.5], abs=1e-5
    )
    bad = [f.origin for f in found if isinstance(f, Refusal) and f.reason == "cannot be read"]
    assert [origin.rpartition("/")[2] for origin in bad] == [
        "half.xyz#0",
        "noise.db#0",
        "odd.xyz#0",
    ]


def test_the_frames_before_a_broken_one_count(frames, tmp_path):
    path = tmp_path / "own.extxyz"
    write(path, frames)
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    *good, bad = read_all([path])
    assert [f.energy for f in good] == [-7.0, -3.5]
    assert (bad.reason, bad.origin) == ("cannot be read", f"{path}#2")
    with pytest.raises(InputError, match="the last frame is incomplete"):
        list(read_frames(path))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("missing.extxyz", None, "there is no file or folder .*missing.extxyz"),
        ("noise.db", "no database at all" * 100, "cannot read structures from .*noise.db"),
        ("noise.dat", "what is this", "cannot read structures from .*noise.dat"),
        ("own.cfg", "BEGIN_CFG\n Size\n", "own.cfg"),
        ("folder/notes.txt", "no structures", "folder holds no file of structures"),
    ],
)
def test_what_is_named_must_be_there_and_readable(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        put(path, text)
    named = path.parent if "/" in name else path
    with pytest.raises(InputError, match=message):
        list(read_all([named]))
