"""Campaigns on recorded energies: few calculations, and an end that says what is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from latticesearch.cli import main
from latticesearch.learning.ending import Evidence, end_of
from latticesearch.learning.replay import (
    Limits,
    RandomOrder,
    Record,
    calibration_error,
    reliability,
    replay,
    replay_method,
    ridge_order,
)
from latticesearch.learning.sampled_hulls import Outlook
from tests.learning.alloys import cluster_energies, fcc, lawless_energies


@pytest.fixture(scope="module")
def world():
    parent, batches = fcc(5)
    return parent, batches, cluster_energies(parent, batches, seed=1)


def outlook(distances):
    nothing = np.zeros(0)
    return Outlook(nothing.astype(int), nothing, nothing.astype(int), nothing, np.array(distances))


def test_a_cluster_hamiltonian_needs_few_calculations_and_ends_right(world):
    parent, _, energies = world
    record = Record.of(parent, energies)
    run = replay(record, Limits())
    assert run.end == "converged"
    assert run.error <= 0.001
    assert run.to_hull is not None
    assert run.stop < 0.5 * len(energies)
    chance = replay_method(record, RandomOrder(0), Limits(budget=len(energies)))
    assert run.to_hull < chance.to_hull


def test_batches_cost_a_few_calculations_more_at_most(world):
    parent, _, energies = world
    record = Record.of(parent, energies)
    one, four = (replay(record, Limits(batch=b)) for b in (1, 4))
    assert four.end == "converged"
    assert four.to_hull <= one.to_hull + 8


@pytest.mark.parametrize("spread", [0.02, 0.15])
def test_energies_that_nothing_describes_never_end_as_converged(world, spread):
    parent, batches, _ = world
    record = Record.of(parent, lawless_energies(batches, 1, spread))
    assert replay(record, Limits(batch=10, budget=30)).end in ("model", "budget")
    assert replay(record, Limits(batch=40, budget=200)).end == "complete"


def test_the_ridge_finds_the_hull_as_well(world):
    parent, _, energies = world
    assert replay_method(Record.of(parent, energies), ridge_order, Limits()).to_hull is not None


@pytest.mark.parametrize(
    ("distances", "evidence", "n_open", "left", "kind"),
    [
        ([0.0] * 20, Evidence(0.001, 0.05, 20), 5, 9, "converged"),
        ([0.0] * 20, Evidence(0.001, 0.05, 3), 5, 9, None),
        ([0.0] * 20, Evidence(0.05, 0.05, 20), 5, 9, None),
        ([0.0] * 20, Evidence(0.05, 0.05, 20), 5, 0, "model"),
        ([0.0, 0.01], Evidence(0.001, 0.05, 20), 5, 9, None),
        ([0.0, 0.01], Evidence(0.001, 0.05, 20), 5, 0, "budget"),
        ([0.0, 0.01], Evidence(0.05, 0.05, 20), 0, 0, "complete"),
    ],
)
def test_ends(distances, evidence, n_open, left, kind):
    end = end_of(outlook(distances), evidence, n_open, left, 0.001)
    assert (end and end.kind) == kind
    if end:
        assert end.message
        assert end.exit_code == (kind == "model")


def test_starts_leave_out_a_tenth_but_no_vertex(world):
    parent, _, energies = world
    record = Record.of(parent, energies)
    start = record.start(0)
    assert len(start.keys) == len(record.keys) - int(
        0.1 * (len(record.keys) - len({*record.hull.vertices, *record.ends}))
    )
    assert {record.keys[v] for v in record.hull.vertices} <= set(start.keys)
    assert start.keys != record.start(1).keys


def test_reliability_of_kept_and_broken_promises():
    kept = np.column_stack([np.full(10, 0.25), [1, 0, 0, 0, 1, 0, 0, 0, 0, 0.5]])
    assert calibration_error(kept) == pytest.approx(0.0)
    broken = np.array([[0.95, 0.0], [0.05, 1.0]])
    assert [row["observed"] for row in reliability(broken)] == [1.0, 0.0]
    assert calibration_error(broken) == pytest.approx(0.95)


@pytest.fixture(scope="module")
def frames(world, tmp_path_factory):
    """Frames of all structures up to five sites, the pure elements tagged otherwise."""
    _, batches, energies = world
    path = tmp_path_factory.mktemp("frames") / "frames.extxyz"
    found = []
    for batch in batches:
        for configuration in batch:
            atoms = configuration.to_atoms()
            energy = energies[configuration.canonical().key] * len(atoms)
            atoms.calc = SinglePointCalculator(atoms, energy=energy)
            atoms.info["tag"] = "pure" if len(configuration.symbols) == 1 else "relax"
            found.append(atoms)
    write(path, found)
    return path


def test_the_command_line_measures_a_file(frames, capsys):
    arguments = ["bench", "learning", "--data", str(frames), "--system", "Cu-Au", "--seeds", "1"]
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["right_at_stop"] == 1.0
    assert answer["calls_to_hull_median"] <= answer["calls_to_hull_max"]
    assert answer["stop_median"] <= answer["stop_max"] <= answer["candidates"]
    assert answer["random_median"] > answer["calls_to_hull_median"]
    assert answer["ends"] == {"converged": 1}
    assert 0.0 <= answer["stable"]["calibration_error"] <= 1.0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--select", "tag"], "write NAME=VALUE"),
        (["--reference", "Cu=much"], "an energy in eV/atom is needed"),
        (["--system", "Cu"], "give two elements or more"),
        (["--system", "Cu-Ni"], "with Cu, Ni"),
    ],
)
def test_bad_input_is_one_clear_line(frames, capsys, more, message):
    arguments = ["bench", "learning", "--data", str(frames), "--system", "Cu-Au", *more]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
