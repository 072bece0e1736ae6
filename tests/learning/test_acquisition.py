"""What the oracle is asked next, and how the errors that decide it are estimated."""

from __future__ import annotations

import numpy as np
import pytest

from latticesearch.learning.acquisition import (
    GRADE,
    NEAR_HULL,
    VERTEX,
    State,
    Thresholds,
    choose,
    initial_choice,
)
from latticesearch.learning.spreads import (
    COMPOSITION_RANGE,
    NOISE,
    expected_errors,
    spread_out,
)
from tests.reference.learning import expected_errors as naive_errors
from tests.reference.learning import most_uncertain


def random_problem(n=40, m=7, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.dirichlet(np.ones(3), n)
    training = rng.choice(n, 12, replace=False)
    return rng.normal(size=(n, m)), x, training, rng.normal(0, 0.003, 12)


def test_expected_errors_equal_the_naive_posterior():
    rows, x, training, left_out = random_problem()
    rows[:, 3] = 1.0  # a column without information
    expected = naive_errors(rows, x, training, left_out, noise=NOISE, reach=COMPOSITION_RANGE)
    np.testing.assert_allclose(expected_errors(rows, x, training, left_out), expected, rtol=1e-8)


def test_expected_errors_grow_with_the_errors_and_away_from_the_training_set():
    rows, x, training, left_out = random_problem()
    errors = expected_errors(rows, x, training, left_out)
    np.testing.assert_allclose(expected_errors(rows, x, training, 2 * left_out), 2 * errors)
    same_everywhere = np.ones_like(x) / 3
    plain = expected_errors(rows, same_everywhere, training, left_out)
    others = np.setdiff1d(np.arange(len(rows)), training)
    assert plain[training].max() < np.median(plain[others])


def test_spread_out_takes_the_most_uncertain_each_time():
    rows, *_ = random_problem()
    pool = np.arange(5, 40)
    expected = most_uncertain(rows, [0, 1], pool, 10, noise=NOISE)
    assert spread_out(rows, [0, 1], pool, 10) == expected
    assert sorted(spread_out(rows, [], pool, 99)) == pool.tolist()


def test_the_first_choice_is_end_members_then_small_cells_then_spread():
    rng = np.random.default_rng(2)
    x = np.array([[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5], *([0.25, 0.75] for _ in range(20))])
    sites = np.array([1, 1, 2, 2, *[4] * 20])
    choices = initial_choice(rng.normal(size=(24, 5)), x, sites, 8)
    assert [c.index for c in choices[:4]] == [0, 1, 2, 3]
    assert [c.reason for c in choices] == ["end member"] * 2 + ["initial"] * 6
    assert len({c.index for c in choices}) == 8
    assert len(initial_choice(rng.normal(size=(24, 5)), x, sites, 1)) == 2


@pytest.fixture
def binary():
    """Two elements and eight structures: (state, grades, rows)."""
    x1 = np.array([0.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.75, 0.75, 0.5])
    predicted = np.array([0, 0, -0.100, -0.130, -0.096, -0.062, 0.3, -0.048, -0.0499, 0.4])
    true = np.full(10, np.nan)
    true[[0, 1, 2]] = 0.0, 0.0, -0.100
    closed = np.isfinite(true)
    closed[9] = True  # asked, and failed
    state = State(np.stack([1 - x1, x1], axis=1), predicted, true, closed)
    return state, np.ones(10), np.random.default_rng(0).normal(size=(10, 4))


def ask(binary, number=5, spread=0.002, window=0.02):
    state, grades, rows = binary
    thresholds = Thresholds(window, gain=0.0002, grade=2.0)
    chosen = choose(state, np.full(10, spread), grades, rows, thresholds, number)
    return [(c.index, c.reason) for c in chosen]


def test_predicted_vertices_come_first_then_what_errors_could_make_stable(binary):
    # 3 undercuts the known vertex by 30 meV; with it there, 5 and 8 lie 3 and 15 meV above.
    assert ask(binary) == [(3, VERTEX), (5, NEAR_HULL)]
    assert ask(binary, spread=0.010) == [
        (3, VERTEX),
        (5, NEAR_HULL),
        (8, NEAR_HULL),
        (7, NEAR_HULL),
    ]
    assert ask(binary, number=1) == [(3, VERTEX)]


def test_nothing_asked_before_is_asked_again(binary):
    everything = ask(binary, number=10, spread=1.0, window=10.0)
    assert not {0, 1, 2, 9} & {i for i, _ in everything}
    assert len(everything) == len({i for i, _ in everything}) == 6


def test_extrapolation_gets_its_share_unless_far_above_the_hull(binary):
    state, grades, rows = binary
    grades = np.array([1, 1, 1, 1, 5.0, 1, 9.0, 1, 1, 1])
    chosen = ask((state, grades, rows), number=3)
    assert chosen == [(3, VERTEX), (5, NEAR_HULL), (4, GRADE)]
