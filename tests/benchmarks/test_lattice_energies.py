"""Energies of small bcc cells: our on-lattice tables against motep's C-speed Numba engine.

Ratios in one run, after warm-up; nothing is asserted about absolute times.
    pip install '.[bench]' && pytest -m benchmark -s
"""

from __future__ import annotations

import time

import numpy as np
import pytest

import latticesearch as ls

pytestmark = pytest.mark.benchmark

SPECIES = ("Nb", "Mo", "Ta", "W")


def seconds_per_call(function, repeats=5):
    """Return the shortest of several timings of `function`, which is warmed up first."""
    function()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


@pytest.mark.parametrize("level", [8, 12, 16])
def test_batch_energies_against_motep(level, tmp_path, capsys):
    calculators = pytest.importorskip("motep.calculator")
    mlippot = pytest.importorskip("motep.io.mlip.mtp")
    basis = ls.MtpBasis(level=level, species=SPECIES, cutoff=6.0, min_dist=2.0)
    potential = basis.potential(seed=1)
    ls.write_mtp(tmp_path / "potential.mtp", potential)
    parent = ls.ParentLattice.from_prototype("bcc", 3.25, SPECIES)
    cell = ls.Supercell.from_matrix(parent, [2, 2, 2])
    labels = np.random.default_rng(0).integers(0, 4, (2000, cell.n_sites)).astype(np.int8)
    batch = ls.Labelings(cell, labels)
    ours = seconds_per_call(lambda: potential.energies(batch)) / labels.size

    data = mlippot.read_mtp(tmp_path / "potential.mtp")
    data.species = [0, 1, 2, 3]
    calculator = calculators.MTP(data, engine="numba")
    structures = [c.to_atoms() for c in list(batch)[:20]]
    numbers = {s: i for i, s in enumerate(SPECIES)}

    def theirs():
        found = []
        for atoms in structures:
            typed = atoms.copy()
            typed.numbers = [numbers[s] for s in atoms.symbols]
            typed.calc = calculator
            found.append(typed.get_potential_energy() / len(typed))
        return found

    np.testing.assert_allclose(theirs(), potential.energies(batch)[:20], rtol=1e-10)
    peer = seconds_per_call(theirs, repeats=3) / (20 * cell.n_sites)
    with capsys.disabled():
        print(
            f"\nlevel {level}: {1e6 * ours:.2f} us/site, motep {1e6 * peer:.1f}: {peer / ours:.0f}x"
        )
