"""What search and learning see of a potential, and what it need not bring itself.

A `Potential` makes one evaluator per supercell. All an evaluator has to give is
``energies(labels)``; everything else that an `Evaluator` offers is derived from them, slowly. Who
can do better derives from `Evaluator` and overrides: see `latticesearch.potential.mtp` and
`latticesearch.potential.clusters`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol, runtime_checkable

import numpy as np

from latticesearch.energies import site_to_atom
from latticesearch.errors import InputError
from latticesearch.potential.callback import Callback

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Labelings, Supercell

    Floats = npt.NDArray[np.float64]
    Labels = npt.NDArray[np.int8]
    Sites = npt.NDArray[np.intp]

COMPLETIONS = 8
"""Labelings that stand for one row of fractional occupations where a model knows no average.

They are spread evenly over every site's occupation, so eight tell what is rare from an eighth on.
"""

BELOW_ONE = 1.0 - 1e-12
"""Largest random number: one more rounding must not lead beyond the last species."""

KEPT = 512
"""Evaluators kept: the shapes of a campaign's sizes are a few hundred, of some 0.1 to 1 MB each."""


@runtime_checkable
class Potential(Protocol):
    """A model of energies that can be evaluated on labelings of any supercell.

    Models are data: a fit returns a new one. They are told apart by identity.

    A model may have besides ``fit(training, *, seed) -> (potential, FitSummary)``, see
    `latticesearch.potential.fitting.fit_potential`, and ``text() -> str``, what its kind's
    ``parse`` reads; see `latticesearch.potential.registry.Kind`.
    """

    @property
    def kind(self) -> str:
        """What sort of model it is; also the suffix of its file, unless the kind says another."""

    @property
    def species(self) -> tuple[str, ...]:
        """Symbols of the species the model knows."""

    def evaluator(self, supercell: Supercell) -> Any:
        """Return the evaluator for `supercell`, something with ``energies(labels)``.

        Labels, (n, n_sites) int8, are indices into ``supercell.parent.species``; the energies,
        (n,), are eV per site, vacancies counted as sites. An `Evaluator` if it offers more.

        Raises
        ------
        InputError
            The supercell's parent lattice allows a species that the model does not know.
        """


