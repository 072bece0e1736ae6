"""Cluster expansions with the posterior's coefficients, and what a search can walk through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from latticesearch.lattice.parent import VACANCY
from latticesearch.potential.clusters.lattice import feature_evaluator
from latticesearch.potential.clusters.surrogate import Surrogate
from latticesearch.potential.protocol import Evaluator
from latticesearch.potential.rows import expansion_basis

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from latticesearch.lattice import Labelings, Supercell
    from latticesearch.learning.correlations import Correlations
    from latticesearch.learning.reference import Reference
    from latticesearch.potential.clusters import ClusterModel

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClusterEnergies:
    """Energies that are linear in cluster functions and composition.

    Attributes
    ----------
    functions : Correlations
    coefficients : (1 + n_functions,) float
        Of a constant and of the functions, eV per site.
    species_energies : (n_species,) float
        What each species adds, eV.
    """

    functions: Correlations
    coefficients: Floats
    species_energies: Floats
    kind: ClassVar[str] = "posterior"

    @classmethod
    def of(
        cls, functions: Correlations, coefficients: Floats, features: Reference, energies: Floats
    ) -> ClusterEnergies:
        """Return the energies that coefficients of formation energies belong to.

        Parameters
        ----------
        functions
            The cluster functions.
        coefficients
            Of the rows of ``features``, see `Reference.rows`, (1 + n_functions + m,), eV/atom.
        features
            The end members with their functions, a constant in front.
        energies
            Of the end members, (m,), eV/atom.
        """
        parent, q = functions.parent, features.values.shape[1]
        own, ends = coefficients[:q], coefficients[q:]
        shares = features.shares(np.eye(features.corners.shape[1]))
        of_elements = shares @ (energies - features.values @ own - ends)
        of_species = np.zeros(parent.n_species)
        of_species[[symbol != VACANCY for symbol in parent.species]] = of_elements
        return cls(functions, own, of_species)

    @property
    def species(self) -> tuple[str, ...]:
        """Symbols of the parent's species."""
        return tuple(self.functions.parent.species)

    def evaluator(self, supercell: Supercell) -> ClusterEvaluator:
        """Return the evaluator of a supercell."""
        return ClusterEvaluator(self, supercell)


class ClusterEvaluator(Evaluator):
    """Energies of labelings of one supercell.

    Parameters
    ----------
    model
        The expansion.
    supercell
        The supercell.
    """

    def __init__(self, model: ClusterEnergies, supercell: Supercell) -> None:
        super().__init__(supercell)
        self._model = model

    def energies(self, labels: npt.NDArray[np.int8]) -> Floats:
        """Return the energies per site, (n,), of `labels`, (n, n_sites)."""
        labels = self.checked(labels, 2)
        model = self._model
        energies = model.functions.sums(model.coefficients[1:], self.supercell, labels)
        energies += model.coefficients[0] + model.species_energies[labels].mean(axis=1)
        return energies


def compiled(model: ClusterEnergies, batches: Sequence[Labelings]) -> ClusterModel:
    """Return an expansion of few, compiled clusters that is nearest to a model.

    A search asks for millions of energies: what it finds is judged by the model itself afterwards.

    Parameters
    ----------
    model
        What to come near to.
    batches
        Where: labelings of cells that are to be searched.
    """
    surrogate = Surrogate.of(expansion_basis(model.functions.parent), 0)
    for batch in batches:
        rows = feature_evaluator(surrogate.basis, batch.supercell).gradient_rows(batch.labels)
        energies = model.evaluator(batch.supercell).energies(batch.labels)
        surrogate.learn_energies(rows, energies, np.ones(len(rows)))
    return surrogate.model()[0]
