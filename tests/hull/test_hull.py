from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latticesearch.errors import InputError
from latticesearch.hull import Hull, corners, hull_change, hull_with
from tests.reference import hull as naive


def random_alloy(n_species, n_points, seed, n_sites=12):
    """Return pure elements and compositions of small cells with energies mostly below the ends."""
    rng = np.random.default_rng([seed, n_species])
    counts = rng.multinomial(n_sites, np.full(n_species, 1 / n_species), size=n_points)
    x = np.vstack([np.eye(n_species), counts / n_sites])
    ideal = 1 - (x**2).sum(axis=1)
    energies = x @ rng.normal(-8, 3, n_species) - 0.2 * ideal * rng.random(len(x)) ** 0.3
    return x, energies


@pytest.mark.parametrize("n_species", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_linear_programming(n_species, seed):
    x, e = random_alloy(n_species, 60, seed)
    hull = Hull(x, e)
    deep = naive.depths(x, e)
    unique = ~((deep > -1e-9) & (deep < 1e-9))  # leave ties to their own test
    expected = [i for i in naive.vertices(x, e) if unique[i]]
    assert set(expected) <= set(hull.vertices.tolist())
    assert np.all(deep[hull.vertices] > -1e-8)
    above = [ei - naive.envelope(x, e, xi) for xi, ei in zip(x, e, strict=True)]
    np.testing.assert_allclose(hull.energies_above_hull, above, atol=1e-9)
    np.testing.assert_allclose(hull.depths, deep[hull.vertices], atol=1e-9)


@pytest.mark.parametrize("n_species", [2, 3, 4])
def test_envelope_anywhere_equals_linear_programming(n_species):
    x, e = random_alloy(n_species, 80, 5)
    hull = Hull(x, e)
    probes = np.random.default_rng(1).dirichlet(np.ones(n_species), 40)
    expected = [naive.envelope(x, e, probe) for probe in probes]
    np.testing.assert_allclose(hull.energy(probes), expected, atol=1e-9)
    np.testing.assert_allclose(hull.energy_above_hull(probes, np.add(expected, 0.25)), 0.25)
    np.testing.assert_allclose(
        hull.formation_energy(probes, expected), expected - probes @ e[:n_species], atol=1e-9
    )


@pytest.mark.parametrize("n_species", [2, 3, 4])
def test_decomposition_restores_composition_and_energy(n_species):
    x, e = random_alloy(n_species, 80, 9)
    hull = Hull(x, e)
    for probe in np.random.default_rng(2).dirichlet(np.ones(n_species), 20):
        phases, weights = hull.decomposition(probe)
        assert set(phases) <= set(hull.vertices)
        assert len(phases) <= n_species
        assert (weights > 0).all()
        np.testing.assert_allclose(weights @ x[phases], probe, atol=1e-7)
        np.testing.assert_allclose(weights @ e[phases], hull.energy(probe), atol=1e-6)


def test_decomposition_of_a_vertex_is_itself():
    x, e = random_alloy(3, 50, 3)
    hull = Hull(x, e)
    for vertex in hull.vertices:
        phases, weights = hull.decomposition(x[vertex])
        assert phases.tolist() == [vertex]
        assert weights.tolist() == [1.0]


def test_a_binary_hull_is_the_one_drawn_by_hand():
    x = np.array([0, 1, 0.5, 0.25, 0.75, 0.5])
    e = np.array([-2.0, -4.0, -3.4, -2.7, -3.6, -3.3])
    hull = Hull(np.column_stack([1 - x, x]), e)
    assert hull.vertices.tolist() == [0, 1, 2]
    assert hull.facets.tolist() == [[0, 2], [1, 2]]
    np.testing.assert_allclose(hull.formation_energies, [0, 0, -0.4, -0.2, -0.1, -0.3], atol=1e-12)
    assert hull.energies_above_hull.tolist() == pytest.approx([0, 0, 0, 0, 0.1, 0.1])
    assert hull.depths.tolist() == pytest.approx([np.inf, np.inf, 0.1])
    assert hull.stabilities.tolist() == pytest.approx([np.inf, np.inf, 0.4])


@pytest.mark.parametrize("n_species", [2, 3, 4])
def test_ideal_mixtures_leave_only_the_elements(n_species):
    """All points lie in one plane, which a general hull code cannot orient."""
    grid = [c for c in itertools.product(range(7), repeat=n_species) if sum(c) == 6]
    x = np.array(grid) / 6
    e = x @ np.linspace(-12.96, -1.1, n_species)
    hull = Hull(x, e)
    assert x[hull.vertices].max(axis=1).tolist() == [1.0] * n_species
    assert len(hull.facets) == 1
    assert not hull.energies_above_hull.any()


@pytest.mark.parametrize("n_species", [3, 4])
def test_points_on_tie_lines_are_not_vertices(n_species):
    corners = np.eye(n_species)
    middle = np.full(n_species, 1 / n_species)
    between = np.array(
        [(1 - t) * corner + t * middle for corner in corners for t in np.arange(1, 8) / 8]
    )
    x = np.vstack([corners, middle, between])
    e = np.concatenate(
        [np.full(n_species, -9.3), [-9.4], -9.3 - 0.1 * np.tile(np.arange(1, 8) / 8, n_species)]
    )
    hull = Hull(x, e)
    assert hull.vertices.tolist() == list(range(n_species + 1))
    assert not hull.energies_above_hull.any()


def test_ties_take_the_first_and_lower_energies_the_place():
    x = [[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5], [1, 0]]
    assert Hull(x, [0, 0, -1, -1, 0]).vertices.tolist() == [0, 1, 2]
    assert Hull(x, [0, 0, -1, -1.5, -0.1]).vertices.tolist() == [1, 3, 4]
    assert Hull(x, [0, 0, -1, -1.5, -0.1]).end_members.tolist() == [1, 4]


def test_fractions_that_differ_by_rounding_are_one_composition():
    thirds = np.array([[1 / 3, 2 / 3], [1 - 2 / 3, 2 / 3], [0.33333333333, 0.66666666667]])
    hull = Hull(np.vstack([np.eye(2), thirds]), [0, 0, -0.1, -0.3, -0.2])
    assert hull.vertices.tolist() == [0, 1, 3]
    assert hull.energies_above_hull[4] == pytest.approx(0.1)


def test_a_lower_point_is_negative_and_moves_the_hull_by_as_much():
    x, e = random_alloy(3, 40, 4)
    hull = Hull(x, e)
    probe = np.array([0.2, 0.5, 0.3])
    lower = hull.energy(probe) - 0.05
    assert hull.energy_above_hull(probe, lower) == pytest.approx(-0.05)
    moved = Hull(np.vstack([x, probe]), np.append(e, lower))
    assert hull_change(hull, moved) == pytest.approx(0.05)
    assert hull_change(moved, hull) == pytest.approx(0.05)
    assert hull_change(hull, hull) == 0


def test_sublattices_give_a_pseudo_binary():
    """Ti, Hf, N with half of the sites always N."""
    ti = np.array([0.5, 0, 0.25, 0.125])
    x = np.column_stack([ti, 0.5 - ti, np.full(4, 0.5)])
    hull = Hull(x, [-9.0, -11.0, -10.2, -10.3], species=("Ti", "Hf", "N"))
    assert hull.dimension == 1
    assert hull.end_members.tolist() == [0, 1]
    assert hull.vertices.tolist() == [0, 1, 2]
    np.testing.assert_allclose(hull.formation_energies, [0, 0, -0.2, 0.2], atol=1e-12)
    assert hull.energies_above_hull[3] == pytest.approx(0.3)
    with pytest.raises(InputError, match="no mixture of the 2 end members"):
        hull.energy([1, 0, 0])


def test_two_mixed_sublattices_give_a_square():
    """(A,B)(C,D): four end members whose own envelope is folded along a diagonal."""
    a, c = (grid.ravel() for grid in np.meshgrid(np.arange(5) / 4, np.arange(5) / 4))
    x = np.column_stack([a, 1 - a, c, 1 - c]) / 2
    e = -1.0 * (a == c)  # AC and BD deeper than AD and BC
    hull = Hull(x, e)
    assert hull.dimension == 2
    assert len(hull.end_members) == 4
    assert sorted(hull.vertices) == sorted(hull.end_members)
    centre = np.flatnonzero((a == 0.5) & (c == 0.5))[0]
    assert hull.formation_energies[centre] == pytest.approx(0)
    expected = [ei - naive.envelope(x, e, xi) for xi, ei in zip(x, e, strict=True)]
    np.testing.assert_allclose(hull.energies_above_hull, expected, atol=1e-9)


def test_one_composition_is_a_hull_of_one_point():
    hull = Hull([[0.5, 0.5]] * 3, [-1.0, -1.25, -1.125])
    assert hull.vertices.tolist() == [1]
    assert hull.energies_above_hull.tolist() == [0.25, 0, 0.125]
    assert hull.depths.tolist() == [0.125]
    assert hull.stabilities.tolist() == [np.inf]
    assert hull.energy([0.5, 0.5]) == -1.25


def test_named_end_members_restrict_the_region():
    x = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0.5, 0.25, 0.25]]
    ends = [[0.5, 0.5, 0], [0.5, 0, 0.5]]
    assert Hull(x, [0, 0, -1], end_members=ends).vertices.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"end member Ti 0\.5, N 0\.5; add its energy"):
        Hull(x[:1] + x[2:], [0, -1], end_members=ends, species=("Ti", "Hf", "N"))


