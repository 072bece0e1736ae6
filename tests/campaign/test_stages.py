"""Energies outlive settings: what may change between two calls of a run, and what must not."""

from __future__ import annotations

import json
import shutil
import tomllib

import numpy as np
import pandas as pd
import pytest
from ase.io import write

import latticesearch as ls
from latticesearch.campaign import factories
from latticesearch.campaign.method import method_of
from latticesearch.campaign.reuse import reused_results
from latticesearch.campaign.settings import parse_settings
from latticesearch.errors import InputError
from latticesearch.oracles import OracleResult
from latticesearch.storage import RunDirectory
from tests.campaign.counted import counts
from tests.campaign.runs import in_process, write_config

ORACLE = {
    "kind": "ase",
    "calculator": "tests.campaign.counted:factory",
    "relax_cell": False,
    "relax_ions": False,
}
LEARNING = {"budget": 12, "per_round": 3}


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """The file in which the calculator counts."""
    monkeypatch.setenv("COUNTED", str(tmp_path / "counted"))
    monkeypatch.delenv("BROKEN", raising=False)
    return tmp_path / "counted"


def config_of(folder, **changes):
    plain = {"oracle": ORACLE, "learning": LEARNING, "candidates": {"max_sites": 4}}
    for section, values in changes.items():
        plain[section] = {**plain.get(section, {}), **values}
    return write_config(folder, **plain)


def run(*words):
    done = in_process("run", *words)
    assert done.returncode == 0, done.stderr
    return done


def status(path):
    return json.loads(in_process("status", path, "--json").stdout)


def keys(path):
    return sorted(row.key for row in RunDirectory.read(path).store.results())


def test_six_changes_of_settings_and_no_energy_is_computed_twice(tmp_path, counted):
    path = tmp_path / "run"
    run(config_of(tmp_path), "--output", path)
    for change in (
        "potential.level=4",
        "candidates.max_sites=5",
        "learning.tolerance=0.01",
        "learning.per_round=2",
        "oracle.attempts=4",
        "learning.budget=30",
    ):
        done = run(path, "--set", change)
        assert f"changed: {change.partition('=')[0]}" in done.stderr
        assert "energies are known from the start" in done.stderr
    begun, finished = counts(counted)
    assert set(begun.values()) == set(finished.values()) == {1}
    assert len(begun) == len(keys(path)) == status(path)["oracle_calls"] <= 30
    settings = tomllib.loads((path / "settings.toml").read_text())
    assert settings["potential"]["level"] == 4
    assert settings["stage"]["number"] == 7
    table = pd.read_parquet(path / "candidates.parquet")
    assert table.oracle_energy.notna().sum() == len(begun)
    before = (path / "hull.csv").read_text()
    run(path)
    assert (path / "hull.csv").read_text() == before
    assert tomllib.loads((path / "settings.toml").read_text())["stage"]["number"] == 7


def test_a_run_goes_on_by_its_own_directory_wherever_that_lies(tmp_path, counted):
    parent = ls.ParentLattice.from_prototype("fcc", 3.8, ("Cu", "Pd"))
    batch = next(ls.enumerate_labelings(parent, max_index=1))
    write(tmp_path / "parent.cif", batch[0].to_atoms(), parallel=False)
    lattice = {"prototype": None, "a": None, "file": "parent.cif"}
    config = config_of(tmp_path, lattice=lattice, learning={"budget": 8})
    run(config, "--output", tmp_path / "old")
    (tmp_path / "parent.cif").rename(tmp_path / "gone.cif")
    (tmp_path / "old").rename(tmp_path / "new")
    before = keys(tmp_path / "new")
    run(tmp_path / "new", "--set", "learning.budget=10")
    assert set(before) < set(keys(tmp_path / "new"))
    for name in ("new", "new/settings.toml"):
        run(tmp_path / name)
    assert status(tmp_path / "new")["oracle_calls"] == 10
    assert set(counts(counted)[0].values()) == {1}


