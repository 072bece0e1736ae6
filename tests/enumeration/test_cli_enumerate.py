from __future__ import annotations

import argparse

import pandas as pd
import pytest
from ase.io import read

import latticesearch as ls
from latticesearch.campaign import factories
from latticesearch.campaign.settings import read_settings
from latticesearch.campaign.space import candidate_set, candidate_space, require_searchable
from latticesearch.cli import enumerate as verb
from latticesearch.cli import prepare
from latticesearch.cli.prepare import TEMPLATE
from latticesearch.enumeration import count_labelings
from latticesearch.lattice import Configuration
from latticesearch.parallel import SerialComm
from tests.campaign.runs import in_process, latticesearch
from tests.fake_comm import run_ranks


def _run(tmp_path, size, *words):
    config = tmp_path / "campaign.toml"
    config.write_text(TEMPLATE.read_text())
    _on_threads(size, config, "--set", "candidates.max_sites=4", *words)
    settings = read_settings(config, [])
    lattice = settings.lattice
    parent = ls.ParentLattice.from_prototype(lattice.prototype, lattice.a, lattice.species)
    return parent, sum(count_labelings(parent, n) for n in range(1, 5))


@pytest.mark.parametrize("size", [1, 3])
def test_tables_hold_every_structure_once(tmp_path, size, capsys):
    parent, number = _run(tmp_path, size, "--output", str(tmp_path / "out"))
    files = sorted((tmp_path / "out").iterdir())
    assert [f.name for f in files] == [f"part-{rank:04d}.parquet" for rank in range(size)]
    table = pd.concat([pd.read_parquet(f) for f in files])
    assert len(table) == table["key"].nunique() == number
    for key, labels in zip(table["key"], table["labels"], strict=True):
        assert Configuration.from_key(parent, key).labels.tolist() == list(labels)
    assert f"wrote {number} structures" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["poscar", "cif", "extxyz"])
def test_files_hold_the_structures(tmp_path, kind):
    parent, number = _run(tmp_path, 1, "--output", str(tmp_path / "out"), "--format", kind)
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == number
    for path in files[:: len(files) // 5]:
        expected = Configuration.from_key(parent, path.stem.split("-", 2)[2])
        match = ls.map_to_lattice(read(path), parent)
        assert match.configuration.key == expected.key


def _config(folder, lattice, candidates):
    path = folder / "space.toml"
    lines = ["[lattice]", *lattice, "[candidates]", *candidates, ""]
    path.write_text("\n".join(lines))
    return path


SALT = ('prototype = "rocksalt"', "a = 4.2", 'sublattices = [["Ti", "Hf"], ["N", "X"]]')
SIMPLE = ('prototype = "sc"', "a = 3.0", 'species = ["Cu", "X"]')


def _keys(folder):
    return sorted(
        key for path in folder.glob("part-*.parquet") for key in pd.read_parquet(path)["key"]
    )


def _on_threads(size, *words):
    """Run the verb on ranks that are threads: as many as wanted, and no process started."""
    parser = argparse.ArgumentParser()
    verb.add_verbs(parser.add_subparsers())
    options = parser.parse_args(["enumerate", *map(str, words)])
    assert run_ranks(size, lambda comm: options.function(options, comm)) == [0] * size


def _on_ranks(size, *words):
    return latticesearch("enumerate", *words, ranks=size)


def _here(_, *words):
    return in_process("enumerate", *words)


@pytest.mark.mpi
def test_any_number_of_ranks_writes_the_same_structures(tmp_path):
    """A lattice and a range of its own; more ranks first, so that their files must go."""
    config = _config(tmp_path, SALT, ["max_sites = 8", "composition = { X = [0.0, 0.3] }"])
    keys = {}
    for ranks, way in ((4, _on_threads), (2, _on_ranks), (1, _here)):
        done = way(ranks, config, "--output", tmp_path / "out")
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == [f"part-{rank:04d}.parquet" for rank in range(ranks)]
        keys[ranks] = _keys(tmp_path / "out")
        if done is None:
            continue
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"wrote {len(keys[ranks])} structures to ")
        assert ("largest share" in done.stdout) == (ranks > 1)
        assert f"{len(keys[ranks])} structures to write" in done.stderr
    assert keys[4] == keys[2] == keys[1]
    assert len(set(keys[1])) == len(keys[1])
    counted = in_process("count", config)
    assert counted.stdout.split()[-1] == str(len(keys[1]))


def test_one_supercell_on_several_ranks(tmp_path, capsys):
    candidates = ["supercell = [2, 2, 2]", 'cell = "conventional"', "composition = { Cu = 0.25 }"]
    lattice = ['prototype = "fcc"', "a = 3.6", 'species = ["Cu", "Au"]']
    config = _config(tmp_path, lattice, candidates)
    _on_threads(2, config, "--output", tmp_path / "out")
    printed = capsys.readouterr().out
    assert printed.startswith("wrote 8043 structures")
    assert float(printed.split("largest share ")[1].split()[0]) < 1.3
    parts = [len(pd.read_parquet(path)) for path in (tmp_path / "out").iterdir()]
    assert sum(parts) == 8043
    assert len(parts) == 2


