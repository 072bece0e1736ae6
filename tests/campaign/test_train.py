"""The verb `train`: data from a run, a table or files; what it writes and what it refuses."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from latticesearch import ParentLattice, map_to_lattice, read_mtp
from latticesearch.cli import main
from tests.campaign.runs import in_process, latticesearch, write_config


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """EMT energies of unrelaxed fcc Cu-Pd, and a structure that is on no lattice."""
    frames = []
    rng = np.random.default_rng(4)
    for n in range(24):
        atoms = bulk("Cu", "fcc", a=3.8) * (1, 1 + n % 2, 2 + n % 3)
        atoms.symbols[:] = "Pd" if n == 1 else "Cu"
        if n > 1:
            atoms.symbols = rng.choice(["Cu", "Pd"], len(atoms))
        frames.append(with_energy(atoms))
    broken = frames[5].copy()
    broken.positions[0] += 1.4
    frames.append(with_energy(broken))
    path = tmp_path_factory.mktemp("table") / "frames.extxyz"
    write(path, frames)
    return path, frames


def with_energy(atoms):
    calculator = EMT()
    energy = calculator.get_potential_energy(atoms)
    atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return atoms


def test_train_on_structure_files(table, tmp_path, capsys):
    path, frames = table
    config, output = write_config(tmp_path), tmp_path / "new.mtp"
    words = ["train", str(config), "--data", str(path), "--output", str(output), "--json"]
    assert main([*words, "--folds", "3", "--level", "8"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["level"] == 8
    assert report["n_skipped"] == 1
    assert report["cross_validated_rmse"] > report["energy_rmse"] > 0.0
    assert report["potential"] == str(output)
    potential = read_mtp(output, species=("Cu", "Pd"))
    assert len(potential.moment_coeffs) == 9
    parent = ParentLattice.from_prototype("fcc", a=3.8, species=("Cu", "Pd"))
    errors = {}  # the same crystal occurs several times, but counts once
    for atoms in frames[:-1]:
        configuration = map_to_lattice(atoms, parent).configuration
        evaluator = potential.evaluator(configuration.supercell)
        energy = evaluator.energies(configuration.labels[None])[0]
        error = energy - atoms.calc.results["energy"] / len(atoms)
        errors[configuration.key] = error
    rmse = 1e3 * np.sqrt(np.mean(np.square(list(errors.values()))))
    assert rmse == pytest.approx(report["energy_rmse"], rel=1e-6)
    assert len(errors) == report["n_data"]
    warm = [*words, "--folds", "0", "--level", "8", "--initial", str(output)]
    assert main(warm) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["n_starts"] == 1
    assert again["cross_validated_rmse"] is None


@pytest.mark.mpi
def test_train_on_a_run_with_any_number_of_ranks(tmp_path):
    few = {"budget": 12, "per_round": 9, "max_rounds": 1}
    config = write_config(tmp_path, candidates={"max_sites": 4}, learning=few)
    run = tmp_path / "run"
    done = in_process("run", config, "--output", run)
    assert done.returncode == 0, done.stderr
    texts, own = [], (run / "potential.mtp").read_bytes()
    words = ("train", run, "--folds", "2")
    for train in (in_process, partial(latticesearch, ranks=2)):
        trained = train(*words)
        assert trained.returncode == 0, trained.stderr
        assert "meV above the hull" in trained.stdout
        assert f"wrote {run / 'trained.mtp'}" in trained.stdout
        texts.append((run / "trained.mtp").read_bytes())
    assert texts[0] == texts[1]
    assert (run / "potential.mtp").read_bytes() == own
    done = in_process("train", run, "--folds", "0", "--level", "4", "--replace")
    assert done.returncode == 0, done.stderr
    assert (run / "potential.mtp").read_bytes() != own
    assert in_process("predict", run, *sorted(run.glob("stable/*.cif"))).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "has computed nothing: give its run directory, or structure files with --data"),
        (["--data", "nothing.extxyz"], "nothing.extxyz"),
        (["--data", "TABLE", "--folds", "1"], "1 folds: cross-validation needs 2 or more"),
        (["--data", "TABLE", "--level", "7"], "level 7: must be an even number"),
        (["--data", "TABLE", "--near-hull", "-1"], "the width must be positive"),
        (["--data", "TABLE", "--output", "."], "is a folder"),
        (["--data", "TABLE", "--initial", "none.mtp"], "none.mtp"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(table, tmp_path, words, message, capsys):
    config = write_config(tmp_path)
    given = [str(table[0]) if word == "TABLE" else word for word in words]
    output = [] if "--output" in words else ["--output", str(tmp_path / "new.mtp")]
    assert main(["train", str(config), *given, *output]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert error.startswith("latticesearch: ")
    assert not list(tmp_path.glob("*.mtp"))