def test_unchanged_settings_begin_no_stage_and_ask_for_nothing(tmp_path, counted):
    config = config_of(tmp_path)
    run(config, "--output", tmp_path / "run")
    before = counts(counted)
    neutral = ("oracle.workers=2", "oracle.timeout=99", "oracle.grace=1", "campaign.name=other")
    run(config, "--output", tmp_path / "run", *[w for n in neutral for w in ("--set", n)])
    assert counts(counted) == before
    assert RunDirectory.read(tmp_path / "run").read_settings()["stage"]["number"] == 1


def test_every_row_tells_its_method(tmp_path, counted):
    run(config_of(tmp_path, learning={"budget": 4}), "--output", tmp_path / "run")
    rows = RunDirectory.read(tmp_path / "run").store.results()
    assert len({row.method.fingerprint for row in rows}) == 1
    record = rows[0].method.record
    assert record["calculator"] == {"kind": ORACLE["calculator"], "parameters": {}}
    assert record["relaxation"] == {"of": []}
    assert record["lattice"]["allowed"] == [["Cu", "Pd"]]


@pytest.mark.parametrize(
    "change", ["lattice.a=3.9", "oracle.relax_ions=true", "oracle.parameters={x=1}"]
)
def test_energies_of_two_methods_do_not_mix(tmp_path, counted, change):
    config = config_of(tmp_path, learning={"budget": 3})
    run(config, "--output", tmp_path / "run")
    done = in_process("run", config, "--output", tmp_path / "run", "--set", change)
    assert done.returncode == 2
    assert "another method" in done.stderr
    assert done.stderr.count("\n") == 1
    new = ("--output", tmp_path / "new", "--reuse", tmp_path / "run", "--set", change)
    assert in_process("run", config, *new).returncode == 2
    assert not (tmp_path / "new").exists()


def test_a_run_of_version_0_1_goes_on(tmp_path, counted):
    """Its rows tell no method and its settings no stage; its paths are absolute."""
    config = config_of(tmp_path, learning={"budget": 8})
    run(config, "--output", tmp_path / "new")
    new = RunDirectory.read(tmp_path / "new")
    with RunDirectory.create(tmp_path / "old") as old:
        for row in new.store.results():
            old.store.append(row.result, row.round_number)
        record = new.read_settings()
        for name in ("stage", "data", "competing"):
            record.pop(name)
        record["environment"]["latticesearch"] = "0.1.0"
        old.write_settings(record)
    done = run(config, "--output", tmp_path / "old", "--set", "learning.budget=10")
    assert "8 energies are known from the start" in done.stderr
    assert len(keys(tmp_path / "old")) == 10
    assert set(counts(counted)[0].values()) == {1}
    other = in_process("run", config, "--output", tmp_path / "old", "--set", "lattice.a=3.9")
    assert other.returncode == 2


def test_a_ternary_knows_what_its_binaries_cost(tmp_path, counted):
    for name, species in (("a", ["Cu", "Pd"]), ("b", ["Pd", "Ag"])):
        config = config_of(tmp_path, lattice={"species": species}, candidates={"max_sites": 3})
        run(config, "--output", tmp_path / name)
    paid = {n: keys(tmp_path / n) for n in "ab"}
    before = sum(counts(counted)[0].values())
    config = config_of(tmp_path, lattice={"species": ["Ag", "Cu", "Pd"]}, learning={"budget": 4})
    reuse = [w for n in "ab" for w in ("--reuse", tmp_path / n)]
    run(config, "--output", tmp_path / "abc", *reuse)
    table = pd.read_parquet(tmp_path / "abc" / "candidates.parquet")
    reused = table[table.energy_source == "reused"]
    assert len(reused) == len(paid["a"]) + len(paid["b"]) - 1  # palladium is in both
    assert (reused.source == "reused").all()
    begun, _ = counts(counted)
    assert sum(begun.values()) == before + 4
    assert (begun_more := [n for n in begun.values() if n > 1]) == [2], begun_more  # palladium
    for name in "ab":
        shutil.rmtree(tmp_path / name)
    done = run(tmp_path / "abc", "--set", "learning.budget=5")
    assert "is gone" in done.stderr
    # And back: a binary takes from the ternary what it can hold.
    config = config_of(tmp_path, learning={"budget": 2})
    done = run(config, "--output", tmp_path / "back", "--reuse", tmp_path / "abc")
    assert "holds Ag" in done.stderr
    table = pd.read_parquet(tmp_path / "back" / "candidates.parquet")
    assert set(paid["a"]) <= set(table.key[table.energy_source == "reused"])


