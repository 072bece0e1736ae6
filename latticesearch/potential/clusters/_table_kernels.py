"""Compiled energies of all clusters of a model, and their sums for the pairs of a supercell.

Once per model: V(species of the vertices) = sum_a V_a phi_a(species), with cluster functions phi_a
(Sanchez, Ducastelle & Gratias, Physica A 128, 334 (1984)), for each distinct table of species. Once
per supercell: how many of each table every class of sites has. A search refits its models often and
in many cells, so what depends on both is only sums of small tables, and of these few.
"""

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
    """Return the energies of all clusters of a model.

    Parameters
    ----------
    entries
        What the coefficients multiply.
    coefficients
        (n_parameters,), eV.
    width
        Doubles in a line of one number per species: n_species, filled up to whole blocks.
    """
    energies = _entry_energies(entries, coefficients)
    # Shapes stand in many tables, with their axes in other orders: an entry is worked out once.
    triplets = _taken(energies, entries.triplets.reshape(-1)).reshape(entries.triplets.shape)
    alone = _taken(energies, entries.alone.reshape(-1)).reshape(entries.alone.shape)
    pairs = _taken(energies, entries.pairs.reshape(-1)).reshape(entries.pairs.shape)
    return _with_swaps(alone, pairs, triplets, width)  # type: ignore[no-any-return]


@njit(cache=True)
def bundled_energies(energies: ModelEnergies, bundles: Numbers) -> ModelEnergies:
    """Return energies in which bundles of triplets stand in place of triplets.

    In small cells the same three sites share many triplets: one look-up then serves all of them.

    Parameters
    ----------
    energies
        Of the model.
    bundles
        (n_bundles, n_oriented): how many of each oriented triplet a bundle holds.
    """
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
    """Return energies with what is made of those of triplets.

    Parameters
    ----------
    alone, pairs, triplets
        eV, (n_shapes, n_species) and one axis of n_species per vertex, as in `ModelEnergies`.
    width
        Doubles in a line.
    """
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
                    # The second site's species runs fastest: a line is what the triple brings to
                    # the field of that site for all its species, added as one block.
                    lines[o, a, c, b] = table[a, b, c]
                    # An exchange of two species keeps them side by side, two flips do not.
                    missed = table[a, b, c] + table[b, a, c] - table[a, a, c] - table[b, b, c]
                    swaps[(o * s + a) * s + b, c] = missed
                    # A bound for where the third species is not looked at (`swap_row`).
                    lowest = min(lowest, missed)
                least[o, a, b] = lowest
    return ModelEnergies(alone, pairs, triplets, lines, swaps, least)


@njit(cache=True)
def _entry_energies(entries: Entries, coefficients: Floats) -> Floats:
    """Return the energy of each entry, (n_entries,), eV; `coefficients` are (n_parameters,)."""
    energies = np.zeros(entries.functions.shape[0])
    for shape in range(entries.columns.shape[0]):
        first, end = entries.columns[shape, 0], entries.columns[shape, 1]
        for e in range(entries.start[shape], entries.start[shape + 1]):
            for c in range(first, end):
                energies[e] += entries.functions[e, c - first] * coefficients[c]
    return energies


@njit(cache=True)
def _taken(values: Floats, places: Numbers) -> Floats:
    """Return ``values[places]``, (n,), of (n_values,) and (n,)."""
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

    Returns
    -------
    points
        (n_sites, n_species), eV.
    pairs
        (n_classes + 1, n_species, width), eV.
    pair_swaps
        (n_classes, n_species, n_species), eV.
    floors
        (n_classes * n_species, n_species), eV.
    """
    # Sites are numbered basis by basis, cells inside: those of one basis site are equivalent.
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
    """Add up the energies of pairs, class by class, (n_classes + 1, n_species, width), eV.

    The last table is zero: to add a line of a table is to change from a line of that.
    """
    s, width = energies.triplets.shape[1], energies.triplet_lines.shape[3]
    pairs = np.zeros((counts.shape[0] + 1, s, width))
    for row in range(counts.shape[0]):
        for e in range(energies.pairs.shape[0]):
            number = counts[row, e]
            # Two sites share few of all clusters: most numbers are zero.
            if number:
                for a in range(s):
                    for b in range(s):
                        pairs[row, a, b] += number * energies.pairs[e, a, b]
    return pairs


@njit(cache=True)
def _pair_swaps(energies: ModelEnergies, counts: Numbers, pairs: Floats) -> tuple[Floats, Floats]:
    """Return `pair_swaps` and `floors`, eV, as in `ClusterTables`.

    What two flips miss by pairs, (n_classes, n_species, n_species); and the least they miss with
    all triplets of the two sites, (n_classes * n_species, n_species).
    """
    s, n_elements = energies.triplets.shape[1], energies.pairs.shape[0]
    swaps = np.empty((counts.shape[0], s, s))
    for row in range(counts.shape[0]):
        for a in range(s):
            for b in range(s):
                # As for triplets: each flip alone would put two of one species side by side.
                kept = pairs[row, a, a] + pairs[row, b, b]
                swaps[row, a, b] = pairs[row, a, b] + pairs[row, b, a] - kept
    floors = swaps.copy()
    # The sum of the least is no more than the least of the sum: third sites need no look.
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
            # Only the columns of its shape: functions are as wide as one shape, not as the model.
            number, (first, end) = counts[n, kind], columns[kind]
            if number:
                for z in range(into.shape[1]):
                    for c in range(first, end):
                        into[n, z, c] += number * functions[kind, z, c - first]
