from __future__ import annotations

import io

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk
from ase.io import read

import latticesearch as ls
from latticesearch.storage import cif_bytes


def written(atoms):
    data = cif_bytes(atoms)
    return read(io.BytesIO(data), format="cif"), data.decode()


def group(atoms):
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    return spglib.get_symmetry_dataset(cell, symprec=1e-3).international


@pytest.mark.parametrize(
    ("atoms", "symbol", "n_atoms"),
    [
        (bulk("Cu", "fcc", a=3.6), "Fm-3m", 4),
        (bulk("NaCl", "rocksalt", a=5.6), "Fm-3m", 8),
        (bulk("Mg", "hcp", a=3.2, c=5.2), "P6_3/mmc", 2),
        (bulk("CsCl", "cesiumchloride", a=4.1), "Pm-3m", 2),
        (bulk("ZnS", "zincblende", a=5.4), "F-43m", 8),
    ],
)
def test_known_crystals_keep_group_volume_and_content(atoms, symbol, n_atoms):
    again, text = written(atoms)
    assert f"_space_group_name_H-M_alt '{symbol}'" in text
    assert group(again) == group(atoms) == symbol
    assert len(again) == n_atoms
    ratio = len(again) / len(atoms)
    assert again.get_volume() == pytest.approx(ratio * atoms.get_volume(), rel=1e-6)
    assert again.symbols.formula.reduce()[0] == atoms.symbols.formula.reduce()[0]


def test_every_small_labeling_is_the_same_crystal_when_read_back():
    parent = ls.ParentLattice.from_prototype("fcc", 3.8, ("Cu", "Pd"))
    for batch in ls.enumerate_labelings(parent, max_index=6):
        for configuration in batch:
            again, _ = written(configuration.to_atoms())
            match = ls.map_to_lattice(again, parent)
            assert match is not None
            assert match.configuration.key == configuration.key


def test_a_structure_without_symmetry_keeps_its_distances():
    positions = np.random.default_rng(3).uniform(size=(5, 3))
    cell = [[4.0, 0.3, 0.1], [0.2, 5.0, 0.4], [0.1, 0.6, 6.0]]
    atoms = Atoms("Cu2PdPtAu", scaled_positions=positions, cell=cell, pbc=True)
    again, text = written(atoms)
    assert "_space_group_IT_number 1\n" in text
    assert len(again) == 5
    distances = np.sort(atoms.get_all_distances(mic=True).ravel())
    np.testing.assert_allclose(
        np.sort(again.get_all_distances(mic=True).ravel()), distances, atol=1e-6
    )
