"""What search and learning see of a potential: nothing but energies of labelings.

A `LatticeModel` makes one `LatticeEvaluator` per supercell; a second kind of model (cluster
expansion, low-rank potential) needs these two classes and no change above this line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from latticesearch.lattice.parent import VACANCY

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Labelings, Supercell


class LatticeEvaluator(Protocol):
    """Energies of labelings of one supercell under one model.

    Labels are indices into ``supercell.parent.species``. Energies are in eV; those called
    "per site" count vacancies as sites.
    """

    @property
    def supercell(self) -> Supercell:
        """The supercell all arrays refer to."""

    @property
    def n_parameters(self) -> int:
        """Number of parameters of the model, the width of a gradient row."""

    is_compiled: bool
    """Walks call no Python."""
    has_site_energies: bool
    mean_field_cost: int

    @property
    def walk_tables(self) -> Any:
        """What the compiled functions of `latticesearch.potential.walk` need of the supercell."""

    @property
    def has_rows(self) -> bool:
        """Whether all swaps of a site cost little more than a few of them."""

    def walk_state(self, labels: npt.NDArray[np.int8]) -> Any:
        """Return a new state of `labels`, (n_sites,), worked out, for the same functions."""

    def partial_state(
        self, labels: npt.NDArray[np.int8], occupations: npt.NDArray[np.float64]
    ) -> Any:
        """Return a new partial state, worked out, for the same functions.

        `labels`, (n_sites,), are -1 where undecided; `occupations` are (n_sites, n_species).
        """

    def energies(self, labels: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """Return the energies per site, (n,), of `labels`, (n, n_sites)."""

    def site_energies(self, labels: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """Return the energies of the sites, (n, n_sites), of `labels`, (n, n_sites)."""

    def mean_field_energies(self, occupations: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the energies per site, (n,), of fractional `occupations`, (n, n_sites, n_species).

        Rows of `occupations` sum to one; for rows of zeros and ones the result equals
        `energies`. What enters linearly in the occupation (the neighbourhood) is averaged,
        and the energy of an undecided centre is the average over its species.
        """

    def flip_energies(
        self,
        labels: npt.NDArray[np.int8],
        sites: npt.NDArray[np.intp],
        species: npt.NDArray[np.int8],
    ) -> npt.NDArray[np.float64]:
        """Return the changes of the cell's energy, (m,), when ``labels[sites[k]] = species[k]``.

        Each of the m flips starts from the same `labels`, (n_sites,).
        """

    def swap_energies(
        self, labels: npt.NDArray[np.int8], pairs: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float64]:
        """Return the changes of the cell's energy, (m,), when the sites of one pair swap species.

        Each of the m swaps, rows of `pairs`, (m, 2), starts from the same `labels`, (n_sites,).
        """

    def gradient_rows(self, labels: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """Return d(energy per site)/d(parameters), (n, n_parameters)."""

    def site_gradient_rows(self, labels: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """Return d(site energy)/d(parameters), (n_sites, n_parameters), of one labeling."""


class LatticeModel(Protocol):
    """A potential that can be evaluated on labelings of any supercell."""

    @property
    def species(self) -> tuple[str, ...]:
        """Symbols of the species the model knows."""

    def evaluator(self, supercell: Supercell) -> LatticeEvaluator:
        """Return the evaluator for `supercell`.

        Raises
        ------
        InputError
            The supercell's parent lattice allows a species that the model does not know.
        """


def energies_per_atom(model: LatticeModel, batch: Labelings) -> npt.NDArray[np.float64]:
    """Return the energies of a batch, (n,), eV per atom: vacancies are sites but no atoms."""
    per_site = model.evaluator(batch.supercell).energies(batch.labels)
    species = batch.supercell.parent.species
    if VACANCY not in species:
        return per_site
    n_atoms = batch.supercell.n_sites - batch.counts[:, species.index(VACANCY)]
    return per_site * batch.supercell.n_sites / np.maximum(n_atoms, 1)


Evaluator = LatticeEvaluator
Potential = LatticeModel


def evaluator_of(model: LatticeModel, supercell: Supercell) -> LatticeEvaluator:
    """Return the evaluator of a model for a supercell."""
    return model.evaluator(supercell)
