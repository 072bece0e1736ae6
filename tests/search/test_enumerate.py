"""Enumeration with energies: the best of each composition, and everything near a hull."""

import logging

import numpy as np
import pytest

from latticesearch.enumeration import enumerate_labelings
from latticesearch.errors import InputError
from latticesearch.hull import Hull
from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.search import enumerate as enumeration
from latticesearch.search import search
from latticesearch.search._keeping_kernels import keep_lowest
from tests.fake_comm import run_ranks
from tests.search.cases import brute_force, lowest, same_pools, sources
from tests.search.toy_model import FCC, ROCKSALT, toy_model

WITH_VACANCIES = ParentLattice.from_prototype("fcc", a=4.0, species=("Cu", "Pd", "X"))


def every_structure(model, parent, max_index):
    """Key, atomic fractions, atoms per site and energy (eV/atom) of all labelings."""
    is_atom = np.array([s != "X" for s in parent.species])
    found = []
    for batch in enumerate_labelings(parent, max_index=max_index):
        energies = model.evaluator(batch.supercell).energies(batch.labels)
        for key, x, energy in zip(batch.keys(), batch.compositions, energies, strict=True):
            share = x[is_atom].sum()
            if share > 0:
                found.append((key, x[is_atom] / share, energy / share))
    return found


def hull_of(structures):
    return Hull(np.array([x for _, x, _ in structures]), np.array([e for *_, e in structures]))


@pytest.mark.parametrize("parent", [FCC, ROCKSALT])
def test_the_lowest_of_every_composition_is_that_of_brute_force(parent):
    model = toy_model(parent)
    pool = search(model, parent, max_sites=5 * parent.n_basis, method="enumerate")
    expected, n = brute_force(model, parent, max_index=5)
    assert pool.evaluations == n
    found = lowest(pool)
    assert found.keys() == expected.keys()
    for name, energy in expected.items():
        assert found[name] == pytest.approx(energy, abs=1e-10)
    assert sources(pool) == {"exhaustive"}


