"""Every recipe of `init` is a campaign that can be checked, and marks the values to change."""

from __future__ import annotations

import json

import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from tests.campaign.runs import in_process


@pytest.mark.parametrize("recipe", ["emt", "recorded", "oxide", "hcp", "layer"])
def test_recipes_are_campaigns(recipe, tmp_path):
    config = tmp_path / "new.toml"
    done = in_process("init", config, "--recipe", recipe)
    assert done.returncode == 0, done.stderr
    assert "yours" in config.read_text()
    if recipe == "recorded":
        frames = []
        for symbol in ("Mo", "Ta"):
            atoms = bulk(symbol, "bcc", a=3.24)
            atoms.calc = SinglePointCalculator(atoms, energy=-10.0)
            frames.append(atoms)
        write(tmp_path / "energies.extxyz", frames)
    checked = in_process("check", config, "--set", "candidates.max_sites=8", "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["enumerated"] >= 4
    again = in_process("init", config, "--recipe", recipe)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_a_place_that_cannot_be_written_is_a_line(tmp_path):
    done = in_process("init", tmp_path / "nowhere" / "new.toml")
    assert done.returncode == 2
    assert "cannot write" in done.stderr
