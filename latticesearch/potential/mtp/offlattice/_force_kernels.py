"""Compiled energies, forces and virials of structures off the lattice.

Up to LANES neighbours of one atom stand in the lanes of vectors while its moments are summed, and
LANES atoms while the moments are contracted and differentiated; then the neighbours again. What a
neighbour's vector gives (powers, radial functions) is worked out both times: that is cheaper than
to keep it.

Moments, contractions and radial functions are those of Shapeev, Multiscale Model. Simul. 14, 1153
(2016), with radial coefficients for each two species (Gubaev et al., Comput. Mater. Sci. 156, 148
(2019)); forces are derivatives by going back through the contraction.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from latticesearch.potential.mtp._contraction import (
    ContractionTables,
    aligned,
    differentiate,
    energy,
    multiply,
    space,
)
from latticesearch.potential.walk import LEAN
from latticesearch.vectors import (
    LANES,
    load,
    minus,
    splat,
    store,
    times,
    times_plus,
    total,
)

if TYPE_CHECKING:
    import numpy.typing as npt


class ForceTables(NamedTuple):
    """A potential as the kernels need it.

    Parameters
    ----------
    contraction
        From the basic moments to the energy.
    powers
        Distinct powers of x, y, z of the basic moments, (n_powers, 3).
    starts, basic, radial
        The basic moments ``basic[e]`` with the radial functions ``radial[e]`` and the powers p
        have ``starts[p] <= e < starts[p + 1]``; (n_powers + 1,), (n_basic,), (n_basic,).
    coefficients
        Radial coefficients times the scaling, (n_species, n_species, n_radial, radial_size).
    species_coeffs
        (n_species,), eV.
    min_dist, max_dist
        Interval of the Chebyshev polynomials, Å.
    rank
        Highest power of a coordinate.
    """

    contraction: ContractionTables
    powers: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    basic: npt.NDArray[np.int64]
    radial: npt.NDArray[np.int64]
    coefficients: npt.NDArray[np.float64]
    species_coeffs: npt.NDArray[np.float64]
    min_dist: float
    max_dist: float
    rank: int


class Neighbours(NamedTuple):
    """Neighbours of all atoms; those of atom i are ``starts[i]`` to ``starts[i + 1]``.

    Parameters
    ----------
    types
        Species of the atoms, (n_atoms,).
    starts
        (n_atoms + 1,).
    centres, neighbours
        Atoms of each pair, (n_pairs,); the neighbours of one atom are in the order of their
        species.
    vectors
        From the centre to the neighbour, (n_pairs, 3), Å.
    distances
        (n_pairs,), Å.
    """

    types: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    centres: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float64]
    distances: npt.NDArray[np.float64]


@njit(cache=True)
def sorted_neighbours(
    pairs: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]],
    positions: npt.NDArray[np.float64],
    cell: npt.NDArray[np.float64],
    types: npt.NDArray[np.int64],
    n_species: int,
) -> Neighbours:
    """Sort pairs by the first atom, then by the species of the second, and find their vectors.

    A counting sort. Sorted by species, neighbours that share radial coefficients share lanes.

    Parameters
    ----------
    pairs
        First atoms, second atoms, (n,), and the cells, (n, 3), in which the second ones are. Each
        pair is given once and returned from both of its ends.
    positions
        (n_atoms, 3), Å.
    cell
        (3, 3), Å, rows are the vectors.
    types
        (n_atoms,): species.
    n_species
        Number of species.
    """
    first, second, shifts = pairs
    n_pairs, n_atoms = first.size, types.size
    ends = np.zeros(n_atoms * n_species + 1, dtype=np.int64)
    for pair in range(n_pairs):
        ends[first[pair] * n_species + types[second[pair]] + 1] += 1
        ends[second[pair] * n_species + types[first[pair]] + 1] += 1
    # Counts stand one bin up: their sums are where each bin begins, and move on as it is filled.
    for bin_ in range(1, ends.size):
        ends[bin_] += ends[bin_ - 1]
    # An atom's neighbours begin where those of its first species begin.
    starts = ends[::n_species].copy()
    centres = np.empty(2 * n_pairs, dtype=np.int64)
    neighbours = np.empty(2 * n_pairs, dtype=np.int64)
    vectors, distances = np.empty((2 * n_pairs, 3)), np.empty(2 * n_pairs)
    for pair in range(n_pairs):
        i, j = first[pair], second[pair]
        there, back = i * n_species + types[j], j * n_species + types[i]
        at = ends[there]
        ends[there] += 1
        other = ends[back]
        ends[back] += 1
        centres[at], neighbours[at], centres[other], neighbours[other] = i, j, j, i
        square = 0.0
        for axis in range(3):
            shift = 0.0
            for vector in range(3):
                shift += shifts[pair, vector] * cell[vector, axis]
            vectors[at, axis] = positions[j, axis] - positions[i, axis] + shift
            vectors[other, axis] = -vectors[at, axis]
            square += vectors[at, axis] ** 2
        distances[at] = distances[other] = math.sqrt(square)
    return Neighbours(types, starts, centres, neighbours, vectors, distances)


@njit(**LEAN)
def _row_of_radial(tables: ForceTables) -> int:
    """Return the row of the terms where the radial functions begin."""
    return 6 * (tables.rank + 1)


@njit(**LEAN)
def _row_of_vectors(tables: ForceTables) -> int:
    """Return the row of the terms where vectors, unit vectors and inverse distances begin."""
    row: int = _row_of_radial(tables) + 2 * tables.coefficients.shape[2]
    return row


@njit(cache=True)
def _terms(tables: ForceTables) -> npt.NDArray[np.float64]:
    """Return space for what up to LANES neighbours give.

    Rows of LANES doubles: powers of the unit vectors' components (axis, n), their derivatives
    (axis, n), radial functions, their derivatives, vectors, unit vectors, inverse distances, then
    distances, a mask, and the radial basis functions and their derivatives in turn.
    """
    size = tables.coefficients.shape[3]
    rows: npt.NDArray[np.float64] = aligned((_row_of_vectors(tables) + 9 + 2 * size) * LANES)
    return rows


@njit(**LEAN)
def _put_vectors(
    tables: ForceTables, found: Neighbours, first: int, end: int, terms: npt.NDArray[np.float64]
) -> None:
    """Fill in vectors, unit vectors and distances; lanes without a neighbour see it at the cutoff.

    There the radial functions and their derivatives vanish: no loop below asks whether a lane is
    used. The pairs `first` to `end` (at most LANES) go into `terms`, from `_terms`; Å and 1/Å.
    """
    at = _row_of_vectors(tables)
    for lane in range(LANES):
        distance, inverse = tables.max_dist, 0.0
        if first + lane < end:
            distance = found.distances[first + lane]
            inverse = 1.0 / distance
        for axis in range(3):
            component = found.vectors[first + lane, axis] if first + lane < end else 0.0
            terms[(at + axis) * LANES + lane] = component
            terms[(at + 3 + axis) * LANES + lane] = component * inverse
        terms[(at + 6) * LANES + lane] = inverse
        terms[(at + 7) * LANES + lane] = distance


@njit(**LEAN)
def _put_powers(tables: ForceTables, terms: npt.NDArray[np.float64]) -> None:
    """Fill in the powers of the unit vectors' components and their derivatives, no unit."""
    # Once per neighbour; the moments take products of three of them.
    n_powers = tables.rank + 1
    for axis in range(3):
        component = load(terms, (_row_of_vectors(tables) + 3 + axis) * LANES)
        power = splat(1.0)
        at = axis * n_powers
        store(terms, at * LANES, power)
        store(terms, (3 * n_powers + at) * LANES, splat(0.0))
        for n in range(1, n_powers):
            store(terms, (3 * n_powers + at + n) * LANES, times(splat(float(n)), power))
            power = times(power, component)
            store(terms, (at + n) * LANES, power)