def mean_volumes(folder, lengths, **lattice):
    """Return settings, parent lattice and method of a campaign of the elements with lengths."""
    data = {
        "lattice": {"prototype": "bcc", "a": lengths, "species": list(lengths), **lattice},
        "candidates": {"max_sites": 2},
        "oracle": {"kind": "emt"},
    }
    settings = parse_settings(data, base=folder)
    parent = factories.parent_lattice(settings)
    return settings, parent, method_of(settings, parent)


def test_energies_at_mean_volumes_are_shared_where_those_of_the_elements_agree(tmp_path):
    """Each structure starts at the volume of its own elements, whatever others there are."""
    settings, parent, method = mean_volumes(tmp_path, {"Cu": 2.9, "Pd": 3.1})
    with RunDirectory.create(tmp_path / "old") as old:
        old.write_settings(settings.resolved())
        for labels in ([0, 0], [0, 1]):
            cell = ls.Supercell.from_matrix(parent, [1, 1, 2])
            one = ls.Configuration(cell, np.array(labels, np.int8)).canonical()
            result = OracleResult(one.key, "done", -1.0, atoms=one.to_atoms())
            old.store.append(result, 0, method=method)
    others = {"Ag": 3.3, "Pd": 3.1, "Cu": 2.9}
    _, ternary, wanted = mean_volumes(tmp_path, others)
    found = reused_results(tmp_path / "old", ternary, wanted, "reused: old").results
    assert [ls.Configuration.from_key(ternary, one.key).formula for one in found] == ["Cu", "PdCu"]
    for changed in ({**others, "Pd": 3.11}, others):
        lattice = {} if changed is not others else {"a": 3.0}
        _, ternary, wanted = mean_volumes(tmp_path, changed, **lattice)
        with pytest.raises(InputError, match=r"another method: (elements\.Pd\.a|lattice\.a): "):
            reused_results(tmp_path / "old", ternary, wanted, "reused: old")


@pytest.mark.parametrize("budget", [1, 3, 8, 30])
def test_a_budget_is_never_exceeded_and_ends_with_complete_tables(tmp_path, counted, budget):
    config = config_of(
        tmp_path,
        lattice={"species": ["Cu", "Pd", "Ag"]},
        candidates={"max_sites": 4, "exhaustive_limit": 20_000},
        learning={"budget": budget},
    )
    done = in_process("run", config, "--output", tmp_path / "run")
    if budget < 3:
        assert done.returncode == 2
        assert "3 end members have to be computed first" in done.stderr
        assert not counted.exists()
        return
    assert done.returncode == 0, done.stderr
    n, end = sum(counts(counted)[0].values()), status(tmp_path / "run")["end"]
    assert (n == budget and end == "budget") or (n <= budget == 30 and end == "converged")
    table = pd.read_parquet(tmp_path / "run" / "candidates.parquet")
    assert table.oracle_energy.notna().sum() == n
    assert table.energy.notna().all()
    assert table.predicted_energy.notna().all() == (budget > 3)
    assert (tmp_path / "run" / "report.html").exists()
    assert len(pd.read_csv(tmp_path / "run" / "hull.csv")) >= 3


def test_attempts_that_fail_come_out_of_the_budget(tmp_path):
    """Every cell of more than two atoms fails: with eight calculations at most eight are made."""
    config = config_of(
        tmp_path,
        oracle={"calculator": "tests.campaign.small_only:factory", "attempts": 3},
        learning={"budget": 8},
    )
    run(config, "--output", tmp_path / "run")
    answer = status(tmp_path / "run")
    assert answer["oracle_calls"] == 8
    assert answer["failed"] + answer["quarantined"] >= 1


