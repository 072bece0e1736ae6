"""The products of moments of a potential, arranged for the compiled kernels."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.mtp._contraction import ContractionTables
from latticesearch.vectors import LANES

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.mtp.coefficients import MtpCoefficients

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

KEPT = 16
"""Potentials whose products are kept: one at a time is searched with, a fit tries a few."""


@lru_cache(maxsize=KEPT)
def energy_contraction(potential: MtpCoefficients) -> ContractionTables:
    """Return the shortest way from basic moments to the energy; kept for the last few potentials.

    Products that reach no coefficient other than zero are left out. Those that only the energy
    needs are not stored: their coefficients are multiplied into the terms, and terms of the same
    two moments become one.

    Raises
    ------
    InputError
        The list of products is damaged.
    """
    coefficients = np.zeros(potential.n_moments)
    np.add.at(coefficients, potential.alpha_moment_mapping, potential.moment_coeffs)
    times = _ordered(potential)
    times = times[_needed(times, coefficients)[times[:, 3]]]
    return _fold(times, coefficients, len(potential.alpha_index_basic))


def full_contraction(potential: MtpCoefficients) -> tuple[ContractionTables, Ints]:
    """Return the products with every moment stored, and where the basis functions stand.

    Raises
    ------
    InputError
        The list of products is damaged.

    Returns
    -------
    contraction
        Its energy is the sum of coefficients times basis functions.
    scalars
        The stored moment that is each basis function, (n_scalars,).
    """
    n_basic = len(potential.alpha_index_basic)
    times = _ordered(potential)
    slots, starts = _slots(times, n_basic, potential.n_moments)
    scalars = slots[potential.alpha_moment_mapping]
    contraction = _packed(
        n_basic,
        (starts, slots[times[:, 0]], slots[times[:, 1]], times[:, 2]),
        (np.zeros(len(scalars) + 1), scalars, potential.moment_coeffs, scalars[:0], scalars[:0]),
    )
    return contraction, scalars


def _ordered(potential: MtpCoefficients) -> Ints:
    """Return the rows, (n_times, 4), of one product together, each product behind what it needs."""
    times = potential.alpha_index_times
    row = np.arange(len(times))
    last = np.full(potential.n_moments, len(times))
    last[: len(potential.alpha_index_basic)] = -1
    last[times[:, 3]] = row
    wrong = (last[times[:, :2]] >= row[:, None]).any(axis=1)
    wrong |= times[:, 3] < len(potential.alpha_index_basic)
    if wrong.any():
        bad = int(np.argmax(wrong))
        raise InputError(
            f"row {bad} of the potential's products, {times[bad].tolist()}, changes a basic moment "
            "or uses one that is not complete there: the list is damaged"
        )
    missing = potential.alpha_moment_mapping[last[potential.alpha_moment_mapping] == len(times)]
    if len(missing):
        raise InputError(
            f"the potential's basis function {missing[0]} is a moment that no product fills: "
            "the list of products is damaged"
        )
    ordered: Ints = times[np.lexsort((row, last[times[:, 3]]))]
    return ordered


def _needed(times: Ints, coefficients: Floats) -> npt.NDArray[np.bool_]:
    """Return which moments the energy depends on, (n_moments,)."""
    needed = (coefficients != 0.0).tolist()
    for a, b, _, c in times[::-1].tolist():
        if needed[c]:
            needed[a] = needed[b] = True
    return np.array(needed)


def _slots(times: Ints, n_basic: int, n_moments: int) -> tuple[Ints, Ints]:
    """Return where moments are stored, (n_moments,), and where products begin, (n_products + 1,).

    Basic moments come first, then products in the order of `times`, (n, 4); -1 for the others.
    """
    targets, first, counts = np.unique(times[:, 3], return_index=True, return_counts=True)
    order = np.argsort(first)
    slots = np.full(n_moments, -1, dtype=np.int64)
    slots[:n_basic] = np.arange(n_basic)
    slots[targets[order]] = n_basic + np.arange(len(targets))
    return slots, np.concatenate([[0], np.cumsum(counts[order], dtype=np.int64)])


def _fold(times: Ints, coefficients: Floats, n_basic: int) -> ContractionTables:
    """Return the contraction whose last products are part of the energy.

    `times` are ordered rows, (n, 4), `coefficients` those of all moments, (n_moments,), eV.
    """
    is_factor = np.zeros(len(coefficients), dtype=bool)
    is_factor[times[:, :2]] = True
    inner, last = times[is_factor[times[:, 3]]], times[~is_factor[times[:, 3]]]
    slots, starts = _slots(inner, n_basic, len(coefficients))
    stored = np.flatnonzero(slots >= 0)
    linear = np.zeros(len(stored))
    linear[slots[stored]] = coefficients[stored]
    pairs, weights = _merged_pairs(slots[last[:, :2]], coefficients[last[:, 3]] * last[:, 2])
    counts = np.bincount(pairs[:, 0], minlength=len(stored))
    groups = np.flatnonzero((counts > 0) | (linear != 0.0))
    group_starts = np.concatenate([[0], np.cumsum(counts[groups])])
    return _packed(
        n_basic,
        (starts, slots[inner[:, 0]], slots[inner[:, 1]], inner[:, 2]),
        (group_starts, groups, linear[groups], pairs[:, 1], weights),
    )


def _merged_pairs(pairs: Ints, weights: Floats) -> tuple[Ints, Floats]:
    """Return distinct pairs (n, 2) and their summed weights, those of one first moment together.

    Of two moments the one with more partners comes first: fewer groups, fewer multiplications.
    """
    degree = np.bincount(pairs.ravel())
    swap = degree[pairs[:, 1]] > degree[pairs[:, 0]]
    swap |= (degree[pairs[:, 1]] == degree[pairs[:, 0]]) & (pairs[:, 1] > pairs[:, 0])
    pairs = np.where(swap[:, None], pairs[:, ::-1], pairs)
    distinct, inverse = np.unique(pairs, axis=0, return_inverse=True)
    merged = np.zeros(len(distinct))
    np.add.at(merged, inverse.ravel(), weights)
    return distinct, merged


def _packed(
    n_basic: int, products: tuple[Ints, ...], groups: tuple[Ints | Floats, ...]
) -> ContractionTables:
    """Return a `ContractionTables` of its arrays; positions become multiples of LANES."""
    starts, left, right, factors = products
    group_starts, group, linear, partner, weights = groups
    return ContractionTables(
        n_basic,
        n_basic + len(starts) - 1,
        np.ascontiguousarray(starts, dtype=np.int64),
        (left * LANES).astype(np.uint32),
        (right * LANES).astype(np.uint32),
        np.ascontiguousarray(factors, dtype=np.float64),
        np.ascontiguousarray(group_starts, dtype=np.int64),
        (group * LANES).astype(np.uint32),
        np.ascontiguousarray(linear, dtype=np.float64),
        (partner * LANES).astype(np.uint32),
        np.ascontiguousarray(weights, dtype=np.float64),
    )
