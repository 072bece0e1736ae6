"""Regions of composition that are no triangle of elements."""

from __future__ import annotations

import latticesearch as ls
from tests.campaign.runs import in_process

POSCAR = """rocksalt
4.2
0.0 0.5 0.5
0.5 0.0 0.5
0.5 0.5 0.0
Ni O
1 1
Direct
0 0 0
0.5 0.5 0.5
"""
CAMPAIGN = """
[campaign]
name = "oxides"
[lattice]
file = "parent.poscar"
sublattices = { Ni = ["Ni", "Cu"], O = ["O", "X"] }
[candidates]
max_sites = 4
[potential]
level = 6
cutoff = 5.0
[oracle]
kind = "ase"
calculator = "lj"
parameters = { sigma = 1.9, epsilon = 0.1, rc = 5.0 }
relax_cell = false
relax_ions = false
[learning]
budget = 12
"""


def test_oxides_of_two_metals_without_oxygen(tmp_path, monkeypatch):
    """Four end members: two metals and their oxides. There is no oxygen to refer to."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parent.poscar").write_text(POSCAR)
    (tmp_path / "oxides.toml").write_text(CAMPAIGN)
    done = in_process("run", "oxides.toml")
    assert done.returncode == 0, done.stderr
    run = ls.load(tmp_path / "runs" / "oxides")
    ends = run.hull[run.hull.verdict == "end member"]
    assert set(ends.formula) == {"Ni", "Cu", "NiO", "CuO"}
    assert (ends.formation_energy.abs() < 1e-9).all()
    assert (run.hull.energy_above_hull > -1e-9).all()
