"""The moment tensor potential: its numbers and all that can be done with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from latticesearch.potential.mtp.coefficients import MtpCoefficients
from latticesearch.potential.mtp.lattice import lattice_evaluator
from latticesearch.potential.mtp.training.fitting import fit
from latticesearch.potential.mtp.writing import format_mtp
from latticesearch.potential.protocol import energies_per_atom

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from ase.calculators.calculator import Calculator

    from latticesearch.lattice import Labelings, Supercell
    from latticesearch.parallel import Communicator
    from latticesearch.potential.mtp.lattice import MtpLatticeEvaluator
    from latticesearch.potential.mtp.training.fit_report import FitReport
    from latticesearch.potential.training_set import TrainingSet


@dataclass(frozen=True, eq=False)
class MtpPotential(MtpCoefficients):
    """A moment tensor potential; its fields are those of `MtpCoefficients`."""

    kind: ClassVar[str] = "mtp"

    def evaluator(self, supercell: Supercell) -> MtpLatticeEvaluator:
        """Return the on-lattice evaluator of `supercell` (those last asked for are kept)."""
        return lattice_evaluator(self, supercell)

    def energies(self, batch: Labelings) -> npt.NDArray[np.float64]:
        """Return the on-lattice energies of a batch, (n,), eV per atom (vacancies not counted)."""
        return energies_per_atom(self, batch)

    def calculator(self) -> Calculator:
        """Return an ASE calculator: energy, forces and stress of any structure."""
        from latticesearch.potential.mtp.offlattice.calculator import MtpCalculator

        return MtpCalculator(self)

    def fit(
        self,
        training: TrainingSet,
        *,
        seed: int = 0,
        folds: int = 0,
        comm: Communicator | None = None,
    ) -> tuple[MtpPotential, FitReport]:
        """Return a potential of this form fitted to `training`, and what the fit tells.

        It stays near to this one, unless that is only the start of a training; for all options
        see `latticesearch.potential.fit`.

        Raises
        ------
        InputError
            The training set is too small or contradicts itself.
        """
        initial = None if self.is_start else self
        return fit(_Form(self), training, initial=initial, seed=seed, folds=folds, comm=comm)

    def text(self) -> str:
        """Return the text of the ``.mtp`` file of this potential."""
        return format_mtp(self)


class _Form:
    """The form of a potential, as `fit` takes it."""

    def __init__(self, potential: MtpPotential) -> None:
        self._potential = potential
        self.species, self.n_parameters = potential.species, potential.n_parameters

    def potential(self, parameters: npt.NDArray[np.float64]) -> MtpPotential:
        """Return a potential of this form with these coefficients, (n_parameters,)."""
        return self._potential.with_parameters(parameters)
