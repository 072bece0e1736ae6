"""Compiled loops of the moment tensor potential off the lattice, one site at a time.

Moments m of a site are sums over its neighbours of f_mu(r) times powers of the unit vector's
components, basis functions are contractions of them (Shapeev, Multiscale Model. Simul. 14, 1153
(2016)); derivatives come from going back through the list of products. What is only evaluated goes
through `_force_kernels`, many sites at once; here everything that gradients by the coefficients
need comes out, for the rows of single structures.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit


class PairLists(NamedTuple):
    """Moments, products and basis functions, as in the fields of the same name of a potential.

    Parameters
    ----------
    basic
        (n_basic, 4): radial function mu and powers of x, y, z of each basic moment.
    times
        (n_times, 4): a, b, factor, c of ``m[c] += factor * m[a] * m[b]``.
    mapping
        (n_scalars,): which moment each basis function is.
    n_moments
        Number of moments.
    """

    basic: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    mapping: npt.NDArray[np.int64]
    n_moments: int


class Pairs(NamedTuple):
    """Neighbours of all sites; those of site i are ``starts[i]`` to ``starts[i + 1]``.

    Parameters
    ----------
    starts
        (n_sites + 1,).
    units
        (n_pairs, 3): unit vectors from the site to the neighbour.
    inverses
        (n_pairs,): inverse distances, 1/Å.
    values, slopes
        (n_pairs, n_radial): radial functions f_mu of the two species, and their derivatives by
        the distance.
    """

    starts: npt.NDArray[np.int64]
    units: npt.NDArray[np.float64]
    inverses: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    slopes: npt.NDArray[np.float64]


@njit(cache=True)
def multiply_moments(times: npt.NDArray[np.int64], moments: npt.NDArray[np.float64]) -> None:
    """Fill the products of moments in place.

    Parameters
    ----------
    times
        (n_times, 4), as in `PairLists`.
    moments
        (n_moments,): the basic ones are given, the others zero.
    """
    # In the order of the list: a product stands behind what it is made of.
    for row in range(times.shape[0]):
        factor = times[row, 2]
        moments[times[row, 3]] += factor * moments[times[row, 0]] * moments[times[row, 1]]


@njit(cache=True)
def differentiate_moments(
    times: npt.NDArray[np.int64],
    moments: npt.NDArray[np.float64],
    adjoints: npt.NDArray[np.float64],
) -> None:
    """Carry dE/dm from the products back to the basic moments, in place (reverse mode).

    Parameters
    ----------
    times
        (n_times, 4), as in `PairLists`.
    moments
        (n_moments,), complete.
    adjoints
        (n_moments,), eV: starts as the coefficients of the basis functions, ends as dE/dm.
    """
    # Backwards: what uses a product comes behind it, so its own derivative is complete by then. Two
    # additions, not a product rule with cases: for a == b both halves go to one place.
    for row in range(times.shape[0] - 1, -1, -1):
        a, b = times[row, 0], times[row, 1]
        weight = times[row, 2] * adjoints[times[row, 3]]
        adjoints[a] += weight * moments[b]
        adjoints[b] += weight * moments[a]


@njit(cache=True)
def _raise_powers(
    units: npt.NDArray[np.float64], pair: int, powers: npt.NDArray[np.float64]
) -> None:
    """Fill `powers`, (rank + 1, 3), with those of the components of a row of `units`, (n, 3)."""
    # Every moment takes its three powers from here, instead of raising numbers itself.
    for axis in range(3):
        powers[0, axis] = 1.0
        for n in range(1, powers.shape[0]):
            powers[n, axis] = powers[n - 1, axis] * units[pair, axis]


@njit(cache=True)
def _add_pair(
    basic: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    pair: int,
    powers: npt.NDArray[np.float64],
    moments: npt.NDArray[np.float64],
) -> None:
    """Add one neighbour to the basic moments of its site: f_mu(r) u_x^a u_y^b u_z^c.

    Parameters
    ----------
    basic
        (n_basic, 4): mu, a, b, c.
    values
        (n_pairs, n_radial): f_mu.
    pair
        Which pair.
    powers
        (rank + 1, 3), those of its unit vector.
    moments
        (n_moments,), the first n_basic are added to.
    """
    for k in range(basic.shape[0]):
        angular = powers[basic[k, 1], 0] * powers[basic[k, 2], 1] * powers[basic[k, 3], 2]
        moments[k] += values[pair, basic[k, 0]] * angular


@njit(cache=True)
def _pair_derivatives(
    basic: npt.NDArray[np.int64],
    pairs: Pairs,
    pair: int,
    adjoints: npt.NDArray[np.float64],
    powers: npt.NDArray[np.float64],
    gradients: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
) -> None:
    """Fill the row `pair` of `gradients` and add to that of `weights`; see `site_derivatives`.

    `adjoints` (n_moments,) are dE/dm of the site, eV, `powers` (rank + 1, 3) those of the pair.
    """
    units, inverse = pairs.units, pairs.inverses[pair]
    along = gx = gy = gz = 0.0
    for k in range(basic.shape[0]):
        mu, x, y, z = basic[k, 0], basic[k, 1], basic[k, 2], basic[k, 3]
        px, py, pz = powers[x, 0], powers[y, 1], powers[z, 2]
        angular = px * py * pz
        weights[pair, mu] += adjoints[k] * angular
        over = adjoints[k] * pairs.values[pair, mu] * inverse
        # f(r) A(u) with u = r / |r|: the part along u, and the derivatives of A itself, whose own
        # part along u, (x + y + z) A by Euler's theorem, is taken off.
        along += (adjoints[k] * pairs.slopes[pair, mu] - (x + y + z) * over) * angular
        if x > 0:
            gx += over * x * powers[x - 1, 0] * py * pz
        if y > 0:
            gy += over * y * powers[y - 1, 1] * px * pz
        if z > 0:
            gz += over * z * powers[z - 1, 2] * px * py
    gradients[pair, 0] = gx + along * units[pair, 0]
    gradients[pair, 1] = gy + along * units[pair, 1]
    gradients[pair, 2] = gz + along * units[pair, 2]


@njit(cache=True)
def site_derivatives(
    lists: PairLists,
    pairs: Pairs,
    coefficients: npt.NDArray[np.float64],
    rank: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the basis functions of all sites and the derivatives of the site energies.

    Parameters
    ----------
    lists, pairs
        Potential and structure.
    coefficients
        (n_scalars,), eV, those of the basis functions.
    rank
        Highest power of a coordinate.

    Returns
    -------
    basis_values
        (n_sites, n_scalars).
    gradients
        (n_pairs, 3), derivative of the energy of the pair's site by the vector to its neighbour,
        eV/Å.
    weights
        (n_pairs, n_radial), derivative of the same energy by the radial functions of the pair, eV
        per unit of these.
    """
    basis_values = np.empty((pairs.starts.shape[0] - 1, lists.mapping.shape[0]))
    gradients = np.zeros((pairs.units.shape[0], 3))
    weights = np.zeros((pairs.units.shape[0], pairs.values.shape[1]))
    powers = np.empty((rank + 1, 3))
    for site in range(basis_values.shape[0]):
        moments = np.zeros(lists.n_moments)
        adjoints = np.zeros(lists.n_moments)
        for pair in range(pairs.starts[site], pairs.starts[site + 1]):
            _raise_powers(pairs.units, pair, powers)
            _add_pair(lists.basic, pairs.values, pair, powers, moments)
        multiply_moments(lists.times, moments)
        for s in range(lists.mapping.shape[0]):
            basis_values[site, s] = moments[lists.mapping[s]]
            adjoints[lists.mapping[s]] += coefficients[s]
        differentiate_moments(lists.times, moments, adjoints)
        # Powers are raised again: kept for all neighbours they would need an array of their own.
        for pair in range(pairs.starts[site], pairs.starts[site + 1]):
            _raise_powers(pairs.units, pair, powers)
            _pair_derivatives(lists.basic, pairs, pair, adjoints, powers, gradients, weights)
    return basis_values, gradients, weights


