"""Compiled energies of all clusters of a model, and their sums for the pairs of a supercell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Numbers = npt.NDArray[np.int32]


class Entries(NamedTuple):
    """What the coefficients multiply in the energies of all shapes of pairs, then of triplets.

    An entry is one shape with one species per axis, the last axis running fastest.

    Parameters
    ----------
    functions
        (n_entries, width): factors of the coefficients of its shape, padded with zeros.
    columns
        (n_shapes, 2): first and end of these coefficients.
    start
        (n_shapes + 1,): first entry of each shape.
    alone
        (n_shapes, n_species): entry where all vertices have one species.
    pairs
        (n_elements, n_species, n_species): entries of every pair or folded triplet; see
        `Orientations`.
    triplets
        (n_oriented, n_species, n_species, n_species): entries of every oriented triplet.
    """

    functions: Floats
    columns: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    alone: Numbers
    pairs: Numbers
    triplets: Numbers


class ModelEnergies(NamedTuple):
    """Energies of the clusters of one model, eV, whatever the supercell.

    Parameters
    ----------
    alone, pairs, triplets
        Of all that `Entries` lists under these names.
    triplet_lines, triplet_swaps
        As in `ClusterTables`.
    least
        (n_oriented, n_species, n_species): the least of `triplet_swaps` over the third species.
    """

    alone: Floats
    pairs: Floats
    triplets: Floats
    triplet_lines: Floats
    triplet_swaps: Floats
    least: Floats


@njit(cache=True)
def model_energies(entries: Entries, coefficients: Floats, width: int) -> ModelEnergies:
    """Return the energies of all clusters, with `width` doubles in a line."""
    energies = _entry_energies(entries, coefficients)
    triplets = _taken(energies, entries.triplets.reshape(-1)).reshape(entries.triplets.shape)
    alone = _taken(energies, entries.alone.reshape(-1)).reshape(entries.alone.shape)
    pairs = _taken(energies, entries.pairs.reshape(-1)).reshape(entries.pairs.shape)
    return _with_swaps(alone, pairs, triplets, width)  # type: ignore[no-any-return]


@njit(cache=True)
def bundled_energies(energies: ModelEnergies, bundles: Numbers) -> ModelEnergies:
    """Return energies in which bundles, (n_bundles, n_oriented), stand in place of triplets."""
    s = energies.triplets.shape[1]
    triplets = np.zeros((bundles.shape[0], s, s, s))
    for row in range(bundles.shape[0]):
        into = triplets[row].reshape(-1)
        for o in range(bundles.shape[1]):
            number = bundles[row, o]
            if number:
                table = energies.triplets[o].reshape(-1)
                for k in range(into.size):
                    into[k] += number * table[k]
    width = energies.triplet_lines.shape[3]
    return _with_swaps(energies.alone, energies.pairs, triplets, width)  # type: ignore[no-any-return]


@njit(cache=True)
def _with_swaps(alone: Floats, pairs: Floats, triplets: Floats, width: int) -> ModelEnergies:
    """Return energies with what is made of those of triplets."""
    n, s = triplets.shape[0], triplets.shape[1]
    lines = np.zeros((n + 1, s, s, width))
    swaps = np.empty((n * s * s, s))
    least = np.empty((n, s, s))
    for o in range(n):
        table = triplets[o]
        for a in range(s):
            for b in range(s):
                lowest = np.inf
                for c in range(s):
                    lines[o, a, c, b] = table[a, b, c]
                    # An exchange of two species keeps them side by side, two flips do not.
                    missed = table[a, b, c] + table[b, a, c] - table[a, a, c] - table[b, b, c]
                    swaps[(o * s + a) * s + b, c] = missed
                    lowest = min(lowest, missed)
                least[o, a, b] = lowest
    return ModelEnergies(alone, pairs, triplets, lines, swaps, least)


@njit(cache=True)
def _entry_energies(entries: Entries, coefficients: Floats) -> Floats:
    energies = np.zeros(entries.functions.shape[0])
    for shape in range(entries.columns.shape[0]):
        first, end = entries.columns[shape, 0], entries.columns[shape, 1]
        for e in range(entries.start[shape], entries.start[shape + 1]):
            for c in range(first, end):
                energies[e] += entries.functions[e, c - first] * coefficients[c]
    return energies


@njit(cache=True)
def _taken(values: Floats, places: Numbers) -> Floats:
    result = np.empty(places.size)
    for k in range(places.size):
        result[k] = values[places[k]]
    return result


@njit(cache=True)
def cell_tables(
    energies: ModelEnergies, points: Floats, alone: Numbers, counts: Numbers, n_cells: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return `points`, `pairs`, `pair_swaps` and `floors` of a supercell, as in `ClusterTables`.

    Parameters
    ----------
    energies
        Of the model.
    points
        (n_basis, n_species), eV: of species on the sites of the basis.
    alone, counts
        As in `ClusterGeometry`.
    n_cells
        Primitive cells.
    """
    all_points = np.empty((points.shape[0] * n_cells, points.shape[1]))
    for b in range(points.shape[0]):
        for z in range(points.shape[1]):
            energy = points[b, z]
            for shape in range(alone.shape[1]):
                energy += alone[b, shape] * energies.alone[shape, z]
            all_points[b * n_cells : (b + 1) * n_cells, z] = energy
    pairs = _pair_tables(energies, counts)
    swaps, floors = _pair_swaps(energies, counts, pairs)
    return all_points, pairs, swaps, floors


