"""What a run has found, as tables, structures, entries and files.

`columns` says what the tables hold, `entries` what a structure with its energy is, `structures`
finds them by key, `cells` and `formats` turn them into files, and `run` puts all of it behind
one object.
"""

from __future__ import annotations

from latticesearch.results.entries import Entry
from latticesearch.results.formats import FORMATS, write_entries, write_training_set
from latticesearch.results.run import Run, load

__all__ = ["FORMATS", "Entry", "Run", "load", "write_entries", "write_training_set"]
