"""Files of ours read by motep and the reverse: the same numbers, energies, forces, stresses."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

import latticesearch as ls
from latticesearch.potential.mtp.offlattice import evaluate

pytestmark = pytest.mark.benchmark
motep_mtp = pytest.importorskip("motep.io.mlip.mtp", reason="motep is not installed")
motep_cfg = pytest.importorskip("motep.io.mlip.cfg", reason="motep is not installed")

SPECIES = ("Nb", "Mo", "Ta")
NUMBERS = [41, 42, 73]


def potential_of(level, seed=0):
    basis = ls.MtpBasis(level, SPECIES, cutoff=4.7, min_dist=1.9, radial_size=7)
    rng = np.random.default_rng([level, seed])
    return basis.potential(rng.normal(size=basis.n_parameters))


def structure(seed):
    rng = np.random.default_rng(seed)
    atoms = bulk("Nb", "bcc", a=3.2, cubic=True) * (1, 1, 1 + seed % 2)
    atoms.symbols = rng.choice(SPECIES, len(atoms))
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.rattle(0.1, rng=rng)
    return atoms


@pytest.mark.parametrize("level", range(2, 29, 2))
def test_motep_reads_every_number(tmp_path, level):
    potential = potential_of(level)
    ls.write_mtp(tmp_path / "ours.mtp", potential)
    data = motep_mtp.read_mtp(tmp_path / "ours.mtp")
    for name in ("scaling", "radial_coeffs", "species_coeffs", "moment_coeffs"):
        assert np.array_equal(getattr(data, name), getattr(potential, name)), name
    for name in ("alpha_index_basic", "alpha_index_times", "alpha_moment_mapping"):
        assert np.array_equal(getattr(data, name), getattr(potential, name)), name
    assert (data.radial_basis.min, data.radial_basis.max) == (1.9, 4.7)
    assert data.alpha_moments_count == potential.n_moments


@pytest.mark.parametrize("legacy", [True, False])
def test_files_written_by_motep_are_read(tmp_path, legacy):
    potential = potential_of(8)
    ls.write_mtp(tmp_path / "ours.mtp", potential)
    data = motep_mtp.read_mtp(tmp_path / "ours.mtp")
    motep_mtp.write_mtp(tmp_path / "theirs.mtp", data, legacy=legacy)
    again = ls.read_mtp(tmp_path / "theirs.mtp", SPECIES)
    np.testing.assert_allclose(again.parameters, potential.parameters, rtol=1e-15)
    assert np.array_equal(again.alpha_index_times, potential.alpha_index_times)


@pytest.mark.parametrize("engine", ["numba", "cext"])
@pytest.mark.parametrize("level", [2, 6, 8, 10, 12, 16, 20])
def test_motep_evaluates_potentials_of_ours_identically(tmp_path, level, engine):
    calculator = pytest.importorskip("motep.calculator").MTP
    potential = potential_of(level)
    ls.write_mtp(tmp_path / "ours.mtp", potential)
    data = motep_mtp.read_mtp(tmp_path / "ours.mtp")
    data.species = NUMBERS
    for seed in range(3):
        atoms = structure(seed)
        ours = evaluate(potential, atoms)
        atoms.calc = calculator(data, engine=engine)
        scale = np.abs(ours.site_energies).sum()
        assert abs(atoms.get_potential_energy() - ours.energy) < 1e-13 * scale
        np.testing.assert_allclose(atoms.get_forces(), ours.forces, atol=1e-12 * scale)
        np.testing.assert_allclose(atoms.get_stress(), ours.stress, atol=1e-12 * scale)


def test_structures_are_read_alike(tmp_path):
    potential = potential_of(6)
    structures = [structure(seed) for seed in range(4)]
    for atoms in structures:
        atoms.calc = potential.calculator()
        atoms.get_stress()
    ls.write_cfg(tmp_path / "ours.cfg", structures, SPECIES)
    theirs = motep_cfg.read_cfg(str(tmp_path / "ours.cfg"), index=":", species=list(SPECIES))
    for old, new in zip(structures, theirs, strict=True):
        assert np.array_equal(old.positions, new.positions)
        assert np.array_equal(old.cell.array, new.cell.array)
        assert old.get_chemical_symbols() == new.get_chemical_symbols()
        assert old.calc.results["energy"] == new.calc.results["energy"]
        assert np.array_equal(old.calc.results["forces"], new.calc.results["forces"])
        np.testing.assert_allclose(new.calc.results["stress"], old.calc.results["stress"])
    motep_cfg.write_cfg(str(tmp_path / "theirs.cfg"), theirs, species=list(SPECIES))
    for old, new in zip(structures, ls.read_cfg(tmp_path / "theirs.cfg", SPECIES), strict=True):
        np.testing.assert_allclose(new.positions, old.positions, atol=1e-6)
        np.testing.assert_allclose(
            new.calc.results["forces"], old.calc.results["forces"], atol=1e-6
        )
        assert new.calc.results["energy"] == pytest.approx(old.calc.results["energy"], abs=1e-11)