@pytest.mark.parametrize(
    ("x", "e", "message"),
    [
        ([[1, 0], [0.5, 0.5]], [0, 0], "pure B"),
        ([[1, 0], [0, 1.1]], [0, 0], "composition 1 is"),
        ([[1, 0], [-0.1, 1.1]], [0, 0], "composition 1 is"),
        ([[1, 0], [np.nan, 1]], [0, 0], "composition 1 is"),
        ([[1, 0], [0, 1]], [0, np.nan], "energy 1 is nan"),
        ([[1, 0], [0, 1]], [0, np.inf], "energy 1 is inf"),
        ([[1, 0], [0, 1]], [0], "2 compositions need as many energies"),
        (np.empty((0, 2)), [], "at least one point"),
        ([1, 0], [0, 0], "shape"),
    ],
)
def test_bad_input_is_named(x, e, message):
    with pytest.raises(InputError, match=message):
        Hull(x, e, species=("A", "B"))


def test_bad_questions_are_named():
    hull = Hull(np.eye(3), np.zeros(3))
    with pytest.raises(InputError, match="2 components, the hull has 3"):
        hull.energy([[0.5, 0.5]])
    with pytest.raises(InputError, match="do not fit compositions"):
        hull.energy_above_hull(np.eye(3), 0.0)
    with pytest.raises(InputError, match="takes one composition"):
        hull.decomposition(np.eye(3))


