"""Compiled loops over sites and table rows; no distances, no radial functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt


class LatticeTables(NamedTuple):
    """Everything a site energy depends on but the labels.

    Parameters
    ----------
    neighbours, rows, seers, seer_rows
        As in `LatticeGeometry`.
    moments
        ``moments[u, z_i, z_j, k]``: what one neighbour z_j in row u adds to the basic moment k of
        a centre z_i, (n_unique, n_species, n_species, n_basic).
    times
        (n_times, 3): a, b, c of ``m[c] += factors * m[a] * m[b]``.
    factors
        (n_times,).
    species_coeffs
        (n_species,), eV.
    scalar_coeffs
        Coefficient of every moment, zero for those that are no basis functions, (n_moments,), eV.
    """

    neighbours: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    seers: npt.NDArray[np.int64]
    seer_rows: npt.NDArray[np.int64]
    moments: npt.NDArray[np.float64]
    times: npt.NDArray[np.int64]
    factors: npt.NDArray[np.float64]
    species_coeffs: npt.NDArray[np.float64]
    scalar_coeffs: npt.NDArray[np.float64]


class GradientTables(NamedTuple):
    """What the gradient needs besides `LatticeTables`.

    Parameters
    ----------
    values
        Those of `LatticeGeometry`, times the scaling, (n_unique, n_powers * radial_size).
    power
        Index of each basic moment into the powers, (n_basic,).
    first
        ``first[z_i, z_j, k]``: index of the parameter c[z_i, z_j, mu_k, 0],
        (n_species, n_species, n_basic).
    species
        Index of the parameter xi_0(z), (n_species,).
    scalars
        Moments that are basis functions, (n_scalars,); their parameters end the row.
    radial_size
        Number of radial basis functions.
    n_parameters
        Length of a row.
    """

    values: npt.NDArray[np.float64]
    power: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    species: npt.NDArray[np.int64]
    scalars: npt.NDArray[np.int64]
    radial_size: int
    n_parameters: int


@njit(cache=True)
def add_row(m: npt.NDArray[np.float64], row: npt.NDArray[np.float64], weight: float) -> None:
    for k in range(row.size):
        m[k] += weight * row[k]


@njit(cache=True)
def _contract(tables: LatticeTables, m: npt.NDArray[np.float64]) -> float:
    """Fill the products behind the basic moments of `m` and return the energy they give, eV."""
    for k in range(tables.moments.shape[3], m.size):
        m[k] = 0.0
    for t in range(tables.factors.size):
        a, b, c = tables.times[t]
        m[c] += tables.factors[t] * m[a] * m[b]
    energy = 0.0
    for k in range(m.size):
        energy += tables.scalar_coeffs[k] * m[k]
    return energy


@njit(cache=True)
def basic_moments(
    tables: LatticeTables, labels: npt.NDArray[np.int8], site: int, m: npt.NDArray[np.float64]
) -> None:
    """Write the basic moments of `site` to the beginning of `m`."""
    for k in range(tables.moments.shape[3]):
        m[k] = 0.0
    for r in range(tables.neighbours.shape[1]):
        j = tables.neighbours[site, r]
        if j < 0:
            break
        add_row(m, tables.moments[tables.rows[site, r], labels[site], labels[j]], 1.0)


@njit(cache=True)
def contract_rows(
    tables: LatticeTables,
    rows: npt.NDArray[np.float64],
    n_rows: int,
    work: npt.NDArray[np.float64],
    energies: npt.NDArray[np.float64],
) -> None:
    """Write what the first rows of basic moments give, eV, without the species' own energies.

    Parameters
    ----------
    rows
        (at least n_rows, n_basic).
    work
        (n_moments,), overwritten.
    energies
        (at least n_rows,), written.
    """
    for n in range(n_rows):
        for k in range(rows.shape[1]):
            work[k] = rows[n, k]
        energies[n] = _contract(tables, work)


@njit(cache=True)
def site_energies(tables: LatticeTables, labels: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """Return the energies of the sites, (n, n_sites), eV, of `labels`, (n, n_sites)."""
    energies = np.empty(labels.shape)
    m = np.empty(tables.scalar_coeffs.size)
    for n in range(labels.shape[0]):
        for i in range(labels.shape[1]):
            basic_moments(tables, labels[n], i, m)
            energies[n, i] = tables.species_coeffs[labels[n, i]] + _contract(tables, m)
    return energies


@njit(cache=True)
def mean_field_energies(
    tables: LatticeTables, occupations: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the energies per site, (n,), eV, of `occupations`, (n, n_sites, n_species)."""
    n_labelings, n_sites, n_species = occupations.shape
    energies = np.zeros(n_labelings)
    m = np.empty(tables.scalar_coeffs.size)
    for n in range(n_labelings):
        for i in range(n_sites):
            for z in range(n_species):
                if occupations[n, i, z] == 0.0:
                    continue
                for k in range(tables.moments.shape[3]):
                    m[k] = 0.0
                for r in range(tables.neighbours.shape[1]):
                    j = tables.neighbours[i, r]
                    if j < 0:
                        break
                    for other in range(n_species):
                        weight = occupations[n, j, other]
                        if weight != 0.0:
                            add_row(m, tables.moments[tables.rows[i, r], z, other], weight)
                energy = tables.species_coeffs[z] + _contract(tables, m)
                energies[n] += occupations[n, i, z] * energy
        energies[n] /= n_sites
    return energies


