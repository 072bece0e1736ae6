"""Shapes of supercells: the least skewed, and hosts of structures already found."""

import numpy as np
import pytest

from latticesearch.enumeration import superlattices
from latticesearch.hull import Hull
from latticesearch.lattice import Labelings, ParentLattice, Supercell
from latticesearch.lattice import skewness as shapes
from latticesearch.lattice.normal_forms import hermite_normal_form
from latticesearch.lattice.skewness import choose_shapes, n_hosted, skewness
from latticesearch.parallel import SerialComm
from latticesearch.search import search
from latticesearch.search.enumerate import enumerate_all
from tests.fake_comm import run_ranks
from tests.search.cases import problem_of
from tests.search.toy_model import FCC, toy_model

HCP = ParentLattice.from_prototype("hcp", a=3.0, species=("Co", "Ti"))


def cells_of(parent, index):
    return [Supercell.from_matrix(parent, form) for form in superlattices(parent, index)]


def holds(cell, guest):
    """Whether the crystal of a guest, in any orientation, has the periods of the cell.

    Naive: a lattice lies in another exactly if joining their vectors gives the other.
    """
    for image in cell.parent.equivalent_hnfs(guest.hnf):
        joined = hermite_normal_form(np.vstack([image, cell.hnf]))
        if (joined == image).all():
            return True
    return False


@pytest.mark.parametrize(("parent", "index"), [(FCC, 12), (HCP, 8)])
def test_hosts_are_counted_as_by_joining_lattices(parent, index):
    large = cells_of(parent, index)
    guests = [cell for n in (2, 3, 4) for cell in cells_of(parent, n)]
    expected = [sum(holds(cell, guest) for guest in guests) for cell in large]
    np.testing.assert_array_equal(n_hosted(large, guests), expected)
    assert max(expected) > min(expected)
    # The same structure twice is one structure, and a cell that does not divide has no host.
    np.testing.assert_array_equal(n_hosted(large, guests * 2), expected)
    assert not n_hosted(large, cells_of(parent, 5)).any()


def test_a_host_really_holds_the_structure():
    guest = cells_of(FCC, 4)[3]
    labels = np.array([[0, 0, 0, 1]], dtype=np.int8)
    key = Labelings(guest, labels).keys()[0]
    for cell in cells_of(FCC, 8):
        every = ((np.arange(256)[:, None] >> np.arange(8)) & 1).astype(np.int8)
        two = every[every.sum(axis=1) == 2]
        keys = set(Labelings(cell, two).keys())
        assert (key in keys) == bool(n_hosted([cell], [guest])[0])


def test_a_quarter_is_least_skewed_and_the_rest_hosts():
    large, guests = cells_of(FCC, 12), [cells_of(FCC, 4)[1], cells_of(FCC, 3)[0]]
    chosen = choose_shapes(large, 8, guests)
    assert len({cell.hnf.tobytes() for cell in chosen}) == 8
    ordered = sorted(large, key=lambda cell: (round(skewness(cell), 9), cell.hnf.ravel().tolist()))
    assert chosen[:2] == ordered[:2]
    least = n_hosted(chosen[2:], guests).min()
    left = [cell for cell in large if cell not in chosen]
    assert n_hosted(left, guests).max() <= least
    assert choose_shapes(large, 8) == ordered[:8]
    assert choose_shapes(large, 10_000, guests) == large


@pytest.mark.parametrize("seed", [5, 6, 9])
def test_hosts_hold_ground_states_that_the_least_skewed_shapes_do_not(monkeypatch, seed):
    model = toy_model(FCC, seed)
    everything = search(model, FCC, max_sites=10, method="enumerate")
    truth = Hull(everything.compositions, everything.energies)
    vertices = truth.compositions[truth.vertices]

    def error(comm=None):
        problem, blocks = problem_of(model, FCC, max_sites=10, comm=comm or SerialComm())
        enumerated = enumerate_all(problem, blocks[:6]).reduce(problem.comm)
        chosen = [block.limited_to(4, enumerated.stable_cells) for block in blocks[6:]]
        assert all(len(block.supercells) == 4 for block in chosen)
        pool = enumerated.merge(enumerate_all(problem, chosen).reduce(problem.comm))
        found = Hull(pool.compositions, pool.energies)
        return (found.energy(vertices) - truth.energy(vertices)).max()

    assert error() < 1e-9
    assert max(run_ranks(2, error)) < 1e-9
    monkeypatch.setattr(shapes, "COMMENSURATE", 0.0)
    assert error() > 4e-3


def test_a_search_takes_so_many_shapes_of_a_size_where_it_does_not_enumerate():
    model = toy_model(FCC)
    pool = search(model, FCC, max_sites=9, min_sites=9, shapes=2, budget=400, seed=1)
    everywhere = search(model, FCC, max_sites=9, min_sites=9, budget=400, seed=1)

    def cells(pool):
        return {candidate.found_in.tobytes() for candidate in pool.candidates}

    assert len(cells(pool)) <= 2 < len(cells(everywhere))