@njit(**LEAN)
def _put_basis(tables: ForceTables, terms: npt.NDArray[np.float64]) -> None:
    """Fill in the radial basis functions, Å², and their derivatives, Å.

    Q_b(r) (R_cut - r)² of Shapeev (2016) with Chebyshev polynomials Q_b; see
    `latticesearch.potential.mtp.radial`.
    """
    at = _row_of_vectors(tables) + 7
    slope = 2.0 / (tables.max_dist - tables.min_dist)
    distance = load(terms, at * LANES)
    middle = splat(0.5 * (tables.min_dist + tables.max_dist))
    x = times(splat(slope), minus(distance, middle))
    gap = minus(splat(tables.max_dist), distance)
    square, twice_gap = times(gap, gap), times(splat(-2.0), gap)
    # Beginning one step early, every function comes out of the same loop.
    before, before_slope = x, splat(slope)
    value, value_slope = splat(1.0), splat(0.0)
    twice = splat(2.0)
    for b in range(tables.coefficients.shape[3]):
        row = at + 2 + 2 * b
        store(terms, row * LANES, times(value, square))
        derivative = times_plus(value, twice_gap, times(value_slope, square))
        store(terms, (row + 1) * LANES, derivative)
        # T_(b+1) = 2 x T_b - T_(b-1), where T_(-1) = x.
        next_slope = times_plus(x, value_slope, times(splat(slope), value))
        next_slope = minus(times(twice, next_slope), before_slope)
        next_value = minus(times(twice, times(x, value)), before)
        before, before_slope, value, value_slope = value, value_slope, next_value, next_slope


