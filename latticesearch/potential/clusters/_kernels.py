"""Compiled energies of clusters, and what their coefficients multiply.

E = sum over clusters of sum_a V_a phi_a(species of its vertices), where phi_a are products of site
functions, one per vertex (Sanchez, Ducastelle & Gratias, Physica A 128, 334 (1984)). The sum over a
is worked out once per model and species: an energy is look-ups in tables of points, pairs and
triplets, whatever the number of functions. In small cells several vertices of a cluster may be
images of one site; such clusters are folded into smaller ones beforehand, so that all sites of a
cluster are different, and all clusters of the same two sites are one pair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.clusters._table_kernels import Entries


class ClusterTables(NamedTuple):
    """Energies of all clusters of one supercell, eV.

    Parameters
    ----------
    points
        (n_sites, n_species): of each species alone on each site.
    neighbours
        ``neighbours[i, r] = j``: sites that share a cluster with site i; padded with -1,
        (n_sites, n_rows).
    class_of
        Row of `pairs` of two sites, -1 where no cluster contains both, (n_sites, n_sites).
    pairs
        (n_classes + 1, n_species, width): of a site's species with each species of another, padded
        to `width`; the last class is zero.
    second, third, oriented
        (n,): ordered triples of distinct sites (in all six orders) without their first site, and
        the row of `triplets` whose axes are in this order; sorted by the first site, then the
        second.
    start
        (n_sites * n_sites + 1,): triples that begin with the sites i, j are
        ``start[i * n_sites + j]`` up to the next one's.
    triplets
        (n_oriented, n_species, n_species, n_species).
    near
        (n_sites, n_rows, 2): the neighbours with the first of their lines in `pairs`, which are
        numbered through; padded with -1.
    triplet_lines
        (n_oriented + 1, n_species, n_species, width): axes are the species of the first site, of
        the third, of the second, padded; the last table is zero.
    pair_swaps
        (n_classes, n_species, n_species): what is missed when two sites of these species swap and
        the changes of two flips are added.
    triplet_swaps
        (n_oriented * n_species * n_species, n_species): the same of the first two sites of a
        triple, and the species of the third.
    floors
        (n_classes * n_species, n_species): `pair_swaps` and the least of `triplet_swaps` of all
        triples that begin with the two sites, whatever the third ones are.
    """

    points: npt.NDArray[np.float64]
    neighbours: npt.NDArray[np.int64]
    class_of: npt.NDArray[np.int32]
    pairs: npt.NDArray[np.float64]
    second: npt.NDArray[np.int32]
    third: npt.NDArray[np.int32]
    oriented: npt.NDArray[np.int32]
    start: npt.NDArray[np.int64]
    triplets: npt.NDArray[np.float64]
    near: npt.NDArray[np.int32]
    triplet_lines: npt.NDArray[np.float64]
    pair_swaps: npt.NDArray[np.float64]
    triplet_swaps: npt.NDArray[np.float64]
    floors: npt.NDArray[np.float64]


class FeatureTables(NamedTuple):
    """What each coefficient multiplies in energies of clusters.

    Parameters
    ----------
    points
        (n_basis, n_species, n_parameters): species alone on the sites of the basis.
    alone, counts, bundles
        As in `ClusterGeometry`.
    entries
        Of all shapes of pairs and triplets.
    """

    points: npt.NDArray[np.float64]
    alone: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]
    bundles: npt.NDArray[np.int32]
    entries: Entries


@njit(cache=True)
def site_energies(tables: ClusterTables, labels: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """Return the energies of the sites; a cluster is shared by its vertices.

    Parameters
    ----------
    tables
        Of the supercell.
    labels
        (n, n_sites).

    Returns
    -------
    (n, n_sites)
        eV.
    """
    energies = np.empty(labels.shape)
    n_sites = labels.shape[1]
    for n in range(labels.shape[0]):
        row = labels[n]
        for i in range(n_sites):
            z = row[i]
            pairs = 0.0
            for r in range(tables.neighbours.shape[1]):
                j = tables.neighbours[i, r]
                if j < 0:
                    break
                pairs += tables.pairs[tables.class_of[i, j], z, row[j]]
            triplets = 0.0
            for t in range(tables.start[i * n_sites], tables.start[(i + 1) * n_sites]):
                triplets += tables.triplets[
                    tables.oriented[t], z, row[tables.second[t]], row[tables.third[t]]
                ]
            # A third of each triplet, which stands among a site's triples in both orders.
            energies[n, i] = tables.points[i, z] + pairs / 2.0 + triplets / 6.0
    return energies


@njit(cache=True)
def cell_energies(tables: ClusterTables, labels: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """Return the energies of the cell; half the pairs and a sixth of the triples are looked at.

    Parameters
    ----------
    tables
        Of the supercell.
    labels
        (n, n_sites).

    Returns
    -------
    (n,)
        eV per cell.
    """
    energies = np.zeros(labels.shape[0])
    n_sites = labels.shape[1]
    for n in range(labels.shape[0]):
        row = labels[n]
        energy = 0.0
        for i in range(n_sites):
            z = row[i]
            energy += tables.points[i, z]
            for j in range(i + 1, n_sites):
                c = tables.class_of[i, j]
                if c >= 0:
                    energy += tables.pairs[c, z, row[j]]
            # Triples of one first site are sorted by the second: those with i < j are the last.
            for t in range(tables.start[i * n_sites + i + 1], tables.start[(i + 1) * n_sites]):
                j, k = tables.second[t], tables.third[t]
                if k > j:
                    energy += tables.triplets[tables.oriented[t], z, row[j], row[k]]
        energies[n] = energy
    return energies


@njit(cache=True)
def cell_features(
    tables: ClusterTables, features: FeatureTables, labels: npt.NDArray[np.int8]
) -> npt.NDArray[np.float64]:
    """Return d(energy of the cell)/d(coefficients): the correlations of the cluster expansion.

    How often each entry of the tables occurs is counted first: entries are far fewer than clusters.

    Parameters
    ----------
    tables, features
        Of the supercell.
    labels
        (n, n_sites).

    Returns
    -------
    (n, n_parameters)
        Sums of the functions that each coefficient multiplies, per cell.
    """
    n_species, n_sites = features.points.shape[1], labels.shape[1]
    rows = np.zeros((labels.shape[0], features.points.shape[2]))
    for n in range(labels.shape[0]):
        row = labels[n]
        numbers = np.zeros(features.entries.functions.shape[0])
        pairs = np.zeros((features.counts.shape[0], n_species**2))
        triplets = np.zeros((features.bundles.shape[0], n_species**3))
        for i in range(n_sites):
            z = row[i]
            _add_alone(features, i // (n_sites // features.points.shape[0]), z, numbers, rows[n])
            for j in range(i + 1, n_sites):
                c = tables.class_of[i, j]
                if c >= 0:
                    pairs[c, z * n_species + row[j]] += 1.0
            for t in range(tables.start[i * n_sites + i + 1], tables.start[(i + 1) * n_sites]):
                j, k = tables.second[t], tables.third[t]
                if k > j:
                    triplets[tables.oriented[t], (z * n_species + row[j]) * n_species + row[k]] += (
                        1.0
                    )
        # From species on classes of sites to entries, and from these to coefficients: each step
        # goes through a shorter list than the one before.
        _add_numbers(numbers, pairs, features.counts, features.entries.pairs)
        _add_numbers(numbers, triplets, features.bundles, features.entries.triplets)
        _add_entries(features.entries, numbers, rows[n])
    return rows


@njit(cache=True)
def site_features(
    tables: ClusterTables, features: FeatureTables, labels: npt.NDArray[np.int8]
) -> npt.NDArray[np.float64]:
    """Return d(site energy)/d(coefficients); as `cell_features`, with shared clusters.

    Parameters
    ----------
    tables, features
        Of the supercell.
    labels
        (n_sites,), one labeling.

    Returns
    -------
    (n_sites, n_parameters)
        Their sum is the row of the cell.
    """
    n_species, n_sites = features.points.shape[1], labels.size
    rows = np.zeros((n_sites, features.points.shape[2]))
    for i in range(n_sites):
        z = labels[i]
        numbers = np.zeros(features.entries.functions.shape[0])
        pairs = np.zeros((features.counts.shape[0], n_species**2))
        triplets = np.zeros((features.bundles.shape[0], n_species**3))
        _add_alone(features, i // (n_sites // features.points.shape[0]), z, numbers, rows[i])
        for r in range(tables.neighbours.shape[1]):
            j = tables.neighbours[i, r]
            if j < 0:
                break
            # Shares as in `site_energies`: half of a pair; a third of a triplet, met twice.
            pairs[tables.class_of[i, j], z * n_species + labels[j]] += 0.5
        _add_numbers(numbers, pairs, features.counts, features.entries.pairs)
        for t in range(tables.start[i * n_sites], tables.start[(i + 1) * n_sites]):
            others = labels[tables.second[t]] * n_species + labels[tables.third[t]]
            triplets[tables.oriented[t], z * n_species**2 + others] += 1.0 / 6.0
        _add_numbers(numbers, triplets, features.bundles, features.entries.triplets)
        _add_entries(features.entries, numbers, rows[i])
    return rows


@njit(cache=True)
def _add_alone(
    features: FeatureTables,
    basis: int,
    z: int,
    numbers: npt.NDArray[np.float64],
    row: npt.NDArray[np.float64],
) -> None:
    """Add what a site has whatever the others.

    Parameters
    ----------
    features
        Of the supercell.
    basis, z
        Site of the basis, and species there.
    numbers
        (n_entries,): how often each entry occurs; clusters that fold into the site are added.
    row
        (n_parameters,): what the coefficients multiply; that of the point is added.
    """
    for c in range(row.size):
        row[c] += features.points[basis, z, c]
    for shape in range(features.alone.shape[1]):
        numbers[features.entries.alone[shape, z]] += features.alone[basis, shape]


@njit(cache=True)
def _add_numbers(
    numbers: npt.NDArray[np.float64],
    seen: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int32],
    entries: npt.NDArray[np.int32],
) -> None:
    """Turn species seen on pairs or triples of sites into numbers of entries.

    Parameters
    ----------
    numbers
        (n_entries,), added to.
    seen
        (n, n_species**size): how often the sites of a class had these species.
    counts
        (n, at least n_tables): how many clusters of each table the sites of a class share.
    entries
        (n_tables, n_species, ...), one axis per vertex: entries of each table.
    """
    n_tables = entries.shape[0]
    places = entries.reshape(n_tables, seen.shape[1])
    for row in range(seen.shape[0]):
        for table in range(n_tables):
            times = counts[row, table]
            # Few of the clusters of a basis connect any two sites: most numbers are zero.
            if times:
                for k in range(seen.shape[1]):
                    numbers[places[table, k]] += times * seen[row, k]


@njit(cache=True)
def _add_entries(
    entries: Entries, numbers: npt.NDArray[np.float64], row: npt.NDArray[np.float64]
) -> None:
    """Multiply numbers of entries, (n_entries,), by their functions, and add them to a row.

    The row, (n_parameters,), receives what the coefficients multiply.
    """
    for shape in range(entries.columns.shape[0]):
        # Clusters of one shape have coefficients of their own: the rest of the row is not touched.
        part = row[entries.columns[shape, 0] : entries.columns[shape, 1]]
        for e in range(entries.start[shape], entries.start[shape + 1]):
            times, functions = numbers[e], entries.functions[e]
            if times:
                for k in range(part.size):
                    part[k] += times * functions[k]


@njit(cache=True)
def field_of(tables: ClusterTables, occupations: npt.NDArray[np.float64], i: int, z: int) -> float:
    """Return the energy of all clusters of a site of one species among averaged other sites.

    Parameters
    ----------
    tables
        Of the supercell.
    occupations
        (n_sites, n_species), sums over the species are one.
    i, z
        The site and its species.

    Returns
    -------
    float
        eV; every cluster in full, not shared among its vertices.
    """
    n_sites, n_species = occupations.shape
    energy: float = tables.points[i, z]
    for r in range(tables.neighbours.shape[1]):
        j = tables.neighbours[i, r]
        if j < 0:
            break
        part = tables.pairs[tables.class_of[i, j], z]
        for other in range(n_species):
            energy += occupations[j, other] * part[other]
    for t in range(tables.start[i * n_sites], tables.start[(i + 1) * n_sites]):
        j, k = tables.second[t], tables.third[t]
        if j > k:  # each triple stands here in both orders
            continue
        # Three different sites, taken as independent: the mean of a product is that of the means.
        for one in range(n_species):
            if occupations[j, one] == 0.0:
                continue
            part = tables.triplets[tables.oriented[t], z, one]
            for other in range(n_species):
                energy += occupations[j, one] * occupations[k, other] * part[other]
    return energy


@njit(cache=True)
def mean_field_energy(tables: ClusterTables, occupations: npt.NDArray[np.float64]) -> float:
    """Return the energy of the cell averaged over independent occupations of its sites.

    Exact, since no cluster contains a site twice and all energies are linear in each occupation.

    Parameters
    ----------
    tables
        Of the supercell.
    occupations
        (n_sites, n_species), sums over the species are one.

    Returns
    -------
    float
        eV per cell.
    """
    n_sites, n_species = occupations.shape
    energy = 0.0
    for i in range(n_sites):
        for z in range(n_species):
            weight = occupations[i, z]
            if weight == 0.0:
                continue
            pairs = 0.0
            for r in range(tables.neighbours.shape[1]):
                j = tables.neighbours[i, r]
                if j < 0:
                    break
                for other in range(n_species):
                    part = tables.pairs[tables.class_of[i, j], z, other]
                    pairs += occupations[j, other] * part
            # The field counts every pair and triplet in full, so each is met two and three times.
            # What it has beside points and pairs are triplets, not worth a loop of their own.
            points = tables.points[i, z]
            triplets = field_of(tables, occupations, i, z) - points - pairs
            energy += weight * (points + pairs / 2.0 + triplets / 3.0)
    return energy
