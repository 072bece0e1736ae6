"""Folders of calculations: what stays there, for whom, and how much of it."""

from __future__ import annotations

import json

import pytest

from latticesearch.oracles import OracleJob, dispatch
from latticesearch.oracles.scratch import (
    MAX_BYTES,
    attempt_folder,
    fingerprint,
    folder_of,
    forget_done,
    locked,
    under_way,
    waiting_time,
)
from tests.fakes.counting import calls
from tests.fakes.driver import jobs, oracle
from tests.oracles.test_ase_process import PAIR, faulty, job

STRUCTURE = {"numbers": [1, 2], "positions": [[0.0, 0.0, 1.5]], "pbc": [True]}


def starts(folder):
    return [formula for what, formula, _ in calls(folder / "calls.txt") if what == "start"]


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_names_of_folders_are_short_safe_and_different(tmp_path):
    keys = ["s2-1.0.1.1.1.2-AB", "s2-1.0.1.1.1.2-ab", "A" * 5000, "A" * 5001, "../..", "", "ü/ö"]
    names = [folder_of(tmp_path, key).relative_to(tmp_path).as_posix() for key in keys]
    assert len({name.lower() for name in names}) == len(keys)
    assert all(len(name) <= 60 and name[0] not in ".-" and "/" not in name for name in names)
    assert names[0].startswith("s2-1.0.1.1.1.2-AB")


def test_fingerprints_know_method_and_structure_but_not_rounding():
    one = fingerprint({"fmax": 0.01}, STRUCTURE)
    near = {**STRUCTURE, "positions": [[-1e-12, 0.0, 1.5 + 1e-12]]}
    far = {**STRUCTURE, "positions": [[0.0, 0.0, 1.501]]}
    assert fingerprint({"fmax": 0.01}, near) == one
    assert fingerprint({"fmax": 0.01}, far) != one
    assert fingerprint({"fmax": 0.02}, STRUCTURE) != one


def test_a_reply_waits_until_its_result_is_stored(tmp_path):
    with oracle(tmp_path) as source:
        results = source.run(jobs(2))
        assert next(results).key == "H"
        assert (source.folder(jobs(1)[0]) / "reply.json").exists()
        # This caller ends before it has stored anything.
        results.close()
    with oracle(tmp_path) as source:
        results = source.run(jobs(2))
        assert next(results).energy == -1.0
        assert starts(tmp_path) == ["H"]
        assert next(results).energy == -2.0
        assert not source.folder(jobs(1)[0]).exists()
        assert list(results) == []
    assert starts(tmp_path) == ["H", "He"]
    assert files(tmp_path / "scratch") == []


def test_replies_to_other_questions_are_not_taken(tmp_path):
    def first_of(source, atoms):
        results = source.run([OracleJob("key", atoms)])
        energy = next(results).energy
        results.close()
        return energy

    hydrogen, helium = (one.atoms for one in jobs(2))
    with oracle(tmp_path) as source:
        assert first_of(source, hydrogen) == -1.0
        assert first_of(source, helium) == -2.0
    with oracle(tmp_path, who="Li", what="hang") as other:
        assert first_of(other, helium) == -2.0
    assert starts(tmp_path) == ["H", "He", "He"]


def test_a_reply_that_is_damaged_is_computed_again(tmp_path):
    folder = attempt_folder(tmp_path / "scratch", "H", 1)
    folder.mkdir(parents=True)
    (folder / "reply.json").write_text('{"key": "H", "rep')
    with oracle(tmp_path) as source:
        assert [r.status for r in source.run(jobs(1))] == ["done"]


def test_failures_found_in_the_folder_count_once_and_are_then_repeated(tmp_path):
    settings = {"relax_cell": False, "relax_ions": False, "scratch": tmp_path}
    for fault in ("exit", "raise"):
        with faulty(fault, **settings) as source:
            results = source.run([job(PAIR, fault)])
            first = next(results)
            results.close()
            # Not stored: the next campaign gets it from the folder.
            assert (source.folder(job(PAIR, fault)) / "reply.json").exists()
            (again,) = source.run([job(PAIR, fault)])
            assert (again.status, again.error, again.seconds) == (
                *("failed", first.error, first.seconds),
            )
            # Stored: if it is asked for once more, somebody means it.
            (new,) = source.run([job(PAIR, fault)])
            assert new.status == "failed"
            assert new.seconds != first.seconds


def test_failed_calculations_keep_their_files_cut_down(tmp_path):
    with faulty("files", relax_cell=False, relax_ions=False, scratch=tmp_path) as source:
        results = list(source.run([job(["Cu"]), job(PAIR), job(PAIR, attempt=2)]))
        assert [r.status for r in results] == ["done", "failed", "failed"]
    structure = folder_of(tmp_path, "Cu-Pd")
    assert [path.name for path in tmp_path.iterdir()] == [structure.name]
    assert sum(p.stat().st_size for p in structure.rglob("*") if p.is_file()) <= MAX_BYTES
    for attempt in ("attempt-1", "attempt-2"):
        kept = structure / attempt
        assert (kept / "OUTCAR").read_text().endswith("one line of many\n")
        assert (kept / "small.txt").read_text() == "small"
        assert not (kept / "WAVECAR").exists()
        assert json.loads((kept / "failed.json").read_text())["key"] == "Cu-Pd"
    note = (structure / "NOTE.txt").read_text()
    assert "attempt-1/WAVECAR: 30000000 bytes, removed" in note
    assert "attempt-2/OUTCAR: 34000000 bytes, the last 200000 kept" in note


def test_leftovers_of_what_is_stored_can_be_removed(tmp_path):
    with oracle(tmp_path) as source:
        for one in jobs(2):
            results = source.run([one])
            next(results)
            results.close()
    forget_done(tmp_path / "scratch", ["H", "Li"])
    assert [p.name for p in (tmp_path / "scratch").iterdir()] == [
        folder_of(tmp_path / "scratch", "He").name
    ]
    forget_done(tmp_path / "nowhere", ["H"])


def test_a_lock_says_how_long_to_wait(tmp_path):
    assert waiting_time(tmp_path) is None
    with locked(tmp_path, 7.5):
        assert waiting_time(tmp_path) == pytest.approx(7.5)
    assert waiting_time(tmp_path) is None


def test_a_folder_that_is_held_for_ever_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "_MARGIN", 0.0)
    with oracle(tmp_path, grace=0.0) as source:
        folder = source.folder(jobs(1)[0])
        folder.mkdir(parents=True)
        (folder / "OUTCAR").write_text("somebody's")
        with locked(folder.parent, 0.0):
            assert [r.status for r in source.run(jobs(1))] == ["done"]
    assert files(tmp_path / "scratch") == [
        f"{folder.parent.name}/attempt-1/OUTCAR",
        f"{folder.parent.name}/lock",
    ]


def test_what_is_under_way_is_listed_while_it_is(tmp_path):
    for name in ("busy", "idle"):
        (tmp_path / name).mkdir()
    with locked(tmp_path / "idle", 5.0):
        pass
    with locked(tmp_path / "busy", 5.0):
        found = under_way(tmp_path)
        assert list(found) == ["busy"]
        assert 0.0 <= found["busy"] < 60.0
    assert under_way(tmp_path) == {}
