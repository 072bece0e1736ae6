"""Active learning: which structures the oracle should check, and when to stop asking."""

from __future__ import annotations

from latticesearch.learning.candidates import CandidateSet
from latticesearch.learning.choices import Choice
from latticesearch.learning.ending import End
from latticesearch.learning.loop import Beginning, Fitted, LearningOptions, Round, learn
from latticesearch.learning.selection import ActiveSet, effective_rows

__all__ = [
    "ActiveSet",
    "Beginning",
    "CandidateSet",
    "Choice",
    "End",
    "Fitted",
    "LearningOptions",
    "Round",
    "effective_rows",
    "learn",
]
