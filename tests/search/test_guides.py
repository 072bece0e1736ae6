"""Surrogates, screening, guided annealing, sweeps, certificates, and the portfolio of them."""

import time

import numpy as np
import pytest

from latticesearch.enumeration import enumerate_labelings
from latticesearch.errors import InputError
from latticesearch.hull import Hull
from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.potential.clusters import ClusterModel
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.search import certify, search
from latticesearch.search import portfolio as parts
from latticesearch.search import sweep as sweeps
from latticesearch.search.annealing.guided import guided_search
from latticesearch.search.polish import Allowance
from latticesearch.search.strategies import POLISHES, polish_random
from latticesearch.search.surrogate import Guides, Normal, columns_within, features
from latticesearch.search.sweep import sweep
from tests.fake_comm import run_ranks
from tests.reference import search as reference
from tests.search.toy_model import toy_model

BCC = ParentLattice.from_prototype("bcc", a=3.2, species=("Mo", "Nb", "Ta"))
FCC = ParentLattice.from_prototype("fcc", a=4.0, species=("Cu", "Pd"))
ROCKSALT = ParentLattice.from_prototype("rocksalt", a=4.3, species=(("Ti", "Hf"), ("N", "X")))


def random_labels(cell, n, seed=0):
    weights = np.random.default_rng(seed).random((n, *cell.allowed.shape)) * cell.allowed
    return weights.argmax(axis=2).astype(np.int8)


@pytest.mark.parametrize("parent", [BCC, ROCKSALT])
def test_a_surrogate_learns_a_model_of_its_own_form_from_energies_and_from_swaps(parent):
    guides = Guides.of(parent)
    surrogate = guides.surrogates[1]
    truth = ClusterModel.random(surrogate.basis, 1, pair=0.05, triplet=0.02)
    for matrix in ([1, 2, 4], [2, 2, 3], [1, 1, 5]):
        cell = Supercell.from_matrix(parent, matrix)
        labels = random_labels(cell, 150)
        guides.learn_energies(Labelings(cell, labels), truth.evaluator(cell).energies(labels))
    model, error = surrogate.model()
    cell = Supercell.from_matrix(parent, [2, 2, 3])
    labels = random_labels(cell, 20, seed=1)
    spread = truth.evaluator(cell).energies(labels).std()
    off = model.evaluator(cell).energies(labels) - truth.evaluator(cell).energies(labels)
    assert np.abs(off).max() < 0.05 * spread
    assert error < 0.01
    swaps = np.array([[0, 1, 0], [2, 5, 1], [1, 7, 1], [3, 4, 0]])
    swaps = np.concatenate([swaps] * 30)
    start = labels[0]
    rows = truth.evaluator(cell).swap_gradient_rows(start, swaps)
    before = surrogate.normal.number
    guides.learn_swaps(cell, start, swaps, rows @ truth.coefficients)
    assert surrogate.normal.number == before + len(swaps)


@pytest.mark.parametrize("parent", [BCC, ROCKSALT])
@pytest.mark.parametrize("matrix", [[1, 1, 2], [2, 2, 3]])
def test_surrogates_learn_the_same_together_as_alone(parent, matrix):
    reaches = ((2.05, 0.0), (2.05, 1.25), (2.05, 2.05), (1.5, 1.5))
    cell, rng = Supercell.from_matrix(parent, matrix), np.random.default_rng(3)
    labels, energies = random_labels(cell, 12), rng.normal(size=12)
    swaps = np.array([(*rng.permutation(cell.n_sites)[:2], k % 2) for k in range(40)])
    changes = rng.normal(size=len(swaps))
    together = Guides.of(parent, reaches)
    alone = [Guides.of(parent, (reach,)) for reach in reaches]
    widest = together.surrogates[2].basis
    for surrogate in together.surrogates:
        columns = columns_within(surrogate.basis, widest)
        rows = [features(basis, cell).gradient_rows(labels) for basis in (surrogate.basis, widest)]
        np.testing.assert_allclose(rows[0], rows[1][:, columns], atol=1e-12)
    assert columns_within(widest, together.surrogates[1].basis) is None
    assert columns_within(together.surrogates[1].basis, together.surrogates[3].basis) is None
    for guides in (together, *alone):
        guides.learn_energies(Labelings(cell, labels), energies, 0.5)
        guides.learn_swaps(cell, labels[0], swaps, changes)
    for surrogate, single in zip(together.surrogates, alone, strict=True):
        expected = single.surrogates[0].normal
        upper = np.triu_indices(len(expected.vector))
        np.testing.assert_allclose(
            surrogate.normal.matrix[upper], expected.matrix[upper], atol=1e-9
        )
        np.testing.assert_allclose(surrogate.normal.vector, expected.vector, atol=1e-9)


