"""The one call: limits kept, the same pool on any number of ranks, bad arguments in one line."""

import subprocess
import sys
import time

import numpy as np
import pytest

import latticesearch as ls
from latticesearch.errors import InputError
from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential.mtp.files import parse_mtp
from latticesearch.progress import NoProgress
from latticesearch.search import search
from latticesearch.search.policy import METHODS
from latticesearch.stopping import StopRequest
from tests.campaign.runs import environment
from tests.fake_comm import run_ranks
from tests.search.cases import brute_force, lowest, same_pools, sources
from tests.search.toy_model import BCC, FCC, ROCKSALT, toy_model
from tests.shipped import read_text

LIMITED = [name for name in METHODS if name != "enumerate"]
"""What "enumerate" costs is the number of labelings, and asked for by name."""


@pytest.mark.parametrize("method", LIMITED)
@pytest.mark.parametrize("budget", [1, 2, 3, 5, 30, 300, 3000])
@pytest.mark.parametrize("cells", [{"max_sites": 9}, {"supercells": [[2, 2, 3], [2, 2, 2]]}])
def test_a_budget_is_never_exceeded(method, budget, cells):
    pool = search(toy_model(FCC), FCC, method=method, budget=budget, **cells)
    assert 0 < pool.evaluations <= budget
    assert len(pool) > 0


@pytest.mark.parametrize("method", LIMITED)
@pytest.mark.parametrize("budget", [1, 10, 300, 3000])
def test_budgets_that_are_small_beside_the_number_of_cells(method, budget):
    """Thousands of compositions of hundreds of cells, and energies for a part of them."""
    parent = ParentLattice.from_prototype("fcc", 3.95, ("Cu", "Au", "Ag"))
    potential = parse_mtp(read_text("mtp/random_level08.mtp"), ("Cu", "Au", "Ag", "Pd"))
    how = {"min_sites": 8, "max_sites": 9, "composition": {"Cu": (0.3, 0.7)}}
    pool = search(potential, parent, method=method, budget=budget, **how)
    assert 0 < pool.evaluations <= budget
    assert len(pool.energies) > 0
    assert np.isfinite(pool.energies).all()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_minima_of_a_small_case(method):
    model = toy_model(FCC)
    pool = search(model, FCC, supercells=[[2, 2, 2]], method=method)
    expected, _ = brute_force(
        model, FCC, supercell=Supercell.from_matrix(FCC, [2, 2, 2]), superperiodic=True
    )
    found = lowest(pool)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("parent", "matrix"),
    [(FCC, [[1, 0, 5], [0, 2, 1], [0, 0, 5]]), (ROCKSALT, [1, 2, 2]), (BCC, [2, 2, 2])],
)
def test_addition_of_a_supercell_against_all_its_labelings(parent, matrix):
    model, cell = toy_model(parent), Supercell.from_matrix(parent, matrix)
    pool = search(model, parent, supercells=[cell], method="addition", seed=2)
    expected, _ = brute_force(model, parent, supercell=cell, superperiodic=True)
    found = lowest(pool)
    assert found.keys() == expected.keys()
    misses = [name for name, energy in expected.items() if found[name] > energy + 1e-9]
    assert all(found[name] >= expected[name] - 1e-9 for name in expected)
    assert len(misses) <= 0.05 * len(expected)
    assert sources(pool) == {"greedy"}


@pytest.mark.parametrize("method", METHODS)
def test_composition_limits(method):
    limits = {"Mo": (0.2, 0.5), "Ta": 0.25}
    how = {"composition": limits, "method": method}
    pool = search(toy_model(BCC), BCC, max_sites=8, budget=3000, **how)
    x = pool.compositions
    assert len(pool) > 0
    assert np.all((x[:, 0] >= 0.2 - 1e-9) & (x[:, 0] <= 0.5 + 1e-9))
    np.testing.assert_allclose(x[:, 2], 0.25)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [2, 3])
def test_the_same_pool_on_any_number_of_ranks(size, method):
    model = toy_model(FCC)
    cells = {"max_sites": 7}
    if method == "annealing":
        cells = {"supercells": [[1, 2, 4], [2, 2, 3]], "composition": {"Cu": (0.4, 0.6)}}

    def run(comm=None):
        return search(model, FCC, method=method, budget=2000, seed=3, comm=comm, **cells)

    serial = run()
    assert all(same_pools(pool, serial) for pool in run_ranks(size, run))


def test_a_tight_budget_is_used_up_and_depends_on_the_seed():
    model = toy_model(FCC)
    pools = [
        search(model, FCC, max_sites=12, method="addition", budget=6000, seed=s) for s in (0, 0, 1)
    ]
    assert same_pools(pools[0], pools[1])
    assert pools[0].entries != pools[2].entries
    assert all(3000 < pool.evaluations <= 6000 for pool in pools)