@njit(cache=True)
def tangents_of_moments(
    times: npt.NDArray[np.int64],
    moments: npt.NDArray[np.float64],
    tangents: npt.NDArray[np.float64],
) -> None:
    """Fill dm_c/dm_k of the products in place (forward mode).

    Forward, because the derivatives of each basis function are wanted, not those of their weighted
    sum alone: one pass forward gives them for all products.

    Parameters
    ----------
    times
        (n_times, 4), as in `PairLists`.
    moments
        (n_moments,), complete.
    tangents
        (n_moments, n_basic): the first n_basic rows are one, the others zero, and filled.
    """
    for row in range(times.shape[0]):
        a, b, c = times[row, 0], times[row, 1], times[row, 3]
        by_a = times[row, 2] * moments[b]
        by_b = times[row, 2] * moments[a]
        for k in range(tangents.shape[1]):
            tangents[c, k] += by_a * tangents[a, k] + by_b * tangents[b, k]


@njit(cache=True)
def second_derivatives(
    times: npt.NDArray[np.int64],
    moments: npt.NDArray[np.float64],
    tangents: npt.NDArray[np.float64],
    adjoints: npt.NDArray[np.float64],
    seconds: npt.NDArray[np.float64],
) -> None:
    """Differentiate the reverse pass by every basic moment, in place.

    Forces depend on the radial coefficients through dE/dm as well: this is how dE/dm changes.

    Parameters
    ----------
    times, moments, adjoints
        As in `differentiate_moments`, which is done on the way.
    tangents
        (n_moments, n_basic), complete.
    seconds
        (n_moments, n_basic), eV: starts as zeros and ends with d²E/dm_k dm_l in its first n_basic
        rows.
    """
    for row in range(times.shape[0] - 1, -1, -1):
        a, b, c = times[row, 0], times[row, 1], times[row, 3]
        factor = float(times[row, 2])
        # The product rule on ``adjoints[a] += factor * adjoints[c] * moments[b]``, term by term.
        weight = factor * adjoints[c]
        for k in range(seconds.shape[1]):
            second = factor * seconds[c, k]
            seconds[a, k] += second * moments[b] + weight * tangents[b, k]
            seconds[b, k] += second * moments[a] + weight * tangents[a, k]
        adjoints[a] += weight * moments[b]
        adjoints[b] += weight * moments[a]


@njit(cache=True)
def scatter_rows(
    neighbours: npt.NDArray[np.intp],
    rows: npt.NDArray[np.float64],
    forces: npt.NDArray[np.float64],
    site: int,
) -> None:
    """Add gradients of pairs to the forces on both of their atoms.

    Parameters
    ----------
    neighbours
        (n,): atoms at the other end.
    rows
        (n, n_columns): derivatives of the site's energy by the vectors to them, any unit.
    forces
        (n_atoms, n_columns), added to: in the same unit.
    site
        Their centre.
    """
    # One by one: images of one atom stand in `neighbours` several times.
    for n in range(rows.shape[0]):
        neighbour = neighbours[n]
        for column in range(rows.shape[1]):
            forces[site, column] += rows[n, column]
            forces[neighbour, column] -= rows[n, column]
