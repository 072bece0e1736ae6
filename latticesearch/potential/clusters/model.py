"""The cluster expansion: its numbers and all that can be done with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from latticesearch.potential.clusters.coefficients import ClusterCoefficients
from latticesearch.potential.clusters.fitting import fit_coefficients
from latticesearch.potential.clusters.lattice import lattice_evaluator
from latticesearch.potential.clusters.shapes import columns_of, shape_lengths
from latticesearch.potential.clusters.writing import format_clusters
from latticesearch.potential.protocol import energies_per_atom

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Labelings, Supercell
    from latticesearch.potential.clusters.basis import ClusterBasis
    from latticesearch.potential.clusters.lattice import ClusterLatticeEvaluator
    from latticesearch.potential.fitting import FitSummary
    from latticesearch.potential.training_set import TrainingSet


@dataclass(frozen=True, eq=False)
class ClusterModel(ClusterCoefficients):
    """A cluster expansion; its fields are those of `ClusterCoefficients`."""

    kind: ClassVar[str] = "clusters"

    @classmethod
    def random(cls, basis: ClusterBasis, seed: int, *, pair: float, triplet: float) -> ClusterModel:
        """Draw coefficients that frustrate each other: normal, without regard to the lattice.

        Parameters
        ----------
        basis
            The functions.
        seed
            Names the model.
        pair, triplet
            Standard deviation of the energies of the nearest pairs and of the triplets, eV;
            that of longer pairs falls with the square of the length.
        """
        rng = np.random.default_rng(seed)
        spread = np.zeros(basis.n_parameters)
        spread[columns_of(basis.triplet_tables)] = triplet
        lengths = shape_lengths(basis, basis.pairs)
        for shape, length in enumerate(lengths):
            columns = columns_of(basis.pair_tables[shape][None])
            spread[columns] = pair * (min(lengths) / length) ** 2
        return cls(basis, spread * rng.normal(size=basis.n_parameters))

    def evaluator(self, supercell: Supercell) -> ClusterLatticeEvaluator:
        """Return the evaluator of `supercell` (those last asked for are kept).

        Raises
        ------
        InputError
            The supercell is one of another parent lattice.
        """
        return lattice_evaluator(self, supercell)

    def energies(self, batch: Labelings) -> npt.NDArray[np.float64]:
        """Return the energies of a batch, (n,), eV per atom (vacancies not counted)."""
        return energies_per_atom(self, batch)

    def fit(self, training: TrainingSet, *, seed: int = 0) -> tuple[ClusterModel, FitSummary]:
        """Return an expansion in the same basis fitted to `training`, and how well it fits.

        It depends on the data alone, not on the coefficients here; nothing in it is random.

        Raises
        ------
        InputError
            The training set is too small, contradicts itself, or leaves the lattice.
        """
        del seed
        coefficients, summary = fit_coefficients(self.basis, training)
        return ClusterModel(self.basis, coefficients), summary

    def text(self) -> str:
        """Return what `latticesearch.potential.clusters.parse_clusters` reads."""
        return format_clusters(self)
