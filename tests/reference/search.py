"""Slow and obvious twins of the search."""

from __future__ import annotations

from itertools import product

import numpy as np

UNDECIDED = -1


def smallest_images(labels, permutations):
    return np.array([min(tuple(row[p]) for p in permutations) for row in labels], dtype=np.int8)


def completions(row, counts, allowed):
    """All complete labelings that agree with a partial one."""
    options = [
        np.flatnonzero(allowed[site]) if label == UNDECIDED else [label]
        for site, label in enumerate(row)
    ]
    return [
        np.array(labels, dtype=np.int8)
        for labels in product(*options)
        if np.array_equal(np.bincount(labels, minlength=len(counts)), counts)
    ]


def mean_field_occupations(row, counts, allowed):
    """Average over all completions: exact where all undecided sites allow the same species."""
    found = np.array(completions(row, counts, allowed))
    return (found[:, :, None] == np.arange(len(counts))).mean(axis=0)


def children(row, counts, allowed):
    """All partial cells with one more decision that have a completion."""
    result = set()
    for site, label in enumerate(row):
        if label != UNDECIDED:
            continue
        for species in np.flatnonzero(allowed[site]):
            child = np.array(row)
            child[site] = species
            if completions(child, counts, allowed):
                result.add(tuple(int(x) for x in child))
    return result


def minima(evaluator, counts):
    """Energies of all labelings with these counts, ascending, eV per site."""
    supercell = evaluator.supercell
    start = np.full(supercell.n_sites, UNDECIDED)
    labels = np.array(completions(start, counts, supercell.allowed))
    return np.sort(evaluator.energies(labels))
