"""The arranged products against the plain list; lanes against each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numba import njit

from latticesearch.errors import InputError
from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential.mtp import _contraction as kernels
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.potential.mtp.products import energy_contraction, full_contraction
from latticesearch.vectors import (
    LANES,
    SQUARE,
    load,
    minus,
    plus,
    splat,
    store,
    times,
    times_plus,
    total,
    transpose,
)
from tests.reference import mtp as reference


def random_potential(level, seed=0):
    basis = MtpBasis(level, ("Nb", "Ta"), cutoff=5.0)
    return basis.potential(np.random.default_rng(seed).normal(size=basis.n_parameters))


def in_lanes(contraction, basic):
    """Return the stored moments, (n_stored, LANES), of basic moments (n_basic, LANES)."""
    work = kernels.space(contraction)
    work[: basic.size] = basic.ravel()
    kernels.multiply(contraction, work)
    return work


def padded_rows(basic):
    """Return the moments (n_basic, LANES) as rows of whole vectors, (LANES, width)."""
    rows = np.zeros((LANES, -(-len(basic) // LANES) * LANES))
    rows[:, : len(basic)] = basic.T
    return rows


@njit
def turn(source, stride, target):
    transpose(source, 2, stride, target, 3)


def test_squares_are_transposed():
    source = np.random.default_rng(0).normal(size=(SQUARE, 11))
    target = np.zeros((SQUARE, LANES))
    turn(source.ravel(), 11, target.ravel())
    assert np.array_equal(target[:, 3 : 3 + SQUARE], source[:, 2 : 2 + SQUARE].T)
    assert not target[:, :3].any()


@pytest.mark.parametrize("n_rows", [1, LANES - 1, LANES])
def test_rows_fill_the_lanes(n_rows):
    rows = np.random.default_rng(0).normal(size=(LANES + 2, 2 * LANES))
    work = np.full((2 * LANES + SQUARE, LANES), np.nan)
    kernels.fill_lanes(LANES + 3, rows, 1, n_rows, work.reshape(-1))
    assert np.array_equal(work[: LANES + 3, :n_rows], rows[1 : n_rows + 1, : LANES + 3].T)
    assert not work[: LANES + 3, n_rows:].any()


@njit
def arithmetic(a, b, c, out):
    x, y, z = load(a, 0), load(b, 0), load(c, 0)
    store(out, 0, plus(x, y))
    store(out, LANES, minus(x, y))
    store(out, 2 * LANES, times(x, y))
    store(out, 3 * LANES, times_plus(x, y, z))
    store(out, 4 * LANES, splat(a[3]))
    store(out, 5 * LANES, load(a, 1))
    return total(x)


def test_vectors_calculate_like_numbers():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, LANES + 1))
    out = np.zeros((6, LANES))
    assert arithmetic(a, b, c, out) == pytest.approx(a[:-1].sum(), rel=1e-14)
    x, y, z = a[:-1], b[:-1], c[:-1]
    expected = [x + y, x - y, x * y, x * y + z, np.full(LANES, a[3]), a[1:]]
    for k in (0, 1, 2, 4, 5):
        assert np.array_equal(out[k], expected[k])
    np.testing.assert_allclose(out[3], expected[3], rtol=1e-15, atol=1e-15)


def test_arrays_begin_where_cache_lines_begin():
    for size in (1, 7, 64, 1000):
        for _ in range(5):
            part = kernels.aligned(size)
            assert part.ctypes.data % 64 == 0
            assert len(part) == size


@pytest.mark.parametrize("level", [2, 4, 8, 10, 12, 16])
def test_energies_and_basis_functions_equal_the_plain_list(level):
    potential = random_potential(level)
    basic = np.random.default_rng(1).normal(size=(len(potential.alpha_index_basic), LANES))
    expected = np.array([reference.basis_values(potential, column) for column in basic.T])
    full, scalars = full_contraction(potential)
    moments = in_lanes(full, basic).reshape(-1, LANES)
    np.testing.assert_allclose(moments[scalars].T, expected, rtol=1e-11, atol=1e-11)
    energies = np.empty(LANES)
    contraction = energy_contraction(potential)
    rows = padded_rows(basic)
    kernels.contract_rows(contraction, rows, LANES, kernels.space(contraction), energies)
    expected = expected @ potential.moment_coeffs
    np.testing.assert_allclose(energies, expected, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("level", [2, 8, 12])
def test_adjoints_are_derivatives(level):
    potential = random_potential(level)
    rng = np.random.default_rng(2)
    n_basic = len(potential.alpha_index_basic)
    basic, direction = rng.normal(size=(2, n_basic, LANES))
    for contraction in (energy_contraction(potential), full_contraction(potential)[0]):
        work = in_lanes(contraction, basic)
        adjoints = np.empty_like(work)
        kernels.differentiate(contraction, work, adjoints)
        slope = (adjoints[: basic.size].reshape(basic.shape) * direction).sum(axis=0)
        values = []
        for step in (-2e-3, -1e-3, 1e-3, 2e-3):
            moved = basic + step * direction
            values.append(
                [reference.basis_values(potential, m) @ potential.moment_coeffs for m in moved.T]
            )
        e = np.array(values)
        expected = (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / 12e-3
        np.testing.assert_allclose(slope, expected, rtol=1e-8, atol=1e-8)


def test_zero_coefficients_shorten_the_way():
    potential = random_potential(12)
    few = replace(potential, moment_coeffs=potential.moment_coeffs * 0.0)
    few.moment_coeffs[[0, 2]] = 1.0
    contraction = energy_contraction(few)
    assert contraction.n_stored < energy_contraction(potential).n_stored
    basic = np.random.default_rng(1).normal(size=(len(potential.alpha_index_basic), LANES))
    energies = np.empty(LANES)
    rows = padded_rows(basic)
    kernels.contract_rows(contraction, rows, LANES, kernels.space(contraction), energies)
    expected = [reference.basis_values(few, m)[[0, 2]].sum() for m in basic.T]
    np.testing.assert_allclose(energies, expected, rtol=1e-12)


@pytest.mark.parametrize("level", [8, 12])
def test_energies_do_not_depend_on_where_in_a_batch_a_labeling_stands(level):
    parent = ParentLattice.from_prototype("bcc", 3.2, ("Nb", "Ta"))
    for matrix in ([1, 1, 3], [2, 2, 2], [3, 3, 3]):
        supercell = Supercell.from_matrix(parent, matrix)
        evaluator = random_potential(level).evaluator(supercell)
        rng = np.random.default_rng(3)
        labels = rng.integers(0, 2, (40, supercell.n_sites)).astype(np.int8)
        together = evaluator.energies(labels)
        rows = evaluator.gradient_rows(labels)
        for start in range(1, 40, 3):
            assert np.array_equal(evaluator.energies(labels[start:]), together[start:])
        for n in range(40):
            assert evaluator.energies(labels[n : n + 1])[0] == together[n]
            assert evaluator.walk_state(labels[n]).energy[0] / supercell.n_sites == together[n]
        assert np.array_equal(evaluator.gradient_rows(labels[7:9]), rows[7:9])
        full = np.eye(2)[labels]
        mean = evaluator.mean_field_energies(full)
        assert np.array_equal(evaluator.mean_field_energies(full[5:6]), mean[5:6])


def test_damaged_lists_of_products_are_refused():
    potential = random_potential(8)
    times = potential.alpha_index_times
    for wrong in (times[::-1].copy(), times[1:]):
        damaged = replace(potential, alpha_index_times=wrong)
        with pytest.raises(InputError, match=r"the list( of products)? is damaged"):
            energy_contraction(damaged)
    into_basic = times.copy()
    into_basic[0, 3] = 0
    with pytest.raises(InputError, match="changes a basic moment"):
        full_contraction(replace(potential, alpha_index_times=into_basic))
