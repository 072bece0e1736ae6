"""Small made-up campaigns, as the tables of a run directory."""

from __future__ import annotations

from math import gcd

import numpy as np
import pandas as pd

from latticesearch.hull import Hull


def formula(counts, species):
    divisor = gcd(*counts)
    parts = [(s, c // divisor) for s, c in zip(species, counts, strict=True) if c]
    return "".join(f"{s}{c if c > 1 else ''}" for s, c in parts)


def tables_of(species, counts, energies, computed=None):
    """Return candidates and hull tables of structures with the given counts of atoms."""
    counts = np.asarray(counts)
    x = counts / counts.sum(axis=1, keepdims=True)
    energies = np.asarray(energies)
    known = np.ones(len(x), bool) if computed is None else computed
    hull = Hull(x[known], energies[known], species=species)
    rng = np.random.default_rng(0)
    candidates = pd.DataFrame(
        {
            "key": [f"s{n}-{i}" for i, n in enumerate(counts.sum(axis=1))],
            "formula": [formula(row, species) for row in counts.tolist()],
            **{f"x_{s}": x[:, i] for i, s in enumerate(species)},
            "n_atoms": counts.sum(axis=1),
            "energy": energies,
            "formation_energy": hull.formation_energy(x, energies),
            "energy_above_hull": hull.energy_above_hull(x, energies),
            "predicted_energy": energies + rng.normal(0, 0.002, len(x)),
            "oracle_energy": np.where(known, energies, np.nan),
        }
    )
    near = candidates[known & (candidates.energy_above_hull < 0.005)].copy()
    near["space_group"] = "P4/mmm"
    stable = near.energy_above_hull.abs() < 1e-6
    near["cif"] = np.where(stable, "stable/" + near.formula + ".cif", "")
    return candidates, near.sort_values("energy_above_hull").reset_index(drop=True)


def made_up(species, n_points, seed=0, n_sites=16, share=1.0):
    """Return tables of an alloy whose pairs attract each other differently."""
    rng = np.random.default_rng(seed)
    k = len(species)
    drawn = rng.multinomial(n_sites, rng.dirichlet(np.ones(k), n_points))
    counts = np.vstack([n_sites * np.eye(k, dtype=int), drawn])
    x = counts / n_sites
    energies = x @ rng.normal(-8, 2, k) - 0.06 * (1 - (x**2).sum(axis=1)) * rng.random(len(x))
    # A few ordered compounds draw the structures around them down.
    centres = rng.multinomial(4, np.ones(k) / k, 3 * k) / 4
    for centre, depth in zip(centres, rng.uniform(0.05, 0.3, len(centres)), strict=True):
        if centre.max() < 1:
            funnel = 1 - np.abs(x - centre).sum(axis=1) / (2 - 2 * centre.max())
            energies -= depth * np.maximum(funnel, 0) * rng.uniform(0.85, 1.0, len(x))
    computed = np.arange(len(x)) < max(k + 3, share * len(x))
    return tables_of(species, counts, energies, computed)


def some_rounds(n=9):
    rng = np.random.default_rng(4)
    rounds = [
        {
            "round": 0,
            "oracle_calls": 20,
            "n_vertices": 6,
            "hull_change": None,
            "near_hull_error": None,
            "missing": None,
            "rmse": None,
            "stop": "",
        }
    ]
    rounds += [
        {
            "round": i,
            "oracle_calls": 20 + 10 * i,
            "n_vertices": min(6 + i, 11),
            "hull_change": 0.02 * 0.4**i if i < 6 else 0.0,
            "near_hull_error": 0.012 / i if i % 3 else None,
            "missing": 0.5**i,
            "rmse": 0.0004 + 0.0002 * rng.random(),
            "stop": "",
        }
        for i in range(1, n)
    ]
    rounds[-1]["stop"] = "the hull stood still"
    return rounds
