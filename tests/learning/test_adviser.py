"""What to compute next: the expected improvement of the hull, batches, pending answers, ranks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from latticesearch.errors import InputError
from latticesearch.hull import Hull
from latticesearch.learning.adviser import DILUTE, Adviser, Known
from latticesearch.learning.improvement import ExpectedImprovement, normal_improvement
from latticesearch.learning.pool import RowPool
from latticesearch.learning.replay import Record
from tests.fake_comm import run_ranks
from tests.learning.alloys import cluster_energies, fcc


@pytest.fixture(scope="module")
def record():
    parent, batches = fcc(5)
    return Record.of(parent, cluster_energies(parent, batches, seed=1))


def adviser_of(record, n_known=6, **more):
    others = np.setdiff1d(np.arange(len(record.keys)), record.ends)
    known = np.concatenate([record.ends, np.random.default_rng(2).permutation(others)[:n_known]])
    return Adviser(record.pool, Known(known, record.energies[known]), record.make_priors, **more)


@pytest.mark.parametrize("depth", [-0.02, 0.0, 0.013])
def test_improvement_is_the_integral_over_all_energies(depth):
    spread = 0.007
    expected, _ = quad(lambda e: max(e, 0.0) * norm.pdf(e, depth, spread), -0.2, 0.2, points=[0.0])
    found = normal_improvement(np.array(depth), np.array(spread))
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_first_choice_is_the_largest_improvement_of_all(record):
    adviser = adviser_of(record)
    taken = adviser.known.indices
    rest = np.setdiff1d(np.arange(len(record.keys)), taken)
    hull = Hull(record.pool.compositions[taken], adviser.formation_energies)
    level = hull.energy(record.pool.compositions[rest])
    worth = ExpectedImprovement()(adviser.predict(rest), level)
    (first,) = adviser.next_calculations(1)
    assert first.index == rest[worth.argmax()]
    assert first.worth == pytest.approx(worth.max())


def test_a_batch_is_what_single_choices_would_be_if_all_turned_out_as_predicted(record):
    adviser = adviser_of(record)
    batch = [one.index for one in adviser.next_calculations(4)]
    single = []
    for _ in range(4):
        known = replace(adviser.known, pending=np.array(single, dtype=np.intp))
        (one,) = Adviser(record.pool, known, record.make_priors).next_calculations(1)
        single.append(one.index)
    assert batch == single


def test_closed_candidates_are_not_asked_for_again(record):
    adviser = adviser_of(record)
    first, second = adviser.next_calculations(2)
    known = replace(adviser.known, closed=np.array([first.index]))
    again = Adviser(record.pool, known, record.make_priors).next_calculations(1)
    assert again[0].index not in {first.index, *adviser.known.indices.tolist()}
    assert second.index != first.index


def test_costs_divide_what_a_calculation_is_worth(record):
    plain = adviser_of(record).next_calculations(1)[0]
    costs = np.ones(len(record.keys))
    costs[plain.index] = 1e6
    assert adviser_of(record, costs=costs).next_calculations(1)[0].index != plain.index


class Half:
    """The part of a pool that one of two ranks holds."""

    def __init__(self, pool, rank):
        self.pool, self.rank = pool, rank
        self.compositions = pool.compositions

    def rows(self, indices):
        return self.pool.rows(indices)

    def blocks(self):
        for indices, rows in self.pool.blocks():
            mine = indices % 2 == self.rank
            yield indices[mine], rows[mine]


def test_two_ranks_choose_what_one_chooses(record):
    alone = adviser_of(record)

    def advise(comm):
        pool = Half(record.pool, comm.rank)
        adviser = Adviser(pool, alone.known, record.make_priors, comm=comm)
        return [one.index for one in adviser.next_calculations(3)], adviser.outlook.distance

    chosen = [one.index for one in alone.next_calculations(3)]
    for indices, distance in run_ranks(2, advise):
        assert indices == chosen
        assert distance == pytest.approx(alone.outlook.distance)


def test_the_outlook_agrees_with_hulls_of_all_candidates(record):
    adviser = adviser_of(record)
    outlook, x = adviser.outlook, record.pool.compositions
    taken = adviser.known.indices
    found = adviser._found
    rng = np.random.default_rng([adviser.seed, len(taken)])
    energies = adviser.posterior.samples(found.rows, 200, rng)
    stable, distances = np.zeros(len(found.indices)), []
    points = np.concatenate([x[taken], found.compositions])
    for row in energies:
        hull = Hull(points, np.concatenate([adviser.formation_energies, row]))
        vertices = hull.vertices[hull.vertices >= len(taken)] - len(taken)
        stable[vertices] += 1 / 200
        gaps = adviser.hull.energy(points) - hull.energy(points)
        distances.append(gaps.max())
    np.testing.assert_allclose(outlook.stable, stable, atol=1e-12)
    np.testing.assert_allclose(outlook.distances, np.sort(distances), atol=1e-9)
    assert outlook.missing(0.001) == np.mean(np.array(distances) > 0.001)


def test_dilute_ends_are_looked_at_before_the_end(record):
    x = record.pool.compositions[:, 0]
    fractions = np.unique(x.round(9))
    dilute = np.flatnonzero((np.abs(x - fractions[1]) < 1e-6) | (np.abs(x - fractions[-2]) < 1e-6))
    known = np.setdiff1d(np.arange(len(x)), dilute)
    adviser = Adviser(record.pool, Known(known, record.energies[known]), record.make_priors, 0.5)
    assert adviser.is_settled
    assert adviser.end(10) is None
    asked = adviser.next_calculations(5)
    assert {one.reason for one in asked} == {DILUTE}
    assert len({x[one.index].round(9) for one in asked}) == len(asked) == 2


def test_end_members_come_first(record):
    known = np.array([record.ends[0]])
    adviser = Adviser(record.pool, Known(known, record.energies[known]), record.make_priors)
    with pytest.raises(InputError, match="compute the end members first"):
        adviser.next_calculations(1)


def test_single_precision_rows_choose_the_same(record):
    pool = RowPool(record.pool.compositions, record.pool.features.astype(np.float32))
    adviser = adviser_of(record)
    other = Adviser(pool, adviser.known, record.make_priors)
    chosen = [[one.index for one in a.next_calculations(4)] for a in (adviser, other)]
    assert chosen[0] == chosen[1]
