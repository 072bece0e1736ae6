from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.mtp.files import read_mtp
from tests.reference import mtp_lattice as naive
from tests.reference import walk
from tests.shipped import DATA

TYPES = ("Nb", "Mo", "Ta", "W")


def bcc_case(matrix, level=8, cutoff=4.9, species=3, seed=5):
    parent = ParentLattice.from_prototype("bcc", 3.2, TYPES[:species])
    supercell = Supercell.from_matrix(parent, matrix)
    basis = MtpBasis(level, TYPES[species - 1 :: -1], cutoff=cutoff, radial_size=4)
    rng = np.random.default_rng(seed)
    potential = basis.potential(rng.normal(size=basis.n_parameters))
    return potential, supercell, rng


def rocksalt_case():
    parent = ParentLattice.from_prototype("rocksalt", 4.3, (("Ti", "Hf"), ("N", "X")))
    supercell = Supercell.from_matrix(parent, [[1, 0, 1], [0, 1, 1], [0, 0, 2]])
    basis = MtpBasis(10, ("X", "N", "Hf", "Ti"), cutoff=4.0, min_dist=1.8, radial_size=3)
    rng = np.random.default_rng(5)
    return basis.potential(rng.normal(size=basis.n_parameters)), supercell, rng


CASES = {
    "one site": lambda: bcc_case([1, 1, 1]),
    "six sites": lambda: bcc_case([[1, 0, 1], [0, 2, 1], [0, 0, 3]]),
    "two sublattices": rocksalt_case,
    "most sites far away": lambda: bcc_case([2, 3, 3], level=4, cutoff=3.0, species=2),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    return request.param()


def random_labels(supercell, rng):
    return (rng.random(supercell.allowed.shape) * supercell.allowed).argmax(axis=1).astype(np.int8)


def assert_worked_out(evaluator, state):
    """Assert that a state is what its labels alone give."""
    fresh = evaluator.walk_state(state.labels)
    scale = np.abs(fresh.energies).max()
    np.testing.assert_allclose(state.energy, fresh.energy, rtol=1e-11, atol=1e-11 * scale)
    np.testing.assert_allclose(state.energies, fresh.energies, atol=1e-11 * scale)
    bound = 1e-12 * np.abs(fresh.moments).max()
    np.testing.assert_allclose(state.moments, fresh.moments, atol=bound)


def test_flips_and_swaps_against_plain_loops(case):
    potential, supercell, rng = case
    evaluator = potential.evaluator(supercell)
    labels = random_labels(supercell, rng)
    state = evaluator.walk_state(labels)

    def energy():
        return naive.site_energies(potential, supercell, state.labels).sum()

    before = energy()
    assert state.energy[0] == pytest.approx(before, rel=1e-11)
    answers = np.empty(1)
    for step in range(2):
        site = int(rng.integers(supercell.n_sites))
        kind = rng.choice(np.flatnonzero(supercell.allowed[site]))
        other = int(rng.integers(supercell.n_sites))
        args = np.array([site]), np.array([kind], np.int8)
        walk.ask_and_flip(evaluator.walk_tables, state, *args, answers)
        assert before + answers[0] == pytest.approx(energy(), rel=1e-10)
        before = energy()
        walk.ask_and_swap(evaluator.walk_tables, state, np.array([[site, other]]), answers)
        assert before + answers[0] == pytest.approx(energy(), rel=1e-10)
        before = energy()
        assert state.energy[0] == pytest.approx(before, rel=1e-10), step


def test_questions_alone_change_nothing(case):
    potential, supercell, rng = case
    evaluator = potential.evaluator(supercell)
    labels = random_labels(supercell, rng)
    state = evaluator.walk_state(labels)
    sites = rng.integers(supercell.n_sites, size=41)
    species = rng.integers(supercell.parent.n_species, size=41).astype(np.int8)
    answers = np.empty(41)
    walk.ask_and_flip(evaluator.walk_tables, state, sites, species, answers)
    moved = labels.copy()
    moved[sites[0]] = species[0]
    for n in range(1, 41):
        moved_n = moved.copy()
        moved_n[sites[n]] = species[n]
        difference = evaluator.energies(np.stack([moved, moved_n]))
        expected = (difference[1] - difference[0]) * supercell.n_sites
        assert answers[n] == pytest.approx(expected, abs=1e-10 * np.abs(difference).max() * 100)
        if n % 2 == 0:
            moved = moved_n
    assert np.array_equal(state.labels, moved)
    assert_worked_out(evaluator, state)


def test_long_walks_of_flips_and_swaps_stay_exact(case):
    potential, supercell, rng = case
    evaluator = potential.evaluator(supercell)
    state = evaluator.walk_state(random_labels(supercell, rng))
    sites = rng.integers(supercell.n_sites, size=2000)
    species = rng.integers(supercell.parent.n_species, size=2000).astype(np.int8)
    walk.flip_all(evaluator.walk_tables, state, sites, species)
    pairs = rng.integers(supercell.n_sites, size=(2000, 2))
    walk.ask_and_swap(evaluator.walk_tables, state, pairs, np.empty(2000))
    assert_worked_out(evaluator, state)


def test_accepting_twice_changes_nothing_more():
    potential, supercell, _ = bcc_case([2, 2, 2])
    evaluator = potential.evaluator(supercell)
    state = evaluator.walk_state(np.zeros(8, np.int8))
    site, species = np.array([3, 3, 3]), np.array([1, 1, 1], np.int8)
    walk.flip_all(evaluator.walk_tables, state, site, species)
    assert state.labels.tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    assert_worked_out(evaluator, state)


def test_a_state_can_begin_again_with_other_labels(case):
    potential, supercell, rng = case
    evaluator = potential.evaluator(supercell)
    state = evaluator.walk_state(random_labels(supercell, rng))
    walk.ask_and_flip(
        evaluator.walk_tables, state, np.array([0]), np.array([1], np.int8), np.empty(1)
    )
    state.labels[:] = random_labels(supercell, rng)
    walk.begin(evaluator.walk_tables, state)
    fresh = evaluator.walk_state(state.labels)
    assert np.array_equal(state.energy, fresh.energy)
    assert np.array_equal(state.moments, fresh.moments)


def drift_after(n_flips, level, matrix):
    """Return |accumulated - fresh| energy per atom after many accepted flips."""
    path = DATA / "mtp" / f"random_level{level:02d}.mtp"
    potential = read_mtp(path, species=TYPES)
    parent = ParentLattice.from_prototype("bcc", 3.25, TYPES)
    supercell = Supercell.from_matrix(parent, matrix)
    evaluator = potential.evaluator(supercell)
    rng = np.random.default_rng(0)
    state = evaluator.walk_state(random_labels(supercell, rng))
    for start in range(0, n_flips, 100_000):
        size = min(100_000, n_flips - start)
        sites = rng.integers(supercell.n_sites, size=size)
        species = (state.labels[sites] + 1 + np.arange(size) % 3) % 4
        walk.flip_all(evaluator.walk_tables, state, sites, species.astype(np.int8))
    fresh = evaluator.energies(state.labels[None])[0]
    return abs(state.energy[0] / supercell.n_sites - fresh)


@pytest.mark.parametrize("level", [8, 12])
def test_energies_do_not_drift(level):
    assert drift_after(25_003, level, [3, 3, 6]) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("level", [8, 12, 16])
def test_energies_do_not_drift_in_a_million_flips(level):
    assert drift_after(1_000_000, level, [3, 3, 6]) < 1e-9


def test_the_names_have_no_meaning_for_tables_of_no_model():
    with pytest.raises(Exception, match="begin"):
        walk.begin(np.zeros(3), np.zeros(3))


CACHED = """
import numpy as np
from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential.mtp.basis import MtpBasis
from tests.reference import walk
parent = ParentLattice.from_prototype("bcc", 3.2, ("Mo", "Ta"))
evaluator = MtpBasis(6, ("Mo", "Ta"), cutoff=4.0).potential(seed=0).evaluator(
    Supercell.from_matrix(parent, [1, 1, 2]))
state = evaluator.walk_state(np.zeros(2, np.int8))
walk.flip_all(evaluator.walk_tables, state, np.array([0]), np.array([1], np.int8))
print(sum(walk.flip_all.stats.cache_hits.values()), state.labels.tolist())
"""


def test_callers_are_found_in_the_disk_cache():
    exec(CACHED, {})  # noqa: S102 - compiles what is not compiled yet
    again = subprocess.run(
        [sys.executable, "-c", CACHED], capture_output=True, text=True, check=True
    )
    assert again.stdout.split("\n")[0] == "1 [1, 0]"
