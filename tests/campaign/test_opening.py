"""What can be refused is refused before a run directory is made, or before one is changed."""

from __future__ import annotations

import pandas as pd
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from latticesearch.campaign import factories
from latticesearch.campaign.opening import OpeningOptions, open_run
from latticesearch.campaign.settings import parse_settings
from latticesearch.errors import InputError
from tests.campaign.counted import counts
from tests.campaign.runs import in_process
from tests.campaign.test_stages import config_of, counted, run, status

__all__ = ["counted"]

COPPER, PALLADIUM = -0.01, -0.02
"""eV/atom of the end members; made up, nothing is computed here."""

ALLOY = {"prototype": "fcc", "a": 3.8, "species": ["Cu", "Pd"]}
OXIDE = {"prototype": "rocksalt", "a": 4.21, "sublattices": [["Mg", "X"], ["O", "X"]]}
"""Its end members with atoms are MgO, Mg and O; MgO lies between the other two."""
NITRIDE = {"prototype": "rocksalt", "a": 4.3, "sublattices": [["Ti", "Hf"], ["N", "X"]]}
"""Four end members, none of them between others."""


@pytest.fixture
def own(tmp_path):
    """Energies of the end members of the alloy."""
    frames = []
    for symbol, energy in (("Cu", COPPER), ("Pd", PALLADIUM)):
        atoms = bulk(symbol, "fcc", a=3.8)
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        frames.append(atoms)
        write(tmp_path / f"{symbol}.extxyz", atoms)
    write(tmp_path / "both.extxyz", frames)
    return tmp_path


def opened(folder, lattice, budget, references=None, files=()):
    """Open a new run with these settings, and close it; return what is known from the start."""
    data = {
        "lattice": lattice,
        "candidates": {"max_sites": 4},
        "oracle": {"kind": "emt", "references": references or {}},
        "learning": {"budget": budget},
        "data": {"files": list(files)},
    }
    settings = parse_settings(data, base=folder)
    parent = factories.parent_lattice(settings)
    with open_run(folder / "run", settings, parent, {}, OpeningOptions()).directory as directory:
        return directory.known.by_key()


@pytest.mark.parametrize(
    ("lattice", "references", "files", "n_ends"),
    [
        (ALLOY, {}, [], 2),
        (ALLOY, {"Cu": COPPER}, [], 1),
        (ALLOY, {}, ["Pd.extxyz"], 1),
        (ALLOY, {"Cu": COPPER}, ["both.extxyz"], 0),
        (OXIDE, {}, [], 2),
        (OXIDE, {"O": -4.9}, [], 1),
        (NITRIDE, {}, [], 4),
        (NITRIDE, {"Ti": -7.8, "N": -8.3}, [], 3),
    ],
)
def test_the_budget_has_to_pay_for_the_end_members_that_are_not_known(
    own, lattice, references, files, n_ends
):
    if n_ends > 1:
        with pytest.raises(InputError, match=rf"; {n_ends} end members .* at least {n_ends}"):
            opened(own, lattice, n_ends - 1, references, files)
        assert not (own / "run").exists()
    assert len(opened(own, lattice, max(1, n_ends), references, files)) == (
        2 if "both.extxyz" in files else len(files)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("oracle.references={Au=-0.1}", "Au is not among the species Cu, Pd"),
        ("oracle.references={Cu=-0.2}", "references gives Cu -0.2000 eV/atom, but it is -0.0100"),
        ('data.reuse=["none"]', "there is no run directory"),
        ('data.files=["none.extxyz"]', "there is no file or folder"),
        ('competing.files=["none.extxyz"]', "there is no file"),
        ("learning.budget=1", "2 end members have to be computed first"),
    ],
)
def test_a_new_run_that_is_refused_leaves_no_folder(own, counted, change, message):
    files = [] if change.startswith("learning") else ["Cu.extxyz"]
    config = config_of(own, data={"files": files})
    done = in_process("run", config, "--output", own / "run", "--set", change)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.splitlines()[-1].startswith("latticesearch: ")
    assert not (own / "run").exists()


def test_a_change_that_is_refused_changes_nothing(own, counted):
    config = config_of(own, data={"files": ["both.extxyz"]}, learning={"budget": 3})
    path = own / "run"
    run(config, "--output", path)
    before = {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}
    for change, message in (
        ("oracle.references={Cu=-0.2}", "[competing]"),
        ("oracle.references={Au=-0.2}", "not among the species"),
        # The energies of both end members are in the file alone.
        ("data.files=[]", "set it to at least 5"),
        ('data.files=["none"]', "--set 'data.files=[]'"),
    ):
        done = in_process("run", path, "--set", change)
        assert done.returncode == 2
        assert message in done.stderr
        assert {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()} == before
    run(path, "--set", "learning.budget=4")
    assert status(path)["oracle_calls"] == sum(counts(counted)[0].values()) == 4
    assert status(path)["elsewhere"]["energies"] == 2


def test_a_reference_is_that_of_the_end_member_alone(own, counted):
    """Copper with vacancies is pure copper too, and has another energy."""
    lattice = {"species": ["Cu", "Pd", "X"]}
    config = config_of(
        own,
        lattice=lattice,
        candidates={"max_sites": 2},
        oracle={"references": {"Cu": -0.0057}},
        learning={"budget": 5, "initial": 5},
    )
    path = own / "run"
    run(config, "--output", path)
    table = pd.read_parquet(path / "candidates.parquet")
    known = table[table.energy_source == "reference"]
    assert list(known.key) == ["s1-1.0.0.1.0.1-A"]
    defective = table[(table.formula == "Cu") & (table.key != known.key.iloc[0])]
    computed = defective[defective.energy_source == "computed"]
    assert len(computed)
    assert (computed.energy > known.energy.iloc[0] + 0.1).all()
