"""Failures that another attempt would only repeat are paid for once."""

import ase.db

from tests.campaign.runs import in_process

CAMPAIGN = """
[lattice]
prototype = "fcc"
a = 3.8
species = ["Cu", "Pd"]
[candidates]
max_sites = 2
[potential]
level = 2
cutoff = 3.5
[oracle]
kind = "ase"
calculator = "tests.oracles.faulty:factory"
parameters = { faults = { CuPd = "push" } }
attempts = 3
[learning]
budget = 12
"""


def test_a_contradiction_is_not_tried_again(tmp_path):
    config, run = tmp_path / "campaign.toml", tmp_path / "run"
    config.write_text(CAMPAIGN, encoding="utf-8")
    assert in_process("run", config, "--output", run).returncode == 0
    with ase.db.connect(run / "oracle.db") as database:
        failed = [row for row in database.select() if row.status != "done"]
    assert len({row.key for row in failed}) == len(failed) == 2
    for row in failed:
        assert row.status == "quarantined"
        assert "contradict each other" in row.data["error"]
    # The run knows it again, and does not go back to them.
    assert in_process("run", config, "--output", run).returncode == 0
    with ase.db.connect(run / "oracle.db") as database:
        assert database.count() == 2 + len(failed)
