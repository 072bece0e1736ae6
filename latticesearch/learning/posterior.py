"""What is known of the energies of all candidates: a Bayesian linear model over features.

Energies are taken as linear in features with independent normal coefficients, plus a normal part
of each structure's own that no feature describes (Rasmussen & Williams, Gaussian Processes for
Machine Learning, 2006, chapter 2). Several priors stand beside each other, weighed by their
evidence and never narrowed to the best: from few energies the best is often the one that is sure
of what is wrong. Everything is kept in the space of the features: nothing here has the shape
candidates x calculations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from latticesearch.errors import InputError
from latticesearch.learning.spreads import expected_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

Floats: TypeAlias = "npt.NDArray[np.float64]"

__all__ = ["PSEUDO_ENERGY", "LeftOut", "Posterior", "Prediction", "Prior", "expected_errors"]

PSEUDO_ENERGY = 0.02
"""eV/atom: one pseudo-observation of the scale. Formation energies of alloys are some 20 meV, and
before the first energy is known there is no other word on it."""

EXACT = 1e-8
"""Variance, relative to the prior, of energies that the model has to meet: end members."""

UNHEARD = 1e-3
"""Priors that count less than this are left out: what they say is within the rounding of a
probability that somebody would act on."""


@dataclass(frozen=True, eq=False)
class Prior:
    """How large coefficients may be, relative to one scale that the energies fix.

    Attributes
    ----------
    spreads : (r,) float
        Standard deviation of each coefficient.
    noise : float
        Standard deviation of what no feature describes.
    weight : float
        Belief in this prior before anything is known, relative to the others'.
    """

    spreads: Floats
    noise: float
    weight: float = 1.0

    def with_ends(self, number: int) -> Prior:
        """Return the prior with what features do not describe of so many end members."""
        spreads = np.concatenate([self.spreads, np.full(number, self.noise)])
        return Prior(spreads, self.noise, self.weight)


class Prediction(NamedTuple):
    """Energies expected under every prior.

    Parameters
    ----------
    means, spreads
        (p, n): expected energies and their standard deviations, eV/atom.
    weights
        (p,): of the priors; their sum is one.
    """

    means: Floats
    spreads: Floats
    weights: Floats

    @property
    def mean(self) -> Floats:
        """Expected energies, (n,), eV/atom."""
        mean: Floats = self.weights @ self.means
        return mean

    @property
    def spread(self) -> Floats:
        """Standard deviations of the mixture of all priors, (n,), eV/atom."""
        second = self.weights @ (self.spreads**2 + self.means**2)
        spread: Floats = np.sqrt(np.maximum(second - self.mean**2, 0.0))
        return spread


class LeftOut(NamedTuple):
    """What the model would have said of each known energy without it.

    Parameters
    ----------
    errors
        Predicted minus known, (m,), eV/atom.
    spreads
        Standard deviations of the predictions, (m,), eV/atom.
    """

    errors: Floats
    spreads: Floats


@dataclass(frozen=True, eq=False)
class _Data:
    """Rows of what is known, turned so that there are no more of them than features.

    A turn of rows whose own parts are alike changes no likelihood: what does not fit into as many
    rows as there are features is noise alone.

    ``rows`` are (m, r), ``is_exact`` is (m,), ``turned``, (k, r), the exact rows and then the
    others, turned by ``basis``, (m - number of exact rows, r); None where nothing is turned.
    """

    rows: Floats
    is_exact: npt.NDArray[np.bool_]
    turned: Floats
    turned_exact: npt.NDArray[np.bool_]
    basis: Floats | None

    @classmethod
    def of(cls, rows: Floats, is_exact: npt.NDArray[np.bool_]) -> _Data:
        free = rows[~is_exact]
        if len(free) <= rows.shape[1]:
            return cls(rows, is_exact, rows, is_exact, None)
        basis, triangle = np.linalg.qr(free)
        exact = np.arange(int(is_exact.sum()) + len(triangle)) < is_exact.sum()
        return cls(rows, is_exact, np.concatenate([rows[is_exact], triangle]), exact, basis)

    def turn(self, energies: Floats) -> tuple[Floats, float]:
        """Return energies turned as the rows, (k,), and the sum of squares that is noise alone."""
        if self.basis is None:
            return energies, 0.0
        free = energies[~self.is_exact]
        turned = self.basis.T @ free
        rest = free - self.basis @ turned
        return np.concatenate([energies[self.is_exact], turned]), float(rest @ rest)

    @property
    def n_free(self) -> int:
        """Number of rows that are not exact."""
        return int((~self.is_exact).sum())

    @property
    def n_noise(self) -> int:
        """Number of rows that are noise alone."""
        return len(self.rows) - len(self.turned)


@dataclass(frozen=True, eq=False)
class _Part:
    """The model under one prior.

    ``known`` are the whitened rows, (m, r), ``noises``, (m,), the variances of their own parts,
    ``lower``, (m, m), the Cholesky factor of their covariance, ``dual``, (m,), its inverse times
    the energies, and ``coefficients``, (r,), the expected whitened coefficients.
    """

    prior: Prior
    known: Floats
    noises: Floats
    lower: Floats
    dual: Floats
    coefficients: Floats
    scale: float
    log_evidence: float

    @classmethod
    def of(cls, prior: Prior, data: _Data, energies: Floats, scale: float | None = None) -> _Part:
        known = data.turned * prior.spreads
        noises = np.where(data.turned_exact, EXACT, prior.noise**2)
        covariance = known @ known.T
        covariance[np.diag_indices_from(covariance)] += noises
        lower = cho_factor(covariance, lower=True)[0]
        turned, rest = data.turn(energies)
        dual = cho_solve((lower, True), turned)
        squares = float(turned @ dual) + rest / prior.noise**2 + PSEUDO_ENERGY**2
        number = data.n_free + 1
        evidence = -float(np.log(np.diag(lower)).sum()) - data.n_noise * np.log(prior.noise)
        evidence -= 0.5 * number * np.log(squares)
        own = float(np.sqrt(squares / number)) if scale is None else scale
        return cls(prior, known, noises, np.tril(lower), dual, known.T @ dual, own, evidence)

    def left_out(self, data: _Data, energies: Floats) -> tuple[Floats, Floats]:
        """Return errors and squared spreads, (n_free,), as in `LeftOut`.

        Rasmussen & Williams, equation 5.12.
        """
        free = ~data.is_exact
        if data.basis is None:
            inverse = np.diag(cho_solve((self.lower, True), np.eye(len(self.lower))))[free]
            return -self.dual[free] / inverse, self.scale**2 / inverse
        noise = self.prior.noise**2
        inverse = (2.0 - self.variances(data.rows[free]) / noise) / noise
        residuals = energies[free] - self.means(data.rows[free])
        return -residuals / noise / inverse, self.scale**2 / inverse

    @cached_property
    def explained(self) -> Floats:
        """What the known energies say of the coefficients, (m, r).

        The prior's unit covariance minus its square is that of the posterior.
        """
        explained: Floats = solve_triangular(self.lower, self.known, lower=True)
        return explained

    @cached_property
    def left(self) -> Floats | None:
        """A factor, (r, r), of the covariance of the coefficients; None where m < r is cheaper."""
        m, r = self.known.shape
        if m < r:
            return None
        values, vectors = np.linalg.eigh(np.eye(r) - self.explained.T @ self.explained)
        factor: Floats = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
        return factor

    def means(self, rows: Floats) -> Floats:
        means: Floats = rows @ (self.prior.spreads * self.coefficients)
        return means

    def variances(self, rows: Floats) -> Floats:
        """Return the variances, (n,), of rows (n, r), relative to the squared scale."""
        white = rows * self.prior.spreads
        if self.left is not None:
            own = np.einsum("ij,ij->i", *[white @ self.left.T] * 2)
        else:
            prior = np.einsum("ij,ij->i", white, white)
            own = prior - np.einsum("ij,ij->i", *[white @ self.explained.T] * 2)
        variances: Floats = np.maximum(own, 0.0) + self.prior.noise**2
        return variances

    def covariances(self, rows: Floats, row: Floats) -> Floats:
        """Return what rows, (n, r), and one row, (r,), have in common, relative, (n,)."""
        white, one = rows * self.prior.spreads, row * self.prior.spreads
        left = one - self.explained.T @ (self.explained @ one)
        common: Floats = white @ left
        return common

    def draws(self, number: int, rng: np.random.Generator) -> Floats:
        """Return samples, (number, r), of the coefficients.

        A sample of the prior is corrected by what it misses of the known energies, which needs no
        factor of any covariance (Wilson et al., J. Mach. Learn. Res. 22, 1 (2021)).
        """
        m, r = self.known.shape
        drawn = rng.standard_normal((number, r))
        own = rng.standard_normal((number, m)) * np.sqrt(self.noises)
        missed = cho_solve((self.lower, True), (drawn @ self.known.T + own).T)
        white = self.coefficients + self.scale * (drawn - missed.T @ self.known)
        draws: Floats = white * self.prior.spreads
        return draws

    def samples(self, rows: Floats, number: int, rng: np.random.Generator) -> Floats:
        """Return samples, (number, n), of the energies of rows (n, r), eV/atom."""
        energies: Floats = self.draws(number, rng) @ rows.T
        noise = self.scale * self.prior.noise
        return energies + noise * rng.standard_normal(energies.shape)


Local = Callable[[Floats], Floats]
"""A factor, (n,), for rows, (n, r): of places that differ from others."""


def _nowhere_else(rows: Floats) -> Floats:
    """Return that all places are alike, (n,)."""
    return np.ones(len(rows))


@dataclass(frozen=True, eq=False)
class Posterior:
    """The energies as known so far.

    Attributes
    ----------
    parts : tuple
        The model under each prior.
    weights : (p,) float
        What each counts.
    """

    parts: tuple[_Part, ...]
    weights: Floats
    _data: _Data
    _energies: Floats
    _factor: Local = _nowhere_else

    @classmethod
    def of(
        cls,
        priors: Sequence[Prior],
        rows: Floats,
        energies: Floats,
        is_exact: npt.NDArray[np.bool_] | None = None,
    ) -> Posterior:
        """Return what known energies say.

        Parameters
        ----------
        priors
            One or more.
        rows
            Features of what is known, (m, r).
        energies
            Their energies, (m,), eV/atom, such that zero is expected of everything.
        is_exact
            Which energies are met exactly and say nothing of the scale, (m,); default none.

        Raises
        ------
        InputError
            No prior, or shapes that do not fit.
        """
        rows = np.asarray(rows, dtype=np.float64)
        energies = np.asarray(energies, dtype=np.float64)
        if not priors or rows.ndim != 2 or energies.shape != rows.shape[:1]:
            raise InputError(
                f"{len(priors)} priors, rows of the shape {rows.shape} and energies of the shape "
                f"{energies.shape}: at least one prior and one energy per row are needed"
            )
        exact = np.zeros(len(rows), dtype=bool) if is_exact is None else np.asarray(is_exact)
        data = _Data.of(rows, exact)
        parts = tuple(_Part.of(prior, data, energies) for prior in priors)
        logs = np.array([part.log_evidence + np.log(part.prior.weight) for part in parts])
        weights = np.exp(logs - logs.max())
        heard = np.flatnonzero(weights > UNHEARD * weights.sum())
        weights = weights[heard] / weights[heard].sum()
        return cls(tuple(parts[i] for i in heard), weights, data, energies)

    def predict(self, rows: Floats) -> Prediction:
        """Return the energies of rows, (n, r)."""
        means = np.array([part.means(rows) for part in self.parts])
        spreads = [part.scale * np.sqrt(part.variances(rows)) for part in self.parts]
        return Prediction(means, self._factor(rows) * np.array(spreads), self.weights)

    def spread_by(self, factor: Local) -> Posterior:
        """Return the same with spreads times a factor."""
        return replace(self, _factor=factor)

    def supposing(self, rows: Floats) -> Posterior:
        """Return what would be known if rows, (n, r), had the energies that are predicted.

        Scales and weights stay those of what is really known (Ginsbourger, Le Riche & Carraro,
        Computational Intelligence in Expensive Optimization Problems, 131 (2010)).
        """
        if not len(rows):
            return self
        data = _Data.of(
            np.concatenate([self._data.rows, rows]),
            np.concatenate([self._data.is_exact, np.zeros(len(rows), dtype=bool)]),
        )
        parts = tuple(
            _Part.of(
                part.prior,
                data,
                np.concatenate([self._energies, part.means(rows)]),
                part.scale,
            )
            for part in self.parts
        )
        means = self.weights @ np.array([part.means(rows) for part in self.parts])
        energies = np.concatenate([self._energies, means])
        return replace(self, parts=parts, _data=data, _energies=energies)

    def covariances(self, rows: Floats, row: Floats) -> Floats:
        """Return covariances, (p, n), eV²/atom², of rows (n, r) with another structure (r,)."""
        common = [part.scale**2 * part.covariances(rows, row) for part in self.parts]
        return np.array(common) * self._factor(rows) * self._factor(row[None])

    def samples(self, rows: Floats, number: int, rng: np.random.Generator) -> Floats:
        """Return joint samples, (number, n), of the energies of rows (n, r), eV/atom.

        Each sample is drawn under one prior, which is drawn by the weights, and with a scale of
        its own: a few energies do not tell it exactly (a t distribution, Rasmussen & Williams,
        section 9.9).
        """
        numbers = rng.multinomial(number, self.weights)
        factors, drawn = self._factor(rows), []
        freedom = self._data.n_free + 1
        for part, n in zip(self.parts, numbers.tolist(), strict=True):
            if n:
                means = part.means(rows)
                scales = np.sqrt(freedom / rng.chisquare(freedom, size=n))[:, None]
                drawn.append(means + scales * factors * (part.samples(rows, n, rng) - means))
        return np.concatenate(drawn)

    @property
    def coefficients(self) -> Floats:
        """Expected coefficients of the rows, (r,), eV/atom."""
        expected = [part.coefficients * part.prior.spreads for part in self.parts]
        coefficients: Floats = self.weights @ np.array(expected)
        return coefficients

    def draw(self, rng: np.random.Generator) -> Floats:
        """Return coefficients, (r,), that may be the true ones: one sample."""
        part = self.parts[int(rng.choice(len(self.parts), p=self.weights))]
        draw: Floats = part.draws(1, rng)[0]
        return draw

    @cached_property
    def left_out(self) -> LeftOut:
        """What would have been said of each energy that is not exact, without it.

        The factor of the spreads is left out: it comes from here.
        """
        parts = [part.left_out(self._data, self._energies) for part in self.parts]
        errors, squares = (np.array(values) for values in zip(*parts, strict=True))
        mixed = Prediction(errors, np.sqrt(squares), self.weights)
        return LeftOut(mixed.mean, mixed.spread)
