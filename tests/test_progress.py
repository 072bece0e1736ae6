from __future__ import annotations

import io
import logging
import os
import sys

import pytest

from latticesearch.progress import StreamProgress, duration, is_watched, rate


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_that_vanishes():
    times = iter([0.0, 1.0, 2.0])
    stream = Terminal()
    progress = StreamProgress(stream, clock=lambda: next(times))
    progress.start("oracle", 8)
    progress.advance(2)
    progress.advance(4)
    progress.finish()
    text = stream.getvalue()
    assert "oracle: 2 of 8, 2.0 per second, 3 s left" in text
    assert "oracle: 4 of 8, 2.0 per second, 2 s left" in text
    assert text.endswith("\r\033[K")


def test_a_file_gets_few_lines(caplog):
    times = iter([0.0, 1.0, 25.0, 26.0])
    progress = StreamProgress(io.StringIO(), clock=lambda: next(times))
    with caplog.at_level(logging.INFO, logger="latticesearch.progress"):
        progress.start("oracle", 100)
        for done in (1, 50, 51):
            progress.advance(done)
        progress.finish()
    assert [r.getMessage() for r in caplog.records] == [
        "oracle: 50 of 100, 2.0 per second, 25 s left"
    ]


def test_what_was_there_before_is_no_pace():
    times = iter([0.0, 100.0])
    stream = Terminal()
    progress = StreamProgress(stream, clock=lambda: next(times))
    progress.start("oracle", 28, done=12)
    progress.advance(13)
    assert "oracle: 13 of 28, 36.0 per hour, 25 min left" in stream.getvalue()


@pytest.mark.parametrize(
    ("per_second", "words"),
    [(20.0, "20.0 per second"), (0.05, "3.0 per minute"), (0.001, "3.6 per hour")],
)
def test_slow_rates_are_per_minute_or_hour(per_second, words):
    assert rate(per_second) == words


def test_long_times_are_in_minutes_and_hours():
    assert [duration(s) for s in (12.3, 600.0, 30000.0)] == ["12 s", "10 min", "8.3 h"]


@pytest.mark.parametrize(("target", "seen"), [("/dev/pts/3", True), ("/home/me/log", False)])
def test_what_mpirun_passes_on_to_a_terminal_is_watched(tmp_path, monkeypatch, target, seen):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for number, parent, name in ((os.getpid(), 7, "python"), (7, 5, "proxy"), (5, 1, "mpirun")):
        (tmp_path / str(number) / "fd").mkdir(parents=True)
        (tmp_path / str(number) / "stat").write_text(f"{number} ({name}) S {parent} 0 0")
        (tmp_path / str(number) / "fd" / "2").symlink_to(target)
    assert is_watched(sys.stderr, tmp_path) is seen


def test_a_pipe_of_nobody_is_not_watched(tmp_path):
    assert not is_watched(io.StringIO(), tmp_path)