@pytest.mark.mpi
def test_structure_files_are_written_on_all_ranks(tmp_path):
    config = _config(tmp_path, SIMPLE, ["max_sites = 4"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    # An empty cell is a structure, but no POSCAR.
    expected = (("poscar", "vasp", 34, 2, _on_ranks), ("extxyz", "xyz", 35, 1, _here))
    for kind, ending, number, ranks, way in expected:
        done = way(ranks, config, "--format", kind, "--output", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        files = list((tmp_path / "out").glob("*-*"))
        assert {path.suffix for path in files} == {f".{ending}"}
        assert len(files) == number
        assert {path.name[0] for path in files} == set("01"[:ranks])
        assert ("no file for 1 structure" in done.stderr) == (kind == "poscar")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


RESTRICTED = (
    ("sublattices = [{}, { X = [0.0, 0.5] }]", {"sublattices": {1: {"X": (0.0, 0.5)}}}),
    ("complete = true", {"complete": True}),
    ("exchange = true", {"exchange": True}),
    ("layer_axis = 2", {"layer_axis": 2}),
    ("superperiodic = true", {"superperiodic": True}),
    ("min_sites = 5", {"smallest": 3}),
)


@pytest.mark.parametrize(("line", "rules"), RESTRICTED)
def test_restrictions_of_a_campaign_file(tmp_path, capsys, line, rules):
    config = _config(tmp_path, SALT, ["max_sites = 6", line])
    parent = ls.ParentLattice.from_prototype("rocksalt", 4.2, (("Ti", "Hf"), ("N", "X")))
    options = dict(rules)
    sizes = range(options.pop("smallest", 1), 4)
    expected = sum(count_labelings(parent, n, **options) for n in sizes)
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers()
    verb.add_verbs(verbs)
    prepare.add_verbs(verbs)
    for words in (["count", str(config)], ["enumerate", str(config), "--output", str(tmp_path)]):
        options = parser.parse_args(words)
        assert options.function(options, SerialComm()) == 0
        assert str(expected) in capsys.readouterr().out.split()
    table = pd.read_parquet(tmp_path / "part-0000.parquet")
    assert len(table) == expected
    if "sublattices" in rules:
        assert all(sum(x == 3 for x in row) <= len(row) / 4 for row in table["labels"])


BAD = {
    "impossible composition": (["max_sites = 4", "composition = { Ti = 0.4 }"], "nearest possible"),
    "impossible in a supercell": (
        ["supercell = [1, 1, 2]", "composition = { X = 0.4 }"],
        "nearest possible: ",
    ),
    "contradictory ranges": (
        ["max_sites = 4", "composition = { Ti = [0.4, 0.2] }"],
        "larger than 0.2",
    ),
    "sums to more than one": (
        ["max_sites = 4", "composition = { Ti = 0.7, N = 0.6 }"],
        "cannot add up to 1",
    ),
    "foreign species": (["max_sites = 4", "composition = { Au = 0.5 }"], "Au"),
    "species of the other sublattice": (
        ["max_sites = 4", "sublattices = [{ N = [0.5, 1.0] }, {}]"],
        "nearest possible",
    ),
    "one sublattice of two": (["max_sites = 4", "sublattices = [{}]"], "2 sublattice(s): Ti/Hf"),
    "singular supercell": (
        ["supercell = [[1, 0, 0], [1, 0, 0], [0, 0, 1]]"],
        "spans no volume",
    ),
    "supercell of fractions": (["supercell = [1.5, 1, 1]"], "candidates.supercell"),
    "supercell of no cells": (["supercell = [0, 1, 1]"], "spans no volume"),
    "enormous supercell": (["supercell = [1000, 1000, 1000]"], "too large to count"),
    "astronomical supercell": (["supercell = [10000000000, 10000000000, 1]"], "too large"),
    "no sites": (["max_sites = 0"], "max_sites = 0"),
    "enormous sizes": (["max_sites = 1000000"], "go from 1 to 500"),
    "sizes upside down": (["max_sites = 4", "min_sites = 6"], "min_sites = 6"),
    "no size in between": (["max_sites = 3", "min_sites = 3"], "no multiple of the 2 sites"),
    "no such axis": (["max_sites = 4", "layer_axis = 3"], "layer_axis = 3"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("word", ["count", "enumerate"])
def test_bad_input_is_refused_in_one_line(tmp_path, name, word):
    candidates, message = BAD[name]
    config = _config(tmp_path, SALT, candidates)
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers()
    verb.add_verbs(verbs)
    prepare.add_verbs(verbs)
    words = [word, str(config), "--output", str(tmp_path / "out")]
    options = parser.parse_args(words)
    with pytest.raises(ls.InputError) as caught:
        options.function(options, SerialComm())
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["space.toml"]


SEARCHED = {
    "exchange = true": "differ in energy",
    "superperiodic = true": "smaller sizes once more",
    "complete = true": "search, to which .* exhaustive_limit",
}


@pytest.mark.parametrize("line", SEARCHED)
def test_restrictions_without_sense_in_a_campaign_are_refused(tmp_path, line):
    config = _config(tmp_path, SALT, ["max_sites = 6", "exhaustive_limit = 20", line])
    loaded = read_settings(config, needs_oracle=False)
    space = candidate_space(loaded, factories.parent_lattice(loaded))
    with pytest.raises(ls.InputError, match=SEARCHED[line]):
        require_searchable(space)


def test_a_complete_campaign_that_is_enumerated_is_searchable(tmp_path):
    config = _config(tmp_path, SALT, ["max_sites = 4", "complete = true", "layer_axis = 0"])
    loaded = read_settings(config, needs_oracle=False)
    parent = factories.parent_lattice(loaded)
    space = candidate_space(loaded, parent)
    require_searchable(space)
    # The end members, which the hull needs, come on top.
    assert len(candidate_set(space)) == space.n_held + 4