@njit(cache=True)
def _pair_tables(energies: ModelEnergies, counts: Numbers) -> Floats:
    """Add up the energies of pairs, class by class; a last table is zero."""
    s, width = energies.triplets.shape[1], energies.triplet_lines.shape[3]
    pairs = np.zeros((counts.shape[0] + 1, s, width))
    for row in range(counts.shape[0]):
        for e in range(energies.pairs.shape[0]):
            number = counts[row, e]
            if number:
                for a in range(s):
                    for b in range(s):
                        pairs[row, a, b] += number * energies.pairs[e, a, b]
    return pairs


@njit(cache=True)
def _pair_swaps(energies: ModelEnergies, counts: Numbers, pairs: Floats) -> tuple[Floats, Floats]:
    """Return what two flips miss by pairs, and the least they miss with all triplets."""
    s, n_elements = energies.triplets.shape[1], energies.pairs.shape[0]
    swaps = np.empty((counts.shape[0], s, s))
    for row in range(counts.shape[0]):
        for a in range(s):
            for b in range(s):
                kept = pairs[row, a, a] + pairs[row, b, b]
                swaps[row, a, b] = pairs[row, a, b] + pairs[row, b, a] - kept
    floors = swaps.copy()
    for row in range(counts.shape[0]):
        for o in range(energies.least.shape[0]):
            number = counts[row, n_elements + o]
            if number:
                for a in range(s):
                    for b in range(s):
                        floors[row, a, b] += number * energies.least[o, a, b]
    return swaps, floors.reshape(-1, s)


@njit(cache=True)
def add_functions(
    into: Floats, counts: Numbers, functions: Floats, columns: npt.NDArray[np.int64]
) -> None:
    """Add to `into`, (n, m, n_parameters), functions as often as `counts`, (n, n_kinds), say.

    Parameters
    ----------
    into
        Changed.
    counts
        How often.
    functions
        (n_kinds, m, width): what the coefficients of each kind multiply.
    columns
        (n_kinds, 2): first and end of these coefficients.
    """
    for n in range(counts.shape[0]):
        for kind in range(functions.shape[0]):
            number, (first, end) = counts[n, kind], columns[kind]
            if number:
                for z in range(into.shape[1]):
                    for c in range(first, end):
                        into[n, z, c] += number * functions[kind, z, c - first]
