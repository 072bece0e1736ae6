"""Whole calculations with programs that stand for VASP and pw.x: inputs, outputs, failures."""

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from latticesearch.errors import OracleUnavailable
from latticesearch.oracles import AseOracle, OracleJob
from latticesearch.oracles.emt import FastEmt
from latticesearch.oracles.presets import Element, Wanted
from tests.conftest import REPOSITORY

FAKES = REPOSITORY / "tests" / "fakes"
TOLD = {"cutoff": 400.0, "kspacing": 0.4}


def program(name):
    return f"{sys.executable} {FAKES / name}"


def pair(first, second, a=3.0):
    return Atoms([first, second], cell=[a] * 3, scaled_positions=[[0] * 3, [0.5] * 3], pbc=True)


def answer(kind, told, atoms, attempt=1, **settings):
    settings = {"relax_cell": False, "relax_ions": False, "timeout": None, **settings}
    with AseOracle(kind, preset=told, **settings) as oracle:
        oracle.check_species(sorted(set(atoms.symbols)))
        (result,) = oracle.run([OracleJob("one", atoms, attempt)])
    return result


@pytest.fixture
def potcars(tmp_path):
    for name, text in (("Cu", "Cu"), ("Pd_pv", "Pd_pv"), ("Ni", "Ni"), ("Pt", "Pt slow")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "POTCAR").write_text(f"  PAW_PBE {text} 06Sep2000\n")
    return str(tmp_path)


@pytest.fixture
def upfs(tmp_path):
    for name in ("Cu.pbe.UPF", "Pd.pbe.UPF"):
        (tmp_path / name).write_text(f'<UPF><PP_HEADER z_valence="11.0"/></UPF> {name}')
    return str(tmp_path)


def vasp(potcars, **said):
    told = {**TOLD, "datasets": potcars, "command": program("vasp_std.py")}
    return Wanted(**{**told, "elements": {"Pd": Element(dataset="Pd_pv")}, **said})


def test_vasp_answers_with_its_provenance(potcars):
    atoms = pair("Pd", "Cu")
    result = answer("vasp", vasp(potcars), atoms)
    assert result.status == "done", result.error
    atoms.calc = FastEmt()
    assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(result.forces, atoms.get_forces(), atol=1e-6)
    np.testing.assert_allclose(result.stress, atoms.get_stress(), atol=1e-6)
    known = result.provenance
    assert (known["code"], known["version"]) == ("vasp", "6.4.2")
    assert known["kgrid"] == [6, 6, 6]
    assert known["scf_residual"] == pytest.approx(1e-12)
    assert known["datasets"]["Pd"]["title"] == "PAW_PBE Pd_pv 06Sep2000"
    assert len(known["datasets"]["Cu"]["sha256"]) == 64
    assert known["parameters"]["encut"] == 400.0
    assert known["seconds"] > 0


def test_vasp_relaxes_with_the_grid_of_its_start(potcars, tmp_path):
    scratch = tmp_path / "scratch"
    result = answer(
        "vasp",
        vasp(potcars),
        pair("Pd", "Cu", a=2.8),
        relax_cell=True,
        relax_ions=True,
        fmax=0.05,
        scratch=scratch,
    )
    assert result.status == "done", result.error
    # The cell has grown by so much that its own grid would have fewer points.
    assert result.atoms.cell.lengths()[0] > 2.95
    assert result.provenance["kgrid"] == [6, 6, 6]
    assert result.provenance["steps"] > 1
    assert abs(result.provenance["basis_change"]) < 1e-6


def test_too_few_electronic_steps_fail_and_a_later_attempt_has_more(potcars):
    atoms = bulk("Pt", "fcc", a=3.9)
    told = vasp(potcars, elements={})
    result = answer("vasp", told, atoms)
    assert result.status == "failed"
    assert "did not become self-consistent" in result.error
    assert result.cause == "structure"
    assert answer("vasp", told, atoms, attempt=2).status == "done"


def test_vasp_starts_from_moments_and_the_lowest_order_counts(potcars):
    told = vasp(potcars, spin="antiferromagnetic", elements={"Ni": Element(moment=1.5)})
    result = answer("vasp", told, pair("Ni", "Ni", a=2.8))
    assert result.status == "done", result.error
    assert set(result.provenance["orders"]) == {"ferromagnetic", "antiferromagnetic along a"}
    # To effective medium theory both are the same: the first is taken.
    assert result.provenance["order"] == "ferromagnetic"
    assert result.provenance["moments"] == [1.5, 1.5]
    assert result.provenance["moment"] == 3.0


def test_a_program_that_is_not_there_is_the_environments(potcars):
    told = vasp(potcars, command="no-such-vasp")
    oracle = AseOracle("vasp", preset=told, relax_cell=False, relax_ions=False)
    with oracle, pytest.raises(OracleUnavailable, match="there is no program no-such-vasp"):
        list(oracle.run([OracleJob("one", pair("Pd", "Cu"))], patience=1))


def espresso(upfs, **said):
    return Wanted(**{**TOLD, "datasets": upfs, "command": program("pw.py"), **said})


def test_espresso_answers_with_its_provenance(upfs):
    atoms = bulk("Cu", "fcc", a=3.6)
    result = answer("espresso", espresso(upfs), atoms)
    assert result.status == "done", result.error
    atoms.calc = FastEmt()
    assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(result.stress, atoms.get_stress(), atol=1e-6)
    assert result.provenance["version"] == "7.2"
    # An element: its k-points are denser.
    assert result.provenance["kgrid"] == [11, 11, 11]
    assert result.provenance["datasets"]["Cu"]["file"] == "Cu.pbe.UPF"


def test_espresso_that_does_not_converge_does_so_in_the_second_attempt(upfs):
    atoms = pair("Cu", "Pd")
    first = answer("espresso", espresso(upfs), atoms)
    assert first.status == "failed"
    assert answer("espresso", espresso(upfs), atoms, attempt=2).status == "done"
