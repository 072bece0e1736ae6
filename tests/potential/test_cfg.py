"""Structures in MLIP's ``.cfg`` files."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import latticesearch as ls
from latticesearch.errors import InputError
from latticesearch.potential import format_cfg, parse_cfg
from tests.shipped import read_atoms, read_text

SPECIES = ("Nb", "Mo", "Ta", "W")

TEXT = """\
BEGIN_CFG
 Size
    2
 Supercell
    3.0 0.0 0.0
    0.0 3.0 0.0
    0.0 0.0 4.0
 AtomData:  fz id fx type  direct_x direct_y direct_z fy site_en nbh_grades
    0.3 1 0.1 1  0.0 0.0 0.0  0.2 -10.0 1.5
    -3e-1 2 -0.1 0  0.5 0.5 0.25  -0.2 -11.0 0.5
 Energy
    -21.5
 PlusStress:  xx  yy  zz  xy  xz  yz
    36.0 72.0 108.0 -36.0 0.0 18.0
 Feature   EFS_by\tVASP
 Feature   conf_id 7
 Feature   note two  words
 Feature   note second line
END_CFG

BEGIN_CFG
 Size
    1
 Supercell
    3.0 0.0 0.0
 AtomData:  type cartes_x cartes_y cartes_z
    3  0.0 1.0 2.0
