"""Structures with energies from files of many formats, and why some of them cannot be used.

`types` says what a frame is, `collections` reads files of many structures, `outputs` the results of
one calculation each, `reading` finds the files and who can read them, and `steps` tells relaxations
from calculations done twice.
"""

from __future__ import annotations

from latticesearch.frames.collections import is_ase_database
from latticesearch.frames.reading import read_all, read_frames
from latticesearch.frames.steps import may_be_next_step
from latticesearch.frames.types import (
    NO_ENERGY,
    NOT_CONVERGED,
    NOT_LAST,
    UNREADABLE,
    Frame,
    Reading,
    Refusal,
    Refusals,
)

__all__ = [
    "NOT_CONVERGED",
    "NOT_LAST",
    "NO_ENERGY",
    "UNREADABLE",
    "Frame",
    "Reading",
    "Refusal",
    "Refusals",
    "is_ase_database",
    "may_be_next_step",
    "read_all",
    "read_frames",
]
