from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk

from latticesearch.report.prototypes import library_of_pymatgen, prototype_of
from latticesearch.report.structure_data import decompositions, structure_columns
from latticesearch.report.units import axis_label, formula_unit
from latticesearch.report.verdicts import error_of, open_candidates, verdicts
from latticesearch.report.voltages import average_voltages
from tests.report.tables import made_up, tables_of


def ordered(base, symbols, cell=(1, 1, 1)):
    atoms = base * cell
    atoms.set_chemical_symbols(symbols)
    return atoms


FCC, BCC = bulk("Cu", cubic=True), bulk("Mo", cubic=True)


@pytest.mark.parametrize(
    ("atoms", "name", "aflow"),
    [
        (FCC, "A1", "A_cF4_225_a"),
        (BCC, "A2", "A_cI2_229_a"),
        (ordered(FCC, ["Au", "Cu", "Cu", "Cu"]), "L1_2", "AB3_cP4_221_a_c"),
        (ordered(FCC, ["Au", "Au", "Cu", "Cu"]), "L1_0", "AB_tP2_123_a_d"),
        (ordered(BCC, ["Mo", "Ta"]), "B2", "AB_cP2_221_b_a"),
        (bulk("NaCl", "rocksalt", a=5.6), "B1", "AB_cF8_225_a_b"),
        (ordered(BCC, ["Mo", "Ta"] + 2 * ["Mo", "Mo"], (1, 1, 3)), "", ""),
    ],
)
def test_structures_have_the_names_crystallographers_give_them(atoms, name, aflow):
    found = prototype_of(atoms)
    assert (found.name, found.aflow) == (name, aflow)


def test_equal_wyckoff_positions_are_not_yet_the_same_structure():
    """C11_b (MoSi2) and C11_a (CaC2) differ in a free coordinate only."""
    silicide = ordered(BCC, ["Mo", "Si", "Si", "Mo", "Si", "Si"], (1, 1, 3))
    assert prototype_of(silicide).name == "C11_b"
    carbide = Atoms(
        "CaC2CaC2",
        scaled_positions=[
            *([0, 0, 0], [0, 0, 0.4], [0, 0, 0.6]),
            *([0.5, 0.5, 0.5], [0.5, 0.5, 0.9], [0.5, 0.5, 0.1]),
        ],
        cell=[3.9, 3.9, 6.4],
        pbc=True,
    )
    assert prototype_of(carbide).name != "C11_b"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_library_is_that_of_pymatgen():
    file = resources.files("latticesearch.report").joinpath("assets/prototypes.json")
    names = ("aflow", "strukturbericht", "sequences")
    shipped, theirs = (
        [tuple(map(str, (entry[name] for name in names))) for entry in entries]
        for entries in (json.loads(file.read_text()), library_of_pymatgen())
    )
    assert len(shipped) > 280
    assert set(shipped) <= set(theirs)


class Two:
    """An ideal structure and a relaxed one."""

    def __init__(self, ideal, relaxed):
        self.pair = ideal, relaxed

    def ideal(self, key):
        return self.pair[0].copy() if key == "known" else None

    def moments(self, key):
        return []

    def relaxed(self, key):
        return None if self.pair[1] is None else self.pair[1].copy()


def columns_of(ideal, relaxed, keys=("known",), before=None):
    hull = pd.DataFrame({"key": list(keys)})
    return structure_columns(hull, Two(ideal, relaxed), before)


def test_lattice_parameters_are_those_of_the_relaxed_conventional_cell():
    ideal = ordered(FCC, ["Au", "Cu", "Cu", "Cu"])
    relaxed = ideal.copy()
    relaxed.set_cell(1.02 * ideal.cell.array, scale_atoms=True)
    row = columns_of(ideal, relaxed).iloc[0]
    assert row["pearson"] == "cP4"
    assert row["a"] == pytest.approx(1.02 * ideal.cell.lengths()[0])
    assert row["volume"] == pytest.approx(relaxed.get_volume() / 4)
    assert row["strain"] == pytest.approx(0.0, abs=1e-12)  # of its shape
    assert row["displacement"] == pytest.approx(0.0, abs=1e-12)


def test_the_way_from_the_parent_lattice_is_measured_without_rotation_and_shift():
    ideal = ordered(FCC, ["Au", "Cu", "Cu", "Cu"])
    relaxed = ideal.copy()
    relaxed.positions[1] += [0.0, 0.0, 0.2]
    relaxed.translate([0.3, 0.1, 0.7])
    relaxed.rotate(30, "z", rotate_cell=True)
    row = columns_of(ideal, relaxed).iloc[0]
    # One of four atoms by 0.2 Å, the others by nothing, relative to their mean.
    assert row["displacement"] == pytest.approx(np.sqrt(3 * 0.05**2 / 4 + 0.15**2 / 4))
    assert row["strain"] == pytest.approx(0.0, abs=1e-12)
    stretched = ideal.copy()
    stretched.set_cell(ideal.cell.array * [1.0, 1.0, 1.1], scale_atoms=True)
    assert columns_of(ideal, stretched).iloc[0]["strain"] > 0.05


