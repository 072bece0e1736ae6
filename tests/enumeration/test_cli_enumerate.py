from __future__ import annotations

import argparse

import pandas as pd
import pytest
from ase.io import read

import latticesearch as ls
from latticesearch.cli import enumerate as verb
from latticesearch.cli.prepare import TEMPLATE
from latticesearch.enumeration import count_labelings
from latticesearch.lattice import Configuration
from latticesearch.settings import read_settings
from tests.fake_comm import run_ranks


def _run(tmp_path, size, *words):
    config = tmp_path / "campaign.toml"
    config.write_text(TEMPLATE.read_text())
    parser = argparse.ArgumentParser()
    verb.add_verbs(parser.add_subparsers())
    options = parser.parse_args(
        ["enumerate", str(config), "--set", "candidates.max_sites=4", *words]
    )
    assert run_ranks(size, lambda comm: options.function(options, comm)) == [0] * size
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
