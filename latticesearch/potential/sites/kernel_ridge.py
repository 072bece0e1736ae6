"""Site energies learnt by kernel ridge regression on descriptors of the sites.

One energy of a labeling of n sites comes with n site energies. The kernel is the square of the
product of two descriptors with a leading 1: the site energy is a sum of all products of two
numbers of a descriptor, and, as these hold pairs of neighbours, of up to four neighbours. Such a
sum is a quadratic form, so that a prediction costs the same whatever was learnt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from latticesearch.potential.sites.descriptors import SiteTable, site_basis

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Labelings, ParentLattice
    from latticesearch.potential.sites.descriptors import SiteBasis

    Floats = npt.NDArray[np.float64]

RIDGES = (1e-6, 1e-4)
"""Dampings relative to the mean diagonal of the kernel; the last round decides."""

PARTS = 4
"""Parts of the distinct sites that are left out in turn."""

MOST_LEARNT = 3000
"""Distinct sites of one species learnt at most, those that count most."""


@dataclass(eq=False)
class SiteSurrogate:
    """What is known of the energies of sites.

    Attributes
    ----------
    basis : SiteBasis
    place : dict
        Where each distinct site is in the lists that follow, by `SiteBasis.codes`.
    x, centres : lists
        Descriptors, (width,), and kinds times species.
    weights, targets : lists of float
        Sums of squared weights, and of these times energies, eV.
    """

    basis: SiteBasis
    place: dict[int, int] = field(default_factory=dict)
    x: list[npt.NDArray[np.float32]] = field(default_factory=list)
    centres: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    targets: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, parent: ParentLattice) -> SiteSurrogate:
        """Return a surrogate that knows nothing."""
        return cls(site_basis(parent))

    def learn(self, results: list[tuple[Labelings, Floats]], weights: list[Floats]) -> None:
        """Learn the energies of sites, (n, n_sites), eV, of labelings with weights, (n,)."""
        table = SiteTable.of(self.basis, [batch for batch, _ in results])
        index = np.concatenate([part.reshape(-1) for part in table.index])
        squares = np.concatenate(
            [np.repeat(w**2, part.shape[1]) for w, part in zip(weights, table.index, strict=True)]
        )
        energies = np.concatenate([values.reshape(-1) for _, values in results])
        total = np.bincount(index, squares, len(table.codes)).tolist()
        sums = np.bincount(index, squares * energies, len(table.codes)).tolist()
        for i, code in enumerate(table.codes.tolist()):
            if code not in self.place:
                self.place[code] = len(self.x)
                self.x.append(table.x[i])
                self.centres.append(int(table.centres[i]))
                self.weights.append(0.0)
                self.targets.append(0.0)
            self.weights[self.place[code]] += total[i]
            self.targets[self.place[code]] += sums[i]

    def fit(self, ridge: float, left_out: int | None = None) -> Floats:
        """Return the energy of each centre as a quadratic form, (n_centres, width, width).

        Zero below the diagonals. One of `PARTS` of the distinct sites may be left out.
        """
        x, centres = np.array(self.x, dtype=np.float64), np.array(self.centres)
        weights, targets = np.array(self.weights), np.array(self.targets)
        forms = np.zeros((self.basis.n_centres, self.basis.width, self.basis.width))
        for centre in np.unique(centres).tolist():
            mine = np.flatnonzero(centres == centre)
            mine = np.sort(mine[np.argsort(-weights[mine], kind="stable")[:MOST_LEARNT]])
            if left_out is not None and len(mine) >= PARTS:
                mine = np.delete(mine, slice(left_out, None, PARTS))
            forms[centre] = _fit(x[mine], weights[mine], targets[mine], ridge)
        return np.triu(forms) + np.triu(forms, 1)


def _fit(x: Floats, weights: Floats, targets: Floats, ridge: float) -> Floats:
    """Return the quadratic form, (width, width), of one kind and species of centres.

    Kernel ridge regression with the kernel (x . y)², whose prediction is a quadratic form of x.

    Parameters
    ----------
    x
        (n, width) descriptors.
    weights, targets
        (n,): sums of squared weights, and of these times energies, eV.
    ridge
        Damping, relative to the mean of the kernel's diagonal.
    """
    mean = targets.sum() / weights.sum()
    matrix = (x @ x.T) ** 2
    matrix[np.diag_indices_from(matrix)] += ridge * np.diag(matrix).mean() / weights
    duals = cho_solve(cho_factor(matrix, overwrite_a=True), targets / weights - mean)
    form = (duals[:, None] * x).T @ x
    form[0, 0] += mean
    return np.asarray(form)
