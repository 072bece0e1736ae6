"""The published studies: their numbers follow from their run directories, which are complete."""

import json
from pathlib import Path

import pytest
from ase.db import connect

import latticesearch as ls
from studies import dft_study

STUDIES = Path(dft_study.__file__).parent
NAMES = sorted(path.parent.name for path in STUDIES.glob("*/results.json"))


@pytest.fixture(scope="module", params=NAMES)
def study(request):
    return STUDIES / request.param, ls.load(STUDIES / request.param / "run")


def test_numbers_follow_from_the_run(study):
    folder, run = study
    _, found = dft_study.results(run, "-".join(run.elements))
    assert found == json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_every_energy_says_where_it_comes_from(study):
    _, run = study
    for row in connect(run.path / "oracle.db").select(status="done"):
        said = row.data["provenance"]
        assert said["code"]
        assert said["version"]
        assert said["kgrid"]
        assert set(said["datasets"]) == set(row.symbols)
        assert said["scf_residual"] < 1e-3


def test_mo_ta_orders_as_others_found():
    numbers = json.loads((STUDIES / "mo-ta" / "results.json").read_text(encoding="utf-8"))
    b2 = next(one for one in numbers["compared"] if one["geometry"] == "ideal sites")
    assert -205 < b2["ours"] < -175
