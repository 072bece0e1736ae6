"""When to stop asking, and what can be said then: no end is silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.learning.posterior import LeftOut
    from latticesearch.learning.sampled_hulls import Outlook

    Floats = npt.NDArray[np.float64]

EndKind = Literal["converged", "budget", "model", "complete"]

DOUBT = 0.01
"""Converged means: that something is missing by more than the tolerance is less likely than this,
one campaign in a hundred, before the dilute ends are looked at as well."""

BUDGET = "the budget of oracle calculations is"

LEAST_CALCULATIONS = 8
"""Calculations beyond the end members, those at dilute ends included, without which nothing is
called converged: a scale known from fewer is no scale."""

UNEXPLAINED = 0.7
"""Left-out error, relative to the spread of the energies, above which a model explains less than
half of their variance."""


@dataclass(frozen=True)
class Evidence:
    """How well the model does.

    Attributes
    ----------
    left_out : float
        Root mean square left-out error, eV/atom; NaN where nothing is computed.
    spread : float
        Standard deviation of the formation energies, eV/atom.
    number : int
        Calculations beyond the end members.
    """

    left_out: float
    spread: float
    number: int

    @classmethod
    def of(cls, left_out: LeftOut, energies: Floats) -> Evidence:
        """Return the evidence of left-out errors and energies, (m,), eV/atom."""
        if not len(energies):
            return cls(float("nan"), float("nan"), 0)
        rms = float(np.sqrt(np.mean(left_out.errors**2)))
        return cls(rms, float(energies.std()), len(energies))

    def is_blind(self, tolerance: float) -> bool:
        """Return whether the model cannot describe these energies, by more than a tolerance."""
        enough = self.number >= LEAST_CALCULATIONS
        return enough and self.left_out > max(UNEXPLAINED * self.spread, tolerance)


@dataclass(frozen=True)
class End:
    """Why no more is asked, and what is known then.

    Attributes
    ----------
    kind : str
        "converged", "budget", "model" or "complete".
    missing : float
        How likely it is that something is missing by more than the tolerance.
    message : str
        The same for people.
    """

    kind: EndKind
    missing: float
    message: str

    @property
    def exit_code(self) -> int:
        """1 where the model cannot describe the energies, else 0."""
        return int(self.kind == "model")


def is_settled(outlook: Outlook, evidence: Evidence, tolerance: float, n_checks: int = 0) -> bool:
    """Return whether nothing that matters is likely to be missing, from a model that can tell.

    `n_checks` calculations are to be made in any case; the other parameters are those of `end_of`.
    """
    enough = evidence.number + n_checks >= LEAST_CALCULATIONS
    can_tell = not evidence.is_blind(tolerance)
    return enough and can_tell and outlook.missing(tolerance) <= DOUBT


def end_of(
    outlook: Outlook,
    evidence: Evidence,
    n_open: int,
    budget_left: int,
    tolerance: float,
    limit: str = BUDGET,
) -> End | None:
    """Return the end, or None while it is worth going on.

    Parameters
    ----------
    outlook
        On the true hull.
    evidence
        On the model.
    n_open
        Candidates not computed yet that could be.
    budget_left
        Calculations that may still be made.
    tolerance
        Distance of hulls that matters, eV/atom.
    limit
        What is used up where nothing is left of the budget.
    """
    missing = outlook.missing(tolerance)
    if n_open == 0:
        return End("complete", 0.0, "all candidates are computed")
    if is_settled(outlook, evidence, tolerance):
        return End(
            "converged",
            missing,
            f"with a probability of {_percent(1.0 - missing)} no candidate lowers the hull by "
            f"more than {1000 * tolerance:g} meV/atom",
        )
    if budget_left > 0:
        return None
    if evidence.is_blind(tolerance):
        return End(
            "model",
            missing,
            f"the model cannot describe these energies: it misses them by "
            f"{1000 * evidence.left_out:.1f} meV/atom where they differ by "
            f"{1000 * evidence.spread:.1f}; more calculations, another lattice or a better level "
            f"of theory may help ({limit} used up)",
        )
    return End(
        "budget",
        missing,
        f"{limit} used up; with a probability of {_percent(missing)} something is missing "
        f"by more than {1000 * tolerance:g} meV/atom, {1000 * outlook.distance:.1f} are expected",
    )


def _percent(probability: float) -> str:
    """Return a probability for people; some hundred samples do not make a certainty."""
    rounded = round(100.0 * probability)
    return "more than 99 %" if rounded >= 100 else f"{rounded} %" if rounded else "less than 1 %"