def test_as_many_of_each_composition_are_kept_as_were_asked_for():
    model, keep = toy_model(FCC), 5
    by_composition = {}
    for batch in enumerate_labelings(FCC, max_index=6):
        energies = np.round(model.evaluator(batch.supercell).energies(batch.labels), 10)
        rows = zip(batch.counts.tolist(), energies.tolist(), batch.keys(), strict=True)
        for counts, energy, key in rows:
            divisor = np.gcd.reduce(counts)
            by_composition.setdefault(tuple(c // divisor for c in counts), []).append((energy, key))
    pool = search(model, FCC, max_sites=6, method="enumerate", max_per_composition=keep)
    assert pool.entries.keys() == by_composition.keys()
    for name, rows in pool.entries.items():
        assert [(e.rounded, e.key) for e in rows] == sorted(by_composition[name])[:keep]


def test_a_given_supercell_is_enumerated_with_its_smaller_periods():
    model, cell = toy_model(FCC), Supercell.from_matrix(FCC, [2, 2, 2])
    pool = search(model, FCC, supercells=[cell], method="enumerate")
    expected, n = brute_force(model, FCC, supercell=cell, superperiodic=True)
    assert pool.evaluations == n
    assert lowest(pool) == pytest.approx(expected)
    assert min(c.supercell.n_sites for c in pool.candidates) == 1


@pytest.mark.parametrize("parent", [FCC, WITH_VACANCIES])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_everything_near_a_hull_is_kept(parent, share):
    """Also beyond the best of its composition; heights are eV per atom, vacancies left out."""
    model, max_index = toy_model(parent), 5 if parent is WITH_VACANCIES else 6
    structures = every_structure(model, parent, max_index)
    hull = hull_of(structures)
    x = np.array([x for _, x, _ in structures])
    above = np.array([e for *_, e in structures]) - hull.energy(x)
    height = float(np.quantile(above, share))
    # Those within rounding of the height may be in or out.
    near = {key for (key, *_), up in zip(structures, above, strict=True) if up < height - 1e-9}
    pool = search(
        model, parent, max_sites=max_index * parent.n_basis, method="enumerate",
        max_per_composition=1, near=(hull, height),
    )  # fmt: skip
    kept = {candidate.key for candidate in pool.candidates}
    assert near <= kept
    plain = search(
        model, parent, max_sites=max_index * parent.n_basis, method="enumerate",
        max_per_composition=1,
    )  # fmt: skip
    allowed = near | {candidate.key for candidate in plain.candidates}
    assert kept <= allowed | {
        key for (key, *_), up in zip(structures, above, strict=True) if abs(up - height) < 1e-9
    }
    if share:
        assert len(kept) > len(plain)
    assert pool.evaluations == plain.evaluations


@pytest.mark.parametrize(("cap", "height"), [(10, 1.0), (100_000, 0.02)])
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_keep_the_same_near_a_hull(size, cap, height, monkeypatch):
    """Where there are too many, too: the nearest of all ranks are kept, not of each."""
    monkeypatch.setattr(enumeration, "MOST_NEAR", cap)
    model = toy_model(FCC)
    hull = hull_of(every_structure(model, FCC, 4))

    def run(comm=None):
        return search(
            model, FCC, max_sites=6, method="enumerate", max_per_composition=2,
            near=(hull, height), comm=comm,
        )  # fmt: skip

    serial = run()
    assert max(len(rows) for rows in serial.entries.values()) > 2
    assert all(same_pools(pool, serial) for pool in run_ranks(size, run))


def test_what_is_near_a_hull_is_capped_and_the_log_says_so(monkeypatch, caplog):
    """The nearest are kept."""
    model, cap = toy_model(FCC), 10
    structures = every_structure(model, FCC, 6)
    hull = hull_of(structures)
    monkeypatch.setattr(enumeration, "MOST_NEAR", cap)
    how = {"max_sites": 6, "min_sites": 6, "method": "enumerate", "max_per_composition": 1}
    with caplog.at_level(logging.WARNING):
        pool = search(model, FCC, **how, near=(hull, 1.0))
    assert f"the nearest {cap} are kept" in caplog.text
    depths = {key: e - float(hull.energy(x[None])[0]) for key, x, e in structures}
    plain = {candidate.key for candidate in search(model, FCC, **how).candidates}
    kept = {candidate.key for candidate in pool.candidates}
    extra = kept - plain
    assert 0 < len(extra) <= cap
    left_out = {c.key for c in search(model, FCC, **{**how, "max_per_composition": 999}).candidates}
    left_out -= kept
    assert max(depths[key] for key in extra) <= min(depths[key] for key in left_out) + 1e-9


def test_without_many_near_a_hull_nothing_is_said(caplog):
    model = toy_model(FCC)
    hull = hull_of(every_structure(model, FCC, 4))
    with caplog.at_level(logging.WARNING):
        search(model, FCC, max_sites=5, method="enumerate", near=(hull, 0.01))
    assert not caplog.text


def test_compositions_are_limited():
    model = toy_model(FCC)
    pool = search(model, FCC, max_sites=6, method="enumerate", composition={"Pd": (0.2, 0.4)})
    expected, _ = brute_force(model, FCC, max_index=6)
    wanted = {name: e for name, e in expected.items() if 0.2 - 1e-9 <= name[1] <= 0.4 + 1e-9}
    assert lowest(pool) == pytest.approx(wanted)


def test_energies_that_are_no_numbers_end_the_search():
    class Broken:
        species = FCC.species
        kind = "broken"

        def evaluator(self, supercell):
            return self

        def energies(self, labels):
            return np.where(labels.sum(axis=1) == 2, np.nan, 0.0)

    with pytest.raises(InputError, match=r"nan|finite"):
        search(Broken(), FCC, max_sites=4, method="enumerate")


def test_the_lowest_of_each_composition_are_kept():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=(400, 5)).astype(np.int8)
    energies = np.round(rng.normal(size=400), 1)  # many ties
    weights = 6 ** np.arange(3, dtype=np.int64)
    codes = np.unique(weights[labels].sum(axis=1))
    heaps = np.full((len(codes), 4), np.inf)
    kept = [
        rows[keep_lowest(labels[rows], energies[rows], weights, codes, heaps)]
        for rows in np.arange(400).reshape(4, 100)
    ]
    kept = set(np.concatenate(kept).tolist())
    for i, code in enumerate(codes):
        rows = np.flatnonzero(weights[labels].sum(axis=1) == code)
        lowest = np.sort(energies[rows])[:4]
        np.testing.assert_allclose(np.sort(heaps[i])[: len(lowest)], lowest)
        assert set(rows[energies[rows] <= lowest[-1]]) <= kept
    assert len(kept) < 400