@njit(**LEAN)
def _put_radial(
    tables: ForceTables,
    found: Neighbours,
    pairs: tuple[int, int, int],
    terms: npt.NDArray[np.float64],
) -> None:
    """Fill in the radial functions and their derivatives, the neighbours of one species at a time.

    f_mu = sum_b c[z_i, z_j, mu, b] Q_b. With one species the coefficients are the same in all
    lanes, a broadcast instead of a look-up per lane; other lanes are multiplied by zero. Since the
    neighbours are sorted, most vectors hold one or two species.

    Parameters
    ----------
    tables, found
        Potential and structure.
    pairs
        The centre, its first pair and the pair behind its last one in the lanes.
    terms
        From `_terms`, with the radial basis functions; written.
    """
    centre, first, end = pairs
    n_radial, size = tables.coefficients.shape[2:]
    at, mask = _row_of_radial(tables), _row_of_vectors(tables) + 8
    for row in range(at, at + 2 * n_radial):
        store(terms, row * LANES, splat(0.0))
    low, high = found.types[found.neighbours[first]], found.types[found.neighbours[end - 1]]
    for species in range(low, high + 1):
        for lane in range(LANES):
            pair = min(first + lane, end - 1)
            mine = found.types[found.neighbours[pair]] == species
            terms[mask * LANES + lane] = 1.0 if mine else 0.0
        chosen = load(terms, mask * LANES)
        for mu in range(n_radial):
            value = slope = splat(0.0)
            for b in range(size):
                coefficient = splat(tables.coefficients[found.types[centre], species, mu, b])
                basis = (mask + 1 + 2 * b) * LANES
                value = times_plus(coefficient, load(terms, basis), value)
                slope = times_plus(coefficient, load(terms, basis + LANES), slope)
            row, other = (at + mu) * LANES, (at + n_radial + mu) * LANES
            store(terms, row, times_plus(chosen, value, load(terms, row)))
            store(terms, other, times_plus(chosen, slope, load(terms, other)))


@njit(**LEAN)
def _put_terms(
    tables: ForceTables,
    found: Neighbours,
    pairs: tuple[int, int, int],
    terms: npt.NDArray[np.float64],
) -> None:
    """Fill in everything that the neighbours of one centre give; see `_terms`.

    `pairs` are the centre, its first pair and the pair behind its last one in the lanes.
    """
    _put_vectors(tables, found, pairs[1], pairs[2], terms)
    _put_powers(tables, terms)
    _put_basis(tables, terms)
    _put_radial(tables, found, pairs, terms)


