"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: one line that says what is wrong, the values met, and what to do.

    The command line prints the message alone and exits with code 2.
    """
