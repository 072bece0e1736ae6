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


def swap_pairs(labels, allowed):
    """All pairs of sites whose exchange gives another allowed labeling, (n, 2)."""
    n = len(labels)
    pairs = [
        (i, j)
        for i in range(n)
        for j in range(i + 1, n)
        if labels[i] != labels[j] and allowed[i, labels[j]] and allowed[j, labels[i]]
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


class SplitMix:
    """The compiled generator in Python integers."""

    def __init__(self, state):
        self.state = int(state)

    def bits(self):
        mask = 2**64 - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    def below(self, n):
        return ((self.bits() >> 32) * n) >> 32

    def unit(self):
        return (self.bits() >> 11) * 2.0**-53


def draw_swap(labels, allowed, rng):
    """Two sites whose exchange gives another allowed labeling."""
    while True:
        i, j = rng.below(len(labels)), rng.below(len(labels))
        a, b = labels[i], labels[j]
        if a != b and allowed[i, b] and allowed[j, a]:
            return i, j


def anneal(evaluator, labels, temperatures, rng):
    """Metropolis swaps at given temperatures; labels after each."""
    labels, visited = labels.copy(), []
    allowed = evaluator.supercell.allowed
    for temperature in temperatures:
        i, j = draw_swap(labels, allowed, rng)
        change = evaluator.swap_energies(labels, np.array([[i, j]]))[0]
        if change <= 1e-10 or rng.unit() < np.exp(-change / temperature):
            labels[[i, j]] = labels[[j, i]]
        visited.append(labels.copy())
    return np.array(visited)


class Turns:
    """How many partners are asked in turn: those that make about one swap, eight at least."""

    def __init__(self, n_sites):
        self.share, self.n_sites = 1.0, n_sites

    def next(self, most=10**9):
        self.turn = min(max(int(1 / self.share), 8), self.n_sites, most)
        return self.turn

    def note(self, hits):
        self.share += 0.05 * (hits / self.turn - self.share)


def partners(labels, allowed, rng, turn):
    """A site with a choice, random numbers for all sites, and partners from a random one on."""
    open_sites = np.flatnonzero(allowed.sum(axis=1) > 1)
    site = open_sites[rng.below(len(open_sites))]
    units = [rng.unit() for _ in labels]
    first = rng.below(len(labels))
    for k in range(turn):
        other = (first + 1 + k) % len(labels)
        a, b = labels[site], labels[other]
        if a != b and allowed[site, b] and allowed[other, a]:
            yield site, other, units[other]


def anneal_rows(evaluator, labels, temperatures, rng):
    """Metropolis swaps, a site with many partners at a time; labels after each question.

    The temperature stays as it is while partners of one site are asked.
    """
    labels, visited = labels.copy(), []
    turns = Turns(len(labels))
    while len(visited) < len(temperatures):
        temperature, swapped = temperatures[len(visited)], 0
        turn = turns.next(len(temperatures) - len(visited))
        for i, j, unit in partners(labels, evaluator.supercell.allowed, rng, turn):
            change = evaluator.swap_energies(labels, np.array([[i, j]]))[0]
            if change <= 1e-10 or unit < np.exp(-change / temperature):
                labels[[i, j]] = labels[[j, i]]
                swapped += 1
            visited.append(labels.copy())
        turns.note(swapped)
    return np.array(visited)


def anneal_guided(evaluator, labels, temperatures, rng, guide, noise):
    """Delayed acceptance, partners of one site after the other; labels after each question."""
    labels, visited = labels.copy(), []
    turns = Turns(len(labels))
    while len(visited) < len(temperatures):
        temperature, before = temperatures[len(visited)], len(visited)
        soft = np.hypot(temperature, noise)
        for i, j, unit in partners(labels, evaluator.supercell.allowed, rng, turns.next()):
            pair = np.array([[i, j]])
            guess = guide.swap_energies(labels, pair)[0]
            if guess > 1e-10 and unit >= np.exp(-guess / soft):
                continue
            if len(visited) == len(temperatures):
                break
            change = evaluator.swap_energies(labels, pair)[0]
            if rng.unit() < np.exp(guess / soft - change / temperature):
                labels[[i, j]] = labels[[j, i]]
            visited.append(labels.copy())
        turns.note(len(visited) - before)
    return np.array(visited)


def site_product(parent, surroundings, others, n_species):
    """Product of the descriptors of two sites of one kind; shells differ in distance or sublattice.

    `surroundings` and `others` are lists of (vector, sublattice, species), of what is around each
    site in the infinite crystal.
    """
    order = n_species - 1
    functions = [
        [np.sqrt(2) * np.cos(np.pi * k * (z + 0.5) / n_species) for k in range(1, n_species)]
        for z in range(n_species)
    ]

    def moments(neighbours):
        shells = {}
        for vector, kind, species in neighbours:
            name = (round(float(np.linalg.norm(vector)), 4), kind)
            shells.setdefault(name, []).append((vector, np.array(functions[species])))
        singles = {n: sum(u for _, u in rows) / np.sqrt(len(rows)) for n, rows in shells.items()}
        pairs, spread = {}, 0.0
        for (a, one), (b, two), degree in product(shells.items(), shells.items(), range(1, 5)):
            total = np.zeros((order, order))
            for (v, u), (w, t) in product(one, two):
                if v is w:
                    continue
                cosine = v @ w / np.linalg.norm(v) / np.linalg.norm(w)
                factor = legendre(degree, cosine) / np.sqrt(len(one) * len(two))
                total += factor * np.outer(u, t)
                spread += factor**2 * order**2
            pairs[a, b, degree] = total
        return singles, pairs, spread

    (singles, pairs, spread), (singles_2, pairs_2, _) = moments(surroundings), moments(others)
    assert singles.keys() == singles_2.keys()
    result = 1.0
    result += 0.5 / (len(singles) * order) * sum(singles[n] @ singles_2[n] for n in singles)
    return result + 0.25**2 * 0.5 / spread * sum((pairs[n] * pairs_2[n]).sum() for n in pairs)


def legendre(degree, x):
    """Legendre polynomials by their recursion."""
    if degree < 2:
        return x**degree
    return (
        (2 * degree - 1) * x * legendre(degree - 1, x) - (degree - 1) * legendre(degree - 2, x)
    ) / degree


def surroundings(parent, supercell, labels, site, cutoff):
    """What is around a site in the infinite crystal: (vector, sublattice, species) of each."""
    centre = supercell.basis_index[site]
    cell = supercell.cell_vectors[site % supercell.n_cells]
    kinds = [
        next(k for k, m in enumerate(parent.sublattices) if b in m) for b in range(parent.n_basis)
    ]
    found = []
    for b, shift in product(range(parent.n_basis), product(range(-3, 4), repeat=3)):
        vector = (np.array(shift) + parent.basis[b] - parent.basis[centre]) @ parent.cell
        if parent.allowed[b].sum() > 1 and 1e-6 < np.linalg.norm(vector) < cutoff:
            species = int(labels[supercell.site_of(b, cell + np.array(shift))])
            found.append((vector, kinds[b], species))
    return found


def divides(small, large):
    """Whether the lattice of every vector of the large superlattice is in the small one."""
    coefficients = np.asarray(large) @ np.linalg.inv(small)
    return bool(np.allclose(coefficients, np.rint(coefficients), atol=1e-6))


def tiled(small, labels, large):
    """The species of the small cell at the position of each site of the large one."""
    inverse = np.linalg.inv(small.cell)
    result = []
    for position in large.positions:
        offsets = (small.positions - position) @ inverse
        distances = np.abs(offsets - np.rint(offsets)).max(axis=1)
        result.append(labels[int(distances.argmin())])
    return np.array(result, dtype=np.int8)
