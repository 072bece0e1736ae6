"""The exceptions whose message is meant for the user: each is one line and no traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class InputError(ValueError):
    """Bad input: one line that says what is wrong, the values met, and what to do.

    The command line prints the message alone and exits with code 2.
    """


class DamagedError(InputError):
    """A file of a run directory that cannot be read any more.

    Parameters
    ----------
    what
        What is wrong.
    way_out
        What to do, with the command to type.
    """

    def __init__(self, what: str, way_out: str = "") -> None:
        super().__init__(f"{what}; {way_out}" if way_out else what)
        self.what, self.way_out = what, way_out


class OracleUnavailable(RuntimeError):  # noqa: N818 - a state of the world, not of the program
    """No structure can be computed: the calculator does not start, or something ends it.

    The message says what the calculator printed last. No structure is to blame, so nothing
    counts as an attempt; once the cause is repaired the same call goes on.
    """


class Stopped(Exception):  # noqa: N818 - nothing is wrong
    """The run ends before its end, in order: a signal or a time limit asked for it.

    Whatever was computed is on disk, and the same command goes on. The command line exits with
    code 75 (the system's EX_TEMPFAIL: try again later).
    """


class Waiting(Stopped):
    """The run ends before its end, in order: it needs energies that others compute.

    Parameters
    ----------
    keys
        Canonical keys of the structures that are wanted.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        number = f"{len(keys)} {'energy' if len(keys) == 1 else 'energies'}"
        super().__init__(f"waiting for {number}")
        self.keys = tuple(keys)

    def __reduce__(self) -> tuple[type[Waiting], tuple[tuple[str, ...]]]:
        """Travel between processes with the keys."""
        return Waiting, (self.keys,)
