"""What ranks labelings in a screening: expansions of the total energy, and site energies.

Rankers fit what was learnt, predict energies per site from what they keep of labelings, and are
judged by energies they have not learnt.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.parallel import split
from latticesearch.potential.clusters.lattice import feature_evaluator
from latticesearch.potential.sites.kernel_ridge import PARTS
from latticesearch.search.screening._ranker_kernels import optimistic

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from latticesearch.lattice import Labelings
    from latticesearch.parallel import Communicator
    from latticesearch.potential.clusters.surrogate import Surrogate
    from latticesearch.potential.sites.descriptors import SiteTable
    from latticesearch.potential.sites.kernel_ridge import SiteSurrogate

    Floats = npt.NDArray[np.float64]

OPTIMISM = 2.0
"""Standard errors by which a prediction is lowered: what is unlike anything known is tried."""

LEAST_SHARE = 0.1
"""A ranker whose share of the mean is smaller is not worth its time."""


class Expansion:
    """A cluster expansion of the total energy.

    Attributes
    ----------
    width, itemsize : int
        Columns of the rows, and bytes of each number.
    error : float
        Error expected where none was measured, eV per site.
    """

    itemsize = 8

    def __init__(self, surrogate: Surrogate, largest: int) -> None:
        self.surrogate = surrogate
        self.basis = surrogate.basis
        self.width = surrogate.basis.n_parameters
        self.coefficients, error = surrogate.coefficients()
        self.error = error / math.sqrt(largest)

    def rows(self, batch: Labelings) -> npt.NDArray[Any]:
        """Return what coefficients multiply, (n, width)."""
        return feature_evaluator(self.surrogate.basis, batch.supercell).gradient_rows(batch.labels)

    def energies(self, batch: Labelings) -> Floats:
        """Return predictions, (n,), eV per site."""
        return np.asarray(self.rows(batch) @ self.coefficients, dtype=np.float64)

    def optimistic(self, parts: Iterator[tuple[Labelings, npt.NDArray[Any]]]) -> list[Floats]:
        """Return predictions for rows of batches, (n,) each, lowered by their standard errors."""
        left_out = self.surrogate.left_out_coefficients()
        return [optimistic(rows, self.coefficients, left_out, OPTIMISM) for _, rows in parts]


class Sites:
    """A surrogate of site energies with one damping; see `Expansion`."""

    error = np.inf

    def __init__(self, surrogate: SiteSurrogate, ridge: float, forms: Floats | None = None) -> None:
        self.surrogate, self.ridge = surrogate, ridge
        self.forms = surrogate.fit(ridge) if forms is None else forms

    def energies(self, table: SiteTable) -> list[Floats]:
        """Return predictions, (n,), for the batches of a table, eV per site."""
        return list(table.energies(self.forms))

    def doubts(self, table: SiteTable, comm: Communicator) -> list[Floats]:
        """Return `OPTIMISM` standard errors of the same predictions, (n,).

        The ranks share the fits; each has a table of its own.
        """
        fits = split(PARTS, lambda part: self.surrogate.fit(self.ridge, part), comm)
        values = zip(*(table.energies(forms) for forms in fits), strict=True)
        factor = OPTIMISM * math.sqrt(PARTS - 1)
        return [factor * np.std(parts, axis=0) for parts in values]


def best_shares(one: Floats, other: Floats) -> tuple[float, float]:
    """Return the share of the other with which the mean misses least, and by how much.

    Both are errors of the same energies, (n,), eV per site.
    """
    difference = one - other
    square = float(difference @ difference)
    share = min(max(float(one @ difference) / square, 0.0), 1.0) if square > 0.0 else 0.0
    share = share if LEAST_SHARE < share < 1.0 - LEAST_SHARE else round(share)
    return share, float(np.sqrt(np.mean((one - share * difference) ** 2)))


Ranker = Expansion | Sites
