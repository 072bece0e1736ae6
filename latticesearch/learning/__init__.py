"""Active learning: which structures the oracle should check, and when to stop asking."""

from __future__ import annotations

from latticesearch.learning.acquisition import Choice, choose, initial_choice
from latticesearch.learning.candidates import CandidateSet
from latticesearch.learning.loop import Fitted, Known, LearningOptions, Round, learn
from latticesearch.learning.selection import ActiveSet, effective_rows

__all__ = [
    "ActiveSet",
    "CandidateSet",
    "Choice",
    "Fitted",
    "Known",
    "LearningOptions",
    "Round",
    "choose",
    "effective_rows",
    "initial_choice",
    "learn",
]
