"""What no calculation of a solid can have returned; total energies are not judged."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from latticesearch.oracles.sanity import what_is_wrong

START = bulk("Au", "fcc", a=4.1, cubic=True)


def reply(**changes):
    return {
        "energy": -4 * 518320.0,
        "forces": np.zeros((4, 3)),
        "stress": np.zeros(6),
        "numbers": [79] * 4,
        "positions": START.positions,
        "cell": np.array(START.cell),
        "converged": True,
        "steps": 3,
        "residual": 0.0,
        **changes,
    }


def stretched(*factors):
    return np.array(START.cell) * np.array(factors)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"energy": 1e12},
        {"forces": None, "stress": None},
        {"forces": np.full((4, 3), 100.0)},
        {"cell": stretched(1.26, 0.9, 0.9)},
        {"cell": stretched(1.5, 1.5, 1.5)},
        # A cell of vacancies may become a crystal without them.
        {"cell": stretched(0.8, 0.8, 0.5)},
    ],
)
def test_unusual_results_are_results(changes):
    assert what_is_wrong(START, reply(**changes)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy": np.nan}, r"not finite \(energy\)"),
        ({"forces": np.full((4, 3), np.inf)}, r"not finite \(forces\)"),
        ({"stress": np.full(6, np.nan)}, r"not finite \(stress\)"),
        ({"positions": START.positions * np.nan}, r"not finite \(positions\)"),
        ({"forces": np.zeros((3, 3))}, r"forces of shape \(3, 3\) instead of \(4, 3\)"),
        ({"stress": np.zeros(9)}, r"stress of shape \(9,\) instead of \(6,\)"),
        ({"numbers": [79] * 5}, "the number of atoms from 4 to 5"),
        ({"numbers": [79, 79, 79, 47]}, "the species"),
        ({"converged": False}, "not converged in 3 steps"),
        ({"forces": np.full((4, 3), 1e4)}, r"a force of 1.73e\+04 eV/Å is absurd"),
        ({"cell": stretched(1.6, 1.6, 1.6)}, "volume went from 17.2 to 70.6 Å³/atom: absurd"),
        ({"cell": stretched(0.6, 0.6, 0.6)}, "volume went from 17.2 to 3.72 Å³/atom: absurd"),
        ({"cell": stretched(3.5, 0.6, 0.6)}, "stretched by a factor of 3.5 in one direction"),
        ({"cell": stretched(-1, 1, 1)}, "turned inside out"),
        ({"cell": stretched(0, 1, 1)}, "turned inside out"),
        ({"error": "SCFError: no"}, "^SCFError: no$"),
    ],
)
def test_what_cannot_be_is_said(changes, message):
    import re

    error = what_is_wrong(START, reply(**changes))
    assert error is not None
    assert re.search(message, error), error
