"""Convergence of energies whose errors are known."""

import json
import math

import pandas as pd
import pytest

from latticesearch.campaign import convergence
from latticesearch.oracles import OracleResult
from tests.campaign.runs import in_process

CAMPAIGN = """
[campaign]
name = "fe-co"
[lattice]
prototype = "bcc"
a = 2.85
species = ["Fe", "Co"]
[candidates]
max_sites = 4
[oracle]
kind = "gpaw"
cutoff = 400
kspacing = 0.2
spin = "none"
elements = { Fe = { kspacing = 0.1 } }
relax_cell = false
relax_ions = false
[learning]
budget = 30
"""


class Formula:
    """Stands for a code: energies and times that follow from what it is told."""

    calls: list = []  # noqa: RUF012 - shared on purpose, as a code's own log

    def __init__(self, kind, *, preset, **settings):
        self.told, self.interrupted = preset, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def interrupt(self):
        self.interrupted = True

    def run(self, jobs):
        for job in jobs:
            self.calls.append((job.key, self.told))
            n, cobalt = len(job.atoms), job.atoms.symbols.count("Co")
            of_basis = math.exp(-self.told.cutoff / 100.0) * (n + cobalt)
            spacing = self.told.kspacing
            of_points = (spacing**2) * (n if cobalt in {0, n} else 2 * n)
            energy = -8.0 * n - 0.1 * min(cobalt, n - cobalt) + of_basis + of_points
            yield OracleResult(job.key, "done", energy=energy, atoms=job.atoms, seconds=3.0 * n**2)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(convergence, "AseOracle", Formula)
    monkeypatch.setattr(Formula, "calls", [])
    path = tmp_path / "campaign.toml"
    path.write_text(CAMPAIGN, encoding="utf-8")
    return path


def test_errors_are_those_of_the_formula(config, tmp_path):
    folder = tmp_path / "test"
    words = ("oracle-test", config, "--output", folder)
    done = in_process(*words)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(folder / "convergence.csv")
    assert (folder / "convergence.png").read_bytes().startswith(b"\x89PNG")
    basis, points = (table[table["varied"] == v] for v in ("basis", "kspacing"))
    assert basis["value"].tolist() == [320, 400, 500, 600]
    assert points["value"].tolist() == [0.3, 0.2, 0.15, 0.1]
    assert basis["is_campaign"].tolist() == [False, True, False, False]
    for cutoff, error in zip(basis["value"], basis["element_error"], strict=True):
        assert error == pytest.approx(math.exp(-cutoff / 100) - math.exp(-6), abs=1e-12)
    # What all structures of a composition have in common cancels in the formation energy.
    assert basis["formation_error"].abs().max() < 1e-12
    assert points["formation_error"].tolist() == pytest.approx(
        [x**2 - 0.1**2 for x in points["value"]]
    )
    assert "cutoff: 320 is enough for 1 meV/atom" in done.stdout
    assert "kspacing: not converged to 1 meV/atom" in done.stdout
    # 30 calculations of 3 s times the square of the atoms.
    counts = json.loads(in_process("count", config, "--json").stdout)
    mean = sum(3.0 * n**2 * counts[f"{n} sites"] for n in range(1, 5)) / counts["total"]
    assert f"some {30 * mean / 3600:.2g} hours" in done.stdout
    assert "atoms^2.0" in done.stdout


def test_nothing_is_computed_twice(config, tmp_path):
    words = ("oracle-test", config, "--output", tmp_path / "test", "--json")
    assert in_process(*words).returncode == 0
    n = len(Formula.calls)
    assert n == 7 * 3
    again = in_process(*words, "--kspacings", "0.2,0.05", "--cutoffs", "400")
    assert len(Formula.calls) == n + 3
    rows = json.loads(again.stdout)["rows"]
    assert [row["value"] for row in rows] == [400, 0.2, 0.05]
    # The spacing of an element follows that of the others.
    assert Formula.calls[-1][1].elements["Fe"].kspacing == pytest.approx(0.025)


def test_structures_may_be_chosen(config, tmp_path):
    words = ("oracle-test", config, "--output", tmp_path / "test", "--json")
    answer = json.loads(in_process(*words, "--element", "Co", "--compound", "FeCo3").stdout)
    assert (answer["element"], answer["compound"]) == ("Co", "FeCo3")
    lines = (tmp_path / "test" / "results.jsonl").read_text().splitlines()
    keys = [json.loads(line)["key"] for line in lines]
    (key,) = {key for key in keys if key.startswith("s4")}
    by_key = json.loads(in_process(*words, "--compound", key).stdout)
    assert by_key["compound"] == "FeCo3"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--compound", "Fe9Co"), "no such compound"),
        (("--element", "Ni"), "no such compound"),
        (("--element", "Ni", "--compound", "FeCo"), "the end members of FeCo are Fe, Co"),
        (("--cutoffs", "300,x"), "write numbers with commas"),
        (("--kspacings", "-1"), "have to be positive"),
    ],
)
def test_bad_choices_are_one_line(config, tmp_path, words, message):
    done = in_process("oracle-test", config, "--output", tmp_path / "test", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert Formula.calls == []


@pytest.mark.parametrize("kind", ["emt", "manual", "sevenn"])
def test_what_has_no_basis_has_nothing_to_converge(tmp_path, kind):
    text = CAMPAIGN.partition('kind = "gpaw"')[0] + f'kind = "{kind}"\n'
    path = tmp_path / "campaign.toml"
    path.write_text(text.replace('"Fe", "Co"', '"Cu", "Au"'), encoding="utf-8")
    done = in_process("oracle-test", path)
    assert done.returncode == 2
    assert "there is nothing to converge" in done.stderr


def test_failures_leave_a_gap_and_are_tried_again(config, tmp_path, monkeypatch):
    whole = Formula.run

    def fails(self, jobs):
        for one in whole(self, jobs):
            failed = self.told.cutoff == 500
            yield OracleResult(one.key, "failed", error="no bands") if failed else one

    monkeypatch.setattr(Formula, "run", fails)
    words = ("oracle-test", config, "--output", tmp_path / "test")
    done = in_process(*words)
    assert done.returncode == 0
    assert "failed: no bands" in done.stdout
    monkeypatch.setattr(Formula, "run", whole)
    n = len(Formula.calls)
    assert "failed" not in in_process(*words).stdout
    assert len(Formula.calls) == n + 3
