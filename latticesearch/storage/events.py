"""The log of a run: one event per line, each durable before the next is written."""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


class EventLog:
    """A JSON-lines file that is only ever appended to.

    Parameters
    ----------
    path
        The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def repair(self) -> None:
        """Remove a last line that a crash cut off; call it only while no other writes."""
        if not self._path.exists():
            return
        data = self._path.read_bytes()
        complete = data[: data.rfind(b"\n") + 1]
        if len(complete) < len(data):
            log.warning("%s: removed a line that a crash cut off", self._path)
            with self._path.open("r+b") as file:
                file.truncate(len(complete))
                os.fsync(file.fileno())

    def append(self, event: str, **fields: Any) -> None:
        """Write one event with the time; on disk when this returns.

        Parameters
        ----------
        event
            What happened, one word.
        **fields
            What JSON can hold, and numpy's numbers and arrays; numbers that are not finite
            become null.
        """
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        record = {"time": now, "event": event, **{k: _plain(v) for k, v in fields.items()}}
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            while line:
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> list[dict[str, Any]]:
        """Return all complete events, oldest first."""
        if not self._path.exists():
            return []
        events = []
        for number, line in enumerate(self._path.read_bytes().split(b"\n")[:-1], start=1):
            try:
                events.append(json.loads(line))
            except ValueError:
                # The log informs; a damaged line (a disk once full) must not stop a campaign.
                log.warning("%s: line %d is damaged and left out", self._path, number)
        return events


def _plain(value: Any) -> Any:
    """Return `value` as JSON can hold it."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
