from __future__ import annotations

import io
import logging

from latticesearch.progress import StreamProgress


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
