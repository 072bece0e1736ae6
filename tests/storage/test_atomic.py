import os

import pytest

from latticesearch.storage import atomic
from latticesearch.storage.atomic import (
    clean_up,
    replace_directory,
    write_bytes_atomic,
    write_text_atomic,
)


class PowerCut(BaseException):
    pass


def fail(*_args, **_kwargs):
    raise PowerCut


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_files_are_replaced(tmp_path):
    path = tmp_path / "file.txt"
    write_text_atomic(path, "Å old")
    write_text_atomic(path, "Å new")
    assert path.read_text(encoding="utf-8") == "Å new"
    assert names(tmp_path) == ["file.txt"]


def test_new_files_have_ordinary_permissions(tmp_path):
    write_bytes_atomic(tmp_path / "ours", b"")
    (tmp_path / "ordinary").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "file.txt"
    write_text_atomic(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os if call == "fsync" else type(path), call, fail)
        with pytest.raises(PowerCut):
            write_text_atomic(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_content_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    path = tmp_path / "file.txt"
    real_fsync, real_replace = os.fsync, type(path).replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("sync"), real_fsync(fd)))
    monkeypatch.setattr(
        type(path), "replace", lambda a, b: (calls.append("name"), real_replace(a, b))[1]
    )
    write_text_atomic(path, "new")
    assert calls == ["sync", "name", "sync"]


def test_a_directory_holds_exactly_the_new_files(tmp_path):
    folder = tmp_path / "stable"
    replace_directory(folder, {"a": b"1", "b": b"2"})
    replace_directory(folder, {"b": b"3", "c": b"4"})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"b": b"3", "c": b"4"}
    assert names(tmp_path) == ["stable"]
    replace_directory(folder, {})
    assert names(folder) == []


def test_a_failure_leaves_the_old_directory(tmp_path, monkeypatch):
    folder = tmp_path / "stable"
    replace_directory(folder, {"a": b"1"})
    rename = type(folder).rename
    for failing_rename in (0, 1):
        count = iter(range(10))

        def sometimes(path, target, failing=failing_rename, count=count):
            return fail() if next(count) == failing else rename(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(type(folder), "rename", sometimes)
            with pytest.raises(PowerCut):
                replace_directory(folder, {"b": b"2"})
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"a": b"1"}
        assert names(tmp_path) == ["stable"]


def test_what_a_killed_writer_left_is_cleaned_up(tmp_path):
    # Killed between the two renames, and while writing a file and a folder.
    (tmp_path / ".stable.old").mkdir()
    (tmp_path / ".stable.old" / "a").write_bytes(b"1")
    (tmp_path / ".stable.1-0.tmp").mkdir()
    (tmp_path / ".hull.csv.1-1.tmp").write_bytes(b"half")
    # Killed before the old folder was removed.
    (tmp_path / "figures").mkdir()
    (tmp_path / ".figures.old").mkdir()
    clean_up(tmp_path)
    assert names(tmp_path) == ["figures", "stable"]
    assert names(tmp_path / "stable") == ["a"]


def test_an_old_directory_in_the_way_is_no_obstacle(tmp_path):
    replace_directory(tmp_path / "stable", {"a": b"1"})
    (tmp_path / ".stable.old").mkdir()
    (tmp_path / ".stable.old" / "x").write_bytes(b"0")
    replace_directory(tmp_path / "stable", {"b": b"2"})
    assert names(tmp_path / "stable") == ["b"]
    assert atomic._OLD not in "".join(names(tmp_path))