def test_rows_off_the_lattice_have_empty_cells_and_names_are_found_once(monkeypatch):
    ideal = ordered(FCC, ["Au", "Cu", "Cu", "Cu"])
    first = columns_of(ideal, None, ("known", None, "other"))
    assert first["prototype"].tolist() == ["L1_2", "", ""]
    assert np.isnan(first["volume"].astype(float)).tolist() == [False, True, True]
    monkeypatch.setattr("latticesearch.report.structure_data.prototype_of", None)
    again = columns_of(ideal, None, before=first.assign(key=["known", None, "other"]))
    assert again["prototype"].tolist() == ["L1_2"]


def test_decompositions_are_mixtures_of_the_other_stable_phases():
    counts = [[4, 0], [0, 4], [2, 2], [3, 1], [1, 3]]
    _, hull = tables_of(("Mo", "Ta"), counts, [0, 0, -0.2, -0.15, -0.099])
    texts = dict(zip(hull["formula"], decompositions(hull), strict=True))
    assert set(texts["MoTa"].split(" + ")) == {"0.333 Ta", "0.667 Mo3Ta"}
    assert texts["Mo"] == texts["Ta"] == ""
    assert set(texts["MoTa3"].split(" + ")) == {"0.5 Ta", "0.5 MoTa"}


def test_verdicts_compare_depths_with_errors():
    hull = pd.DataFrame(
        {
            "energy_above_hull": [0, 0, 0, 0, 0.00005, 0.001, 0.02],
            "depth": [np.nan, 0.00005, 0.001, 0.01, np.nan, np.nan, np.nan],
        }
    )
    assert verdicts(hull, 0.002) == [
        *("end member", "tie", "within the error", "robust"),
        *("tie", "within the error", "above the hull"),
    ]
    assert verdicts(hull.drop(columns="depth"), 0.002)[0] == ""


def test_the_error_is_the_larger_of_the_accepted_and_the_observed_one():
    settings = {"learning": {"tolerance": 0.003}}
    assert error_of({"near_hull_error": 0.001}, settings) == 0.003
    assert error_of({"near_hull_error": 0.005}, settings) == 0.005
    assert error_of({"near_hull_error": None}, {}) == 0.002


def test_open_candidates_are_those_predicted_near_the_hull_and_not_computed():
    candidates, _ = made_up(("Mo", "Ta"), 80, share=0.3)
    found = open_candidates(candidates, 0.01)
    expected = candidates.oracle_energy.isna() & (candidates.energy_above_hull < 0.01)
    assert set(found.index) == set(candidates.index[expected])
    assert found.energy_above_hull.is_monotonic_increasing
    assert len(found) > 0


def electrode():
    """LixCoO2 in cells of four formula units, x = 0, 1/2, 1; eV per formula unit by hand."""
    counts = np.array([[0, 4, 8], [2, 4, 8], [4, 4, 8]])
    per_unit = np.array([-20.0, -23.0, -25.5])
    energies = 4 * per_unit / counts.sum(axis=1)
    candidates, hull = tables_of(("Li", "Co", "O"), counts, energies)
    hnf = [np.diag([1, 1, 4]).ravel()] * 3
    hull = hull.merge(candidates[["key", "energy"]].rename(columns={"energy": "e"}), on="key")
    return candidates.assign(hnf=hnf), hull.assign(energy=hull["e"])


def test_what_never_changes_is_the_formula_unit():
    candidates, hull = electrode()
    unit = formula_unit(candidates, hull)
    assert unit.formula == "CoO2"
    np.testing.assert_allclose(unit.atoms(np.array([[0.25, 0.25, 0.5], [0, 1 / 3, 2 / 3]])), [4, 3])
    assert axis_label(np.array([[0, 1, 2], [1, 1, 2]]), unit.elements) == "x in LiₓCoO₂"
    candidates, hull = made_up(("Mo", "Ta"), 20)
    assert formula_unit(candidates.assign(hnf=[np.eye(3).ravel()] * 22), hull) is None


def test_voltages_are_energies_per_ion_taken_out():
    candidates, hull = electrode()
    found = average_voltages(candidates, hull, {"oracle": {"references": {"Li": -1.9}}})
    assert (found.ion, found.unit, found.absolute) == ("Li", "CoO2", True)
    # From x = 0 to 1/2: -(-23 + 20 + 1.9 / 2) / (1 / 2).
    np.testing.assert_allclose([s.voltage for s in found.steps], [4.1, 3.1])
    assert [s.ions for s in found.steps] == [(0.0, 0.5), (0.5, 1.0)]
    relative = average_voltages(candidates, hull, {})
    assert not relative.absolute
    np.testing.assert_allclose([s.voltage for s in relative.steps], [0.5, -0.5])


def test_an_alloy_has_no_voltage():
    candidates, hull = made_up(("Mo", "Ta"), 20)
    assert average_voltages(candidates, hull.assign(energy=0.0), {}) is None
