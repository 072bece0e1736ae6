"""What the benchmark makes of its runs: counts of runs, and of cases by their means."""

from __future__ import annotations

import pytest

from latticesearch.bench.search import summary


def test_runs_and_cases_are_counted_apart() -> None:
    """A case whose runs are better and worse counts once, by the mean over its seeds."""
    ends = {54: [(0.0, 2.0), (1.0, 0.0)], 64: [(0.0, 0.0), (0.0, 0.0)], 128: [(0.8, 0.0)]}
    rows = [
        {
            "model": "some", "sites": sites, "composition": "off", "budget": 10,
            "search": search, "annealing": annealing,
            "search_seconds": 0.5, "annealing_seconds": 0.25,
        }
        for sites, runs in ends.items()
        for search, annealing in runs
    ]  # fmt: skip
    (line,) = summary(rows)
    assert (line["runs"], line["cases"]) == (5, 3)
    assert line["better"] == pytest.approx(1 / 5)
    assert line["both_best"] == pytest.approx(2 / 5)
    assert line["worse_by_more_than_half"] == pytest.approx(2 / 5)
    assert line["cases_better"] == pytest.approx(1 / 3)
    assert line["cases_same"] == pytest.approx(1 / 3)
    assert line["worst_case"] == pytest.approx(0.8)
    assert line["worst"] == pytest.approx(1.0)
