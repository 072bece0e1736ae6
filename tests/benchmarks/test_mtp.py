"""Moment tensor potentials on and off the lattice against motep's C engine, in the same run.

CPU time of one core after warm-up, the shortest of several repeats; 58 neighbours per site.
Nothing is asserted about absolute times.
    pip install '.[bench]' && pytest -m benchmark -s tests/benchmarks/test_mtp.py
"""

from __future__ import annotations

import time

import numpy as np
import pytest

import latticesearch as ls
from latticesearch.potential.mtp.offlattice import OffLatticeStructure, evaluate
from tests.reference import walk

pytestmark = pytest.mark.benchmark

SPECIES = ("Nb", "Mo", "Ta", "W")
LEVELS = (8, 10, 12, 16, 20)


def seconds_per_call(function, repeats=5):
    """Return the shortest of several CPU times of `function`, which is warmed up first."""
    function()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        times.append(time.process_time() - began)
    return min(times)


def random_potential(level):
    return ls.MtpBasis(level=level, species=SPECIES, cutoff=6.0, min_dist=2.0).potential(seed=1)


def supercell(matrix):
    parent = ls.ParentLattice.from_prototype("bcc", 3.25, SPECIES)
    return ls.Supercell.from_matrix(parent, matrix)


def peer_calculator(potential, folder):
    """Return an ASE calculator of motep for the same potential."""
    calculators = pytest.importorskip("motep.calculator")
    files = pytest.importorskip("motep.io.mlip.mtp")
    ls.write_mtp(folder / "potential.mtp", potential)
    data = files.read_mtp(folder / "potential.mtp")
    data.species = [0, 1, 2, 3]
    return calculators.MTP(data, engine="cext")


def for_peer(atoms, calculator):
    """Return `atoms` as motep wants them: the index of the species as the atomic number."""
    typed = atoms.copy()
    typed.numbers = [SPECIES.index(symbol) for symbol in atoms.symbols]
    typed.calc = calculator
    return typed


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("matrix", [(1, 1, 2), (2, 2, 4)], ids=["2 sites", "16 sites"])
def test_batch_energies(level, matrix, tmp_path, capsys):
    potential, cell = random_potential(level), supercell(matrix)
    n = 32_000 // cell.n_sites
    labels = np.random.default_rng(0).integers(0, 4, (n, cell.n_sites)).astype(np.int8)
    batch = ls.Labelings(cell, labels)
    ours = seconds_per_call(lambda: potential.energies(batch)) / labels.size
    calculator = peer_calculator(potential, tmp_path)
    structures = [for_peer(c.to_atoms(), calculator) for c in list(batch)[:10]]

    def theirs():
        found = []
        for atoms in structures:
            calculator.results.clear()
            found.append(atoms.get_potential_energy() / len(atoms))
        return found

    np.testing.assert_allclose(theirs(), potential.energies(batch)[:10], rtol=1e-10)
    peer = seconds_per_call(theirs, repeats=3) / (10 * cell.n_sites)
    with capsys.disabled():
        print(
            f"\nlevel {level}, {cell.n_sites} sites: {1e6 * ours:.3f} us/site, "
            f"motep {1e6 * peer:.0f}: {peer / ours:.0f}x"
        )


@pytest.mark.parametrize("level", LEVELS)
def test_flips_in_1024_sites(level, capsys):
    cell = supercell((8, 8, 16))
    evaluator = random_potential(level).evaluator(cell)
    rng = np.random.default_rng(0)
    state = evaluator.walk_state(rng.integers(0, 4, cell.n_sites).astype(np.int8))
    # Whole sweeps over the cell, each site to its next species: every flip is a change.
    sites = np.concatenate([rng.permutation(cell.n_sites) for _ in range(4)])
    steps = np.repeat(np.arange(1, 5), cell.n_sites)

    def flips():
        species = ((state.labels[sites] + steps) % 4).astype(np.int8)
        walk.flip_all(evaluator.walk_tables, state, sites, species)

    seconds = seconds_per_call(flips)
    fresh = evaluator.energies(state.labels[None])[0] * cell.n_sites
    assert state.energy[0] == pytest.approx(fresh, rel=1e-11)
    with capsys.disabled():
        print(f"\nlevel {level}: {len(sites) / seconds:.0f} accepted flips per second")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("matrix", [(2, 4, 4), (4, 8, 8)], ids=["32 atoms", "256 atoms"])
def test_energy_forces_and_stress(level, matrix, tmp_path, capsys):
    """As in a relaxation, where the atoms have moved a little at each call."""
    potential, cell = random_potential(level), supercell(matrix)
    calculator = peer_calculator(potential, tmp_path)
    rng = np.random.default_rng(0)
    atoms = cell.to_atoms(rng.integers(0, 4, cell.n_sites))
    atoms.rattle(0.02, seed=1)
    typed = for_peer(atoms, calculator)

    def ours():
        atoms.positions[0, 0] += 1e-4
        return evaluate(potential, atoms).forces

    def theirs():
        typed.positions[0, 0] += 1e-4
        return typed.get_forces()

    np.testing.assert_allclose(theirs(), ours(), atol=1e-9)
    seconds = seconds_per_call(ours) / len(atoms)
    structure = OffLatticeStructure.from_atoms(atoms, potential)
    ready = seconds_per_call(lambda: evaluate(potential, structure)) / len(atoms)
    peer = seconds_per_call(theirs, repeats=3) / len(atoms)
    with capsys.disabled():
        print(
            f"\nlevel {level}, {len(atoms)} atoms, finding the neighbours included: "
            f"{1e6 * seconds:.1f} us/atom ({1e6 * ready:.1f} without), "
            f"motep with its lists kept {1e6 * peer:.0f}: {peer / seconds:.1f}x"
        )
