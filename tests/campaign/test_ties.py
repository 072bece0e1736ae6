from __future__ import annotations

import numpy as np

from latticesearch.campaign.ties import NOISE, levelled
from latticesearch.hull import Hull


def test_of_structures_as_good_as_each_other_the_first_is_on_the_hull():
    x = np.array([[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.25, 0.75]])
    energies = np.array([0, 0, -0.2 + 0.5 * NOISE, -0.2, -0.2 + 2 * NOISE, -0.1])
    assert Hull(x, energies).vertices.tolist() == [0, 1, 3]
    hull = Hull(x, levelled(x, energies))
    assert hull.vertices.tolist() == [0, 1, 2]
    # The other one could take its place, and the hull says so.
    assert hull.depths[2] == 0.0


def test_what_differs_by_more_than_noise_stays_as_it_is():
    rng = np.random.default_rng(0)
    x = rng.dirichlet(np.ones(3), 20)
    energies = rng.normal(size=20)
    np.testing.assert_array_equal(levelled(x, energies), energies)
    assert levelled(np.empty((0, 2)), np.empty(0)).shape == (0,)
