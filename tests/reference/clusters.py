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
