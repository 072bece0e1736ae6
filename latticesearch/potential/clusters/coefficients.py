"""The numbers of a cluster expansion: its basis and its coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.clusters._table_kernels import model_energies
from latticesearch.vectors import BLOCK

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.potential.clusters._table_kernels import ModelEnergies
    from latticesearch.potential.clusters.basis import ClusterBasis


@dataclass(frozen=True, eq=False)
class ClusterCoefficients:
    """The numbers of a cluster expansion of points, pairs and triplets.

    Parameters
    ----------
    basis
        The functions.
    coefficients
        (n_parameters,), eV per cluster.
    """

    basis: ClusterBasis
    coefficients: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        coefficients = np.ascontiguousarray(self.coefficients, dtype=np.float64)
        object.__setattr__(self, "coefficients", coefficients)
        if coefficients.shape != (self.basis.n_parameters,):
            raise InputError(
                f"coefficients have the shape {coefficients.shape}; this cluster basis has "
                f"{self.basis.n_parameters} parameters"
            )

    @property
    def species(self) -> tuple[str, ...]:
        """Symbols of the parent lattice."""
        return self.basis.parent.species

    @cached_property
    def cluster_energies(self) -> ModelEnergies:
        """Energies of all clusters, eV, which every supercell adds up anew."""
        width = padded_width(self.basis.points.shape[1])
        entries = self.basis.orientations.entries
        energies: ModelEnergies = model_energies(entries, self.coefficients, width)
        return energies

    @cached_property
    def point_energies(self) -> npt.NDArray[np.float64]:
        """Energies of species on the sites of the basis, (n_basis, n_species), eV."""
        return self.basis.points @ self.coefficients


def padded_width(n_species: int) -> int:
    """Return the number of doubles in a line of so many species."""
    return -(-n_species // BLOCK) * BLOCK
