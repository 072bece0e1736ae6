import functools
import zlib

import numpy as np
import pytest
from ase.build import bulk, make_supercell
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from latticesearch.errors import InputError
from latticesearch.oracles import relaxation
from latticesearch.oracles.emt import ELEMENTS, FastEmt, check_elements
from latticesearch.oracles.relaxation import _Coordinates, relax
from latticesearch.oracles.volume_scan import scan_volume

HNFS = [
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[1, 0, 0], [0, 1, 1], [0, 0, 2]],
    [[1, 0, 1], [0, 1, 3], [0, 0, 4]],
    [[1, 0, 2], [0, 1, 3], [0, 0, 6]],
    [[2, 0, 0], [0, 2, 0], [0, 0, 2]],
]


def alloy(hnf, seed=0, a=3.8):
    atoms = make_supercell(bulk("Cu", "fcc", a=a), hnf)
    atoms.symbols = np.random.default_rng(seed).choice(["Cu", "Pd", "Pt"], len(atoms))
    return atoms


class CountingEmt(FastEmt):
    calls = 0

    def calculate(self, *args, **kwargs):
        self.calls += 1
        super().calculate(*args, **kwargs)


@pytest.mark.parametrize("hnf", HNFS)
def test_fast_emt_equals_ase(hnf):
    atoms = alloy(hnf)
    atoms.rattle(0.1, seed=1)
    values = []
    for calculator in (FastEmt(), EMT()):
        atoms.calc = calculator
        values.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    for ours, theirs in zip(*values, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_fast_emt_follows_moves():
    atoms = alloy(HNFS[2])
    atoms.calc = FastEmt()
    atoms.get_potential_energy()
    atoms.rattle(0.3, seed=1)
    atoms.set_cell(atoms.cell * 0.9, scale_atoms=True)
    reference = atoms.copy()
    reference.calc = EMT()
    assert atoms.get_potential_energy() == pytest.approx(
        reference.get_potential_energy(), abs=1e-11
    )


def test_fast_emt_of_a_cluster_equals_ase():
    atoms = alloy(HNFS[2])
    atoms.pbc = False
    reference = atoms.copy()
    atoms.calc, reference.calc = FastEmt(), EMT()
    assert atoms.get_potential_energy() == reference.get_potential_energy()


def test_toy_elements_are_refused():
    check_elements(ELEMENTS)
    with pytest.raises(InputError, match="does not know N, W; it knows Al"):
        check_elements(["Cu", "W", "N"])
    atoms = alloy(HNFS[1])
    atoms.symbols[0] = "O"
    atoms.calc = FastEmt()
    with pytest.raises(InputError, match="does not know O"):
        atoms.get_potential_energy()


@pytest.mark.parametrize(("cell", "ions"), [(True, True), (True, False), (False, True)])
def test_gradient_is_the_derivative_of_the_energy(cell, ions):
    atoms = alloy(HNFS[2])
    atoms.rattle(0.1, seed=1)
    atoms.calc = FastEmt()
    coordinates = _Coordinates(atoms, cell=cell, ions=ions)
    z = 0.05 * np.random.default_rng(0).normal(size=coordinates.size)
    coordinates.move_to(z)
    gradient, _ = coordinates.gradient()
    step = 1e-4
    for i, slope in enumerate(gradient):
        energies = []
        for sign in (1, -1):
            moved = z.copy()
            moved[i] += sign * step
            coordinates.move_to(moved)
            energies.append(atoms.get_potential_energy())
        assert slope == pytest.approx((energies[0] - energies[1]) / (2 * step), abs=1e-7)


@functools.cache
def tight_energy(index):
    atoms = alloy(HNFS[index])
    atoms.calc = FastEmt()
    assert BFGS(FrechetCellFilter(atoms), logfile=None, alpha=30.0).run(fmax=1e-4, steps=500)
    return atoms.get_potential_energy()


@pytest.mark.parametrize("index", range(len(HNFS)))
@pytest.mark.parametrize("scale", [0.9, 1.0, 1.1])
def test_relaxed_energy_equals_a_tight_ase_relaxation(index, scale):
    atoms = alloy(HNFS[index])
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    atoms.calc = CountingEmt()
    ended = relax(atoms, fmax=0.01)
    assert ended.converged
    difference = atoms.get_potential_energy() - tight_energy(index)
    assert abs(difference) / len(atoms) < 1e-4
    assert atoms.calc.calls <= 16


def test_careful_relaxation_finds_the_same_minimum():
    energies = []
    for careful in (False, True):
        atoms = alloy(HNFS[2])
        atoms.calc = FastEmt()
        assert relax(atoms, fmax=0.005, max_steps=1000, careful=careful).converged
        energies.append(atoms.get_potential_energy() / len(atoms))
    assert energies[0] == pytest.approx(energies[1], abs=5e-5)


@pytest.mark.parametrize("careful", [False, True])
def test_only_what_may_move_moves(careful):
    atoms = alloy(HNFS[2])
    atoms.calc = FastEmt()
    before = atoms.copy()
    assert relax(atoms, cell=False, careful=careful, max_steps=1000).converged
    np.testing.assert_array_equal(atoms.cell, before.cell)
    assert np.abs(atoms.positions - before.positions).max() > 1e-3

    atoms = before.copy()
    atoms.calc = FastEmt()
    assert relax(atoms, ions=False, careful=careful, max_steps=1000).converged
    np.testing.assert_allclose(
        atoms.get_scaled_positions(wrap=False), before.get_scaled_positions(wrap=False), atol=1e-12
    )
    assert abs(atoms.get_volume() - before.get_volume()) > 0.1

    atoms = before.copy()
    atoms.calc = CountingEmt()
    assert relax(atoms, cell=False, ions=False, careful=careful).converged
    assert atoms == before


def test_too_few_steps_are_reported():
    atoms = alloy(HNFS[3])
    atoms.calc = FastEmt()
    ended = relax(atoms, fmax=1e-4, max_steps=2)
    assert not ended.converged
    assert ended.steps == 2
    assert ended.residual > 1e-4


@pytest.mark.parametrize("stiffness", [0.01, 1.0, 20.0])
def test_soft_and_hard_crystals_converge(stiffness):
    # The first guess of the elastic constants is that of a metal: others must only cost steps.
    atoms = bulk("Ar", "fcc", a=1.6, cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = LennardJones(sigma=1.0, epsilon=stiffness, rc=3.0, smooth=True)
    ended = relax(atoms, fmax=0.001 * min(stiffness, 1.0), max_steps=300)
    assert ended.converged


class Pulay(CountingEmt):
    """The stress is that of another function than the energy, as where the basis changes.

    The energy has a term linear in the volume, of which the stress knows nothing.
    """

    pull = 0.0

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results["energy"] = self.results["energy"] + self.pull * self.atoms.get_volume()


@pytest.mark.parametrize("careful", [False, True])
def test_energy_and_stress_that_contradict_each_other_are_told(careful):
    atoms = bulk("Cu", "fcc", a=3.45)
    atoms.calc = Pulay()
    # Where the stress sees no more than a slight compression the energy already rises.
    atoms.calc.pull = 0.1
    ended = relax(atoms, careful=careful, symmetry=True, costly=not careful, max_steps=300)
    assert not ended.converged
    assert "contradict each other" in ended.reason
    assert "raise the cutoff" in ended.reason
    if not careful:
        assert atoms.calc.calls < 30


class Noisy(CountingEmt):
    """Energies, forces and stress have noise that depends on the structure alone."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        seed = zlib.crc32(self.atoms.positions.tobytes() + np.asarray(self.atoms.cell).tobytes())
        noise = np.random.default_rng(seed)
        n_atoms = len(self.atoms)
        self.results["energy"] += 3e-4 * n_atoms * noise.normal()
        self.results["forces"] = self.results["forces"] + 0.02 * noise.normal(size=(n_atoms, 3))
        self.results["stress"] = self.results["stress"] + 2e-3 * noise.normal(size=6)


def test_a_relaxation_ends_where_noise_leaves_nothing_to_gain():
    atoms = alloy(HNFS[1])
    atoms.calc = Noisy()
    ended = relax(atoms, symmetry=True, fmax=1e-4, max_steps=60, costly=True)
    assert (ended.converged, ended.reason) == (True, "noise")
    assert atoms.calc.calls < 30
    atoms.calc = FastEmt()
    assert atoms.get_potential_energy() - tight_energy(1) < 2e-3 * len(atoms)


@pytest.mark.parametrize("careful", [False, True])
def test_noise_does_not_break_the_symmetry_of_the_start(careful):
    atoms = make_supercell(bulk("Cu", "fcc", a=3.7), np.diag([1, 1, 2]))
    atoms.symbols = ["Cu", "Pd"]
    group = spacegroup(atoms)
    atoms.calc = Noisy()
    relax(atoms, symmetry=True, max_steps=10, careful=careful)
    assert spacegroup(atoms) == group
    assert not atoms.constraints


def spacegroup(atoms):
    import spglib

    cell = (np.asarray(atoms.cell), atoms.get_scaled_positions(), atoms.numbers)
    return spglib.get_spacegroup(cell, symprec=1e-6)


def test_moments_are_part_of_the_symmetry():
    atoms = bulk("Fe", "bcc", a=2.8, cubic=True)
    atoms.symbols = ["Cu", "Cu"]
    atoms.set_initial_magnetic_moments([1.0, -1.0])
    # Up and down alike the cell is body-centred; told apart it may be stretched along c, too.
    assert len(relaxation._symmetry_of(atoms).rotations) == 48
    atoms.set_initial_magnetic_moments([1.0, 1.0])
    assert len(relaxation._symmetry_of(atoms).rotations) == 96


@pytest.mark.parametrize("start", [3.3, 3.6, 3.9])
def test_a_scan_finds_the_volume_without_a_stress(start):
    atoms = bulk("Cu", "fcc", a=start)
    atoms.calc = CountingEmt()
    ended = scan_volume(atoms)
    assert ended.converged
    assert atoms.calc.calls <= 14
    lowest = bulk("Cu", "fcc", a=3.6)
    lowest.calc = FastEmt()
    assert relax(lowest, fmax=1e-4).converged
    gap = atoms.get_potential_energy() - lowest.get_potential_energy()
    assert 0.0 <= gap < 2e-4
    assert "start_cell" not in atoms.info


def test_a_scan_that_may_not_go_on_says_so():
    atoms = bulk("Cu", "fcc", a=3.0)
    atoms.calc = FastEmt()
    assert not scan_volume(atoms, max_steps=4).converged
