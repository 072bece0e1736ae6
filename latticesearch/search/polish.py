"""Improve complete labelings at fixed composition: what it may cost, and steepest swap descent."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from latticesearch.lattice import smallest_images

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.protocol import LatticeEvaluator

ENERGY_DECIMALS = 10
"""Energies are compared after rounding to 1e-10 eV: symmetry-equivalent labelings tie then, and
no decision depends on the order of a summation."""


@dataclass
class Allowance:
    """The energy evaluations one piece of work may use, and has used."""

    limit: float = math.inf
    used: int = 0
    deadline: float = math.inf
    """`time.monotonic()` after which nothing is left, s."""

    @property
    def left(self) -> float:
        """Evaluations that may still be made."""
        return 0.0 if time.monotonic() > self.deadline else self.limit - self.used

    def take(self, n: int) -> bool:
        """Book `n` evaluations if they fit; tell whether they do."""
        if n > self.left:
            return False
        self.used += n
        return True


class Descent(NamedTuple):
    """Where a swap descent ended."""

    labels: npt.NDArray[np.int8]
    """(n_sites,) of the last labeling."""
    neighbours: npt.NDArray[np.int8]
    """(n, n_sites): the lowest labelings one swap away from it."""
    changes: npt.NDArray[np.float64]
    """(n,) energies of the cell with the neighbours' labels minus that with `labels`, eV."""
    is_new: bool
    """False where the descent ran into the path of an earlier one."""


def swap_pairs(
    labels: npt.NDArray[np.int8], allowed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.intp]:
    """Return all pairs of sites, (m, 2), whose exchange gives another allowed labeling.

    Parameters
    ----------
    labels
        (n_sites,).
    allowed
        (n_sites, n_species).
    """
    i, j = np.triu_indices(len(labels), k=1)
    useful = (labels[i] != labels[j]) & allowed[i, labels[j]] & allowed[j, labels[i]]
    return np.stack([i[useful], j[useful]], axis=1)


def descend(
    evaluator: LatticeEvaluator,
    labels: npt.NDArray[np.int8],
    *,
    allowance: Allowance | None = None,
    visited: set[bytes] | None = None,
    n_neighbours: int = 0,
) -> Descent:
    """Follow the steepest swap until no swap lowers the energy.

    Parameters
    ----------
    evaluator
        Energies of the cell.
    labels
        (n_sites,) to start from.
    allowance
        Evaluations that may be used; one swap energy counts as one.
    visited
        Labelings, as bytes of their smallest image, that earlier descents have passed: reaching
        one of them ends the descent, as the rest would be repeated. Grows in place.
    n_neighbours
        How many of the lowest labelings around the minimum are returned.
    """
    allowance = allowance or Allowance()
    visited = set() if visited is None else visited
    supercell = evaluator.supercell
    current = np.array(labels, dtype=np.int8)
    while True:
        name = smallest_images(current[None], supercell.site_permutations).tobytes()
        is_new = name not in visited
        visited.add(name)
        pairs = swap_pairs(current, supercell.allowed)
        if not is_new or len(pairs) == 0 or not allowance.take(len(pairs)):
            return Descent(current, current[None][:0], np.zeros(0), is_new)
        changes = evaluator.swap_energies(current, pairs)
        order = np.argsort(np.round(changes, ENERGY_DECIMALS), kind="stable")
        if np.round(changes[order[0]], ENERGY_DECIMALS) >= 0.0:
            lowest = order[:n_neighbours]
            return Descent(current, _swapped(current, pairs[lowest]), changes[lowest], is_new)
        current = _swapped(current, pairs[order[:1]])[0]


def _swapped(labels: npt.NDArray[np.int8], pairs: npt.NDArray[np.intp]) -> npt.NDArray[np.int8]:
    """Return one copy of `labels` per pair, (m, n_sites), with the pair exchanged."""
    result = np.repeat(labels[None], len(pairs), axis=0)
    rows = np.arange(len(pairs))
    result[rows, pairs[:, 0]] = labels[pairs[:, 1]]
    result[rows, pairs[:, 1]] = labels[pairs[:, 0]]
    return result
