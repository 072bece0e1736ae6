"""Compiled loops of the moment tensor potential off the lattice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit


class Lists(NamedTuple):
    """Moments, products and basis functions, as in the fields of the same name of a potential."""

    basic: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    mapping: npt.NDArray[np.int64]
    n_moments: int


class Pairs(NamedTuple):
    """Neighbours of all sites; those of site i are ``starts[i]`` to ``starts[i + 1]``.

    ``units`` (n_pairs, 3) are unit vectors from the site to the neighbour, ``inverses``
    (n_pairs,) the inverse distances, 1/Å, ``values`` and ``slopes`` (n_pairs, n_radial) the
    radial functions and their derivatives.
    """

    starts: npt.NDArray[np.int64]
    units: npt.NDArray[np.float64]
    inverses: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    slopes: npt.NDArray[np.float64]


@njit(cache=True)
def multiply_moments(times: npt.NDArray[np.int64], moments: npt.NDArray[np.float64]) -> None:
    """Fill the products of `moments` (n_moments,) in place; the basic ones are given."""
    for row in range(times.shape[0]):
        a, b, factor, c = times[row]
        moments[c] += factor * moments[a] * moments[b]


@njit(cache=True)
def differentiate_moments(
    times: npt.NDArray[np.int64],
    moments: npt.NDArray[np.float64],
    adjoints: npt.NDArray[np.float64],
) -> None:
    """Carry dE/dm from the products back to the basic moments, in place (reverse mode).

    `adjoints` (n_moments,) starts as the coefficients of the basis functions.
    """
    for row in range(times.shape[0] - 1, -1, -1):
        a, b, factor, c = times[row]
        weight = factor * adjoints[c]
        adjoints[a] += weight * moments[b]
        adjoints[b] += weight * moments[a]


@njit(cache=True)
def _raise_powers(unit: npt.NDArray[np.float64], powers: npt.NDArray[np.float64]) -> None:
    """Fill `powers` (3, rank + 1) with the powers of the components of `unit`."""
    for axis in range(3):
        powers[axis, 0] = 1.0
        for n in range(1, powers.shape[1]):
            powers[axis, n] = powers[axis, n - 1] * unit[axis]


@njit(cache=True)
def basic_moments(
    lists: Lists, pairs: Pairs, site: int, powers: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the moments of one site, (n_moments,), with the products still zero."""
    moments = np.zeros(lists.n_moments)
    for pair in range(pairs.starts[site], pairs.starts[site + 1]):
        _raise_powers(pairs.units[pair], powers)
        for k in range(lists.basic.shape[0]):
            mu, x, y, z = lists.basic[k]
            moments[k] += pairs.values[pair, mu] * powers[0, x] * powers[1, y] * powers[2, z]
    return moments