def test_large_cells_say_what_found_their_candidates_and_where():
    cells = [[2, 2, 3], [[1, 0, 1], [0, 2, 0], [0, 0, 5]]]
    limits = {"Mo": 0.5, "Nb": (0.2, 0.35)}
    how = {"supercells": cells, "composition": limits, "method": "annealing"}
    pool = search(toy_model(BCC), BCC, budget=6000, seed=1, **how)
    assert 3000 < pool.evaluations <= 6000
    for candidate in pool.candidates:
        assert candidate.source == "guided"
        assert candidate.evaluations > 100
        assert round(abs(np.linalg.det(candidate.found_in))) in {10, 12}
    unlimited = search(toy_model(BCC), BCC, seed=1, **how)
    best = {n: rows[0].rounded for n, rows in unlimited.entries.items()}
    assert all(best[n] <= rows[0].rounded + 2e-3 for n, rows in pool.entries.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "max_sites or supercells"),
        ({"max_sites": 4, "supercells": [[2, 2, 2]]}, "max_sites or supercells"),
        ({"max_sites": 0}, "nothing to search"),
        ({"max_sites": 3, "min_sites": 4}, "nothing to search"),
        ({"max_sites": 3, "min_sites": 0}, "min_sites is 0"),
        ({"supercells": []}, "nothing to search"),
        ({"max_sites": 4, "budget": 0}, "budget is 0"),
        ({"max_sites": 4, "shapes": 0}, "shapes is 0"),
        ({"max_sites": 4, "certify": 0}, "certify is 0"),
        ({"max_sites": 4, "max_per_composition": 0}, "max_per_composition is 0"),
        ({"max_sites": 4, "seconds": -1.0}, "seconds is -1"),
        ({"max_sites": 4, "seconds": float("nan")}, "seconds is nan"),
        ({"max_sites": 4, "composition": {"Cu": 0.3}}, r"Cu.*0\.3"),
        ({"max_sites": 4, "composition": {"Cu": 0.75, "Pd": 0.75}}, "Cu"),
        ({"max_sites": 4, "composition": {"Au": 0.5}}, "Au"),
        ({"supercells": [[2, 0, 2]]}, "volume|singular|determinant|positive"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        search(toy_model(FCC), FCC, **arguments)
    assert "\n" not in str(caught.value)


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
    how = {"supercells": [[1, 2, 3]], "method": "addition", "budget": 500}
    search(toy_model(FCC), FCC, progress=progress, **how)
    assert progress.calls[0][0] == "start"
    assert progress.calls[1] == ("advance", 0)
    assert progress.calls[-1] == ("finish",)


FIRST = [
    "",
    "import latticesearch; latticesearch.fit",
    "import latticesearch.search.driver",
    "import latticesearch.search as s; s.search",
]


ORDERS = """
import os
import numba, scipy.linalg, scipy.spatial  # what takes long to import and is not ours
for first in FIRST:
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, first
    else:
        exec(CODE.replace("FIRST", first))
        os._exit(0)
"""

CODE = """
FIRST
import latticesearch as ls
FIRST
parent = ls.ParentLattice.from_prototype("fcc", 4.0, ("Cu", "Pd"))
potential = ls.MtpBasis(level=4, species=("Cu", "Pd"), cutoff=4.0).potential(seed=1)
pool = ls.search(potential, parent, max_sites=2)
assert len(pool), pool
from latticesearch.search import search, CandidatePool
assert isinstance(search(potential, parent, max_sites=2), CandidatePool)
"""


def test_the_search_can_be_called_whatever_was_imported_before():
    code = f"FIRST, CODE = {FIRST!r}, {CODE!r}\n{ORDERS}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 0, done.stderr


def test_the_public_name_is_the_same_search():
    model = toy_model(FCC)
    assert same_pools(ls.search(model, FCC, max_sites=4), search(model, FCC, max_sites=4))


@pytest.mark.parametrize("method", LIMITED)
@pytest.mark.parametrize("limit", [{}, {"budget": 30_000}, {"seconds": 600.0}])
def test_a_search_that_is_stopped_gives_what_it_has(method, limit):
    """The first part that is done asks for the end, as a signal in the middle would."""
    stop, model = StopRequest(), toy_model(FCC)

    class Progress(NoProgress):
        def advance(self, done):
            if done:
                stop.request("a test")

    began = time.monotonic()
    pool = search(model, FCC, max_sites=20, method=method, stop=stop, progress=Progress(), **limit)
    assert len(pool) > 0
    assert time.monotonic() - began < 60


def test_heights_within_limits_of_composition():
    """Where pure elements are left out heights refer to what is there."""
    pool = search(toy_model(FCC), FCC, max_sites=6, composition={"Cu": (0.3, 0.7)})
    assert (pool.heights >= 0).all()
    assert (pool.heights == 0).sum() >= 2
