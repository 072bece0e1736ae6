"""Moment tensor potentials against ridge-regressed cluster expansions of icet, on the same folds.

Relaxed DFT energies of all 329 decorations of 16 bcc sites, five binaries; `fit` with its defaults
against icet's cluster vectors (pairs to 9 Å, triplets to 6 Å, quadruplets to 5 Å), standardised,
with the ridge that has the smallest exact leave-one-out error within the training folds, and
against recursive feature elimination by trainstation, icet's trainer.

Run: pytest -m benchmark -s tests/benchmarks/test_training.py     (ten minutes)
"""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from latticesearch.lattice import Labelings
from latticesearch.potential import LabelledBatch, MtpBasis, TrainingSet, fit
from studies import refractory

pytestmark = pytest.mark.benchmark

CONTRACT = {"Mo-Ta": 0.9, "Mo-W": 0.17, "Nb-Mo": 0.45, "Nb-Ta": 0.07, "Ta-W": 0.75}
"""meV/atom, median over the seeds, to two decimals."""

LEVEL = 16
SEEDS = (0, 1, 2)


def cluster_vectors(species, cell, labels):
    icet = pytest.importorskip("icet")
    space = icet.ClusterSpace(bulk(species[0], "bcc", a=3.25), [9.0, 6.0, 5.0], list(species))
    frames = [
        Atoms([species[k] for k in row], positions=cell.positions, cell=cell.cell, pbc=True)
        for row in labels
    ]
    return np.array([space.get_cluster_vector(frame) for frame in frames])


def ridge_predictions(vectors, energies, unseen):
    """Predictions of a ridge whose strength has the smallest leave-one-out error."""
    mean, spread = vectors.mean(axis=0), vectors.std(axis=0)
    varying = spread > 1e-12
    rows = (vectors[:, varying] - mean[varying]) / spread[varying]
    centre = energies.mean()
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    best = (np.inf, np.zeros(rows.shape[1]))
    for strength in 10.0 ** np.arange(-6.0, 3.0, 0.25):
        shrunk = values**2 / (values**2 + strength)
        residuals = energies - centre - left @ (shrunk * (left.T @ (energies - centre)))
        leverages = (left**2) @ shrunk + 1.0 / len(rows)
        error = np.mean((residuals / (1.0 - leverages)) ** 2)
        if error < best[0]:
            filtered = values / (values**2 + strength) * (left.T @ (energies - centre))
            best = (error, right.T @ filtered)
    return centre + (unseen[:, varying] - mean[varying]) / spread[varying] @ best[1]


def rfe_predictions(vectors, energies, unseen):
    """Predictions of recursive feature elimination as icet's users do it."""
    from trainstation import Optimizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = Optimizer((vectors, energies), fit_method="rfe", train_size=1.0)
        optimizer.train()
    return unseen @ optimizer.parameters


def potential_predictions(species, cell, labels, energies, unseen):
    part = LabelledBatch(Labelings(cell, labels), energies)
    potential, _ = fit(MtpBasis(LEVEL, species, cutoff=6.0), TrainingSet((part,)))
    return potential.evaluator(cell).energies(unseen)


def errors_on_folds(species, cell, labels, energies, seed, *, n_pure):
    """RMSE of potential, ridge, feature elimination, meV/atom, and CPU seconds of the first two.

    The first `n_pure` data are known to all, the others are in folds.
    """
    vectors = cluster_vectors(species, cell, labels)
    found, seconds = np.zeros((3, len(labels) - n_pure)), np.zeros(2)
    for fold in refractory.random_folds(len(labels) - n_pure, 5, seed):
        unseen = fold + n_pure
        seen = np.setdiff1d(np.arange(len(labels)), unseen)
        began = time.process_time()
        found[0, fold] = potential_predictions(
            species, cell, labels[seen], energies[seen], labels[unseen]
        )
        seconds[0] += time.process_time() - began
        began = time.process_time()
        found[1, fold] = ridge_predictions(vectors[seen], energies[seen], vectors[unseen])
        seconds[1] += time.process_time() - began
        found[2, fold] = rfe_predictions(vectors[seen], energies[seen], vectors[unseen])
    rmse = 1e3 * np.sqrt(np.mean((found - energies[n_pure:]) ** 2, axis=1))
    return rmse, seconds / 5


@pytest.fixture(scope="module")
def data(shared_data):
    return refractory.labelled_binaries()


@pytest.mark.parametrize("pure", [False, True], ids=["alloys", "with_metals"])
@pytest.mark.parametrize("name", refractory.BINARIES)
def test_unseen_energies_against_cluster_expansions(data, name, pure):
    """With the pure metals, which come from other calculations than the alloys, and without."""
    pytest.importorskip("icet")
    species = tuple(name.split("-"))
    cell, labels, energies = refractory.binary(name, data)
    n_pure = refractory.N_PURE if pure else 0
    first = refractory.N_PURE - n_pure
    found = [
        errors_on_folds(species, cell, labels[first:], energies[first:], seed, n_pure=n_pure)
        for seed in SEEDS
    ]
    rmse = np.median([row for row, _ in found], axis=0)
    seconds = np.mean([row for _, row in found], axis=0)
    print(
        f"\n{name} {'with metals' if pure else 'alloys':11} level {LEVEL} {rmse[0]:.3f}, "
        f"icet ridge {rmse[1]:.3f}, rfe {rmse[2]:.3f} meV/atom; ratio to the better "
        f"{rmse[0] / rmse[1:].min():.2f}; {seconds[0]:.2f} and {seconds[1]:.3f} CPU s a fit"
    )
    assert round(rmse[0], 2) <= CONTRACT[name]
    assert rmse[0] < rmse[1:].min()
