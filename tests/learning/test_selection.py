"""Extrapolation grade and MaxVol, against determinants and against the grades of MLIP-2."""

from __future__ import annotations

import numpy as np
import pytest

from latticesearch.errors import InputError
from latticesearch.learning import ActiveSet, effective_rows
from latticesearch.potential.mtp import read_mtp
from latticesearch.potential.mtp.offlattice import site_gradient_rows
from tests.reference.learning import grade
from tests.shipped import DATA, read_atoms, read_json


def random_rows(n, m, seed=0):
    return np.random.default_rng(seed).normal(size=(n, m))


def test_grades_are_the_volume_factors_of_the_definition():
    active = ActiveSet.from_rows(random_rows(6, 6))
    rows = random_rows(10, 6, seed=1)
    expected = [grade(active.rows, row) for row in rows]
    np.testing.assert_allclose(active.grades(rows), expected, rtol=1e-10)


def test_no_exchange_enlarges_the_volume_of_what_was_selected():
    rows = random_rows(200, 8)
    active = ActiveSet.select(rows)
    assert active.grades(rows).max() <= 1.0 + 1e-6
    np.testing.assert_array_equal(active.rows, rows[active.indices])
    np.testing.assert_allclose(active.inverse @ active.rows, np.eye(8), atol=1e-9)


def test_directions_no_row_covers_give_huge_grades():
    rows = random_rows(50, 5)
    rows[:, 4] = 0.0
    active = ActiveSet.select(rows)
    assert (active.indices == -1).sum() == 1
    assert active.grades(np.eye(5)[[4]])[0] > 1e4
    assert active.grades(rows).max() < 1.001


def test_an_active_set_can_be_continued():
    rows = random_rows(100, 6)
    first = ActiveSet.select(rows[:50])
    both = ActiveSet.select(rows[50:], start=first)
    assert np.linalg.slogdet(both.rows)[1] >= np.linalg.slogdet(first.rows)[1]
    assert both.grades(rows).max() < 1.5  # rows dropped from the first half may lie just outside


def test_effective_rows_keep_grades_and_lose_redundant_directions():
    rows = random_rows(60, 4) @ random_rows(4, 12, seed=3)
    effective = effective_rows(rows)
    assert effective.shape == (60, 4)
    chosen = [0, 5, 9, 20]
    lift = np.linalg.lstsq(rows[chosen].T, rows.T, rcond=None)[0].T
    expected = np.abs(lift).max(axis=1)
    grades = ActiveSet.from_rows(effective[chosen]).grades(effective)
    np.testing.assert_allclose(grades, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(5, 30), (300, 30)])
def test_effective_rows_have_the_rank_of_the_rows(shape):
    rows = random_rows(*shape)
    assert effective_rows(rows).shape == (shape[0], min(shape))
    assert np.abs(effective_rows(rows)).max() == pytest.approx(1.0)


def test_rows_that_are_not_numbers_are_refused():
    rows = random_rows(10, 3)
    rows[4, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        ActiveSet.select(rows)


@pytest.mark.parametrize("mode", ["cfg", "nbh"])
def test_grades_and_active_set_are_those_of_mlip(mode):
    golden = read_json("grade/golden_grades.json")[mode]
    potential = read_mtp(DATA / "grade" / "pot08.mtp", ("Nb", "Mo", "Ta", "W"))

    def rows(name):
        for atoms in read_atoms(f"grade/{name}", potential.species):
            site_rows = site_gradient_rows(potential, atoms)
            yield site_rows.mean(axis=0, keepdims=True) if mode == "cfg" else site_rows

    training = list(rows("train.in.gz"))
    active = ActiveSet.select(np.concatenate(training))
    owner = np.repeat(np.arange(len(training)), [len(r) for r in training])
    selected = {int(owner[i]) for i in active.indices if i >= 0}
    assert selected == {i for i in golden["selected_training_index_per_row"] if i >= 0}
    grades = [active.grades(r).max() for r in rows("cand.in.gz")]
    np.testing.assert_allclose(grades, golden["grade"], rtol=1e-8)
