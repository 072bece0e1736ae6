"""`init --recipe`: short campaign files, each for one source of energies."""

import tomllib

import pytest

from latticesearch.campaign import factories
from latticesearch.campaign.settings import PRESETS, parse_settings, read_settings
from latticesearch.campaign.space import candidate_space, require_searchable
from latticesearch.cli.prepare import RECIPES
from tests.campaign.runs import in_process

FILES = [RECIPES / f"{kind}.toml" for kind in sorted(set(PRESETS) - {"mtp"})]


def test_there_is_one_for_every_code():
    assert all(path.exists() for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recipes_are_campaigns(path):
    settings = read_settings(path)
    parent = factories.parent_lattice(settings)
    require_searchable(candidate_space(settings, parent))
    factories.start_potential(settings, parent)
    assert settings.without_effect() == []
    if settings.oracle.kind in PRESETS:
        factories.wanted(settings.oracle)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_commented_out_is_understood_as_well(path):
    """Every line "# key = value" of the oracle is one that could be there."""
    text = path.read_text(encoding="utf-8")
    data = tomllib.loads(text)
    section = text.partition("[oracle]\n")[2].partition("\n[")[0]
    said = [line[2:] for line in section.splitlines() if line.startswith("# ") and " = " in line]
    for one in said:
        changed = {**data, "oracle": {**data["oracle"], **tomllib.loads(one)}}
        factories.wanted(parse_settings(changed, base=path.parent).oracle)


def test_init_writes_a_recipe_that_check_knows(tmp_path):
    path = tmp_path / "elk.toml"
    assert in_process("init", path, "--recipe", "elk").returncode == 0
    assert 'kind = "elk"' in path.read_text(encoding="utf-8")
    data = tmp_path / "species"
    data.mkdir()
    for symbol in ("Mo", "Ta"):
        (data / f"{symbol}.in").write_text("")
    checked = in_process("check", path, "--set", f"oracle.datasets={data}")
    assert checked.returncode == 0, checked.stderr
    told = in_process(
        "check", path, "--set", f"oracle.datasets={data}", "--set", "oracle.relax_cell=true"
    )
    assert "relax_cell scans the volume" in told.stderr
    unknown = in_process("init", tmp_path / "b.toml", "--recipe", "castep")
    assert unknown.returncode == 2
