"""What a campaign file says of an oracle, and what of it defines an energy."""

import copy

import numpy as np
import pytest

from latticesearch.campaign import factories
from latticesearch.campaign.method import method_of
from latticesearch.campaign.settings import parse_settings
from latticesearch.campaign.volume import MeanVolume, mean_length
from latticesearch.errors import InputError
from latticesearch.lattice import Configuration, ParentLattice, Supercell

CAMPAIGN = {
    "lattice": {"prototype": "bcc", "a": 3.2, "species": ["Mo", "Ta"]},
    "candidates": {"max_sites": 2},
    "oracle": {"kind": "gpaw", "cutoff": 340.0, "kspacing": 0.167},
}


def settings(tmp_path, species=None, a=None, **oracle):
    data = copy.deepcopy(CAMPAIGN)
    data["lattice"] |= {"species": species or ["Mo", "Ta"], "a": a or 3.2}
    data["oracle"] |= oracle
    return parse_settings(data, base=tmp_path)


def method(*args, **kwargs):
    chosen = settings(*args, **kwargs)
    return method_of(chosen, factories.parent_lattice(chosen))


@pytest.mark.parametrize(
    "change",
    [
        {"xc": "PBEsol"},
        {"cutoff": 341.0},
        {"kspacing": 0.2},
        {"smearing": 0.1},
        {"smearing": {"kind": "gaussian"}},
        {"elements": {"Mo": {"grid": [20, 20, 20]}}},
        {"elements": {"Mo": {"dataset": "sc"}}},
        {"elements": {"Mo": {"hubbard": {"u": 2.0}}}},
        {"parameters": {"nbands": "150%"}},
        {"relax_cell": False},
        {"a": {"Mo": 3.16, "Ta": 3.32}},
    ],
)
def test_what_changes_an_energy_changes_the_method(tmp_path, change):
    assert method(tmp_path, **change).fingerprint != method(tmp_path).fingerprint


def test_defaults_that_are_spelled_out_change_nothing(tmp_path):
    spelled = {"xc": "PBE", "smearing": {"kind": "methfessel-paxton", "width": 0.2}}
    spelled |= {"spin": "none", "timeout": 1000.0, "max_steps": 10}
    assert method(tmp_path, **spelled).fingerprint == method(tmp_path).fingerprint


def test_data_sets_are_part_of_the_method_and_their_place_is_not(tmp_path):
    folders = [tmp_path / name for name in ("here", "there")]
    for folder in folders:
        folder.mkdir()
        for symbol in ("Mo", "Ta"):
            (folder / f"{symbol}.UPF").write_text(symbol)
    kept = {"kind": "espresso", "datasets": str(folders[0])}
    here = method(tmp_path, **kept)
    moved = {"datasets": str(folders[1]), "command": "mpirun -n 8 pw.x"}
    assert method(tmp_path, **(kept | moved)).fingerprint == here.fingerprint
    (folders[0] / "Mo.UPF").write_text("a newer one")
    (difference,) = method(tmp_path, **kept).differences(here)
    assert difference.startswith("elements.Mo.dataset.sha256")


def test_methods_of_other_elements_are_compared_in_what_they_share(tmp_path):
    def without_lattice(species, moment):
        said = {"spin": "ferromagnetic", "elements": {"Fe": {"moment": moment}}}
        return method(tmp_path, species, **said).without_lattice()

    assert without_lattice(["Fe", "Ni"], 3.0).differences(without_lattice(["Fe", "Co"], 3.0)) == []
    assert without_lattice(["Fe", "Ni"], 3.0).differences(without_lattice(["Fe", "Co"], 2.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": "gpaw"}, 'oracle.command means nothing to kind = "gpaw"'),
        ({"kind": "chgnet"}, 'oracle.cutoff means nothing to kind = "chgnet"'),
        ({"kind": "elk"}, 'oracle.cutoff means nothing to kind = "elk"'),
    ],
)
def test_words_that_a_code_does_not_know(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        factories.wanted(settings(tmp_path, **change).oracle)


def test_a_run_reads_its_own_settings_again(tmp_path):
    chosen = settings(tmp_path, elements={"Mo": {"grid": [9, 9, 9]}}, a={"Mo": 3.16, "Ta": 3.3})
    again = parse_settings(chosen.resolved(), base=tmp_path)
    assert again.resolved() == chosen.resolved()
    assert factories.wanted(again.oracle) == factories.wanted(chosen.oracle)
    learned = {"lattice": CAMPAIGN["lattice"], "candidates": {"max_sites": 2}}
    first = parse_settings({**learned, "oracle": {"kind": "chgnet"}}, base=tmp_path)
    factories.wanted(parse_settings(first.resolved(), base=tmp_path).oracle)


def test_only_dft_has_no_limit_of_time(tmp_path):
    def limit(**oracle):
        data = {**CAMPAIGN, "oracle": oracle}
        return factories._timeout(parse_settings(data, base=tmp_path).oracle)

    assert limit(kind="emt") == 600.0
    assert limit(kind="gpaw", cutoff=300.0, kspacing=0.3) is None
    assert limit(kind="gpaw", cutoff=300.0, kspacing=0.3, timeout=50.0) == 50.0
    assert limit(kind="chgnet") == 600.0


def test_structures_start_at_the_mean_volume_of_their_atoms():
    lengths = {"Mo": 3.0, "Ta": 4.0, "W": 5.0}
    parent = ParentLattice.from_prototype("bcc", mean_length(lengths), ("Mo", "Ta", "X"))
    cell = Supercell.from_matrix(parent, np.diag([2, 1, 1]))
    rule = MeanVolume(lengths)

    def volume(*labels):
        atoms = rule.start(Configuration(cell, np.array(labels, dtype=np.int8)))
        return atoms.get_volume() / 2

    assert volume(0, 0) == pytest.approx(3.0**3 / 2)
    assert volume(0, 1) == pytest.approx((3.0**3 + 4.0**3) / 4)
    # A vacancy has no volume of its own: its site has that of the others.
    assert volume(1, 2) == pytest.approx(4.0**3 / 2)


def test_the_table_decides_where_a_campaign_starts(tmp_path):
    chosen = settings(tmp_path, a={"Mo": 3.16, "Ta": 3.32})
    parent = factories.parent_lattice(chosen)
    start = factories.answer_rules(chosen).start
    unit = Supercell.from_matrix(parent, np.eye(3, dtype=int))
    atoms = start(Configuration(unit, np.array([1], dtype=np.int8)))
    assert atoms.get_volume() == pytest.approx(3.32**3 / 2)
    assert list(atoms.symbols) == ["Ta"]
