"""Moment tensor potentials as oracles, off the lattice."""

import numpy as np
import pytest
from ase.build import bulk

import latticesearch as ls
from latticesearch.errors import InputError
from latticesearch.oracles.calculation import source_of
from latticesearch.oracles.presets import PRESETS, Wanted
from latticesearch.potential.mtp import MtpBasis
from latticesearch.potential.mtp.offlattice.calculator import MtpCalculator

TYPES = {"species": ["Mo", "Ta"]}


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    potential = MtpBasis(level=4, species=("Mo", "Ta"), cutoff=4.0, min_dist=2.0).potential(seed=1)
    path = tmp_path_factory.mktemp("mtp") / "potential.mtp"
    ls.write_mtp(path, potential)
    return path, potential


def test_energies_are_those_of_the_potential(potential):
    path, model = potential
    atoms = bulk("Mo", "bcc", a=3.2, cubic=True)
    atoms.symbols = ["Mo", "Ta"]
    told = Wanted(file=str(path), parameters=TYPES)
    job = {
        "calculator": "mtp",
        "preset": told.to_dict(),
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.tolist(),
        "pbc": [True] * 3,
        "record": {"attempt": 1},
        "relax_cell": False,
        "relax_ions": False,
        "fmax": 0.1,
        "max_steps": 5,
        "careful": False,
    }
    reply = source_of(job).compute(job)
    atoms.calc = MtpCalculator(model)
    assert reply["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    np.testing.assert_allclose(reply["forces"], atoms.get_forces(), atol=1e-12)
    assert len(reply["provenance"]["datasets"]["all"]["sha256"]) == 64


def test_other_species_are_refused(potential):
    with pytest.raises(InputError, match="no type for W"):
        PRESETS["mtp"].check(Wanted(file=str(potential[0]), parameters=TYPES), ["Mo", "W"])
    with pytest.raises(InputError, match=r"oracle\.parameters = { species"):
        PRESETS["mtp"].check(Wanted(file=str(potential[0])), ["Mo", "Ta"])
    with pytest.raises(InputError, match=r"needs oracle\.file"):
        PRESETS["mtp"].check(Wanted(), ["Mo"])
