"""Compiled loops over sites and table rows; no distances, no radial functions.

The basic moments of a site, M_{mu,nu}(n_i) = sum_j f_mu(|r_ij|, z_i, z_j) r_ij^{(x)nu} (Shapeev,
Multiscale Model. Simul. 14, 1153 (2016); radial functions by both species as in Gubaev et al.,
Comput. Mater. Sci. 156, 148 (2019)), are sums over its neighbours. On a lattice the vectors r_ij
are fixed, so for each of them and each (z_i, z_j) the summand is one row of a table. In a supercell
all images of a site carry one species: their rows are added beforehand, and one row is left per
(site, site, z_i, z_j). What remains of the neighbourhood is to add up as many rows as a site sees
sites. The components of a moment are products of direction cosines, as MLIP has them; the powers
of the distance are left to f_mu.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from latticesearch.potential.mtp._contraction import (
    ContractionTables,
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
    contraction: ContractionTables


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

    contraction: ContractionTables
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
    """Write the basic moments of a site.

    Parameters
    ----------
    tables
        Of the supercell.
    labels
        (n_sites,).
    site
        The centre.
    m
        (width,), written: basic moments, zeros behind them.
    """
    width = tables.moments.shape[3]
    own = labels[site] * tables.moments.shape[2] * width
    # Vectors outside, neighbours inside: the sum stays in a register and is stored once. For that,
    # labels are looked up once per vector: single bytes beside whole rows.
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
    """Write the basic moments of a site of one species among sites of fractional occupation.

    Parameters
    ----------
    tables
        Of the supercell.
    occupations
        (n_sites, n_species), those of all sites.
    site, species
        The centre.
    m
        (width,), written: moments are linear in the occupation of the neighbours, so these are
        their exact means.
    """
    n_species, width = tables.moments.shape[2:]
    for first in range(0, width, LANES):
        total = splat(0.0)
        for r in range(tables.n_neighbours[site]):
            weights = occupations[tables.neighbours[site, r]]
            row = tables.offsets[site, r] + species * n_species * width + first
            for other in range(n_species):
                # A decided neighbour then costs one row, as in `sum_rows`.
                if weights[other] != 0.0:
                    moments = load(tables.moments, row + other * width)
                    total = times_plus(splat(weights[other]), moments, total)
        store(m, first, total)


@njit(cache=True)
def site_energies(
    tables: LatticeTables, labels: npt.NDArray[np.int8], energies: npt.NDArray[np.float64]
) -> None:
    """Write the energies of the sites, V(n_i) of Shapeev (2016).

    Parameters
    ----------
    tables
        Of the supercell.
    labels
        (n, n_sites).
    energies
        (n, n_sites), eV, written.
    """
    # Sites are counted through all labelings, so the lanes are full also where a cell has few. A
    # site's energy is the same in every lane: results do not depend on how a batch was cut.
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
        # The species' own energies last, and not by lanes: a look-up each.
        for lane in range(block.size):
            n, site = divmod(first + lane, n_sites)
            block[lane] += tables.species_coeffs[labels[n, site]]


@njit(cache=True)
def mean_energies(site_energies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the means over the sites, always summed in one order.

    numpy promises no order. An energy whose last bit depended on the batch would make ties depend
    on how labelings were cut into batches, hence on the number of ranks.

    Parameters
    ----------
    site_energies
        (n, n_sites), eV.

    Returns
    -------
    (n,)
        eV per site.
    """
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
    """Return the energies per site of fractional occupations (mean field).

    E = sum_i sum_z p_i(z) V(mean moments of i as z): exact in the occupation of the centre and in
    the moments, while products of moments are taken as the products of their means.

    Parameters
    ----------
    tables
        Of the supercell.
    occupations
        (n, n_sites, n_species), sums over the species are one.

    Returns
    -------
    (n,)
        eV per site.
    """
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
        # Only what occurs goes into a lane: one species of a decided site, all of an open one.
        if occupations[n, i, z] != 0.0:
            mean_rows(tables, occupations[n], i, z, m[n_kept])
            kept[n_kept, 0] = n
            kept[n_kept, 1] = rest
            n_kept += 1
        # Lanes are full, or this was the last one.
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

    Parameters
    ----------
    moments, adjoints
        All moments and d(energy)/d(moment), eV per unit of the moment, in lanes.
    sums
        Of the rows of `values` over the neighbours of each species, Å²,
        (n_species * depth + LANES,); the padding lets whole vectors be read from any power on.
    positions
        Of the neighbours' rows in `values`, (n_rows,).
    ends
        The positions of species z stand between ``ends[z]`` and ``ends[z + 1]``,
        (n_species + 2,).
    """

    moments: npt.NDArray[np.float64]
    adjoints: npt.NDArray[np.float64]
    sums: npt.NDArray[np.float64]
    positions: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


@njit(cache=True)
def _gradient_space(tables: LatticeTables, gradient: GradientTables) -> _GradientSpace:
    """Return space to be filled; allocated once per batch, so that the inner kernels are lean."""
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
    """Fill `positions` and `ends` for one site of `labels`, (n_sites,): a counting sort."""
    # Counts go two places up and are summed, so that ``ends[z + 1]`` is where species z begins.
    # Placing the neighbours moves it to where z ends, which is where z + 1 begins: no second list.
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
    """Fill `sums`, (n_species, depth) flat; `positions` and `ends` are known."""
    # After this a gradient takes no look at neighbours any more: its cost is that of the species.
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
    """Add the derivatives of one site energy by the radial coefficients.

    The chain rule through f_mu = sum_b c[z_i, z_j, mu, b] Q_b (max_dist - r)² of Shapeev (2016):
    dV/dc[z_i, z_j, mu, b] = sum of dV/dm_k times the sum of row (b, power of k) over the neighbours
    of species z_j, over all basic moments k with this mu.

    Parameters
    ----------
    gradient
        Of the supercell.
    lane
        Where the site stands.
    found
        With `adjoints` and `sums`.
    first
        (n_species, n_radial): those of the site's species.
    row
        (n_parameters,), added to; eV per unit of the parameter.
    """
    size, depth = gradient.radial_size, gradient.values.shape[1]
    # The adjoints of products have served; the lanes of `out` beyond `size` mean nothing.
    out = found.adjoints[gradient.contraction.n_basic * LANES :]
    # Radial basis functions stand in the lanes here: they are contiguous in a row of `values`, and
    # only one site is worked on.
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
    """Add the derivatives of the site energy of one lane to `row`, (n_parameters,), eV per unit."""
    # V = xi_0(z) + sum_alpha xi_alpha B_alpha: linear parameters have 1 and the basis functions.
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
    """Add d(site energy)/d(parameters).

    Parameters
    ----------
    tables, gradient
        Of the supercell.
    labels
        (n, n_sites).
    rows
        Added to, eV per unit of the parameter: one row per site, (n * n_sites, n_parameters), or
        their sum for each labeling, (n, n_parameters).
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
        # Up to the adjoints sites share the lanes; what follows depends on each one's neighbours.
        for lane in range(n_lanes):
            n, site = divmod(first + lane, n_sites)
            _sort_neighbours(tables, gradient, labels[n], site, found)
            _sum_neighbours(gradient, found)
            row = rows[(first + lane) // per_row]
            _add_gradient(gradient, labels[n, site], lane, found, row)
