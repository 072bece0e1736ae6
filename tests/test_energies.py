"""Energies per cell, per site and per atom: vacancies are sites, but no atoms."""

from __future__ import annotations

import numpy as np
import pytest

from latticesearch.energies import (
    atom_to_site,
    cell_to_atom,
    cell_to_site,
    site_to_atom,
    site_to_cell,
)
from latticesearch.lattice import Labelings, ParentLattice, Supercell

PARENT = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "X"))
CELL = Supercell.from_matrix(PARENT, [1, 1, 4])


def test_a_batch_counts_its_atoms():
    batch = Labelings(CELL, np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]], dtype=np.int8))
    per_site = np.array([-3.0, -2.0, -1.0])
    per_atom = site_to_atom(per_site, batch)
    np.testing.assert_allclose(per_atom, [-3.0, -4.0, -4.0])
    np.testing.assert_allclose(atom_to_site(per_atom, batch), per_site)
    for one, site, atom in zip(batch, per_site, per_atom, strict=True):
        assert site_to_atom(site, one) == pytest.approx(atom)
        assert cell_to_atom(site_to_cell(site, CELL.n_sites), one.n_atoms) == pytest.approx(atom)
        assert cell_to_site(site_to_cell(site, CELL.n_sites), CELL.n_sites) == pytest.approx(site)


def test_a_cell_without_atoms_counts_as_one_of_a_single_atom():
    empty = Labelings(CELL, np.ones((1, 4), dtype=np.int8))
    np.testing.assert_allclose(site_to_atom(np.array([-2.0]), empty), [-8.0])
    assert cell_to_atom(-8.0, 0) == -8.0
