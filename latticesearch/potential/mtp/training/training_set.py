"""What a potential is trained on, and how strongly it is held back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.lattice import Labelings

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelledBatch:
    """Labelings with known energies.

    Parameters
    ----------
    batch
        n labelings of one supercell.
    energies
        (n,), eV per site: the cell's energy over the number of lattice sites, occupied or vacant.
        A vacancy is a species like any other, whose own energy is fitted too.
    weights
        Importance of each, (n,); all one if None.
    """

    batch: Labelings
    energies: Floats
    weights: Floats | None = None


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What a potential is trained on.

    Parameters
    ----------
    labelings
        Energies on the ideal lattice (of relaxed structures, if the potential is to know
        nothing but the lattice).
    structures
        Structures with the results of a calculator: energy, forces and stress where known.
    force_weight
        Å: the root mean square error of a structure's forces, eV/Å, times this counts like an
        error of its energy, eV/atom.
    stress_weight
        The root mean square error of a structure's stress times its volume per atom, eV/atom,
        times this counts like an error of its energy.
    """

    labelings: tuple[LabelledBatch, ...] = ()
    structures: tuple[Atoms, ...] = ()
    force_weight: float = 0.1
    stress_weight: float = 0.1

    def __len__(self) -> int:
        return sum(len(part.batch) for part in self.labelings) + len(self.structures)

    def subset(self, indices: Sequence[int] | npt.NDArray[np.intp]) -> TrainingSet:
        """Return some of the configurations: labelings come first, then structures."""
        chosen = np.zeros(len(self), dtype=bool)
        chosen[indices] = True
        labelings, start = [], 0
        for part in self.labelings:
            mine = chosen[start : start + len(part.batch)]
            start += len(part.batch)
            if mine.any():
                batch = type(part.batch)(part.batch.supercell, part.batch.labels[mine])
                weights = None if part.weights is None else part.weights[mine]
                labelings.append(LabelledBatch(batch, part.energies[mine], weights))
        kept = zip(self.structures, chosen[start:], strict=True)
        structures = tuple(atoms for atoms, is_chosen in kept if is_chosen)
        return replace(self, labelings=tuple(labelings), structures=structures)


@dataclass(frozen=True)
class Regularisation:
    """Strengths of the two ridges, for energies scaled to unit spread.

    Parameters
    ----------
    linear
        On the coefficients of the basis functions, each scaled by its spread in the training set.
    radial
        On the radial functions' distance from where they started, in units in which the moments
        have unit spread on a random lattice.
    growth
        Factor of `linear` for each moment after the first in a basis function: with 16, those of
        four moments are used only as far as those of fewer cannot explain the data. So a potential
        of high level is no worse than one of low level where data are few.
    """

    linear: float = 1e-2
    radial: float = 1e-1
    growth: float = 16.0
