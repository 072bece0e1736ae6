"""Steps of one relaxation, told from two calculations of one structure."""

import itertools

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.optimize import BFGS

from latticesearch.frames import Frame, may_be_next_step


@pytest.fixture(scope="module")
def relaxation(tmp_path_factory):
    """The steps of a relaxation of cell and atoms from a strained, rattled start."""
    path = tmp_path_factory.mktemp("steps") / "steps.traj"
    atoms = bulk("Cu", cubic=True)
    atoms.symbols[:2] = "Au"
    atoms.set_cell(atoms.cell @ (1.05 * np.eye(3) + 0.03 * np.eye(3, k=1)), scale_atoms=True)
    atoms.rattle(0.15, seed=3)
    atoms.calc = EMT()
    BFGS(FrechetCellFilter(atoms), logfile=None, trajectory=str(path)).run(fmax=0.02, steps=40)
    steps = read(path, index=":", parallel=False)
    return [
        Frame(a, a.calc.results["energy"], f"steps.traj#{n}", a.get_forces(), a.get_stress())
        for n, a in enumerate(steps)
    ]


def changed(frame, **new):
    return Frame(**{**vars(frame), **new})


def test_every_step_of_a_relaxation_can_follow_the_one_before(relaxation):
    assert len(relaxation) > 10
    for before, after in itertools.pairwise(relaxation):
        assert may_be_next_step(before, after)
        assert may_be_next_step(after, before)


def test_forces_have_to_explain_the_change_of_energy(relaxation):
    """The first steps gain ten meV/atom; 200 meV/atom more are another method."""
    before, after = relaxation[:2]
    assert not may_be_next_step(before, changed(after, energy=after.energy - 0.8))
    # Where forces are unknown nothing speaks against it.
    assert may_be_next_step(
        changed(before, forces=None), changed(after, energy=after.energy - 0.8, forces=None)
    )


def test_atoms_on_the_other_side_of_the_cell_have_not_moved(relaxation):
    before = relaxation[3]
    atoms = before.atoms.copy()
    atoms.positions[2] += atoms.cell[0]
    atoms.positions += 0.7
    assert not may_be_next_step(before, changed(before, atoms=atoms, energy=before.energy - 0.1))


@pytest.mark.parametrize("what", ["file", "atoms", "order", "cell"])
def test_other_files_other_atoms_and_molecules_are_no_steps(relaxation, what):
    before, after = relaxation[:2]
    atoms = after.atoms.copy()
    if what == "atoms":
        del atoms[0]
    elif what == "order":
        atoms = atoms[::-1]
    elif what == "cell":
        atoms.cell[:] = 0.0
    origin = "other.traj#1" if what == "file" else after.origin
    assert not may_be_next_step(before, changed(after, atoms=atoms, origin=origin))
