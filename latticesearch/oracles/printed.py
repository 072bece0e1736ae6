"""What calculators print and say, made fit for one line of a table.

A calculator may print gigabytes, escape sequences and bytes that are no text: only the end of it
is read, and only harmless characters are kept.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_ERROR_LENGTH = 500
"""Characters of an error message that are kept."""
LAST_LINES = 5
"""Lines of what was printed that are kept with an error."""
MAX_PRINTED_LENGTH = 500
"""Characters of these lines that are kept: the last ones."""
_TAIL_BYTES = 1 << 16
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-_])")
_FATAL = "Fatal Python error"


def harmless(text: str) -> str:
    """Return text in one line, without control characters and escape sequences."""
    text = _ESCAPES.sub("", text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def text_of(error: BaseException) -> str:
    """Return the message of an exception, shortened; some cannot even be printed."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide that there was an error
        text = "(its message cannot be printed)"
    return text[: 4 * MAX_ERROR_LENGTH]


def described(error: BaseException) -> str:
    """Return kind and message of an exception in one line."""
    text = harmless(text_of(error))
    return f"{type(error).__name__}{': ' if text else ''}{text}"[:MAX_ERROR_LENGTH]


def last_lines(path: Path) -> str:
    """Return the last lines of a file, with ``|`` between them; "" where there are none.

    What Python itself wrote there when it crashed comes first, without its list of frames.
    """
    text = _tail(path)
    before, found, crash = text.partition(_FATAL)
    lines = [line for raw in before.splitlines() if (line := harmless(raw))]
    printed = " | ".join(lines[-LAST_LINES:])[-MAX_PRINTED_LENGTH:]
    if not found:
        return printed
    fatal = harmless(_FATAL + crash.partition("\n")[0])[:MAX_ERROR_LENGTH]
    return f"{fatal} | {printed}" if printed else fatal


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            return file.read(_TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""