def test_shapes_follow_the_question():
    hull = Hull(np.eye(3), np.zeros(3))
    assert hull.energy([0.2, 0.3, 0.5]).shape == ()
    assert hull.energy(np.full((4, 5, 3), 1 / 3)).shape == (4, 5)
    assert hull.energy(np.empty((0, 3))).shape == (0,)
    assert hull.tie_lines.tolist() == [[0, 1], [0, 2], [1, 2]]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    counts=st.lists(st.tuples(*[st.integers(0, 6)] * 3).filter(any), min_size=1, max_size=20),
    levels=st.lists(st.integers(-5, 3), min_size=40, max_size=40),
)
def test_crowded_ties_stay_consistent(counts, levels):
    """Few energy levels at simple fractions: coplanar points and duplicates everywhere."""
    x = np.vstack([np.eye(3), [np.divide(c, sum(c)) for c in counts]])
    e = -5.1 + 0.1 * np.concatenate([np.zeros(3), levels[: len(counts)]])
    hull = Hull(x, e)
    expected = np.array([ei - naive.envelope(x, e, xi) for xi, ei in zip(x, e, strict=True)])
    np.testing.assert_allclose(hull.energies_above_hull, expected, atol=1e-8)
    assert set(naive.vertices(x, e)) <= set(hull.vertices)
    assert (hull.depths >= 0).all()
    assert (hull.stabilities >= hull.depths - 1e-9).all()
    assert len({tuple(np.round(c, 6)) for c in x[hull.vertices]}) == len(hull.vertices)
    np.testing.assert_array_equal(Hull(x, e).facets, hull.facets)


def test_order_of_points_does_not_matter():
    x, e = random_alloy(4, 200, 8)
    order = np.random.default_rng(0).permutation(len(e))
    plain, shuffled = Hull(x, e), Hull(x[order], e[order])
    assert {tuple(x[v]) for v in plain.vertices} == {tuple(x[order][v]) for v in shuffled.vertices}
    np.testing.assert_allclose(
        plain.energies_above_hull[order], shuffled.energies_above_hull, atol=1e-12
    )


def test_corners_are_the_compositions_that_no_others_mix_to():
    nitrides = [[0.5, 0, 0.5], [0, 0.5, 0.5], [0.25, 0.25, 0.5], [0.5, 0, 0.5], [2 / 3, 0, 1 / 3]]
    np.testing.assert_array_equal(corners(nitrides), np.array(nitrides)[[0, 1, 4]])
    np.testing.assert_array_equal(corners(np.vstack([[[0.2, 0.8]], np.eye(2)])), np.eye(2))
    hull = Hull(nitrides, [-9.0, -10.0, -9.6, -9.1, -9.5], end_members=corners(nitrides))
    assert hull.covers([[0.3, 0.2, 0.5], [1, 0, 0], [0.25, 0.25, 0.5]]).tolist() == [
        True,
        False,
        True,
    ]
    with pytest.raises(InputError, match="no compositions"):
        corners(np.empty((0, 2)))


def test_oxides_without_oxygen_span_their_own_region():
    """(Ni,Cu)(O,X): four corners, of which none is oxygen; heights are those above them."""
    x = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.25, 0.25, 0.5]])
    e = np.array([0.0, 0.0, -1.0, -0.5, -0.7])
    with pytest.raises(InputError, match="no point for the end member pure"):
        Hull(x, e)
    hull = hull_with(x, e)
    assert sorted(hull.end_members.tolist()) == [0, 1, 2, 3]
    np.testing.assert_allclose(hull.energies_above_hull, [0, 0, 0, 0, 0.05], atol=1e-12)


@pytest.mark.parametrize("n_species", [2, 3, 4])
def test_corners_are_pure_where_these_are_there(n_species):
    x, e = random_alloy(n_species, 40, 5)
    np.testing.assert_array_equal(corners(x[::-1]), np.eye(n_species)[::-1])
    np.testing.assert_array_equal(hull_with(x, e).vertices, Hull(x, e).vertices)
