"""Searches for a time: they end, spend it, and find what long searches find."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np
import pytest

from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential.clusters import ClusterBasis, ClusterModel
from latticesearch.search import search
from latticesearch.search.annealing import timed
from latticesearch.search.polish import Allowance


@pytest.fixture(scope="module")
def model() -> ClusterModel:
    parent = ParentLattice.from_prototype("bcc", a=3.2, species=("Mo", "Ta"))
    return ClusterModel.random(ClusterBasis.of(parent, 5.0, 3.5), 3, pair=0.03, triplet=0.02)


@pytest.fixture
def cpu_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let searches read the time this process has had: other work on the machine is no matter."""
    monkeypatch.setattr(time, "monotonic", time.process_time)


@pytest.mark.usefixtures("cpu_clock")
@pytest.mark.parametrize(
    ("cheap", "dear", "enough"),
    [(1.0, 1.0, 0.0), (1.0, 1.0, math.inf), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0)],
)
def test_a_time_is_a_budget_of_its_own(
    model: ClusterModel, monkeypatch: pytest.MonkeyPatch, cheap: float, dear: float, enough: float
) -> None:
    """Whatever swaps count as cheap, dear or few: annealing is not better; the time is used."""
    monkeypatch.setattr(timed, "CHEAP", cheap)
    monkeypatch.setattr(timed, "DEAR", dear)
    monkeypatch.setattr(timed, "ENOUGH", enough)
    parent = model.basis.parent
    how = {"supercells": [[3, 3, 4]], "composition": {"Mo": 0.5}}
    other = search(model, parent, **how, mode="polish", polish="annealing", budget=10_000)
    search(model, parent, **how, budget=1000)
    search(model, parent, **how, seconds=0.1)  # compiles what is left
    began = time.monotonic()
    pool = search(model, parent, **how, seconds=1.0)
    assert 0.9 < time.monotonic() - began < 2.0  # used up, and ended in time
    assert pool.energies.min() < other.energies.min() + 1e-9
    assert pool.evaluations > 1000


@pytest.mark.usefixtures("cpu_clock")
def test_many_compositions_share_the_time(model: ClusterModel) -> None:
    """After a first look the rest of the time goes to items near the hull."""
    parent = model.basis.parent
    how = {"supercells": [[3, 3, 4]], "composition": {"Mo": (0.4, 0.6)}}
    search(model, parent, **how, budget=20_000)
    pool = search(model, parent, **how, seconds=3.0)
    without = search(model, parent, **how)
    assert pool.evaluations > without.evaluations
    assert len(np.unique(without.compositions, axis=0)) == 7
    for composition in np.unique(pool.compositions, axis=0):
        ours, theirs = (
            p.energies[(np.abs(p.compositions - composition) < 1e-9).all(axis=1)].min()
            for p in (pool, without)
        )
        assert ours < theirs + 5e-3


def annealer_of(model: ClusterModel, counts: list[int], pace: timed.Pace) -> Any:
    """Return a search of 36 sites that has not begun, and the atoms as an array."""
    from latticesearch.search.annealing.walks import Walk, random_start, random_state
    from latticesearch.search.surrogate import Guides

    evaluator = model.evaluator(Supercell.from_matrix(model.basis.parent, [3, 3, 4]))
    atoms, rng = np.array(counts), np.random.default_rng(0)
    start = random_start(evaluator, atoms, rng)
    walk = Walk(evaluator, start, Allowance(math.inf, 0, math.inf), random_state(rng))
    return timed.ClockedAnnealing(walk, 0.1, rng, pace, Guides([]), timed.SHARES), atoms


@pytest.mark.usefixtures("cpu_clock")
@pytest.mark.parametrize(("restart", "expected"), [(1e-3, timed.MOST), (math.inf, 1)])
def test_time_for_several_annealings_is_shared_among_them(
    model: ClusterModel, restart: float, expected: int
) -> None:
    """Each begins elsewhere and takes its part; only the first needs a pilot."""
    annealer, counts = annealer_of(model, [18, 18], timed.Pace(100, 1e-6))
    annealer.shares = dataclasses.replace(timed.SHARES, restart=restart)
    pilots = []
    pilot_of = annealer._pilot
    annealer._pilot = lambda *a: pilots.append(a) or pilot_of(*a)
    annealer.anneal_often(time.monotonic() + 0.05, counts)  # compiles
    annealer.found.clear()
    pilots.clear()
    began = time.monotonic()
    annealer.anneal_often(began + 0.32, counts)
    assert 0.25 < time.monotonic() - began < 0.5
    assert len(annealer.found) == expected
    assert len(pilots) == 1
    for best in annealer.found:
        assert (np.bincount(best.labels) == counts).all()


@pytest.mark.parametrize(
    ("counts", "per_site", "tiles", "guiding"),
    [
        ([18, 18], 20, False, None),
        ([18, 18], 200, True, None),  # small cells with exactly the composition
        ([17, 19], 100, False, None),
        ([17, 19], 200, False, timed.HASTY),
        ([18, 18], 400, False, timed.HASTY),
        ([18, 18], 700, False, timed.QUICK),
        ([17, 19], 2000, True, timed.QUICK),
    ],
)
def test_the_number_of_swaps_chooses_what_they_are_for(
    model: ClusterModel, counts: list[int], per_site: int, tiles: bool, guiding: Any
) -> None:
    """Of 10 µs each, which are neither cheap nor dear."""
    annealer, atoms = annealer_of(model, counts, timed.Pace(100_000, 1.0))
    found, tuning = annealer._choose(36.0 * per_site, atoms)
    assert bool(found) is tiles
    assert tuning is guiding
    assert (annealer.shares != timed.SHARES) is (guiding is None)
    annealer.pace = timed.Pace(100_000_000, 1.0)
    assert annealer._choose(36.0 * per_site, atoms)[1] is None  # cheap ones are never guided


def test_cooling_is_slow_where_the_energy_fluctuates() -> None:
    fluctuations = np.array([1.0, 1.0, 9.0, 1.0, 0.0, 0.0])
    shares = timed.cooling_shares(fluctuations, 6.0)
    assert shares.sum() == pytest.approx(1.0)
    assert shares.argmax() == 2
    assert shares.max() / shares.min() == pytest.approx(6.0)
    np.testing.assert_allclose(timed.cooling_shares(np.zeros(5), 6.0), 0.25)


def test_what_was_asked_after_the_deadline_is_counted(model: ClusterModel) -> None:
    from latticesearch.search.annealing.walks import Walk, random_state

    cell = Supercell.from_matrix(model.basis.parent, [2, 2, 2])
    labels = np.repeat(np.array([0, 1], dtype=np.int8), 4)
    allowance = Allowance(math.inf, 0, time.monotonic() - 1.0)
    walk = Walk(model.evaluator(cell), labels, allowance, random_state(np.random.default_rng(0)))
    walk.sample(7)
    assert allowance.used == 8
