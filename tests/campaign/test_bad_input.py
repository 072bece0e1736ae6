"""Bad input gets one line, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import pytest

from tests.campaign.runs import in_process, latticesearch, write_config

OVERLAP = """overlapping
1.0
3.0 0.0 0.0
0.0 3.0 0.0
0.0 0.0 3.0
Cu Pd
1 1
Direct
0.0 0.0 0.0
0.0 0.0 0.05
"""

FILE_LATTICE = {"prototype": None, "a": None, "file": "parent.poscar"}

CASES = {
    "misspelt key": ({"learning": {"budgett": 3}}, "did you mean budget?"),
    "negative cutoff": ({"potential": {"cutoff": -5.0}}, "potential.cutoff = -5.0"),
    "cutoff below the first shell": ({"potential": {"cutoff": 2.0}}, "nearest neighbours"),
    "odd level": ({"potential": {"level": 7}}, "7"),
    "unknown prototype": ({"lattice": {"prototype": "fccc"}}, "fccc"),
    "no such element": ({"lattice": {"species": ["Cu", "Qq"]}}, "Qq"),
    "element EMT does not know": ({"lattice": {"species": ["Cu", "W"]}}, "W"),
    "nothing to decide": ({"lattice": {"species": ["Cu"]}}, "nothing to search"),
    "species twice": ({"lattice": {"species": ["Cu", "Cu"]}}, "Cu"),
    "impossible composition": ({"candidates": {"composition": {"Cu": 0.13}}}, "0.13"),
    "fractions above one": ({"candidates": {"composition": {"Cu": 0.7, "Pd": 0.7}}}, "1.4"),
    "foreign species": ({"candidates": {"composition": {"Au": 0.5}}}, "Au"),
    "missing table": ({"oracle": {"kind": "recorded", "file": "none.extxyz"}}, "none.extxyz"),
    "empty table": ({"oracle": {"kind": "recorded", "file": "empty.extxyz"}}, "empty.extxyz"),
    "no such calculator": ({"oracle": {"kind": "ase", "calculator": "no_such:thing"}}, "no_such"),
    "unreadable potential": ({"potential": {"file": "bad.mtp"}}, "bad.mtp"),
    "overlapping atoms": ({"lattice": FILE_LATTICE}, "apart"),
    "file that is no structure": ({"lattice": {**FILE_LATTICE, "file": "bad.mtp"}}, "bad.mtp"),
    "reference of a foreign element": ({"oracle": {"references": {"Au": -3.0}}}, "Au"),
    "two ways to say candidates": ({"candidates": {"supercell": [2, 2, 2]}}, "max_sites"),
    "singular supercell": (
        {"candidates": {"max_sites": None, "supercell": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}},
        "spans no volume",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_code_2_and_nothing_written(name, tmp_path):
    changes, message = CASES[name]
    (tmp_path / "parent.poscar").write_text(OVERLAP)
    (tmp_path / "bad.mtp").write_text("MTP\nversion = 1.1.0\nnonsense\n")
    (tmp_path / "empty.extxyz").write_text("")
    config = write_config(tmp_path, **changes)
    done = in_process("run", config, "--output", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    complaint = done.stderr.strip().splitlines()
    assert len(complaint) == 1, done.stderr
    assert complaint[0].startswith("latticesearch: ")
    assert message.lower() in complaint[0].lower()
    assert done.stdout == ""
    assert not (tmp_path / "run").exists()


def test_a_missing_campaign_file(tmp_path):
    done = latticesearch("run", tmp_path / "none.toml")
    assert done.returncode == 2
    assert "none.toml" in done.stderr


def test_an_output_directory_with_energies_of_another_method(tmp_path):
    config = write_config(tmp_path, learning={"budget": 4, "per_round": 1})
    first = in_process("run", config, "--output", tmp_path / "run")
    assert first.returncode == 0, first.stderr
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*"))
    for extra in ([], ["--resume"]):
        other = in_process(
            "run", config, "--output", tmp_path / "run", "--set", "lattice.a=3.9", *extra
        )
        assert other.returncode == 2
        assert "holds energies of another method: lattice.cell" in other.stderr
        assert "--output" in other.stderr
    after = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*"))
    locks = {tmp_path / "run" / ".lock"}
    assert [x for x in after if x[0] not in locks] == [x for x in before if x[0] not in locks]


def test_nothing_to_resume(tmp_path):
    done = in_process("run", write_config(tmp_path), "--output", tmp_path / "run", "--resume")
    assert done.returncode == 2
    assert "no run to resume" in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_output_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    done = in_process("run", write_config(tmp_path), "--output", tmp_path / "run")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.mpi
def test_two_ranks_complain_once(tmp_path):
    config = write_config(tmp_path, learning={"budgett": 3})
    done = latticesearch("run", config, "--output", tmp_path / "run", ranks=2)
    assert done.returncode == 2
    assert done.stderr.count("did you mean budget?") == 1
    assert not (tmp_path / "run").exists()


def test_init_writes_a_file_that_check_accepts(tmp_path):
    path = tmp_path / "campaign.toml"
    assert in_process("init", path).returncode == 0
    done = in_process("check", path)
    assert done.returncode == 0, done.stderr
    assert "1081" in done.stdout
    again = in_process("init", path)
    assert again.returncode == 2
    assert "exists already" in again.stderr