def test_normal_equations_give_the_damped_least_squares_of_all_rows():
    rng = np.random.default_rng(0)
    rows, targets = rng.normal(size=(30, 7)) * 10.0 ** np.arange(7), rng.normal(size=30)
    rows[:, 3] = 0.0
    damped = np.arange(7) > 2
    normal = Normal.empty(7)
    for part, order in ((slice(0, 12), "C"), (slice(12, 12), "C"), (slice(12, 30), "F")):
        normal.add(np.array(rows[part], order=order), targets[part])
    size = np.linalg.norm(rows, axis=0)
    below = np.diag(np.where(damped, np.sqrt(1e-2), 1e-6) * size)
    expected = np.linalg.lstsq(np.vstack([rows, below]), np.append(targets, np.zeros(7)))[0]
    coefficients, error = normal.solve(damped, ridge=1e-2)
    np.testing.assert_allclose(coefficients * size, expected * size, atol=1e-8)
    assert coefficients[3] == 0.0
    assert error == pytest.approx(np.sqrt(np.mean((rows @ expected - targets) ** 2)))
    twice = normal.plus(normal).plus(normal, -1.0)
    np.testing.assert_allclose(twice.solve(damped, 1e-2)[0] * size, expected * size, atol=1e-8)
    normal.add(rows, np.full(30, np.nan))
    with pytest.raises(np.linalg.LinAlgError, match=r"7 coefficients .* 60 equations"):
        normal.solve(damped)


def test_a_fit_is_kept_until_something_is_learnt():
    cell = Supercell.from_matrix(BCC, [2, 2, 2])
    labels, rng = random_labels(cell, 1)[0], np.random.default_rng(0)
    swaps = np.array([[0, 1, 0], [2, 3, 1], [4, 5, 1], [6, 7, 0]])
    guides = Guides.of(BCC)
    surrogate = guides.surrogates[0]
    guides.learn_swaps(cell, labels, swaps, rng.normal(size=4))
    first = surrogate.model()
    assert surrogate.model() is first
    errors = guides.learn_swaps(
        cell, labels, swaps, np.zeros(4), [s.model()[0] for s in guides.surrogates]
    )
    rows = features(surrogate.basis, cell).swap_gradient_rows(labels, swaps)
    assert errors[0] == pytest.approx(np.sqrt(np.mean((rows @ first[0].coefficients) ** 2)))
    assert not np.array_equal(surrogate.model()[0].coefficients, first[0].coefficients)
    assert surrogate.copy().model()[1] == pytest.approx(surrogate.model()[1])


def hull_of_all(model, parent, max_index):
    batches = list(enumerate_labelings(parent, max_index=max_index))
    x = np.concatenate([batch.compositions for batch in batches])
    e = np.concatenate([model.evaluator(b.supercell).energies(b.labels) for b in batches])
    return Hull(x, e), len(e)


def test_the_wide_surrogate_has_no_more_coefficients_than_swaps_can_teach():
    """The longest triplets that are few enough, and none for too many species."""
    species = ("Cr", "Mo", "Nb", "Ta", "Ti", "V", "W")
    found = []
    for n in (2, 4, 5, 7):
        parent = ParentLattice.from_prototype("bcc", a=3.2, species=species[:n])
        guides = Guides.of_large_cells(parent)
        found.append([s.basis.n_parameters for s in guides.wide])
        assert guides.every == guides.surrogates + guides.wide
        assert len(guides.surrogates) == 2
    assert found == [[19], [278], [195], []]


def test_only_the_wide_surrogate_learns_triplets_that_reach_far_and_only_where_told():
    """Swaps under a model with long triplets: what the others cannot describe it describes."""
    guides = Guides.of_large_cells(BCC)
    basis = guides.wide[0].basis
    model = ClusterModel.random(basis, 1, pair=0.03, triplet=0.02)
    cell, rng = Supercell.from_matrix(BCC, [3, 3, 3]), np.random.default_rng(0)
    start = rng.integers(3, size=27).astype(np.int8)
    pairs = np.array([(i, j) for i in range(27) for j in range(i) if start[i] != start[j]])
    changes = model.evaluator(cell).swap_energies(start, pairs)
    swaps = np.column_stack([pairs, np.zeros(len(pairs), dtype=np.int64)])
    guides.learn_swaps(cell, start, swaps, changes)
    assert guides.wide[0].normal.number == 0
    errors = guides.learn_swaps(
        cell, start, swaps, changes, [s.model()[0] for s in guides.every], wide=True
    )
    assert len(errors) == 3
    assert guides.wide[0].normal.number == len(pairs)
    assert guides.surrogates[0].normal.number == 2 * len(pairs)
    residuals = [s.model()[1] for s in guides.every]
    assert residuals[2] < 0.1 * min(residuals[:2])
    copied = guides.copy()
    copied.learn_swaps(cell, start, swaps, changes, wide=True)
    assert guides.wide[0].normal.number == len(pairs)


