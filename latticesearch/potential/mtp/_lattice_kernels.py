"""Compiled loops over sites and table rows; no distances, no radial functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from latticesearch.potential.mtp._contraction import (
    Contraction,
    aligned,
    contract_rows,
    differentiate,
    fill_lanes,
    multiply,
    space,
)
from latticesearch.potential.walk import LEAN
from latticesearch.vectors import LANES, load, plus, splat, store, times_plus

if TYPE_CHECKING:
    import numpy.typing as npt


class LatticeTables(NamedTuple):
    """Everything a site energy depends on but the labels.

    The basic moments of a centre z_i are the sums over its neighbours of the rows
    ``moments[u, z_i, z_j]``, which begin ``offsets + (z_i * n_species + z_j) * width`` doubles
    behind the beginning of `moments`.

    Parameters
    ----------
    n_neighbours, neighbours
        Site i sees at least one image of each site ``neighbours[i, : n_neighbours[i]]``,
        (n_sites,) and (n_sites, n_rows).
    offsets
        Position in `moments` of the row u of each of these pairs, (n_sites, n_rows).
    n_seers, seers, seer_offsets
        The same lists read the other way: sites that see site j, and where their rows are,
        (n_sites,) and (n_sites, n_seers).
    moments
        What one neighbour z_j in row u adds to the basic moments of a centre z_i, filled up with
        zeros to whole vectors, (n_unique, n_species, n_species, width).
    species_coeffs
        (n_species,), eV.
    contraction
        From the basic moments to the energy.
    """

    n_neighbours: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]
    n_seers: npt.NDArray[np.int64]
    seers: npt.NDArray[np.uint32]
    seer_offsets: npt.NDArray[np.int64]
    moments: npt.NDArray[np.float64]
    species_coeffs: npt.NDArray[np.float64]
    contraction: Contraction


class GradientTables(NamedTuple):
    """What the gradient needs besides `LatticeTables`.

    Parameters
    ----------
    contraction
        With every moment stored.
    scalars
        Where the basis functions stand among the moments, (n_scalars,); their parameters end the
        row.
    offsets
        Position in `values` of the row of each pair of sites, (n_sites, n_rows).
    values
        Those of `LatticeGeometry`, times the scaling: position ``p * radial_size + q`` of a row has
        the powers p and the radial function q; filled up with zeros to whole vectors,
        (n_unique, depth).
    starts, basic, power
        The basic moments ``basic[e]`` with the powers ``power[e]`` and the radial function mu have
        ``starts[mu] <= e < starts[mu + 1]``; (n_radial + 1,), (n_basic,), (n_basic,).
    first
        ``first[z_i, z_j, mu]``: index of the parameter c[z_i, z_j, mu, 0],
        (n_species, n_species, n_radial).
    species
        Index of the parameter xi_0(z), (n_species,).
    radial_size
        Number of radial basis functions.
    """

    contraction: Contraction
    scalars: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    starts: npt.NDArray[np.int64]
    basic: npt.NDArray[np.int64]
    power: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    species: npt.NDArray[np.int64]
    radial_size: int


@njit(**LEAN)
def sum_rows(
    tables: LatticeTables,
    labels: npt.NDArray[np.int8],
    site: int,
    m: npt.NDArray[np.float64],
) -> None:
    """Write the basic moments of `site` to `m`, (width,)."""
    width = tables.moments.shape[3]
    own = labels[site] * tables.moments.shape[2] * width
    for first in range(0, width, LANES):
        total = splat(0.0)
        for r in range(tables.n_neighbours[site]):
            other = labels[tables.neighbours[site, r]] * width
            row = load(tables.moments, tables.offsets[site, r] + own + other + first)
            total = plus(total, row)
        store(m, first, total)


@njit(**LEAN)
def mean_rows(
    tables: LatticeTables,
    occupations: npt.NDArray[np.float64],
    site: int,
    species: int,
    m: npt.NDArray[np.float64],
) -> None:
    """Write the basic moments of `site` as `species` among `occupations` to `m`, (width,).

    `occupations` are those of all sites, (n_sites, n_species).
    """
    n_species, width = tables.moments.shape[2:]
    for first in range(0, width, LANES):
        total = splat(0.0)
        for r in range(tables.n_neighbours[site]):
            weights = occupations[tables.neighbours[site, r]]
            row = tables.offsets[site, r] + species * n_species * width + first
            for other in range(n_species):
                if weights[other] != 0.0:
                    moments = load(tables.moments, row + other * width)
                    total = times_plus(splat(weights[other]), moments, total)
        store(m, first, total)


@njit(cache=True)
def site_energies(
    tables: LatticeTables, labels: npt.NDArray[np.int8], energies: npt.NDArray[np.float64]
) -> None:
    """Write the energies of the sites, eV, of `labels`; both (n, n_sites)."""
    n_sites = labels.shape[1]
    flat = energies.reshape(energies.size)
    m = aligned(LANES * tables.moments.shape[3]).reshape(LANES, tables.moments.shape[3])
    work = space(tables.contraction)
    for first in range(0, flat.size, LANES):
        block = flat[first : first + LANES]
        for lane in range(block.size):
            n, site = divmod(first + lane, n_sites)
            sum_rows(tables, labels[n], site, m[lane])
        contract_rows(tables.contraction, m, block.size, work, block)
        for lane in range(block.size):
            n, site = divmod(first + lane, n_sites)
            block[lane] += tables.species_coeffs[labels[n, site]]


@njit(cache=True)
def mean_energies(site_energies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the means, (n,), of `site_energies`, (n, n_sites), always summed in one order."""
    means = np.empty(site_energies.shape[0])
    for n in range(means.size):
        total = 0.0
        for i in range(site_energies.shape[1]):
            total += site_energies[n, i]
        means[n] = total / site_energies.shape[1]
    return means