END_CFG
"""


def test_values_land_where_the_file_puts_them():
    first, second = parse_cfg(TEXT, SPECIES)
    assert first.get_chemical_symbols() == ["Mo", "Nb"]
    assert first.pbc.all()
    np.testing.assert_allclose(first.positions, [[0, 0, 0], [1.5, 1.5, 1.0]])
    results = first.calc.results
    assert results["energy"] == -21.5
    assert np.array_equal(results["forces"], [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
    # -stress * volume in eV; ASE's order is xx, yy, zz, yz, xz, xy.
    np.testing.assert_allclose(results["stress"], [-1.0, -2.0, -3.0, -0.5, 0.0, 1.0])
    assert list(results["energies"]) == [-10.0, -11.0]
    assert list(first.arrays["nbh_grades"]) == [1.5, 0.5]
    assert first.info == {"EFS_by": "VASP", "conf_id": "7", "note": "two words\nsecond line"}
    assert second.calc is None
    assert second.symbols[0] == "W"
    assert list(second.pbc) == [True, False, False]


def random_structures():
    rng = np.random.default_rng(3)
    for pbc in (True, (True, True, False), False):
        n = int(rng.integers(1, 5))
        symbols = rng.choice(SPECIES, n)
        atoms = Atoms(symbols, 10 ** rng.normal(size=(n, 3)), cell=rng.normal(size=(3, 3)), pbc=pbc)
        results = {"energy": rng.normal(), "forces": 1e-9 * rng.normal(size=(n, 3))}
        if pbc is True:
            results["stress"] = rng.normal(size=6)
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["name"] = f"frame {n}"
        yield atoms
    yield Atoms("W", cell=np.eye(3), pbc=True)


def test_round_trip_is_exact(tmp_path):
    structures = list(random_structures())
    ls.write_cfg(tmp_path / "set.cfg", structures, SPECIES)
    again = ls.read_cfg(tmp_path / "set.cfg", SPECIES)
    assert len(again) == len(structures)
    for old, new in zip(structures, again, strict=True):
        assert old.get_chemical_symbols() == new.get_chemical_symbols()
        assert np.array_equal(old.positions, new.positions)
        assert list(old.pbc) == list(new.pbc)
        assert np.array_equal(old.cell[old.pbc], new.cell[new.pbc])
        assert old.info == new.info
        assert (old.calc is None) == (new.calc is None)
        if old.calc is not None:
            assert set(old.calc.results) == set(new.calc.results)
            assert old.calc.results["energy"] == new.calc.results["energy"]
            assert np.array_equal(old.calc.results["forces"], new.calc.results["forces"])
        if old.calc is not None and "stress" in old.calc.results:
            # Times the volume and divided by it again.
            expected = old.calc.results["stress"]
            np.testing.assert_allclose(new.calc.results["stress"], expected, rtol=1e-15)


@pytest.mark.parametrize("name", ["train", "cand"])
def test_files_of_mlip_hold_the_cells_of_the_plain_lists(name):
    expected = list(read_atoms(f"grade/{name}.in.gz", SPECIES))
    found = parse_cfg(read_text(f"grade/{name}.cfg.gz"), SPECIES)
    assert len(found) == len(expected)
    for atoms, reference in zip(found, expected, strict=True):
        assert atoms.get_chemical_symbols() == reference.get_chemical_symbols()
        np.testing.assert_allclose(atoms.positions, reference.positions, atol=1e-6)
        np.testing.assert_allclose(atoms.cell, reference.cell, atol=1e-6)


def test_numbers_are_written_without_exponents_and_in_full():
    atoms = Atoms("W", [[1e-17, 0.1, 123456789.125]])
    row = format_cfg([atoms], SPECIES).splitlines()[4].split()
    assert row == ["1", "3", "0.00000000000000001", "0.1", "123456789.125"]


def test_what_does_not_fit_into_a_feature_is_left_out_with_a_warning(caplog):
    atoms = Atoms("W")
    atoms.info = {"good": 1.5, "bad": [1, 2]}
    text = format_cfg([atoms], SPECIES)
    assert "Feature   good\t1.5" in text
    assert "'bad' is not text or a number" in caplog.text
    assert parse_cfg(text, SPECIES)[0].info == {"good": "1.5"}


def test_no_structures_are_an_empty_file():
    assert format_cfg([], SPECIES) == ""
    assert parse_cfg("\n", SPECIES) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("BEGIN_CFG\n", "", "line 1: expected BEGIN_CFG, found 'Size'"),
        ("END_CFG\n\n", "", "line 19: expected END_CFG, found 'BEGIN_CFG'"),
        ("    2\n", "    two\n", "line 3: expected 1 numbers, found 'two'"),
        ("    2\n", "    3\n", "line 11: expected 10 numbers, found 'Energy'"),
        ("    2\n", "    1\n", "line 10: unknown entry '-3e-1'"),
        ("    2\n", "    0.5\n", "line 3: Size 0.5 is not a positive integer"),
        ("    0.0 3.0 0.0\n", "    0.0 3.0\n", "line 6: expected 3 numbers"),
        ("0.0 0.0 4.0", "0.0 0.0 inf", "line 7: .* is not finite"),
        ("direct_z", "direct_y", "line 8: a column occurs twice"),
        ("direct_z", "z", "direct_x, direct_y, direct_z belong together"),
        ("-3e-1 2", "-3e-1 3", "line 10: id 3, expected 2"),
        ("-0.1 0 ", "-0.1 4 ", r"line 10: type 4, but there are 4 species: Nb, Mo, Ta, W"),
        ("-0.1 0 ", "-0.1 0.5 ", "line 10: type 0.5"),
        ("    -21.5\n", "    nan\n", "line 12: 'nan' is not finite"),
        ("PlusStress:  xx", "PlusStress:  ab", "line 13: PlusStress needs the columns xx yy"),
        ("PlusStress:", "Stress:", "line 13: unknown entry 'Stress:'; write it as PlusStress"),
        (" Feature   EFS_by", " Colour", "line 15: unknown entry 'Colour'"),
        (" Size\n    1\n", "", "line 24: AtomData before Size"),
        ("cartes_x cartes_y cartes_z", "x y z", "either cartesian or direct positions"),
        ("type cartes_x cartes_y cartes_z", "type direct_x direct_y direct_z", "three lattice vec"),
        ("3  0.0 1.0 2.0\nEND_CFG\n", "3  0.0 1.0 2.0\n", "begins on line 21 has no END_CFG"),
        (" AtomData:  type cartes_x cartes_y cartes_z\n    3  0.0 1.0 2.0\n", "", "no AtomData"),
    ],
)
def test_broken_files_are_refused_with_the_line(tmp_path, old, new, message):
    assert old in TEXT
    path = tmp_path / "set.cfg"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as caught:
        ls.read_cfg(path, SPECIES)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_or_written_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.cfg: cannot be read \(No such file"):
        ls.read_cfg(tmp_path / "none.cfg", SPECIES)
    with pytest.raises(InputError, match="give a tuple of distinct symbols"):
        parse_cfg(TEXT, "Nb")
    with pytest.raises(InputError, match="structure 0 contains Cu, the types are Nb, Mo"):
        ls.write_cfg(tmp_path / "set.cfg", [Atoms("Cu")], SPECIES)
    with pytest.raises(InputError, match="structure 0 has a number that is not finite"):
        ls.write_cfg(tmp_path / "set.cfg", [Atoms("W", [[0, 0, np.nan]])], SPECIES)
    with pytest.raises(InputError, match="cannot be written"):
        ls.write_cfg(tmp_path / "no" / "set.cfg", [Atoms("W")], SPECIES)
    assert list(tmp_path.iterdir()) == []
