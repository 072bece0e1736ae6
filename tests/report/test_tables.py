from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from latticesearch.report import hull_table, summary_line, summary_text
from latticesearch.report.tables import duration, mev


@pytest.fixture
def hull():
    return pd.DataFrame(
        {
            "formula": ["Mo", "MoTa", "Ta", "Mo3Ta"],
            "n_atoms": [1, 2, 1, 4],
            "space_group": ["Im-3m", "Pm-3m", "Im-3m", "P4/mmm"],
            "formation_energy": [0.0, -0.193796, -1e-17, -0.12],
            "energy_above_hull": [0.0, 0.0, 0.0, 0.00491],
            "x_Mo": [1, 0.5, 0, 0.75],
            "x_Ta": [0, 0.5, 1, 0.25],
            "cif": ["stable/1.cif", "stable/2.cif", "stable/3.cif", ""],
            "depth": [np.nan, 0.034, np.nan, np.nan],
        }
    )


def test_table_is_aligned_and_in_mev(hull):
    lines = hull_table(hull).splitlines()
    assert lines[0].split("  ")[0] == "formula"
    assert lines[3] == "MoTa     Pm-3m            2    -193.8       0.0     34.00  stable/2.cif"
    assert lines[5] == "Mo3Ta    P4/mmm           4    -120.0       4.9"
    assert "-0.0 " not in lines[4]
    assert len({line.index("meV/atom") for line in lines[1:2]}) == 1


def test_table_as_read_from_a_file(hull):
    text = hull.to_csv(index=False)
    again = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])
    assert hull_table(again) == hull_table(hull)


def test_empty_table_says_so(hull):
    assert hull_table(hull.iloc[:0]) == "no structure has been computed yet"


def test_summary_names_the_stable_and_counts_the_rest(hull):
    summary = {
        "name": "x",
        "stable": 3,
        "candidates": 331,
        "oracle_calls": 62,
        "rounds": 1,
        "failures": 2,
        "stop": "the hull stood still",
        "near_hull_error": 0.00183,
        "seconds": 171.3,
    }
    text = summary_text(hull, summary, "runs/x")
    assert "Mo3Ta" not in text
    assert "MoTa" in text
    assert "1 more computed" in text
    assert "3 stable structures, 331 candidates, 62 oracle calculations, 1 round," in text
    assert "near-hull error 1.8 meV/atom, 2 min 51 s" in text
    assert "stopped: the hull stood still" in text
    assert "2 structures without an energy" in text
    assert text.endswith("results: runs/x")


def test_summary_leaves_out_what_is_missing():
    assert summary_line({"stable": 1, "near_hull_error": None}) == "1 stable structure"
    assert summary_line({"near_hull_error": np.nan}) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.51, "0.5 s"), (59.7, "1 min 0 s"), (42, "42 s"), (3661, "1 h 1 min"), (125, "2 min 5 s")],
)
def test_durations_are_told_in_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text


def test_energies_are_rounded_to_what_matters():
    assert [mev(e) for e in (-1e-9, -0.0123456, np.nan)] == ["0.0", "-12.3", ""]


def test_the_summary_says_how_little_was_computed():
    summary = {"stable": 3, "candidates": 40, "possible": 329, "oracle_calls": 25, "rounds": 4}
    assert summary_line(summary) == (
        "3 stable structures; 25 oracle calculations out of 329 structures; 40 candidates, 4 rounds"
    )