@njit(cache=True)
def mean_field_energies(
    tables: LatticeTables, occupations: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the energies per site, (n,), eV, of `occupations`, (n, n_sites, n_species)."""
    n_labelings, n_sites, n_species = occupations.shape
    width = tables.moments.shape[3]
    m = aligned(LANES * width).reshape(LANES, width)
    work = space(tables.contraction)
    found = np.empty(LANES)
    kept = np.zeros((LANES, 2), dtype=np.int64)
    energies = np.zeros(n_labelings)
    n_kept = 0
    for row in range(n_labelings * n_sites * n_species):
        n, rest = divmod(row, n_sites * n_species)
        i, z = divmod(rest, n_species)
        if occupations[n, i, z] != 0.0:
            mean_rows(tables, occupations[n], i, z, m[n_kept])
            kept[n_kept, 0] = n
            kept[n_kept, 1] = rest
            n_kept += 1
        if n_kept == LANES or row == occupations.size - 1:
            contract_rows(tables.contraction, m, n_kept, work, found)
            for lane in range(n_kept):
                n = kept[lane, 0]
                i, z = divmod(kept[lane, 1], n_species)
                energies[n] += occupations[n, i, z] * (tables.species_coeffs[z] + found[lane])
            n_kept = 0
    for n in range(n_labelings):
        energies[n] /= n_sites
    return energies


class _GradientSpace(NamedTuple):
    """Space to differentiate one vector of sites.

    Moments and their adjoints in lanes; `sums` of the rows of `values` over the neighbours of each
    species, (n_species * depth + LANES,); positions of the neighbours' rows, (n_rows,), those of
    species z between ``ends[z]`` and ``ends[z + 1]``.
    """

    moments: npt.NDArray[np.float64]
    adjoints: npt.NDArray[np.float64]
    sums: npt.NDArray[np.float64]
    positions: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


@njit(cache=True)
def _gradient_space(tables: LatticeTables, gradient: GradientTables) -> _GradientSpace:
    n_species = tables.species_coeffs.size
    return _GradientSpace(
        space(gradient.contraction),
        space(gradient.contraction),
        aligned(n_species * gradient.values.shape[1] + LANES),
        np.empty(gradient.offsets.shape[1], dtype=np.int64),
        np.zeros(n_species + 2, dtype=np.int64),
    )


@njit(**LEAN)
def _sort_neighbours(
    tables: LatticeTables,
    gradient: GradientTables,
    labels: npt.NDArray[np.int8],
    site: int,
    found: _GradientSpace,
) -> None:
    """Fill `positions` and `ends`."""
    for z in range(found.ends.size):
        found.ends[z] = 0
    for r in range(tables.n_neighbours[site]):
        found.ends[labels[tables.neighbours[site, r]] + 2] += 1
    for z in range(2, found.ends.size):
        found.ends[z] += found.ends[z - 1]
    for r in range(tables.n_neighbours[site]):
        z = labels[tables.neighbours[site, r]]
        found.positions[found.ends[z + 1]] = gradient.offsets[site, r]
        found.ends[z + 1] += 1


@njit(**LEAN)
def _sum_neighbours(gradient: GradientTables, found: _GradientSpace) -> None:
    """Fill `sums`; `positions` and `ends` are known."""
    depth = gradient.values.shape[1]
    for z in range(found.ends.size - 2):
        for at in range(0, depth, LANES):
            total = splat(0.0)
            for r in range(found.ends[z], found.ends[z + 1]):
                total = plus(total, load(gradient.values, found.positions[r] + at))
            store(found.sums, z * depth + at, total)


@njit(**LEAN)
def _add_radial(
    gradient: GradientTables,
    lane: int,
    found: _GradientSpace,
    first: npt.NDArray[np.int64],
    row: npt.NDArray[np.float64],
) -> None:
    """Add the derivatives of one site energy by the radial coefficients to `row`.

    `first`, (n_species, n_radial), are those of the site's species.
    """
    size, depth = gradient.radial_size, gradient.values.shape[1]
    # The adjoints of products have served; the lanes of `out` beyond `size` mean nothing.
    out = found.adjoints[gradient.contraction.n_basic * LANES :]
    for other in range(first.shape[0]):
        for mu in range(first.shape[1]):
            for at in range(0, size, LANES):
                slope = splat(0.0)
                for e in range(gradient.starts[mu], gradient.starts[mu + 1]):
                    adjoint = splat(found.adjoints[gradient.basic[e] * LANES + lane])
                    position = other * depth + gradient.power[e] * size + at
                    slope = times_plus(adjoint, load(found.sums, position), slope)
                store(out, 0, slope)
                for q in range(min(LANES, size - at)):
                    row[first[other, mu] + at + q] += out[q]


@njit(**LEAN)
def _add_gradient(
    gradient: GradientTables,
    species: int,
    lane: int,
    found: _GradientSpace,
    row: npt.NDArray[np.float64],
) -> None:
    """Add the derivatives of the site energy of one lane to `row`, (n_parameters,)."""
    row[gradient.species[species]] += 1.0
    linear = row.size - gradient.scalars.size
    for s in range(gradient.scalars.size):
        row[linear + s] += found.moments[gradient.scalars[s] * LANES + lane]
    _add_radial(gradient, lane, found, gradient.first[species], row)


@njit(cache=True)
def add_gradients(
    tables: LatticeTables,
    gradient: GradientTables,
    labels: npt.NDArray[np.int8],
    rows: npt.NDArray[np.float64],
) -> None:
    """Add d(site energy)/d(parameters) of `labels`, (n, n_sites), to `rows`.

    `rows` have one row per site, (n * n_sites, n_parameters), or the sum of these rows for each
    labeling, (n, n_parameters).
    """
    n_sites, width = labels.shape[1], tables.moments.shape[3]
    per_row = labels.size // rows.shape[0]
    basic = aligned(LANES * width).reshape(LANES, width)
    found = _gradient_space(tables, gradient)
    for first in range(0, labels.size, LANES):
        n_lanes = min(LANES, labels.size - first)
        for lane in range(n_lanes):
            n, site = divmod(first + lane, n_sites)
            sum_rows(tables, labels[n], site, basic[lane])
        fill_lanes(gradient.contraction.n_basic, basic, 0, n_lanes, found.moments)
        multiply(gradient.contraction, found.moments)
        differentiate(gradient.contraction, found.moments, found.adjoints)
        for lane in range(n_lanes):
            n, site = divmod(first + lane, n_sites)
            _sort_neighbours(tables, gradient, labels[n], site, found)
            _sum_neighbours(gradient, found)
            row = rows[(first + lane) // per_row]
            _add_gradient(gradient, labels[n, site], lane, found, row)