@njit(**LEAN)
def _add_moments(
    tables: ForceTables, terms: npt.NDArray[np.float64], sums: npt.NDArray[np.float64]
) -> None:
    """Add the neighbours in the lanes to the basic moments, (n_basic * LANES,), lanes as well."""
    # Several moments differ in the radial function only: their angular part is multiplied once.
    n_powers, at = tables.rank + 1, _row_of_radial(tables)
    for p in range(tables.powers.shape[0]):
        x = load(terms, tables.powers[p, 0] * LANES)
        y = load(terms, (n_powers + tables.powers[p, 1]) * LANES)
        z = load(terms, (2 * n_powers + tables.powers[p, 2]) * LANES)
        angular = times(x, times(y, z))
        for e in range(tables.starts[p], tables.starts[p + 1]):
            k = tables.basic[e] * LANES
            radial = load(terms, (at + tables.radial[e]) * LANES)
            store(sums, k, times_plus(radial, angular, load(sums, k)))


@njit(**LEAN)
def _sum_moments(
    tables: ForceTables,
    found: Neighbours,
    centre: int,
    spaces: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    work: npt.NDArray[np.float64],
) -> None:
    """Write the basic moments of an atom to its lane of `work`.

    Parameters
    ----------
    tables, found
        Potential and structure.
    centre
        The atom; its lane is its number modulo LANES.
    spaces
        Terms, from `_terms`, and sums, (n_basic * LANES,); both overwritten.
    work
        From `space`; one lane of the basic moments is written.
    """
    terms, sums = spaces
    n_basic, lane = tables.contraction.n_basic, centre % LANES
    for k in range(n_basic):
        store(sums, k * LANES, splat(0.0))
    end = found.starts[centre + 1]
    for first in range(found.starts[centre], end, LANES):
        _put_terms(tables, found, (centre, first, min(first + LANES, end)), terms)
        _add_moments(tables, terms, sums)
    # Lanes are added up once per atom, behind all of its neighbours.
    for k in range(n_basic):
        work[k * LANES + lane] = total(load(sums, k * LANES))


@njit(**LEAN)
def _put_gradients(
    tables: ForceTables,
    lane: int,
    adjoints: npt.NDArray[np.float64],
    terms: npt.NDArray[np.float64],
) -> None:
    """Overwrite the first three rows of `terms` with d(site energy)/d(vector to the neighbours).

    With a basic moment f(r) A(u), where u = vector / r, the derivative is
    f' A u + f (grad A - u (u . grad A)) / r.

    Parameters
    ----------
    tables
        Potential.
    lane
        Of the centre.
    adjoints
        d(site energy)/d(basic moments), eV per unit of the moment, atoms in lanes.
    terms
        From `_terms`, filled, neighbours in lanes; the first three rows become eV/Å.
    """
    n, at, n_radial = tables.rank + 1, _row_of_radial(tables), tables.coefficients.shape[2]
    along = by_x = by_y = by_z = splat(0.0)
    for p in range(tables.powers.shape[0]):
        value = slope = splat(0.0)
        # Moments of the same powers first, so that the angular part is used once.
        for e in range(tables.starts[p], tables.starts[p + 1]):
            adjoint = splat(adjoints[tables.basic[e] * LANES + lane])
            row = (at + tables.radial[e]) * LANES
            value = times_plus(adjoint, load(terms, row), value)
            slope = times_plus(adjoint, load(terms, row + n_radial * LANES), slope)
        row_x = tables.powers[p, 0] * LANES
        row_y, row_z = (n + tables.powers[p, 1]) * LANES, (2 * n + tables.powers[p, 2]) * LANES
        x, y, z = load(terms, row_x), load(terms, row_y), load(terms, row_z)
        yz, value_x = times(y, z), times(value, x)
        along = times_plus(slope, times(x, yz), along)
        by_x = times_plus(times(value, yz), load(terms, row_x + 3 * n * LANES), by_x)
        by_y = times_plus(times(value_x, z), load(terms, row_y + 3 * n * LANES), by_y)
        by_z = times_plus(times(value_x, y), load(terms, row_z + 3 * n * LANES), by_z)
    # The projection across u is linear: done once for the sum of all moments.
    units = (_row_of_vectors(tables) + 3) * LANES
    x, y, z = load(terms, units), load(terms, units + LANES), load(terms, units + 2 * LANES)
    inverse = load(terms, units + 3 * LANES)
    across = times_plus(x, by_x, times_plus(y, by_y, times(z, by_z)))
    along = minus(along, times(inverse, across))
    # The rows of the first powers are read no more.
    store(terms, 0, times_plus(along, x, times(inverse, by_x)))
    store(terms, LANES, times_plus(along, y, times(inverse, by_y)))
    store(terms, 2 * LANES, times_plus(along, z, times(inverse, by_z)))


