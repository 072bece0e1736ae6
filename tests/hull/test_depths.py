"""Depths are those of the slow twin, whichever way they are found."""

from __future__ import annotations

import numpy as np
import pytest

from latticesearch.hull import Hull, depths
from tests.reference import hull as naive


def points(n_components, n, seed, *, flat=False):
    """Return end members and `n` compositions on a coarse grid, where many coincide."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, size=(n, n_components)).astype(float)
    counts = counts[counts.sum(axis=1) > 0]
    x = np.vstack([np.eye(n_components), counts / counts.sum(axis=1, keepdims=True)])
    spread = 1.0 - (x**2).sum(axis=1)
    energies = -spread if flat else -spread * rng.random(len(x))
    energies[:n_components] = 0.0
    return x, energies


@pytest.mark.parametrize("way", ["exchanges", "by index", "programme"])
@pytest.mark.parametrize("n_components", [2, 3, 4, 6, 8])
def test_every_way_finds_the_depths_of_the_slow_twin(way, n_components, monkeypatch):
    if way == "by index":
        monkeypatch.setattr(depths, "_EXCHANGES", -1)
    if way == "programme":
        monkeypatch.setattr(depths, "_MAX_EXCHANGES", 0)
    x, energies = points(n_components, 60, seed=n_components)
    hull = Hull(x, energies)
    expected = naive.depths(x, energies)[hull.vertices]
    np.testing.assert_allclose(hull.depths, expected, atol=1e-9)
    among = naive.depths(x[hull.vertices], energies[hull.vertices])
    np.testing.assert_allclose(hull.stabilities, among, atol=1e-9)


@pytest.mark.parametrize("n_components", [3, 5])
def test_ties_make_no_circles(n_components):
    # On a paraboloid, seen from a grid, many sets of corners lie in one plane.
    x, energies = points(n_components, 80, seed=1, flat=True)
    hull = Hull(x, energies)
    expected = naive.depths(x, energies)[hull.vertices]
    np.testing.assert_allclose(hull.depths, expected, atol=1e-9)


def test_end_members_are_as_deep_as_their_next_best():
    x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    hull = Hull(x, [0.0, 0.3, 0.0, -0.1])
    assert hull.depths.tolist() == pytest.approx([0.3, np.inf, 0.1])
