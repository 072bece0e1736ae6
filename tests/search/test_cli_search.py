"""The verbs `search` and `bench search` from the command line."""

import json

import pandas as pd
import pytest

import latticesearch as ls
from tests.campaign.runs import in_process, write_config


@pytest.fixture
def given(tmp_path):
    potential = ls.MtpBasis(level=6, species=("Cu", "Pd"), cutoff=4.0).potential(seed=1)
    ls.write_mtp(tmp_path / "given.mtp", potential)
    return write_config(tmp_path), tmp_path / "given.mtp"


def test_search_lists_what_is_near_the_hull(given, tmp_path):
    config, potential = given
    words = ("search", config, "--potential", potential, "--max-sites", "6", "--window", "0.02")
    done = in_process(*words, "--json", "--output", tmp_path / "found.csv")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    parent = ls.ParentLattice.from_prototype("fcc", 3.8, ("Cu", "Pd"))
    everything = sum(int(ls.count_labelings(parent, index=n)) for n in range(1, 7))
    assert answer["evaluations"] == everything
    table = pd.read_csv(tmp_path / "found.csv")
    assert table.key.tolist() == [row["key"] for row in answer["structures"]]
    assert table.energy_above_hull.between(0, 0.02).all()
    assert (table.energy_above_hull == 0).sum() >= 2
    shown = in_process(*words)
    assert "energy evaluations" in shown.stdout
    assert "source" in shown.stdout


def test_search_in_a_supercell_with_a_budget(given):
    config, potential = given
    words = ("search", config, "--potential", potential, "--supercell", "[2,2,2]", "--json")
    done = in_process(*words, "--budget", "300", "--method", "addition")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert 0 < answer["evaluations"] <= 300
    assert {row["source"] for row in answer["structures"]} == {"greedy"}


def test_names_that_methods_had_go_on_working(given):
    config, potential = given
    words = ("search", config, "--potential", potential, "--supercell", "[1,2,2]", "--json")
    new = in_process(*words, "--method", "addition")
    old = in_process(*words, "--mode", "target")
    assert "--mode target is called --method addition now" in old.stderr
    assert old.returncode == new.returncode == 0
    assert old.stdout == new.stdout


def test_search_says_what_is_proven(given):
    config, potential = given
    words = ("search", config, "--potential", potential, "--max-sites", "5", "--certify", "4")
    done = in_process(*words, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["structures"]
    stable = [row for row in rows if row["energy_above_hull"] == 0]
    # Small cells are enumerated, so what is small is proven; what is larger is not looked at.
    assert {row["proven_gap"] for row in stable if row["n_atoms"] <= 4} == {0}
    assert {row["proven_gap"] for row in stable if row["n_atoms"] > 4} <= {None}
    proven = sum(row["proven_gap"] == 0 for row in stable)
    shown = in_process(*words).stdout
    assert f"{proven} of {len(stable)} stable structures are proven the lowest" in shown
    assert "up to 4 sites" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no potential"),
        (("--potential", "absent.mtp"), "absent.mtp"),
        (("--potential", "given.mtp", "--supercell", "two"), "no matrix"),
        (("--potential", "given.mtp", "--mode", "best"), "--mode best: it must be one of"),
        (("--potential", "given.mtp", "--method", "best"), "method is 'best'"),
    ],
)
def test_bad_input_is_one_line(given, words, message):
    config, potential = given
    done = in_process(
        "search", config, *(potential if word == "given.mtp" else word for word in words)
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_bench_answers_in_json_and_names_what_it_skips():
    done = in_process(
        "bench", "search", "--parts", "large,time", "--models", "frustrated-1", "--sites", "54",
        "--budgets", "500,600", "--seeds", "1", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["large"]["runs"]) == 4
    assert [row["budget"] for row in answer["large"]["summary"]] == [500, 600]
    # Both take less than the shortest time that is compared: one of them stands for it.
    assert [row["budget"] for row in answer["time"]["summary"]] == [600]
    assert all(row["time"] == 0.05 and row["steps"] > 600 for row in answer["time"]["runs"])
    bad = in_process("bench", "search", "--parts", "everything")
    assert bad.returncode == 2
    assert "'everything' is unknown" in bad.stderr
