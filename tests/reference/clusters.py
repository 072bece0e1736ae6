"""Slow and obvious twin of the cluster expansion on lattices of one site per cell."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np


def energy(model, supercell, labels):
    """Energy of the cell: every pair and triplet of the infinite crystal, shared by vertices."""
    basis, parent = model.basis, supercell.parent
    tables = {}
    for clusters, functions in (
        (basis.pairs, basis.pair_tables),
        (basis.triplets, basis.triplet_tables),
    ):
        for row, shape in enumerate(clusters.shape):
            points = np.vstack([np.zeros(3), clusters.cells[row] @ parent.cell])
            table = (functions[shape] @ model.coefficients, clusters.order[row])
            tables[edges(points[clusters.order[row]])] = table[0]
    total = sum(basis.points[0, z] @ model.coefficients for z in labels)
    grid = [np.array(v) for v in product(range(-3, 4), repeat=3) if any(v)]
    for site, origin in enumerate(supercell.cell_vectors):
        others = [(v @ parent.cell, labels[supercell.site_of(0, origin + v)]) for v in grid]
        near = [o for o in others if np.linalg.norm(o[0]) < basis.pair_cutoff]
        for position, species in near:
            vertices = [(np.zeros(3), labels[site]), (position, species)]
            total += look_up(tables, vertices) / 2
        near = [o for o in others if np.linalg.norm(o[0]) < basis.triplet_cutoff]
        for one, other in combinations(near, 2):
            if np.linalg.norm(one[0] - other[0]) < basis.triplet_cutoff:
                total += look_up(tables, [(np.zeros(3), labels[site]), one, other]) / 3
    return total


def edges(points):
    """Edge opposite to each vertex; of a pair its length twice."""
    lengths = [
        np.linalg.norm(np.diff(np.delete(points, v, axis=0), axis=0))
        if len(points) == 3
        else np.linalg.norm(points[1] - points[0])
        for v in range(len(points))
    ]
    return tuple(float(round(length, 4)) for length in lengths)


def look_up(tables, vertices):
    """Table entry of the species, with the vertices in the order the table wants."""
    names = edges(np.array([position for position, _ in vertices]))
    order = sorted(range(len(vertices)), key=names.__getitem__)
    table = tables[tuple(names[v] for v in order)]
    return table[tuple(vertices[v][1] for v in order)]


def swap_rows(evaluator, labels, swaps):
    """What coefficients multiply in changes along a walk: rows of the cell after and before."""
    current = labels.copy()
    result = np.zeros((len(swaps), evaluator.n_parameters))
    for row, (i, j, carried_out) in zip(result, swaps, strict=True):
        after = current.copy()
        after[[i, j]] = after[[j, i]]
        row[:] = np.diff(evaluator.gradient_rows(np.array([current, after])), axis=0)[0]
        current = after if carried_out else current
    return result * len(labels)


def mean_field_energy(evaluator, occupations):
    """Average of the cell's energy over independent sites, by all labelings."""
    n_sites, n_species = occupations.shape
    total = 0.0
    for labels in product(range(n_species), repeat=n_sites):
        weight = np.prod([occupations[i, z] for i, z in enumerate(labels)])
        if weight:
            row = np.array([labels], dtype=np.int8)
            total += weight * n_sites * evaluator.energies(row)[0]
    return total


def folded_tables(model, cell):
    """Energies of points, pairs and triplets of sites, whatever folds into them.

    Shapes (n, s), (n, n, s, s) and (n, n, n, s, s, s); of triplets each order has the sum of all.
    """
    basis, n, s = model.basis, cell.n_sites, model.basis.points.shape[1]
    points = (basis.points @ model.coefficients)[cell.basis_index]
    pairs, triplets = np.zeros((n, n, s, s)), np.zeros((n, n, n, s, s, s))
    for sites, table in clusters_of_sites(basis.pairs, basis.pair_tables, model, cell):
        i, j = sites
        if i == j:
            points[i] += np.einsum("aa->a", table) / 2
        else:
            pairs[i, j] += table
    for sites, table in clusters_of_sites(basis.triplets, basis.triplet_tables, model, cell):
        i, j, k = sites
        if i == j == k:
            points[i] += np.einsum("aaa->a", table) / 3
        elif j == k:
            add_pair(pairs, i, j, np.einsum("abb->ab", table) / 3)
        elif i == k:
            add_pair(pairs, i, j, np.einsum("aba->ab", table) / 3)
        elif i == j:
            add_pair(pairs, i, k, np.einsum("aab->ab", table) / 3)
        else:
            triplets[i, j, k] += table
            triplets[i, k, j] += table.swapaxes(1, 2)
    return points, pairs, triplets


def add_pair(pairs, i, j, table):
    """Add the energies of a pair of different sites in both orders."""
    pairs[i, j] += table
    pairs[j, i] += table.T


def clusters_of_sites(clusters, tables, model, cell):
    """Yield the sites of each cluster of each site, that first, and its energies by species."""
    for row, centre in enumerate(clusters.centre):
        table = tables[clusters.shape[row]] @ model.coefficients
        table = table.transpose(np.argsort(clusters.order[row]))
        for t, vector in enumerate(cell.cell_vectors):
            others = cell.site_of(clusters.basis[row], clusters.cells[row] + vector)
            yield (centre * cell.n_cells + t, *others.tolist()), table


def sum_of_tables(tables, labels):
    """Energy of the cell, by the tables of all points, pairs and triplets of sites."""
    points, pairs, triplets = tables
    n = range(len(labels))
    total = sum(points[i, labels[i]] for i in n)
    total += sum(pairs[i, j, labels[i], labels[j]] for i in n for j in n) / 2
    indices = np.array(list(product(n, repeat=3)))
    species = np.asarray(labels)[indices]
    return total + triplets[(*indices.T, *species.T)].sum() / 6
