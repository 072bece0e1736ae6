"""Atom addition and descents against annealing and random descents, at equal evaluations.

Random moment tensor potentials of two species on random superlattices of fcc and bcc: random
radial functions, and random linear coefficients such that every basis function varies alike over
random labelings, which is more rugged than a fitted potential. Every composition is one problem.
Up to 16 sites the true minimum is known from all labelings, beyond that the lowest energy any
method met in the study stands for it (all methods can be wrong).

Run: python studies/greedy_versus_annealing.py        (about two minutes on one core)
     python studies/greedy_versus_annealing.py fast   (about a quarter of a minute)

search          method="addition": atom addition, descents from its results and from random starts
beam alone      the same without the random starts (fewer evaluations than the others)
annealing       one run of Metropolis swaps with as many evaluations as the search took
descents        swap descents from random starts with as many evaluations
"hit": fraction of the problems in which the minimum was found. "lost": energy above the minimum in
percent of the distance between the mean of random labelings and the minimum.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np

from latticesearch.lattice import ParentLattice, Supercell
from latticesearch.potential.mtp.basis import MtpBasis
from latticesearch.search import Budget
from latticesearch.search.addition import add_atoms, search_by_addition
from latticesearch.search.annealing import anneal_plainly
from latticesearch.search.walk import Walk

SPECIES = ("Mo", "Ta")
LEVELS = (8, 12, 16)
BEAM_WIDTHS = (1, 4, 8)
TRUE_UP_TO = 16
SAME = 1e-9
ENOUGH = 10**6
"""Energies with which addition and descents end by themselves."""
METHODS = ("search", "beam alone", "annealing", "descents")


def random_supercell(parent, n_cells, rng):
    """A random Hermite normal form of this determinant."""
    first = int(rng.choice([a for a in range(1, n_cells + 1) if n_cells % a == 0]))
    rest = n_cells // first
    second = int(rng.choice([d for d in range(1, rest + 1) if rest % d == 0]))
    third = rest // second
    b, c, e = rng.integers(second), rng.integers(third), rng.integers(third)
    return Supercell.from_matrix(parent, [[first, b, c], [0, second, e], [0, 0, third]])


def random_potential(level, supercell, seed):
    """A potential in which all basis functions contribute about 10 meV per site."""
    basis = MtpBasis(level=level, species=SPECIES, cutoff=5.0)
    rng = np.random.default_rng([seed, level])
    potential = basis.potential(seed=seed)
    radial = rng.normal(size=potential.radial_coeffs.shape)
    potential = replace(potential, radial_coeffs=radial)
    labels = rng.integers(2, size=(200, supercell.n_sites)).astype(np.int8)
    rows = potential.evaluator(supercell).gradient_rows(labels)[:, -len(potential.moment_coeffs) :]
    spread = np.maximum(rows.std(axis=0), 1e-12)
    moments = 0.01 * rng.normal(size=len(spread)) / spread
    return replace(potential, moment_coeffs=moments)


def all_minima(evaluator):
    n = evaluator.supercell.n_sites
    labels = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.int8)
    energies, counts = evaluator.energies(labels), labels.sum(axis=1)
    return [energies[counts == k].min() for k in range(n + 1)]


def random_labels(n, k, rng):
    labels = np.zeros(n, dtype=np.int8)
    labels[:k] = 1
    return rng.permutation(labels)


def descend(evaluator, start, budget, rng):
    """Energy per site where a swap descent from a labeling ends."""
    walk = Walk(evaluator, start, budget, rng.integers(2**63, size=1, dtype=np.uint64))
    best = walk.here()
    walk.descend(best)
    return best.energy[0] / len(start)


def best_of_descents(evaluator, k, energies, rng):
    """Swap descents from random labelings until the energies are spent."""
    budget, best = Budget(energies), np.inf
    while budget.left > 0:
        start = random_labels(evaluator.supercell.n_sites, k, rng)
        best = min(best, descend(evaluator, start, budget, rng))
    return best


def beam_alone(evaluator, counts, width, rng):
    """Atom addition, and descents from its results."""
    budget = Budget(ENOUGH)
    starts = add_atoms(evaluator, counts, beam_width=width, budget=budget, rng=rng)
    return min(descend(evaluator, start, budget, rng) for start in starts)


def compare(evaluator, k, width, rng):
    """Energies per site of the four methods, evaluations and seconds of the search."""
    n = evaluator.supercell.n_sites
    counts = np.array([n - k, k])
    start = time.perf_counter()
    budget = Budget(ENOUGH)
    greedy = search_by_addition(evaluator, counts, budget=budget, rng=rng, beam_width=width)
    seconds = time.perf_counter() - start
    beam = beam_alone(evaluator, counts, width, rng)
    start = time.perf_counter()
    budget = Budget(greedy.evaluations)
    annealed = anneal_plainly(evaluator, random_labels(n, k, rng), budget, rng)
    annealing_seconds = time.perf_counter() - start
    energies = [
        greedy.energies[0],
        beam,
        annealed.energy[0] / n,
        best_of_descents(evaluator, k, greedy.evaluations, rng),
    ]
    return energies, (greedy.evaluations, seconds, annealing_seconds)


def study(n_sites, n_cells_per_level):
    """All problems of one size: per width the results, the minima and the random means."""
    rows = {width: [] for width in BEAM_WIDTHS}
    costs = {width: [] for width in BEAM_WIDTHS}
    minima, means = [], []
    for level in LEVELS:
        rng = np.random.default_rng([n_sites, level])
        for i in range(n_cells_per_level):
            name, a = (("bcc", 3.25), ("fcc", 4.0))[i % 2]
            parent = ParentLattice.from_prototype(name, a=a, species=SPECIES)
            supercell = random_supercell(parent, n_sites, rng)
            evaluator = random_potential(level, supercell, i).evaluator(supercell)
            known = all_minima(evaluator) if n_sites <= TRUE_UP_TO else [np.inf] * (n_sites + 1)
            for k in range(2, n_sites - 1, 1 if n_sites <= TRUE_UP_TO else 4):
                sample = np.array([random_labels(n_sites, k, rng) for _ in range(200)])
                means.append(evaluator.energies(sample).mean())
                minima.append(known[k])
                for width in BEAM_WIDTHS:
                    energies, cost = compare(evaluator, k, width, rng)
                    rows[width].append(energies)
                    costs[width].append(cost)
    lowest = np.min([np.min(rows[width], axis=1) for width in BEAM_WIDTHS], axis=0)
    return rows, costs, np.minimum(minima, lowest), np.array(means)


def main():
    fast = "fast" in sys.argv[1:]
    print(f"{'':>21}{'evalu-':>9}{'ms per problem':>18}", *(f"{m:>18}" for m in METHODS))
    print(
        f"sites  problems width{'ations':>8}{'search':>10}{'anneal.':>8}", "     hit   lost %" * 4
    )
    for n_sites in (8, 12) if fast else (8, 12, 16, 24):
        rows, costs, minima, means = study(n_sites, 2 if fast or n_sites > TRUE_UP_TO else 4)
        for width in BEAM_WIDTHS:
            excess = np.array(rows[width]) - minima[:, None]
            hits = (excess < SAME).mean(axis=0)
            depth = np.maximum(means - minima, SAME)[:, None]
            lost = 100 * (excess / depth).mean(axis=0)
            evaluations, seconds, annealing = np.mean(costs[width], axis=0)
            print(
                f"{n_sites:5d}{len(excess):10d}{width:6d}{evaluations:8.0f}"
                f"{1e3 * seconds:10.1f}{1e3 * annealing:8.1f} ",
                "".join(f"{h:9.3f}{x:9.2f}" for h, x in zip(hits, lost, strict=True)),
                flush=True,
            )


if __name__ == "__main__":
    main()
