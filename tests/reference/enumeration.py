"""Slow, obvious versions of what `latticesearch.enumeration` computes."""

from __future__ import annotations

import itertools

import numpy as np

from tests.reference.lattice import hermite_normal_form


def superlattices(parent, index):
    """Sort all Hermite normal forms into sets that the rotations carry into each other."""
    forms = [
        ((a, b, c), (0, d, e), (0, 0, f))
        for a, d, f in itertools.product(range(1, index + 1), repeat=3)
        if a * d * f == index
        for b, c, e in itertools.product(range(d), range(f), range(f))
    ]
    distinct = {
        min(
            tuple(map(tuple, hermite_normal_form(np.array(form) @ r.T).tolist()))
            for r in parent.rotations
        )
        for form in forms
    }
    return sorted(distinct)


def labelings(supercell, *, superperiodic, counts=None, wanted=None, classes=()):
    """Make every labeling, keep those that are smallest among their images.

    Images under the permutations of the sites and of the species of each class; `wanted` tells
    which labelings are made.
    """
    n_species = supercell.parent.n_species
    exchanges = []
    for choice in itertools.product(*(itertools.permutations(members) for members in classes)):
        names = list(range(n_species))
        for members, images in zip(classes, choice, strict=True):
            for member, image in zip(members, images, strict=True):
                names[member] = image
        exchanges.append(names)
    choices = [np.flatnonzero(allowed).tolist() for allowed in supercell.allowed]
    group = supercell.site_permutations.tolist()
    translations = supercell.translation_permutations[1:].tolist()
    kept = []
    for labels in itertools.product(*choices):
        if counts is not None and not all(
            low <= labels.count(s) <= high for s, (low, high) in enumerate(counts)
        ):
            continue
        if wanted is not None and not wanted(labels):
            continue
        images = {tuple(labels[i] for i in p) for p in group}
        if min(tuple(e[x] for x in image) for e in exchanges for image in images) != labels:
            continue
        if not superperiodic and any(tuple(labels[i] for i in p) == labels for p in translations):
            continue
        kept.append(labels)
    return kept


def fillings(cycles, options, bounds):
    """Count the ways to give each cycle of sites a species, numbers of sites within bounds.

    `cycles` are pairs of kind and length, `options[kind]` the species of a kind, `bounds` pairs of
    smallest and largest number of sites of each species.
    """
    number = 0
    for species in itertools.product(*(options[kind] for kind, _ in cycles)):
        counts = [0] * len(bounds)
        for s, (_, length) in zip(species, cycles, strict=True):
            counts[s] += length
        number += all(low <= n <= high for n, (low, high) in zip(counts, bounds, strict=True))
    return number