class Evaluator(ABC):
    """Energies of labelings of one supercell under one model.

    Labels are indices into ``supercell.parent.species``. Energies are in eV; those called
    "per site" count vacancies as sites. Only `energies` has to be given.

    Parameters
    ----------
    supercell
        The supercell all arrays refer to.
    """

    has_site_energies: ClassVar[bool] = False
    """Whether `site_energies` works."""

    has_gradients: ClassVar[bool] = False
    """Whether the model is differentiable in parameters: `n_parameters`, the gradient rows."""

    is_compiled: ClassVar[bool] = False
    """Whether compiled walks ask a compiled function: a swap takes microseconds then."""

    has_rows: ClassVar[bool] = False
    """Whether all swaps of a site cost little more than a few of them."""

    mean_field_cost: ClassVar[int] = COMPLETIONS
    """Energies that one row of `mean_field_energies` takes the time of."""

    def __init__(self, supercell: Supercell) -> None:
        self.supercell = supercell

    @abstractmethod
    def energies(self, labels: Labels) -> Floats:
        """Return the energies per site, (n,), of `labels`, (n, n_sites)."""

    def site_energies(self, labels: Labels) -> Floats:
        """Return the energies of the sites, (n, n_sites), of `labels`, (n, n_sites)."""
        del labels
        self._refuse("energies of single sites")

    def mean_field_energies(self, occupations: Floats) -> Floats:
        """Return the energies per site, (n,), of fractional `occupations`, (n, n_sites, n_species).

        Rows of `occupations` sum to one; for rows of zeros and ones the result equals `energies`.
        Here it is the mean over `COMPLETIONS` labelings, drawn from the occupations with the same
        random numbers each time, so that differences are less noisy than the energies.
        """
        rows = self.checked_occupations(occupations)
        cumulated = np.cumsum(rows, axis=2)
        shares = self._common_numbers[:, :, None] * cumulated[:, None, :, -1:]
        labels = (shares >= cumulated[:, None]).sum(axis=3).astype(np.int8)
        energies = self.energies(labels.reshape(-1, labels.shape[2]))
        means: Floats = np.asarray(energies).reshape(labels.shape[:2]).mean(axis=1)
        return means

    def flip_energies(self, labels: Labels, sites: Sites, species: Labels) -> Floats:
        """Return the changes of the cell's energy, (m,), when ``labels[sites[k]] = species[k]``.

        Each of the m flips starts from the same `labels`, (n_sites,).
        """
        labels, (sites, species) = self.checked(labels, 1), self.checked_flips(sites, species)
        changed = np.repeat(labels[None], len(sites), axis=0)
        changed[np.arange(len(sites)), sites] = species
        return self._changes(labels, changed)

    def swap_energies(self, labels: Labels, pairs: Sites) -> Floats:
        """Return the changes of the cell's energy, (m,), when the sites of one pair swap species.

        Each of the m swaps, rows of `pairs`, (m, 2), starts from the same `labels`, (n_sites,).
        """
        labels, pairs = self.checked(labels, 1), self.checked_sites(pairs, (-1, 2))
        changed = np.repeat(labels[None], len(pairs), axis=0)
        rows = np.arange(len(pairs))[:, None]
        changed[rows, pairs] = labels[pairs[:, ::-1]]
        return self._changes(labels, changed)

    @property
    def walk_tables(self) -> Any:
        """What the compiled functions of `latticesearch.potential.walk` need of the supercell."""
        return self._callback.tables

    def walk_state(self, labels: Labels) -> Any:
        """Return a new state of `labels`, (n_sites,), worked out, for the same functions."""
        return self._callback.state(self.checked(labels, 1))

    def raise_pending(self) -> None:
        """Raise what the model raised inside a compiled walk; call it after each such walk.

        No exception passes through a kernel: the walk goes on with infinite energies, accepts
        none of them, and ends. Models whose walks are compiled raise nothing there.
        """
        if "_callback" in vars(self):
            self._callback.raise_pending()

    @property
    def n_parameters(self) -> int:
        """Number of parameters of the model, the width of a gradient row."""
        self._refuse("parameters to differentiate by")

    def gradient_rows(self, labels: Labels) -> Floats:
        """Return d(energy per site)/d(parameters), (n, n_parameters)."""
        del labels
        self._refuse("parameters to differentiate by")

    def site_gradient_rows(self, labels: Labels) -> Floats:
        """Return d(site energy)/d(parameters), (n_sites, n_parameters), of one labeling."""
        del labels
        self._refuse("parameters to differentiate by")

    def checked(self, labels: Labels, ndim: int) -> Labels:
        """Return labels fit for kernels, which would read beyond their tables otherwise.

        Raises
        ------
        InputError
            Another shape than (n_sites,) or (n, n_sites), or species that there are not.
        """
        labels = np.ascontiguousarray(labels, dtype=np.int8)
        if labels.ndim != ndim or labels.shape[-1] != self.supercell.n_sites:
            raise InputError(
                f"labels have the shape {labels.shape}, but the supercell has "
                f"{self.supercell.n_sites} sites and {ndim} dimension(s) are needed"
            )
        self._check_species("labels", labels)
        return labels

    def checked_sites(self, sites: Sites, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
        """Return sites fit for kernels; `shape` has -1 where any length will do.

        Raises
        ------
        InputError
            Another shape, or sites that there are not.
        """
        checked = np.ascontiguousarray(sites, dtype=np.int64)
        n_sites = self.supercell.n_sites
        if checked.ndim != len(shape) or checked.shape[1:] != shape[1:]:
            wanted = ", ".join("m" if length < 0 else str(length) for length in shape)
            raise InputError(f"sites have the shape {checked.shape}, but ({wanted}) is needed")
        if checked.size and (checked.min() < 0 or checked.max() >= n_sites):
            raise InputError(
                f"sites run from {checked.min()} to {checked.max()}, but the supercell has "
                f"{n_sites} sites (0 to {n_sites - 1})"
            )
        return checked

    def checked_flips(self, sites: Sites, species: Labels) -> tuple[npt.NDArray[np.int64], Labels]:
        """Return sites, (m,), and their new species, (m,), fit for kernels.

        Raises
        ------
        InputError
            Shapes that differ, or sites or species that there are not.
        """
        checked = self.checked_sites(sites, (-1,))
        species = np.ascontiguousarray(species, dtype=np.int8)
        if species.shape != checked.shape:
            raise InputError(f"{species.shape} species for {checked.shape} sites: give one each")
        self._check_species("species", species)
        return checked, species

    def checked_occupations(self, occupations: Floats) -> Floats:
        """Return occupations, (n, n_sites, n_species), fit for kernels.

        Raises
        ------
        InputError
            Another shape.
        """
        occupations = np.ascontiguousarray(occupations, dtype=np.float64)
        expected = (self.supercell.n_sites, self.supercell.parent.n_species)
        if occupations.ndim != 3 or occupations.shape[1:] != expected:
            raise InputError(
                f"occupations have the shape {occupations.shape}, but (n, n_sites, n_species) "
                f"must be (n, {expected[0]}, {expected[1]}) here"
            )
        return occupations

    def _check_species(self, what: str, labels: Labels) -> None:
        """Complain about labels, of any shape, that name no species of the lattice."""
        n_species = self.supercell.parent.n_species
        if labels.size and (labels.min() < 0 or labels.max() >= n_species):
            raise InputError(
                f"{what} run from {labels.min()} to {labels.max()}, but the parent lattice has "
                f"{n_species} species (0 to {n_species - 1})"
            )

    def _changes(self, labels: Labels, changed: Labels) -> Floats:
        """Return by how much changed labelings, (m, n_sites), differ in energy, (m,), eV."""
        energies = np.asarray(self.energies(np.concatenate([labels[None], changed])))
        changes: Floats = (energies[1:] - energies[0]) * self.supercell.n_sites
        return changes

    @cached_property
    def _common_numbers(self) -> Floats:
        """Numbers from 0 to 1, (COMPLETIONS, n_sites), even over each site: a Latin hypercube.

        McKay, Beckman & Conover, Technometrics 21, 239 (1979).
        """
        n_sites = self.supercell.n_sites
        rng = np.random.default_rng(n_sites)
        places = np.argsort(rng.random((COMPLETIONS, n_sites)), axis=0)
        numbers = (places + rng.random((COMPLETIONS, n_sites))) / COMPLETIONS
        return np.minimum(numbers, BELOW_ONE)

    @cached_property
    def _callback(self) -> Callback:
        n_sites = self.supercell.n_sites
        return Callback(lambda labels: np.asarray(self.energies(labels)) * n_sites, n_sites)

    def _refuse(self, what: str) -> NoReturn:
        raise InputError(
            f"this model ({type(self).__name__}) has no {what}: take a method that asks for "
            "energies of labelings only"
        )


class EnergiesOnly(Evaluator):
    """The evaluator of a model that offers nothing but energies; see `evaluator_of`.

    Parameters
    ----------
    model
        The model, for messages.
    supercell
        The supercell.
    energies
        Of labelings, (n, n_sites), per site, (n,), eV.
    """

    def __init__(self, model: Potential, supercell: Supercell, energies: Any) -> None:
        super().__init__(supercell)
        self._name, self._energies = kind_name(model), energies

    def energies(self, labels: Labels) -> Floats:
        """Return the energies per site, (n,), of `labels`, (n, n_sites).

        Raises
        ------
        InputError
            The model's answer is not n finite numbers.
        """
        labels = self.checked(labels, 2)
        if not len(labels):
            return np.zeros(0)
        energies = np.asarray(self._energies(labels), dtype=np.float64)
        if energies.shape != (len(labels),):
            raise InputError(
                f"the potential {self._name!r} gives energies of the shape {energies.shape} for "
                f"{len(labels)} labelings: one number each is needed, eV per site"
            )
        if not np.isfinite(energies).all():
            where = int(np.argmin(np.isfinite(energies)))
            raise InputError(
                f"the potential {self._name!r} gives {energies[where]} for the labeling "
                f"{labels[where].tolist()}: an energy must be finite"
            )
        return energies

    def _refuse(self, what: str) -> NoReturn:
        raise InputError(
            f"the potential {self._name!r} has no {what}: take a method that asks for energies of "
            "labelings only"
        )


class _Same:
    """A model as a key: told apart by identity, even where its class compares or has no hash."""

    def __init__(self, model: Potential) -> None:
        self.model = model

    def __hash__(self) -> int:
        return id(self.model)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.model is other.model


def evaluator_of(model: Potential, supercell: Supercell) -> Evaluator:
    """Return the evaluator of a model for a supercell; those last asked for are kept.

    What is no `Evaluator` but has ``energies(labels)`` is made one: all else is derived.

    Raises
    ------
    InputError
        As the model's own ``evaluator``; or what it returns has no ``energies``.
    """
    return _evaluator(_Same(model), supercell)


@lru_cache(maxsize=KEPT)
def _evaluator(same: _Same, supercell: Supercell) -> Evaluator:
    made = same.model.evaluator(supercell)
    if isinstance(made, Evaluator):
        return made
    energies = getattr(made, "energies", None)
    if not callable(energies):
        raise InputError(
            f"the evaluator of the potential {kind_name(same.model)!r} has no method "
            "energies(labels): it must return the energies per site, (n,), of labels (n, n_sites)"
        )
    return EnergiesOnly(same.model, supercell, energies)


def kind_name(model: Any) -> str:
    """Return what to call a model's kind, whether it says so or not."""
    return str(getattr(model, "kind", None) or type(model).__name__.lower())


def energies_per_atom(model: Potential, batch: Labelings) -> Floats:
    """Return the energies of a batch, (n,), eV per atom: vacancies are sites but no atoms."""
    return site_to_atom(evaluator_of(model, batch.supercell).energies(batch.labels), batch)


LatticeModel = Potential
"""Former name of `Potential`."""

LatticeEvaluator = Evaluator
"""Former name of `Evaluator`."""