@njit(cache=True)
def _pair_derivatives(
    lists: Lists,
    pairs: Pairs,
    pair: int,
    adjoints: npt.NDArray[np.float64],
    powers: npt.NDArray[np.float64],
    out: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> None:
    """Fill the row `pair` of the gradients and of the radial weights; see `site_derivatives`."""
    gradients, weights = out
    _raise_powers(pairs.units[pair], powers)
    inverse = pairs.inverses[pair]
    along = gx = gy = gz = 0.0
    for k in range(lists.basic.shape[0]):
        mu, x, y, z = lists.basic[k]
        px, py, pz = powers[0, x], powers[1, y], powers[2, z]
        angular = px * py * pz
        weights[pair, mu] += adjoints[k] * angular
        over = adjoints[k] * pairs.values[pair, mu] * inverse
        # f(r) A(u) with u = r / |r|: the part along u, and the derivatives of A itself.
        along += (adjoints[k] * pairs.slopes[pair, mu] - (x + y + z) * over) * angular
        if x > 0:
            gx += over * x * powers[0, x - 1] * py * pz
        if y > 0:
            gy += over * y * powers[1, y - 1] * px * pz
        if z > 0:
            gz += over * z * powers[2, z - 1] * px * py
    gradients[pair, 0] = gx + along * pairs.units[pair, 0]
    gradients[pair, 1] = gy + along * pairs.units[pair, 1]
    gradients[pair, 2] = gz + along * pairs.units[pair, 2]


@njit(cache=True)
def site_derivatives(
    lists: Lists, pairs: Pairs, coefficients: npt.NDArray[np.float64]
) -> tuple[
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
]:
    """Return the site energies and their derivatives.

    `coefficients` (n_scalars,) are those of the basis functions.

    Returns
    -------
    energies
        (n_sites,), without the coefficients of the species.
    basis_values
        (n_sites, n_scalars).
    gradients
        (n_pairs, 3), derivative of the energy of the pair's site by the vector to its neighbour.
    weights
        (n_pairs, n_radial), derivative of the same energy by the radial functions of the pair.
    """
    n_sites = pairs.starts.shape[0] - 1
    n_scalars = lists.mapping.shape[0]
    energies = np.zeros(n_sites)
    basis_values = np.empty((n_sites, n_scalars))
    gradients = np.empty((pairs.units.shape[0], 3))
    weights = np.zeros(pairs.values.shape)
    powers = np.empty((3, np.max(lists.basic[:, 1:]) + 1))
    adjoints = np.empty(lists.n_moments)
    for site in range(n_sites):
        moments = basic_moments(lists, pairs, site, powers)
        multiply_moments(lists.times, moments)
        adjoints[:] = 0.0
        for s in range(n_scalars):
            basis_values[site, s] = moments[lists.mapping[s]]
            energies[site] += coefficients[s] * basis_values[site, s]
            adjoints[lists.mapping[s]] += coefficients[s]
        differentiate_moments(lists.times, moments, adjoints)
        for pair in range(pairs.starts[site], pairs.starts[site + 1]):
            _pair_derivatives(lists, pairs, pair, adjoints, powers, (gradients, weights))
    return energies, basis_values, gradients, weights


@njit(cache=True)
def moment_derivatives(
    lists: Lists, basic: npt.NDArray[np.float64], coefficients: npt.NDArray[np.float64]
) -> tuple[
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
]:
    """Return the basis functions and their derivatives by the basic moments of many sites.

    `basic` is (n_sites, n_basic); `coefficients` (n_scalars,) those of the basis functions.

    Returns
    -------
    basis_values
        B_a, (n_sites, n_scalars).
    jacobians
        dB_a/dm_k, (n_sites, n_scalars, n_basic).
    adjoints
        dE/dm_k, (n_sites, n_basic).
    hessians
        d²E/dm_k dm_l, (n_sites, n_basic, n_basic).
    """
    n_sites, n_basic = basic.shape
    n_scalars = lists.mapping.shape[0]
    basis_values = np.empty((n_sites, n_scalars))
    jacobians = np.empty((n_sites, n_scalars, n_basic))
    adjoints = np.empty((n_sites, n_basic))
    hessians = np.empty((n_sites, n_basic, n_basic))
    for site in range(n_sites):
        m = np.zeros(lists.n_moments)
        m[:n_basic] = basic[site]
        adjoint = np.zeros(lists.n_moments)
        tangents = np.zeros((lists.n_moments, n_basic))
        for k in range(n_basic):
            tangents[k, k] = 1.0
        for row in range(lists.times.shape[0]):
            a, b, factor, c = lists.times[row]
            m[c] += factor * m[a] * m[b]
            for k in range(n_basic):
                tangents[c, k] += factor * (m[a] * tangents[b, k] + m[b] * tangents[a, k])
        for s in range(n_scalars):
            basis_values[site, s] = m[lists.mapping[s]]
            jacobians[site, s] = tangents[lists.mapping[s]]
            adjoint[lists.mapping[s]] += coefficients[s]
        # The reverse pass, itself differentiated by every basic moment.
        seconds = np.zeros((lists.n_moments, n_basic))
        for row in range(lists.times.shape[0] - 1, -1, -1):
            a, b, factor, c = lists.times[row]
            weight = factor * adjoint[c]
            for k in range(n_basic):
                second = factor * seconds[c, k]
                seconds[a, k] += second * m[b] + weight * tangents[b, k]
                seconds[b, k] += second * m[a] + weight * tangents[a, k]
            adjoint[a] += weight * m[b]
            adjoint[b] += weight * m[a]
        adjoints[site] = adjoint[:n_basic]
        hessians[site] = seconds[:n_basic]
    return basis_values, jacobians, adjoints, hessians
