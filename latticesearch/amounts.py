"""Durations and sizes of memory as people write them."""

from __future__ import annotations

import re

from latticesearch.errors import InputError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MEGABYTES = {"M": 1, "G": 1024, "T": 1024**2}


def seconds(text: str) -> float:
    """Return the seconds of a duration.

    Parameters
    ----------
    text
        A number with s, m, h or d, such as "90m", "1.5h" or "2h30m", or Slurm's way to write it:
        "[days-]hours:minutes:seconds".

    Raises
    ------
    InputError
        It is none, or no time at all.
    """
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text.strip())
    parts = re.findall(r"(\d+(?:\.\d*)?)\s*([smhd])", text)
    found = 0.0
    if clock:
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        found = float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
    elif not re.sub(r"\d+(?:\.\d*)?\s*[smhd]", "", text).strip():
        found = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not found > 0:
        raise InputError(f'{text!r} is no duration: write "24h", "90m", "2h30m" or "1-00:00:00"')
    return found


def megabytes(text: str) -> int:
    """Return the megabytes of a size of memory such as "4G" or "800M".

    Raises
    ------
    InputError
        It is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([MGT])B?", text.strip())
    if found is None or not float(found[1]) > 0:
        raise InputError(f'{text!r} is no size of memory: write "800M" or "4G"')
    return max(1, round(float(found[1]) * _MEGABYTES[found[2]]))
