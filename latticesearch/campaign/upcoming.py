"""Which structures a campaign would compute next, from what is known and what is under way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.hull import corners
from latticesearch.learning.acquisition import END_MEMBER
from latticesearch.learning.adviser import Adviser, Known
from latticesearch.learning.pool import pool_of
from latticesearch.learning.priors import cluster_priors, default_features

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from latticesearch.learning import CandidateSet


@dataclass(frozen=True)
class Upcoming:
    """A structure to compute.

    Parameters
    ----------
    key
        Canonical key.
    reason
        Why it is worth a calculation.
    worth
        By how much it is expected to lower the hull, eV/atom; None of end members, without which
        there is no hull.
    """

    key: str
    reason: str
    worth: float | None = None


@dataclass(frozen=True, eq=False)
class Progress:
    """What is known of the candidates of a campaign.

    Parameters
    ----------
    energies
        eV/atom by key.
    closed
        Keys that will never have an energy.
    pending
        Keys that are being computed.
    """

    energies: Mapping[str, float]
    closed: Collection[str] = ()
    pending: Collection[str] = ()


def next_calculations(
    candidates: CandidateSet, progress: Progress, number: int, *, tolerance: float, seed: int
) -> list[Upcoming]:
    """Return up to `number` structures, the most worth while first.

    Until every end member is known that is all there is to ask for: without them there is no
    formation energy, and nothing to weigh other structures by.

    Parameters
    ----------
    candidates
        The structures that compete, all that `progress` names among them.
    progress
        What is known.
    number
        Structures at most.
    tolerance
        Distance of hulls that matters, eV/atom.
    seed
        Of the sampled hulls.
    """
    missing = _missing_ends(candidates, progress)
    if missing:
        wanted = [key for key in missing if key not in set(progress.pending)]
        return [Upcoming(key, END_MEMBER) for key in wanted[:number]]
    functions = default_features(candidates.parent)
    known = list(progress.energies)
    adviser = Adviser(
        pool_of(candidates, functions),
        Known(
            _indices(candidates, known),
            np.array([progress.energies[key] for key in known]),
            _indices(candidates, progress.pending),
            _indices(candidates, progress.closed),
        ),
        partial(cluster_priors, functions),
        tolerance,
        seed=seed,
    )
    advice = adviser.next_calculations(number)
    return [Upcoming(candidates.keys[one.index], one.reason, one.worth) for one in advice]


def _missing_ends(candidates: CandidateSet, progress: Progress) -> list[str]:
    """Return a candidate for every end member without an energy, the smallest that may be asked."""
    x, found = candidates.compositions, []
    closed = set(progress.closed) - set(progress.energies)
    for corner in corners(x):
        there = np.flatnonzero(np.isclose(x, corner).all(axis=1))
        there = there[np.argsort(candidates.n_sites[there], kind="stable")]
        keys = [candidates.keys[i] for i in there.tolist()]
        if not any(key in progress.energies for key in keys):
            found += [key for key in keys if key not in closed][:1]
    return found


def _indices(
    candidates: CandidateSet, keys: Collection[str]
) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.array([candidates.index(key) for key in keys], dtype=np.intp)