def test_a_supercell_too_large_to_enumerate_is_searched_from_the_start(tmp_path, counted):
    config = config_of(
        tmp_path,
        lattice={"prototype": "fcc", "species": ["Cu", "Pd", "Ag", "Au"]},
        candidates={
            "max_sites": None,
            "supercell": [2, 2, 2],
            "cell": "conventional",
            "exhaustive_limit": 100,
        },
        learning={"budget": 16},
        search={"budget": 2000},
    )
    run(config, "--output", tmp_path / "run")
    table = pd.read_parquet(tmp_path / "run" / "candidates.parquet")
    assert {"end member", "greedy"} <= set(table.source)
    assert len(keys(tmp_path / "run")) == 16


def test_a_calculator_that_cannot_start_uses_up_nothing(tmp_path, counted, monkeypatch):
    config = config_of(tmp_path, learning={"budget": 6})
    monkeypatch.setenv("BROKEN", "start")
    done = in_process("run", config, "--output", tmp_path / "run")
    assert done.returncode == 1
    assert "no licence" in done.stderr
    assert not keys(tmp_path / "run")
    monkeypatch.setenv("BROKEN", "fail")
    done = in_process("run", config, "--output", tmp_path / "run")
    assert done.returncode == 1
    assert "all 2 end members in the same way" in done.stderr
    assert not keys(tmp_path / "run")
    monkeypatch.delenv("BROKEN")
    run(config, "--output", tmp_path / "run")
    assert len(keys(tmp_path / "run")) == 6
    assert status(tmp_path / "run")["failures"] == []


def test_what_failed_is_tried_again_when_asked(tmp_path, monkeypatch):
    config = config_of(
        tmp_path,
        oracle={"calculator": "tests.campaign.small_only:factory", "attempts": 1},
        learning={"budget": 8},
    )
    run(config, "--output", tmp_path / "run")
    failed = {f["key"] for f in status(tmp_path / "run")["failures"]}
    assert failed
    text = in_process("status", tmp_path / "run", "--failed").stdout
    assert all(key in text for key in failed)
    assert "--retry-failed" in text
    monkeypatch.setenv("MENDED", "1")
    run(tmp_path / "run", "--set", "learning.budget=20", "--retry-failed")
    after = RunDirectory.read(tmp_path / "run").store.by_key()
    assert all(after[key].status == "done" for key in failed)


def test_references_refuse_to_be_the_energy_of_another_phase(tmp_path, counted):
    config = config_of(tmp_path, learning={"budget": 4})
    run(config, "--output", tmp_path / "run")
    pure = {r.key: r for r in RunDirectory.read(tmp_path / "run").store.results()}[
        "s1-1.0.0.1.0.1-A"
    ]
    done = in_process("run", tmp_path / "run", "--set", "oracle.references={Cu=-0.2}")
    assert done.returncode == 2
    assert "[competing]" in done.stderr
    run(tmp_path / "run", "--set", f"oracle.references={{Cu={pure.result.energy:.5f}}}")


def test_a_damaged_database_is_said_and_never_replaced_in_silence(tmp_path, counted):
    config = config_of(tmp_path, learning={"budget": 6})
    path = tmp_path / "run"
    run(config, "--output", path)
    good = (path / "oracle.db").read_bytes()
    for bad in (b"", b"no database" * 100, None):
        if bad is None:
            (path / "oracle.db").unlink()
        else:
            (path / "oracle.db").write_bytes(bad)
        done = in_process("run", path)
        assert done.returncode == 2
        assert "6 results" in done.stderr
        assert "--accept-loss" in done.stderr
        assert (path / "oracle.db").read_bytes() == bad if bad is not None else True
    (path / "oracle.db").write_bytes(good)
    run(path)
    (path / "oracle.db").write_bytes(b"no database" * 100)
    run(path, "--accept-loss")
    assert (path / "oracle.db.damaged-1").exists()
    assert len(keys(path)) == 6
    run(path)
