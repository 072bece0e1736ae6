from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from latticesearch.report.placement import place_labels, spread_apart


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.001, 0.2))
def test_spread_labels_keep_order_distance_and_interval(wanted, gap):
    wanted = np.sort(wanted)
    places = spread_apart(wanted, gap, 0.0, 1.0)
    room = min(gap, 1 / max(len(wanted) - 1, 1))
    assert (np.diff(places) >= room - 1e-9).all()
    assert places.min() >= -1e-9
    assert places.max() <= 1 + 1e-9


def test_labels_with_room_stay():
    np.testing.assert_allclose(spread_apart(np.array([0.1, 0.5, 0.9]), 0.1, 0, 1), [0.1, 0.5, 0.9])


def test_a_crowd_spreads_around_its_middle():
    np.testing.assert_allclose(spread_apart(np.array([0.5, 0.5]), 0.1, 0, 1), [0.45, 0.55])


def test_placed_labels_overlap_neither_each_other_nor_points():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 500, (16, 2))
    sizes = np.tile([45.0, 14.0], (16, 1))
    centres = place_labels(points, sizes, points, np.empty((0, 2, 2)), 8.0)
    apart = np.abs(centres[:, None] - centres[None]) >= (sizes[:, None] + sizes[None]) / 2
    assert (apart.any(axis=2) | np.eye(16, dtype=bool)).all()
    covered = (np.abs(centres[:, None] - points[None]) < sizes[:, None] / 2).all(axis=2)
    assert not covered.any()
    assert (np.linalg.norm(centres - points, axis=1) < 70).all()


def test_no_labels_need_no_room():
    assert place_labels(
        np.empty((0, 2)), np.empty((0, 2)), np.empty((0, 2)), np.empty((0, 2, 2)), 1
    ).shape == (0, 2)
