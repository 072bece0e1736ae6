"""Naive twin of the extrapolation grade: determinants, straight from the definition."""

from __future__ import annotations

import numpy as np


def grade(active, row):
    """Largest factor by which exchanging one row of `active` for `row` changes |det|."""
    factors = []
    for j in range(len(active)):
        changed = active.copy()
        changed[j] = row
        factors.append(abs(np.linalg.det(changed) / np.linalg.det(active)))
    return max(factors)


def expected_errors(rows, compositions, training, left_out, *, noise, reach):
    """Posterior of a Gaussian process, one candidate at a time, scaled by left-out errors."""
    columns = [c for c in (rows - rows.mean(axis=0)).T if c.std() > 1e-9 * rows.std(axis=0).max()]
    features = np.array([c / c.std() for c in columns] + [np.ones(len(rows))]).T
    features /= np.sqrt(features.shape[1])

    def posterior(known, i):
        kernel = features[known] @ features[known].T + noise * np.eye(len(known))
        cross = features[known] @ features[i]
        variance = features[i] @ features[i] - cross @ np.linalg.solve(kernel, cross)
        return np.sqrt(variance + noise)

    ratios = []
    for j, error in zip(training, left_out, strict=True):
        others = [k for k in training if k != j]
        ratios.append((error / posterior(others, j)) ** 2)
    result = []
    for i in range(len(rows)):
        near = [
            np.exp(-0.5 * np.sum((compositions[i] - compositions[j]) ** 2) / reach**2)
            for j in training
        ]
        scale = (np.dot(near, ratios) + np.mean(ratios)) / (np.sum(near) + 1.0)
        result.append(posterior(list(training), i) * np.sqrt(scale))
    return np.array(result)


def most_uncertain(rows, chosen, pool, number, *, noise):
    """Choose one at a time where the posterior variance, computed anew, is largest."""
    chosen, picked = list(chosen), []
    features = rows - rows.mean(axis=0)
    features = np.column_stack([features / features.std(axis=0), np.ones(len(rows))])
    features /= np.sqrt(features.shape[1])
    for _ in range(number):
        kernel = features[chosen] @ features[chosen].T + noise * np.eye(len(chosen))
        variances = {}
        for i in pool:
            if i not in picked:
                cross = features[chosen] @ features[i]
                explained = cross @ np.linalg.solve(kernel, cross) if chosen else 0.0
                variances[i] = features[i] @ features[i] - explained
        best = max(variances, key=lambda i: (round(variances[i], 9), -i))
        chosen.append(best)
        picked.append(best)
    return picked
