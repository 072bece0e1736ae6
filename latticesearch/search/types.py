"""What the parts of a search hand to each other: the problem, its budget, tasks and results."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from latticesearch.energies import site_to_atom
from latticesearch.parallel import SerialComm, deal_out
from latticesearch.potential.protocol import evaluator_of
from latticesearch.progress import NoProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from latticesearch.hull import Hull
    from latticesearch.lattice import Configuration, ParentLattice, Supercell
    from latticesearch.parallel import Communicator
    from latticesearch.potential.protocol import Evaluator, Potential
    from latticesearch.progress import Progress
    from latticesearch.stopping import StopRequest


T = TypeVar("T")

ENERGY_DECIMALS = 10
"""Energies are compared after rounding to 1e-10 eV: symmetry-equivalent labelings tie then, and
no decision depends on the order of a summation."""


@dataclass(eq=False)
class Budget:
    """The energies that a piece of work may ask for, and has asked for.

    Attributes
    ----------
    limit : float
        Energies that may be asked for.
    used : int
        Energies asked for so far.
    deadline : float
        Reading of the clock after which nothing is left, s.
    clock : callable
        Wall time, s; comparisons on a busy machine take the time of the process.
    stop : StopRequest or None
        Once it is asked to stop, nothing is left either.
    """

    limit: float = math.inf
    used: int = 0
    deadline: float = math.inf
    clock: Callable[[], float] = time.monotonic
    stop: StopRequest | None = None

    @property
    def left(self) -> float:
        """Energies that may still be asked for."""
        return 0.0 if self.is_late else self.limit - self.used

    @property
    def is_late(self) -> bool:
        """The deadline has passed, or somebody wants an end."""
        return self.seconds_left <= 0.0

    @property
    def seconds_left(self) -> float:
        """Time until the deadline, s."""
        if self.stop:
            return 0.0
        return self.deadline - self.clock() if self.deadline < math.inf else math.inf

    def take(self, n: int) -> bool:
        """Book `n` energies if they fit; tell whether they do."""
        if n > self.left:
            return False
        self.used += n
        return True

    def part(self, limit: float) -> Budget:
        """Return a budget of its own, with the same deadline, for a part of the work."""
        return Budget(limit, 0, self.deadline, self.clock, self.stop)


@dataclass(frozen=True, eq=False)
class Problem:
    """What is searched, by whom; the same for all methods.

    Attributes
    ----------
    potential : Potential
        Model of the energies.
    parent : ParentLattice
    composition : mapping or None
        Fraction of all sites, or (lowest, highest) fraction, per element; others are free.
    keep : int
        Candidates kept of each composition.
    near : (Hull, float) or None
        What is found this close to this hull, eV per atom, is kept as well.
    seed : int
    comm : Communicator
        Ranks that share the work.
    progress : Progress
    """

    potential: Potential
    parent: ParentLattice
    composition: Mapping[str, float | tuple[float, float]] | None = None
    keep: int = 16
    near: tuple[Hull, float] | None = None
    seed: int = 0
    comm: Communicator = field(default_factory=SerialComm)
    progress: Progress = field(default_factory=NoProgress)

    def evaluator(self, cell: Supercell) -> Evaluator:
        """Return the energies of one supercell."""
        return evaluator_of(self.potential, cell)

    def deal_out(self, step: str, n: int, work: Callable[[int], T]) -> list[T]:
        """Return the results of n pieces of work on all ranks; who is free takes the next.

        `step` is what the progress calls it.
        """
        self.progress.start(step, n)

        def one(i: int) -> T:
            self.progress.advance(i)
            return work(i)

        results = deal_out(n, one, self.comm)
        self.progress.finish()
        return results


@dataclass(frozen=True, eq=False)
class Task:
    """One composition of one supercell.

    Attributes
    ----------
    cell : Supercell
        The cell to decorate.
    counts : (n_species,) int
        Sites that hold each species.
    has_choice : bool
        There is more than one labeling.
    """

    cell: Supercell
    counts: npt.NDArray[np.int64]
    has_choice: bool = True

    @property
    def n_open(self) -> int:
        """Sites with a choice of species."""
        return int(np.count_nonzero(self.cell.allowed.sum(axis=1) > 1))

    def rng(self, *seed: int) -> np.random.Generator:
        """Return the random numbers of this task, the same on every rank."""
        return np.random.default_rng([*seed, *self.cell.hnf.ravel().tolist(), *self.counts])


class SearchResult(NamedTuple):
    """Distinct complete labelings of one composition in one supercell, lowest energy first."""

    labels: npt.NDArray[np.int8]
    """(n, n_sites)."""
    energies: npt.NDArray[np.float64]
    """(n,), eV per site."""
    evaluations: int
    """Energies asked for: of partial cells, of complete ones and of swaps."""

    @classmethod
    def of(
        cls, labels: npt.NDArray[np.int8], energies: npt.NDArray[np.float64], evaluations: int
    ) -> SearchResult:
        """Return the different of n labelings, (n, n_sites), with energies, (n,), in order."""
        _, first = np.unique(labels, axis=0, return_index=True)
        order = first[np.argsort(np.round(energies[first], ENERGY_DECIMALS), kind="stable")]
        return cls(labels[order], energies[order], evaluations)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A structure that a search found.

    Attributes
    ----------
    configuration : Configuration
        The labeling, in its primitive canonical supercell.
    energy : float
        eV per site, vacancies included.
    source : str
        What found it: "exhaustive", "screened", "greedy", "guided", "annealing", "certificate".
    key : str
        Canonical key.
    found_in : (3, 3) int
        Hermite normal form of the supercell it was found in.
    evaluations : int
        Energies spent on the piece of work that found it.
    """

    configuration: Configuration
    energy: float
    source: str
    key: str
    found_in: npt.NDArray[np.int64]
    evaluations: int

    @property
    def supercell(self) -> Supercell:
        """Primitive canonical supercell."""
        return self.configuration.supercell

    @property
    def labels(self) -> npt.NDArray[np.int8]:
        """Canonical labels, (n_sites,)."""
        return self.configuration.labels

    @property
    def energy_per_atom(self) -> float:
        """Energy, eV per atom; per site for a lattice of vacancies alone."""
        return float(site_to_atom(self.energy, self.configuration))
