"""Naive twin of the extrapolation grade: determinants, straight from the definition."""

from __future__ import annotations

import numpy as np


def grade(active, row):
    """Largest factor by which exchanging one row of `active` for `row` changes |det|."""
    factors = []
    for j in range(len(active)):
        changed = active.copy()
        changed[j] = row
        factors.append(abs(np.linalg.det(changed) / np.linalg.det(active)))
    return max(factors)
