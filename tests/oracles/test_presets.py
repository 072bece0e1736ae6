"""What each code is told, compared with its documentation; nothing here needs a code."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from latticesearch.errors import InputError
from latticesearch.oracles.presets import PRESETS, Element, Hubbard, Wanted
from latticesearch.oracles.presets.kpoints import grid_of, start_grid
from latticesearch.oracles.presets.magnetism import orders

ORDINARY = {"cutoff": 400.0, "kspacing": 0.2}


def b2(first="Al", second="Ni", a=2.9):
    return Atoms([first, second], cell=[a] * 3, scaled_positions=[[0] * 3, [0.5] * 3], pbc=True)


@pytest.fixture
def data(tmp_path):
    """Folders in which every code finds data of iron and nickel."""
    for name in ("Fe.pbe-n.UPF", "ni_pbe.upf", "Fe.xml", "Ni.PBE.gz", "Fe.in", "Ni.in"):
        (tmp_path / name).write_text(name)
    for name in ("Fe_pv", "Ni"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "POTCAR").write_text(f"  PAW_PBE {name} 06Sep2000\n")
    return tmp_path


def wanted(data, **said):
    elements = {"Fe": Element(dataset="Fe_pv")} if said.pop("potcar", False) else {}
    return Wanted(**{**ORDINARY, "datasets": str(data), "elements": elements, **said})


# VASP's manual: N_i = max(1, ceiling(|b_i| 2π / KSPACING)), b_i without 2π.
@pytest.mark.parametrize(
    ("cell", "kspacing", "grid"),
    [
        (np.eye(3) * 4.0, 2 * np.pi / 4.0 / 5, (5, 5, 5)),
        (np.eye(3) * 4.0, 2 * np.pi / 4.0 / 5.1, (6, 6, 6)),
        (np.diag([2.0, 4.0, 40.0]), 0.5, (7, 4, 1)),
        ([[0, 2, 2], [2, 0, 2], [2, 2, 0]], 0.2, (14, 14, 14)),
    ],
)
def test_the_grid_is_that_of_vasp(cell, kspacing, grid):
    assert grid_of(cell, kspacing) == grid


def test_a_grid_does_not_hang_on_rounding():
    spacing = 2 * np.pi / 3.0 / 7
    assert grid_of(np.eye(3) * 3.0 * (1 - 1e-9), spacing) == (7, 7, 7)


def test_elements_have_denser_k_points():
    told = Wanted(kspacing=0.4)
    alone, together = bulk("Mo", "bcc", a=3.16), b2("Mo", "Ta", 3.16)
    assert start_grid(alone, told) == grid_of(alone.cell, 0.3)
    assert start_grid(together, told) == grid_of(together.cell, 0.4)
    own = Wanted(kspacing=0.4, elements={"Mo": Element(grid=(20, 20, 20))})
    assert start_grid(alone, own) == (20, 20, 20)
    assert start_grid(together, own) == grid_of(together.cell, 0.4)


def test_magnetic_orders():
    atoms = b2("Fe", "Fe")
    assert orders(atoms, Wanted()) == {"none": None}
    found = orders(atoms, Wanted(spin="antiferromagnetic"))
    assert {name: list(m) for name, m in found.items()} == {
        "ferromagnetic": [3.0, 3.0],
        # The planes along all three axes hold the same atoms: one order, not three.
        "antiferromagnetic along a": [3.0, -3.0],
    }
    # A single magnetic atom, or an odd number of planes, alternates with nothing.
    assert list(orders(b2("Fe", "Al"), Wanted(spin="antiferromagnetic"))) == ["ferromagnetic"]
    three = bulk("Fe", "bcc", a=2.8, cubic=False) * (3, 1, 1)
    assert list(orders(three, Wanted(spin="antiferromagnetic"))) == ["ferromagnetic"]


def test_moments_and_what_has_none():
    told = Wanted(spin="ferromagnetic", elements={"Pt": Element(moment=0.4)})
    np.testing.assert_array_equal(orders(b2("Co", "Pt"), told)["ferromagnetic"], [2.0, 0.4])
    with pytest.raises(InputError, match="no element has a moment"):
        PRESETS["gpaw"].check(Wanted(spin="ferromagnetic", **ORDINARY), ["Mo", "Ta"])


def test_gpaw_inputs():
    told = Wanted(
        **ORDINARY,
        smearing="fermi-dirac",
        width=0.1,
        spin="ferromagnetic",
        elements={"Ni": Element(hubbard=Hubbard(u=5.0, j=1.0))},
        parameters={"nbands": "120%"},
    )
    found = PRESETS["gpaw"].inputs(told, b2(), (6, 6, 6), 1)
    assert found["mode"] == {"name": "pw", "ecut": 400.0}
    assert found["kpts"] == {"size": [6, 6, 6], "gamma": True}
    assert found["occupations"] == {"name": "fermi-dirac", "width": 0.1}
    assert found["setups"] == {"Ni": "paw:d,4"}
    assert found["spinpol"] is True
    assert found["nbands"] == "120%"


def test_vasp_inputs(data):
    told = wanted(
        data,
        potcar=True,
        xc="r2SCAN",
        dispersion="d3bj",
        spin="ferromagnetic",
        parameters={"ncore": 4},
    )
    found = PRESETS["vasp"].inputs(told, b2("Fe", "Ni"), (7, 7, 7), 1)
    assert found["xc"] == "r2scan"
    assert (found["encut"], found["ismear"], found["sigma"]) == (400.0, 1, 0.2)
    assert (found["ispin"], found["lorbit"], found["ivdw"], found["ncore"]) == (2, 11, 12, 4)
    assert (found["kpts"], found["gamma"]) == ([7, 7, 7], True)
    assert found["setups"] == {"Fe": "_pv", "Ni": ""}
    assert (found["ibrion"], found["nsw"]) == (-1, 0)


def test_espresso_inputs(data):
    told = wanted(
        data,
        spin="ferromagnetic",
        dispersion="d3",
        smearing="marzari-vanderbilt",
        elements={"Fe": Element(hubbard=Hubbard(u=4.0))},
        parameters={"system": {"ecutrho": 300.0}},
    )
    found = PRESETS["espresso"].inputs(told, b2("Fe", "Ni"), (5, 5, 5), 1)
    system = found["input_data"]["system"]
    assert system["ecutwfc"] == pytest.approx(29.3994, abs=1e-4)  # 400 eV in Ry
    assert system["degauss"] == pytest.approx(0.0147, abs=1e-4)
    assert (system["smearing"], system["ecutrho"], system["nspin"]) == ("mv", 300.0, 2)
    assert (system["vdw_corr"], system["dftd3_version"]) == ("dft-d3", 3)
    assert found["pseudopotentials"] == {"Fe": "Fe.pbe-n.UPF", "Ni": "ni_pbe.upf"}
    assert (found["kpts"], found["koffset"]) == ([5, 5, 5], [0, 0, 0])
    assert found["additional_cards"] == ["HUBBARD (ortho-atomic)", "U Fe-3d 4"]


def test_abinit_inputs(data):
    told = wanted(data, elements={"Ni": Element(hubbard=Hubbard(u=4.0))})
    found = PRESETS["abinit"].inputs(told, b2("Ni", "Fe"), (8, 8, 8), 1)
    assert (found["pps"], found["ixc"], found["occopt"]) == ("pawxml", 11, 6)
    assert (found["ecut"], found["pawecutdg"]) == (400.0, 960.0)
    # Centred at Γ: ASE would shift grids of even numbers by half.
    assert (found["ngkpt"], found["shiftk"]) == ([8, 8, 8], [0.0, 0.0, 0.0])
    # One value per type, in the order of atomic numbers.
    assert found["lpawu"] == [-1, 2]
    assert found["upawu"] == [0.0, 4.0, "eV"]
    assert found["nsppol"] == 1


def test_elk_inputs(data):
    told = Wanted(kspacing=0.3, datasets=str(data), spin="ferromagnetic", width=0.1)
    preset = PRESETS["elk"]
    found = preset.inputs(told, b2("Fe", "Ni"), (8, 8, 8), 1)
    assert (found["ngridk"], found["vkloff"]) == ([8, 8, 8], [0.0, 0.0, 0.0])
    assert (found["xctype"], found["stype"]) == (20, 1)
    assert found["swidth"] == pytest.approx(0.0036749, abs=1e-6)
    # Moments start from fields in the spheres, which fade.
    assert (found["spinpol"], found["reducebf"]) == (True, 0.5)
    np.testing.assert_array_equal(preset.start_moments(np.array([3.0, -3.0])), [-0.1, 0.1])
    assert not preset.has_stress


@pytest.mark.parametrize("name", ["gpaw", "vasp", "espresso", "abinit", "elk"])
def test_later_attempts_change_the_way_and_not_the_energy(name, data):
    told = wanted(data, potcar=name == "vasp")
    preset, atoms = PRESETS[name], b2("Fe", "Ni")
    rungs = [preset.inputs(told, atoms, (4, 4, 4), attempt) for attempt in (1, 2, 3, 9)]
    assert rungs[0] != rungs[1] != rungs[2] == rungs[3]
    ways = {
        *("mixer", "maxiter", "eigensolver", "symmetry", "algo", "nelm", "amix", "bmix"),
        *("nstep", "diemix", "iscf", "nline", "maxscl", "mixtype", "beta0", "betamax"),
        "electrons",
    }
    flat = [{**rung, **rung.get("input_data", {}), "input_data": None} for rung in rungs]
    for one in flat:
        assert {key: v for key, v in one.items() if key not in ways} == {
            key: v for key, v in flat[0].items() if key not in ways
        }
        json.dumps(one)


@pytest.mark.parametrize(
    ("name", "said", "message"),
    [
        ("gpaw", {"cutoff": None}, 'kind = "gpaw" needs oracle.cutoff'),
        ("gpaw", {"kspacing": None}, "needs oracle.kspacing"),
        ("gpaw", {"parameters": {"kpts": [1, 1, 1]}}, "say it by oracle.kspacing"),
        ("vasp", {"parameters": {"ENCUT": 300}}, "parameters.encut: the preset writes it"),
        ("vasp", {"xc": "B97"}, "vasp has no 'B97'; known: PBE"),
        ("vasp", {"smearing": "marzari-vanderbilt"}, "vasp has no 'marzari-vanderbilt'"),
        ("vasp", {}, r"there is no .*Fe.POTCAR; name another"),
        ("espresso", {"parameters": {"nbnd": 20}}, "tables of namelists"),
        ("espresso", {"dispersion": "d4"}, "no 'd4'; known: d3, d3bj"),
        ("espresso", {"datasets": "/nowhere"}, "there is no folder /nowhere"),
        ("abinit", {"datasets": None}, "needs oracle.datasets"),
        ("elk", {"elements": {"Mo": Element(moment=1.0)}}, "elements.Mo: not among Fe, Ni"),
    ],
)
def test_what_a_code_cannot_do_is_refused(name, said, message, data):
    with pytest.raises(InputError, match=message):
        PRESETS[name].check(wanted(data, **said), ["Fe", "Ni"])


def test_numbers_that_make_no_sense():
    with pytest.raises(InputError, match="cutoff must be a positive number"):
        Wanted(cutoff=-1.0)
    with pytest.raises(InputError, match="unknown kind 'cold'"):
        Wanted(smearing="cold")


def test_several_files_that_fit_have_to_be_told_apart(data):
    (data / "Fe.pz.UPF").write_text("another")
    with pytest.raises(InputError, match=r"2 files fit \(Fe.pbe-n.UPF, Fe.pz.UPF\) Fe in"):
        PRESETS["espresso"].check(wanted(data), ["Fe", "Ni"])
    chosen = wanted(data, elements={"Fe": Element(dataset="Fe.pz.UPF")})
    PRESETS["espresso"].check(chosen, ["Fe", "Ni"])


def test_data_sets_are_known_by_their_content(data):
    preset, told = PRESETS["vasp"], wanted(data, potcar=True)
    before = preset.datasets(told, ["Fe"])["Fe"]
    assert (before["file"], before["title"]) == ("Fe_pv", "PAW_PBE Fe_pv 06Sep2000")
    (data / "Fe_pv" / "POTCAR").write_text("  PAW_PBE Fe_pv 06Sep2000\nchanged")
    assert preset.datasets(told, ["Fe"])["Fe"]["sha256"] != before["sha256"]


def test_what_is_said_survives_the_way_to_a_worker():
    told = Wanted(
        **ORDINARY,
        spin="antiferromagnetic",
        elements={"Fe": Element(grid=(9, 9, 9), hubbard=Hubbard(u=4.0), moment=2.0)},
        parameters={"a": [1, {"b": 2}]},
    )
    assert Wanted.from_dict(json.loads(json.dumps(told.to_dict()))) == told