@njit(cache=True)
def _differentiate(
    tables: LatticeTables, m: npt.NDArray[np.float64], d: npt.NDArray[np.float64]
) -> None:
    """Write d(site energy)/d(moments) to `d`, (n_moments,), given all moments `m`."""
    for k in range(m.size):
        d[k] = tables.scalar_coeffs[k]
    for t in range(tables.factors.size - 1, -1, -1):
        a, b, c = tables.times[t]
        d[a] += tables.factors[t] * d[c] * m[b]
        d[b] += tables.factors[t] * d[c] * m[a]


@njit(cache=True)
def _neighbour_sums(
    tables: LatticeTables,
    gradient: GradientTables,
    labels: npt.NDArray[np.int8],
    site: int,
    sums: npt.NDArray[np.float64],
) -> None:
    """Write the sums of `values` over the neighbours of each species to `sums`."""
    for other in range(sums.shape[0]):
        for s in range(sums.shape[1]):
            sums[other, s] = 0.0
    for r in range(tables.neighbours.shape[1]):
        j = tables.neighbours[site, r]
        if j < 0:
            break
        add_row(sums[labels[j]], gradient.values[tables.rows[site, r]], 1.0)


@njit(cache=True)
def site_gradients(
    tables: LatticeTables, gradient: GradientTables, labels: npt.NDArray[np.int8]
) -> npt.NDArray[np.float64]:
    """Return d(site energy)/d(parameters), (n_sites, n_parameters), of `labels`, (n_sites,).

    Reverse mode through the list of products: one pass forward, one backward.
    """
    rows = np.zeros((labels.size, gradient.n_parameters))
    n_scalars, size = gradient.scalars.size, gradient.radial_size
    sums = np.empty((tables.species_coeffs.size, gradient.values.shape[1]))
    m = np.empty(tables.scalar_coeffs.size)
    d = np.empty(m.size)
    for i in range(labels.size):
        z = labels[i]
        basic_moments(tables, labels, i, m)
        _contract(tables, m)
        rows[i, gradient.species[z]] = 1.0
        for s in range(n_scalars):
            rows[i, gradient.n_parameters - n_scalars + s] = m[gradient.scalars[s]]
        _differentiate(tables, m, d)
        _neighbour_sums(tables, gradient, labels, i, sums)
        for other in range(sums.shape[0]):
            for k in range(gradient.power.size):
                first = gradient.first[z, other, k]
                for q in range(size):
                    rows[i, first + q] += d[k] * sums[other, gradient.power[k] * size + q]
    return rows