@njit(**LEAN)
def _add_forces(
    tables: ForceTables,
    found: Neighbours,
    pairs: tuple[int, int, int],
    terms: npt.NDArray[np.float64],
    sums: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> None:
    """Add the gradients in the first rows of `terms` to the forces and the strain derivatives.

    Parameters
    ----------
    tables, found
        Potential and structure.
    pairs
        The centre, its first pair and the pair behind its last one in the lanes.
    terms
        After `_put_gradients`.
    sums
        Forces, (n_atoms, 3), eV/Å, and strain derivatives in lanes, (9 * LANES,), eV; added to.
    """
    forces, strain = sums
    centre, first, end = pairs
    vectors = _row_of_vectors(tables) * LANES
    for axis in range(3):
        gradient = load(terms, axis * LANES)
        forces[centre, axis] += total(gradient)
        # Strain stays in lanes until the end: one sum over the lanes per structure.
        for other in range(3):
            at = (3 * other + axis) * LANES
            vector = load(terms, vectors + other * LANES)
            store(strain, at, times_plus(vector, gradient, load(strain, at)))
    # Neighbours one by one: images of one atom may stand in several lanes.
    for pair in range(first, end):
        for axis in range(3):
            forces[found.neighbours[pair], axis] -= terms[axis * LANES + pair - first]


@njit(cache=True)
def energies_and_forces(
    tables: ForceTables, found: Neighbours, forces: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return site energies and strain derivatives, and add the forces.

    Parameters
    ----------
    tables, found
        Potential and structure.
    forces
        (n_atoms, 3), eV/Å, added to.

    Returns
    -------
    site_energies
        (n_atoms,), eV.
    strain
        ``strain[a, b]``: derivative of the energy when the component b of all vectors grows by
        the component a, (3, 3), eV.
    """
    # Space is made once here, so that everything inside is lean.
    n_atoms, n_basic = found.types.size, tables.contraction.n_basic
    energies = np.empty(n_atoms)
    terms, sums, strain = _terms(tables), aligned(n_basic * LANES), aligned(9 * LANES)
    work, adjoints = space(tables.contraction), space(tables.contraction)
    strain[:] = 0.0
    for block in range(0, n_atoms, LANES):
        work[: n_basic * LANES] = 0.0
        stop = min(block + LANES, n_atoms)
        # Neighbours in lanes, then atoms, then neighbours: each loop runs over what is independent.
        for centre in range(block, stop):
            _sum_moments(tables, found, centre, (terms, sums), work)
        multiply(tables.contraction, work)
        # The adjoints are not yet in use: their first row takes the energies across.
        store(adjoints, 0, energy(tables.contraction, work))
        for centre in range(block, stop):
            own = tables.species_coeffs[found.types[centre]]
            energies[centre] = own + adjoints[centre - block]
        differentiate(tables.contraction, work, adjoints)
        for centre in range(block, stop):
            end = found.starts[centre + 1]
            for first in range(found.starts[centre], end, LANES):
                pairs = (centre, first, min(first + LANES, end))
                _put_terms(tables, found, pairs, terms)
                _put_gradients(tables, centre - block, adjoints, terms)
                _add_forces(tables, found, pairs, terms, (forces, strain))
    by_strain = np.empty((3, 3))
    for axis in range(9):
        by_strain[axis // 3, axis % 3] = total(load(strain, axis * LANES))
    return energies, by_strain
