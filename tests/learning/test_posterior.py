"""The posterior in feature space is the one of the textbook, which needs all covariances."""

from __future__ import annotations

import numpy as np
import pytest

from latticesearch.errors import InputError
from latticesearch.learning.posterior import EXACT, PSEUDO_ENERGY, Posterior, Prior


def problem(m, r, seed=0):
    rng = np.random.default_rng(seed)
    priors = [
        Prior(rng.uniform(0.1, 1.0, r), 0.05, 0.7),
        Prior(rng.uniform(0.1, 1.0, r), 0.3, 0.3),
    ]
    rows = rng.normal(size=(m, r))
    exact = np.zeros(m, dtype=bool)
    exact[:2] = True
    return priors, rows, rng.normal(0, 0.1, m), exact, rng.normal(size=(30, r))


def dense(prior, rows, energies, exact, new):
    """Rasmussen & Williams, equations 2.25, 2.26 and 2.30, with one scale for everything."""
    k = (rows * prior.spreads**2) @ rows.T
    k += np.diag(np.where(exact, EXACT, prior.noise**2))
    cross = (new * prior.spreads**2) @ rows.T
    inverse = np.linalg.inv(k)
    n = (~exact).sum() + 1
    square = energies @ inverse @ energies + PSEUDO_ENERGY**2
    covariance = (new * prior.spreads**2) @ new.T - cross @ inverse @ cross.T
    covariance += prior.noise**2 * np.eye(len(new))
    log_evidence = -0.5 * np.linalg.slogdet(k)[1] - 0.5 * n * np.log(square)
    return cross @ inverse @ energies, square / n * covariance, log_evidence


@pytest.mark.parametrize(("m", "r"), [(9, 20), (40, 6)])
def test_means_and_covariances_equal_the_dense_formula(m, r):
    priors, rows, energies, exact, new = problem(m, r)
    posterior = Posterior.of(priors, rows, energies, exact)
    prediction = posterior.predict(new)
    for p, prior in enumerate(part.prior for part in posterior.parts):
        mean, covariance, _ = dense(prior, rows, energies, exact, new)
        np.testing.assert_allclose(prediction.means[p], mean, rtol=0, atol=1e-10)
        np.testing.assert_allclose(prediction.spreads[p] ** 2, np.diag(covariance), atol=1e-10)
        common = posterior.covariances(new[1:], new[0])[p]
        np.testing.assert_allclose(common, covariance[0, 1:], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("m", "r"), [(9, 20), (40, 6)])
def test_priors_count_by_their_evidence(m, r):
    priors, rows, energies, exact, new = problem(m, r)
    priors = [priors[1], Prior(priors[1].spreads, 0.35)]
    weights = Posterior.of(priors, rows, energies, exact).weights
    logs = [dense(p, rows, energies, exact, new)[2] + np.log(p.weight) for p in priors]
    np.testing.assert_allclose(weights[1] / weights[0], np.exp(logs[1] - logs[0]))


@pytest.mark.parametrize(("m", "r"), [(12, 20), (40, 6)])
def test_left_out_errors_are_those_of_fits_without_each_energy(m, r):
    (_, prior), rows, energies, exact, _ = problem(m, r)
    posterior = Posterior.of([prior], rows, energies, exact)
    for k, i in enumerate(np.flatnonzero(~exact)):
        others = np.arange(len(rows)) != i
        mean, _, _ = dense(prior, rows[others], energies[others], exact[others], rows[[i]])
        assert posterior.left_out.errors[k] == pytest.approx(mean[0] - energies[i], abs=1e-10)


def test_supposing_changes_no_mean_and_narrows_what_is_alike():
    priors, rows, energies, exact, new = problem(9, 20)
    posterior = Posterior.of(priors, rows, energies, exact)
    supposed = posterior.supposing(new[:3])
    before, after = posterior.predict(new), supposed.predict(new)
    np.testing.assert_allclose(after.means, before.means, atol=1e-9)
    assert (after.spreads <= before.spreads + 1e-12).all()
    np.testing.assert_array_equal(after.weights, before.weights)
    assert [p.scale for p in supposed.parts] == [p.scale for p in posterior.parts]


def test_samples_have_the_mean_and_covariance_of_the_posterior():
    (prior, *_), rows, energies, exact, new = problem(9, 20)
    mean, covariance, _ = dense(prior, rows, energies, exact, new[:4])
    posterior = Posterior.of([prior], rows, energies, exact)
    # The scale is drawn, too: the variance of a t distribution with so many degrees of freedom.
    freedom = int((~exact).sum()) + 1
    covariance *= freedom / (freedom - 2)
    drawn = posterior.samples(new[:4], 40_000, np.random.default_rng(1))
    spread = np.sqrt(np.diag(covariance))
    assert (np.abs(drawn.mean(axis=0) - mean) < 0.03 * spread).all()
    np.testing.assert_allclose(np.cov(drawn.T) / np.outer(spread, spread),
                               covariance / np.outer(spread, spread), atol=0.03)  # fmt: skip


def test_energies_that_fit_no_row_are_refused():
    priors, rows, energies, exact, _ = problem(9, 20)
    with pytest.raises(InputError, match="one energy per row"):
        Posterior.of(priors, rows, energies[1:], exact[1:])
