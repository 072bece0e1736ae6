"""Competing phases from tables, entries and structures; hulls over what they span."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from latticesearch.campaign.competing import competing_phases, formation_zero, hull_with_phases
from latticesearch.errors import InputError
from tests.frames.outputs import vasprun

NI_AL = ("Ni", "Al")


def rows(*phases):
    return [{"formula": formula, "energy": energy} for formula, energy in phases]


def test_rows_of_a_table_become_phases(tmp_path):
    table = tmp_path / "phases.csv"
    table.write_text(
        "Formula, energy, name\n"
        "Al3Ni5,-4.9,Pt5Ga3\nAl0.5Ni0.5,-4.5,\nNi3Ti,-6.0,D0_24\n???,-1,\nNi,much,\n"
    )
    phases = competing_phases(NI_AL, [table], [{"formula": "Al", "energy": -3.7, "name": "A1"}])
    assert [(p.name, p.formula, p.energy) for p in phases.phases] == [
        ("Pt5Ga3", "Ni5Al3", -4.9),
        ("Al0.5Ni0.5", "Ni0.5Al0.5", -4.5),
        ("A1", "Al", -3.7),
    ]
    np.testing.assert_allclose(phases.compositions, [[5 / 8, 3 / 8], [0.5, 0.5], [0, 1]])
    assert all(p.atoms is None for p in phases.phases)
    assert phases.summary_lines() == [
        "competing phases: 3 phases: Ni5Al3, Ni0.5Al0.5, Al",
        f"  not used: 1 with elements that the campaign does not have: {table}#3 (D0_24: Ti)",
        f"  not used: 1 with a formula that cannot be read: {table}#4 ('???')",
        f"  not used: 1 without an energy: {table}#5 (Ni: 'much')",
    ]


def test_sodium_nitride_is_a_formula(tmp_path):
    table = tmp_path / "phases.csv"
    table.write_text("formula,energy\nNaN,-1.5\n")
    (phase,) = competing_phases(("Na", "N"), [table]).phases
    assert phase.formula == "NaN"


def test_structures_bring_their_energies(tmp_path):
    hcp = bulk("Ni", "hcp", a=2.5)
    hcp.calc = SinglePointCalculator(hcp, energy=-11.0)
    bare = bulk("Al", "fcc", a=4.0)
    write(tmp_path / "hcp.extxyz", [hcp, bare])
    (tmp_path / "Al_bcc").mkdir()
    (tmp_path / "Al_bcc" / "vasprun.xml").write_text(vasprun([(bulk("Al", "bcc", a=3.2), -3.6)]))
    phases = competing_phases(NI_AL, [tmp_path])
    assert {(p.name, p.formula): p.energy for p in phases.phases} == pytest.approx(
        {("hcp", "Ni"): -5.5, ("Al_bcc", "Al"): -3.6}
    )
    assert len(phases.phases[-1].atoms) == 1 or len(phases.phases[0].atoms) == 2
    assert phases.refusals.counts == {"no energy": 1}


def test_entries_of_pymatgen_count_without_their_corrections(tmp_path):
    from pymatgen.core import Lattice, Structure
    from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

    cubic = Structure(Lattice.cubic(2.9), ["Ni", "Al"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    entries = [
        ComputedStructureEntry(cubic, -10.0, entry_id="mp-1487"),
        ComputedEntry("Ni3Al", -22.0, correction=-0.4, entry_id="mp-2593"),
        ComputedEntry("NiO", -12.0),
    ]
    path = tmp_path / "entries.json"
    path.write_text(json.dumps([*(entry.as_dict() for entry in entries), {"what": "else"}]))
    phases = competing_phases(NI_AL, [path])
    assert [(p.name, p.formula, p.energy) for p in phases.phases] == [
        ("mp-1487", "NiAl", -5.0),
        ("mp-2593", "Ni3Al", -5.5),
    ]
    assert phases.phases[0].atoms.get_volume() == pytest.approx(2.9**3)
    assert phases.phases[1].atoms is None
    assert phases.refusals.counts == {
        "with elements that the campaign does not have": 1,
        "that are no entries of pymatgen": 1,
    }
    assert "1 entries carry corrections of up to 0.100 eV/atom" in phases.notes[0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone.csv", None, "cannot read the table .*gone.csv: No such file"),
        ("phases.csv", "compound,energy\nNi,-5\n", "first line formula,energy.*compound,energy"),
        ("phases.csv", "", "here it is empty"),
        ("entries.json", "[1, 2", "entries.json: it is no JSON"),
        ("entries.json", '{"a": 1}', "expected a list of pymatgen's"),
        ("gone.xyz", None, "there is no file or folder"),
    ],
)
def test_bad_files_are_named(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        competing_phases(NI_AL, [path])


def test_a_row_needs_formula_and_energy():
    with pytest.raises(InputError, match=r"competing phase#1: energy is missing; write \{ formula"):
        competing_phases(NI_AL, rows=[{"formula": "Ni"}])


# On the lattice: both elements and an ordered compound, eV/atom.
X = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
E = np.array([-5.0, -3.0, -4.4])


def test_without_phases_the_hull_is_that_of_the_campaign():
    from latticesearch.hull import Hull

    alone, hull = Hull(X, E), hull_with_phases(X, E, competing_phases(NI_AL))
    np.testing.assert_array_equal(hull.vertices, alone.vertices)
    np.testing.assert_array_equal(hull.formation_energies, alone.formation_energies)
    zero = formation_zero("end members", X, E, None, NI_AL)
    np.testing.assert_allclose(zero.formation_energies(X, E), [0.0, 0.0, -0.4], atol=1e-12)


def test_a_phase_off_the_lattice_takes_part_in_stability_and_decompositions():
    phases = competing_phases(NI_AL, rows=rows(("Ni3Al", -5.0), ("Ni3Al", -4.9)))
    hull = hull_with_phases(X, E, phases)
    assert hull.vertices.tolist() == [0, 1, 2, 3]
    indices, weights = hull.decomposition([0.625, 0.375])
    assert indices.tolist() == [2, 3]
    np.testing.assert_allclose(weights, [0.5, 0.5])
    deep = competing_phases(NI_AL, rows=rows(("Ni3Al", -6.2)))
    # 2/3 Ni3Al and 1/3 Al make up NiAl with -5.133 eV/atom.
    above = hull_with_phases(X, E, deep).energies_above_hull
    assert above[2] == pytest.approx(-4.4 - (-6.2 * 2 - 3.0) / 3)


def test_a_more_stable_element_is_negative_or_the_zero_itself():
    phases = competing_phases(NI_AL, rows=rows(("Ni", -5.1)))
    hull = hull_with_phases(X, E, phases)
    assert hull.energies_above_hull[0] == pytest.approx(0.1)
    x, e = np.vstack([X, phases.compositions]), np.append(E, phases.energies)
    ends = formation_zero("end members", X, E, phases, NI_AL)
    np.testing.assert_allclose(ends.formation_energies(x, e), [0, 0, -0.4, -0.1], atol=1e-12)
    elements = formation_zero("elements", X, E, phases, NI_AL)
    np.testing.assert_allclose(elements.formation_energies(x, e), [0.1, 0, -0.35, 0], atol=1e-12)
    assert elements.points.tolist() == [3, 1]


# Nitrides: nitrogen fills a sublattice of its own, so the compositions are a line.
NITRIDES = ("Ti", "Hf", "N")
X_N = np.array([[0.5, 0, 0.5], [0, 0.5, 0.5], [0.25, 0.25, 0.5]])
E_N = np.array([-9.0, -10.0, -9.6])


def test_phases_on_one_side_of_a_fixed_composition_take_no_part():
    phases = competing_phases(NITRIDES, rows=rows(("Ti", -7.0), ("Hf", -9.5), ("Ti2N", -9.5)))
    hull = hull_with_phases(X_N, E_N, phases)
    assert {0, 1, 2} <= set(hull.vertices.tolist())
    np.testing.assert_array_equal(hull.energies_above_hull[:3], 0.0)
    indices, _ = hull.decomposition([0.3, 0.2, 0.5])
    assert set(indices.tolist()) <= {0, 1, 2}


def test_phases_around_a_fixed_composition_can_make_it_unstable():
    phases = competing_phases(
        NITRIDES, rows=rows(("Ti", -7.0), ("Hf", -9.5), ("Ti2N", -9.5), ("N", -8.3))
    )
    hull = hull_with_phases(X_N, E_N, phases)
    # 3/4 Ti2N and 1/4 N make up TiN with -9.2 eV/atom.
    assert hull.energies_above_hull[0] == pytest.approx(0.2)
    ends = formation_zero("end members", X_N, E_N, phases, NITRIDES)
    formation = ends.formation_energies(
        np.vstack([X_N, phases.compositions]), np.append(E_N, phases.energies)
    )
    np.testing.assert_allclose(formation[:3], [0, 0, -0.1], atol=1e-12)
    assert np.isnan(formation[3:]).all()
    elements = formation_zero("elements", X_N, E_N, phases, NITRIDES)
    assert elements.formation_energies(X_N[:1], E_N[:1])[0] == pytest.approx(-9 + (7 + 8.3) / 2)


def test_the_elements_set_the_zero_only_where_all_are_known():
    phases = competing_phases(NITRIDES, rows=rows(("Ti", -7.0)))
    with pytest.raises(InputError, match=r"need an energy of pure Hf, N: add a phase"):
        formation_zero("elements", X_N, E_N, phases, NITRIDES)


def test_a_phase_inside_a_fixed_composition_competes_there():
    phases = competing_phases(NITRIDES, rows=rows(("TiN", -9.3)))
    hull = hull_with_phases(X_N, E_N, phases)
    assert hull.dimension == 1
    assert hull.energies_above_hull[0] == pytest.approx(0.3)
