"""Exceptions that mean "the input is wrong" or "the machine is", never "the program is"."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: one line that says what is wrong, the values met, and what to do.

    The command line prints the message alone and exits with code 2.
    """


class OracleUnavailable(RuntimeError):  # noqa: N818 - a state of the world, not of the program
    """No structure can be computed: the calculator does not start, or something ends it.

    The message says what the calculator printed last. No structure is to blame, so nothing
    counts as an attempt; once the cause is repaired the same call goes on.
    """
