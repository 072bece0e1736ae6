from __future__ import annotations

import copy

import pytest
import tomli_w

from latticesearch.campaign.settings import differences, parse_settings, read_settings
from latticesearch.errors import InputError

GOOD = {
    "lattice": {"prototype": "fcc", "a": 3.8, "species": ["Cu", "Pd"]},
    "candidates": {"max_sites": 4},
    "oracle": {"kind": "emt"},
}


def changed(**changes):
    """Return the good settings with changes ``section__key=value``; None removes the key."""
    data = copy.deepcopy(GOOD)
    for name, value in changes.items():
        section, key = name.split("__")
        data.setdefault(section, {})[key] = value
        if value is None:
            del data[section][key]
    return data


def test_defaults_are_resolved_and_round_trip(tmp_path):
    resolved = parse_settings(GOOD, base=tmp_path).resolved()
    assert resolved["learning"]["budget"] == 150
    again = parse_settings(resolved, base=tmp_path)
    assert again.resolved() == resolved
    tomli_w.dumps(resolved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning__budgett": 3}, "unknown key learning.budgett; did you mean budget?"),
        ({"extra__key": 3}, "unknown key extra; known keys: campaign, candidates"),
        ({"potential__cutoff": -5.0}, "potential.cutoff = -5.0"),
        ({"potential__cutoff": float("nan")}, "potential.cutoff"),
        ({"potential__min_dist": 6.0}, "min_dist 6.0 is not below the cutoff 5.0"),
        ({"lattice__a": None}, "a prototype needs its lattice parameter"),
        ({"lattice__file": "x.cif"}, "either prototype"),
        ({"lattice__species": ["cu"]}, "lattice.species.0 = 'cu'"),
        ({"lattice__species": None}, "either species"),
        ({"candidates__max_sites": None}, "either max_sites"),
        ({"candidates__max_sites": 0}, "candidates.max_sites = 0"),
        ({"candidates__supercell": [[1, 0, 0], [0, 1.5, 0], [0, 0, 1]]}, "supercell.1.1 = 1.5"),
        ({"candidates__composition": {"Cu": [0.6, 0.2]}}, "0.6 is larger than 0.2"),
        ({"candidates__composition": {"Cu": 1.5}}, "candidates.composition.Cu"),
        ({"oracle__kind": "dft"}, "oracle.kind = 'dft'"),
        ({"oracle__kind": "recorded"}, 'kind = "recorded" needs file'),
        ({"oracle__kind": "ase"}, 'kind = "ase" needs calculator'),
        ({"oracle__file": "a.xyz"}, 'file belongs to kind = "recorded" and "mtp"'),
        ({"oracle__select": {"a": 1}}, 'select belongs to kind = "recorded"'),
        ({"oracle__cutoff": 400.0}, "cutoff belongs to presets"),
        ({"oracle__elements": {"Cu": {"momnet": 1}}}, "unknown key oracle.elements.Cu.momnet"),
        ({"lattice__a": {"Cu": 3.6}}, "gives no lattice parameter of Pd"),
        ({"lattice__a": -3.6}, "lattice.a = -3.6"),
        ({"learning__budget": 0}, "learning.budget = 0"),
        ({"campaign__name": "a/b"}, "campaign.name = 'a/b'"),
    ],
)
def test_bad_values_are_named_in_one_line(tmp_path, changes, message):
    with pytest.raises(InputError) as error:
        parse_settings(changed(**changes), base=tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_sections_are_named(tmp_path):
    with pytest.raises(InputError, match="oracle is missing"):
        parse_settings({k: v for k, v in GOOD.items() if k != "oracle"}, base=tmp_path)


def test_files_are_found_beside_the_campaign_file(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "energies.xyz").write_text("")
    path = tmp_path / "sub" / "campaign.toml"
    path.write_text(tomli_w.dumps(changed(oracle__kind="recorded", oracle__file="../energies.xyz")))
    assert read_settings(path).oracle.file == tmp_path / "energies.xyz"
    (tmp_path / "energies.xyz").unlink()
    with pytest.raises(InputError, match=r"oracle.file: there is no file .*energies.xyz"):
        read_settings(path)


def test_overrides_replace_values(tmp_path):
    path = tmp_path / "campaign.toml"
    path.write_text(tomli_w.dumps(GOOD))
    settings = read_settings(path, ["learning.budget=7", "campaign.name=other"])
    assert (settings.learning.budget, settings.campaign.name) == (7, "other")
    for bad in ("budget=7", "learning.budget", "=3"):
        with pytest.raises(InputError, match="--set"):
            read_settings(path, [bad])


@pytest.mark.parametrize("content", [b"a = [", b"\xff\xfe\x00"])
def test_files_that_are_no_toml(tmp_path, content):
    path = tmp_path / "campaign.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"campaign\.toml"):
        read_settings(path)
    with pytest.raises(InputError, match="cannot read the campaign file"):
        read_settings(tmp_path / "missing.toml")


def test_what_differs_between_two_calls_is_said(tmp_path):
    old = parse_settings(GOOD, base=tmp_path).resolved()
    longer = parse_settings(changed(learning__budget=999), base=tmp_path).resolved()
    neutral = parse_settings(changed(oracle__workers=7, oracle__timeout=9.0), base=tmp_path)
    assert differences(old, neutral.resolved()) == []
    before = old["learning"]["budget"]
    assert differences(old, longer) == [f"learning.budget: {before} -> 999"]
    assert differences({"lattice": old["lattice"], "oracle": old["oracle"]}, old) == [
        "candidates.max_sites: None -> 4"
    ]
    older = {**old, "candidates": {"max_sites": 4}}
    assert differences(older, old) == []