@pytest.mark.parametrize("kind", ["clusters", "mtp"])
def test_screening_finds_the_whole_hull_with_a_tenth_of_the_energies(kind):
    model = toy_model(BCC)
    if kind == "mtp":
        model = MtpBasis(level=8, species=BCC.species, cutoff=4.0).potential(seed=1)
    truth, n = hull_of_all(model, BCC, 7)
    pool = search(model, BCC, max_sites=7, budget=n // 8)
    assert pool.evaluations <= n // 8
    found = Hull(pool.compositions, pool.energies)
    x = truth.compositions[truth.vertices]
    np.testing.assert_allclose(found.energy(x), truth.energies[truth.vertices], atol=1e-8)
    assert {c.source for c in pool.candidates} == {"exhaustive", "screened"}


def test_without_a_budget_the_best_of_every_composition_is_found():
    model = toy_model(FCC)
    pool = search(model, FCC, max_sites=9, exhaustive_up_to=4)
    everything = search(model, FCC, max_sites=9, mode="exhaustive")
    assert pool.evaluations < everything.evaluations / 3
    assert pool.entries.keys() == everything.entries.keys()
    misses = sum(
        pool.entries[name][0].rounded > rows[0].rounded + 1e-9
        for name, rows in everything.entries.items()
    )
    assert misses <= 0.05 * len(pool.entries)


def test_large_cells_are_annealed_and_say_where_candidates_came_from(monkeypatch):
    monkeypatch.setattr(parts, "LISTED", 100)
    model = toy_model(BCC)
    cells = [[2, 2, 3], [[1, 0, 1], [0, 2, 0], [0, 0, 5]]]
    limits = {"Mo": 0.5, "Nb": (0.2, 0.35)}
    arguments = {"supercells": cells, "composition": limits, "exhaustive_up_to": 0}

    def run(comm=None):
        return search(model, BCC, budget=6000, seed=1, comm=comm, **arguments)

    pool = run()
    assert 3000 < pool.evaluations <= 6000
    for candidate in pool.candidates:
        assert candidate.source == "guided"
        assert candidate.evaluations > 100
        assert round(abs(np.linalg.det(candidate.found_in))) in {10, 12}
    for other in run_ranks(2, run):
        assert other.entries == pool.entries
        assert other.evaluations == pool.evaluations
    unlimited = search(model, BCC, seed=1, **arguments)
    best = {n: rows[0].rounded for n, rows in unlimited.entries.items()}
    assert all(best[n] <= rows[0].rounded + 2e-3 for n, rows in pool.entries.items())


@pytest.mark.parametrize("seed", range(2))
def test_guided_annealing_beats_annealing_at_equal_evaluations(seed):
    model = MtpBasis(level=6, species=BCC.species, cutoff=4.0).potential(seed=seed + 5)
    cell = Supercell.from_matrix(BCC, 3 * BCC.conventional)
    counts, evaluator = np.array([18, 18, 18]), model.evaluator(cell)
    guided, annealed = [], []
    for k in range(3):
        rng = np.random.default_rng([seed, k])
        allowance = Allowance(3000)
        result = guided_search(
            evaluator, counts, guides=Guides.of_large_cells(BCC), allowance=allowance, rng=rng
        )
        assert result.evaluations == allowance.used <= 3000
        np.testing.assert_allclose(result.energies, evaluator.energies(result.labels), atol=1e-9)
        guided.append(result.energies[0])
        result = polish_random(evaluator, counts, "annealing", Allowance(3000), rng)
        annealed.append(result.energies[0])
    assert np.mean(guided) <= np.mean(annealed) + 1e-9


@pytest.mark.parametrize("name", POLISHES)
def test_a_pure_cell_is_what_it_is(name):
    evaluator = toy_model(BCC).evaluator(Supercell.from_matrix(BCC, [2, 3, 4]))
    rng = np.random.default_rng(0)
    result = polish_random(evaluator, np.array([0, 24, 0]), name, Allowance(50), rng)
    np.testing.assert_array_equal(result.labels, np.ones((1, 24)))
    assert result.evaluations <= 50


@pytest.mark.parametrize(("parent", "matrix"), [(BCC, [1, 2, 3]), (ROCKSALT, [1, 2, 2])])
def test_a_sweep_reaches_every_composition(parent, matrix):
    cell = Supercell.from_matrix(parent, matrix)
    evaluator = toy_model(parent).evaluator(cell)
    allowance = Allowance()
    result = sweep(evaluator, beam_width=6, allowance=allowance)
    np.testing.assert_allclose(result.energies, evaluator.energies(result.labels), atol=1e-10)
    counts = Labelings(cell, result.labels).counts
    found = {tuple(c): result.energies[(counts == c).all(axis=1)].min() for c in counts}
    expected = {}
    for batch in enumerate_labelings(parent, supercell=cell, superperiodic=True):
        for c, e in zip(batch.counts, evaluator.energies(batch.labels), strict=True):
            expected[tuple(c)] = min(e, expected.get(tuple(c), np.inf))
    assert found.keys() == expected.keys()
    hits = sum(found[c] < e + 1e-9 for c, e in expected.items())
    assert hits >= 0.7 * len(expected)
    limited = Allowance(40)
    sweep(evaluator, allowance=limited)
    assert 0 < limited.used <= 40


@pytest.mark.parametrize(("parent", "matrix"), [(BCC, [1, 2, 2]), (ROCKSALT, [1, 1, 3])])
def test_a_sweep_keeps_what_its_twin_keeps(monkeypatch, parent, matrix):
    evaluator = toy_model(parent, seed=2).evaluator(Supercell.from_matrix(parent, matrix))
    expected, n = reference.sweep(evaluator, 3)
    for chunk in (sweeps.CHUNK, 100):
        monkeypatch.setattr(sweeps, "CHUNK", chunk)
        result = sweep(evaluator, beam_width=3)
        assert result.evaluations == n
        assert (np.diff(result.energies) > -1e-9).all()
        found = {}
        for row, energy in zip(result.labels, np.round(result.energies, 10), strict=True):
            counts = tuple(np.bincount(row, minlength=parent.n_species).tolist())
            found.setdefault(counts, []).append((energy, tuple(row.tolist())))
        assert {name: sorted(rows) for name, rows in found.items()} == expected


@pytest.mark.parametrize("mode", ["sweep", "polish"])
def test_modes_keep_to_their_budget(mode):
    model = toy_model(FCC)
    for budget in (30, 2000):
        pool = search(
            model, FCC, supercells=[[2, 2, 2]], mode=mode, polish="descent", budget=budget,
            exhaustive_up_to=0,
        )  # fmt: skip
        assert 0 < pool.evaluations <= budget
        assert {c.source for c in pool.candidates} == {"descent" if mode == "polish" else mode}


@pytest.mark.parametrize("kind", ["clusters", "mtp"])
def test_certificates_are_the_minima(kind):
    model = toy_model(BCC, seed=3)
    if kind == "mtp":
        model = MtpBasis(level=6, species=BCC.species, cutoff=4.0).potential(seed=3)
    cell = Supercell.from_matrix(BCC, [1, 2, 4])
    evaluator = model.evaluator(cell)
    for counts in ([3, 3, 2], [5, 0, 3], [1, 6, 1], [8, 0, 0]):
        proof = certify(evaluator, np.array(counts))
        lowest = reference.minima(evaluator, np.array(counts))[0]
        assert proof.energy == pytest.approx(lowest, abs=1e-9)
        assert proof.gap < 1e-8
        assert np.bincount(proof.labels, minlength=3).tolist() == counts
        stopped = certify(evaluator, np.array(counts), max_nodes=5)
        assert stopped.bound <= lowest + 1e-9
        assert stopped.energy >= lowest - 1e-9


def test_certificates_respect_sublattices_and_refuse_too_large_environments():
    cell = Supercell.from_matrix(ROCKSALT, [1, 2, 2])
    evaluator, counts = toy_model(ROCKSALT).evaluator(cell), np.array([2, 2, 3, 1])
    with pytest.raises(InputError, match="too large"):
        big = Supercell.from_matrix(BCC, [4, 4, 4])
        certify(toy_model(BCC).evaluator(big), np.array([22, 21, 21]))
    proof = certify(evaluator, counts)
    assert proof.energy == pytest.approx(reference.minima(evaluator, counts)[0], abs=1e-9)


def test_time_ends_a_search_with_what_was_found():
    began = time.monotonic()
    pool = search(toy_model(BCC), BCC, max_sites=16, shapes=2, exhaustive_up_to=3, seconds=1.0)
    assert time.monotonic() - began < 10.0
    assert len(pool) > 0


class Recorder:
    def __init__(self):
        self.calls = []

    def start(self, task, total):
        self.calls.append(("start", total))

    def advance(self, done):
        self.calls.append(("advance", done))

    def finish(self):
        self.calls.append(("finish",))


def test_progress_is_told():
    progress = Recorder()
    search(
        toy_model(FCC), FCC, supercells=[[1, 2, 3]], mode="polish", polish="descent",
        exhaustive_up_to=0, budget=500, progress=progress,
    )  # fmt: skip
    assert progress.calls[0][0] == "start"
    assert progress.calls[1] == ("advance", 0)
    assert progress.calls[-1] == ("finish",)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"mode": "best"}, "mode"), ({"polish": "wax"}, "polish")]
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        search(toy_model(FCC), FCC, max_sites=3, **arguments)
