"""Symmetrically distinct superlattices and labelings: how many there are, and all of them."""

from __future__ import annotations

from latticesearch.enumeration.counting import count_labelings
from latticesearch.enumeration.generation import enumerate_labelings
from latticesearch.enumeration.restrictions import (
    Restrictions,
    count_bounds,
    require_possible,
)
from latticesearch.enumeration.sampling import sample_labelings
from latticesearch.enumeration.superlattices import (
    LARGEST_INDEX,
    all_superlattices,
    superlattices,
)

__all__ = [
    "LARGEST_INDEX",
    "Restrictions",
    "all_superlattices",
    "count_bounds",
    "count_labelings",
    "enumerate_labelings",
    "require_possible",
    "sample_labelings",
    "superlattices",
]
