"""What a potential is trained on: labelings with energies, and structures with forces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

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
        """Return some of the configurations, (m,) indices: labelings first, then structures."""
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


class Energies(NamedTuple):
    """What the configurations of a training set are, labelings first, then structures.

    ``fractions``, (n, n_species), counts vacancies as a species; ``energies``, (n,), are eV per
    site.
    """

    training: TrainingSet
    fractions: Floats
    energies: Floats

    @classmethod
    def of(cls, training: TrainingSet, species: Sequence[str]) -> Energies:
        """Collect them; `species` gives the order of the columns."""
        fractions: list[Floats] = [np.zeros((0, len(species)))]
        energies: list[Floats] = [np.zeros(0)]
        for part in training.labelings:
            parent = part.batch.supercell.parent
            counts = {s: part.batch.counts[:, k] for k, s in enumerate(parent.species)}
            nowhere = np.zeros(len(part.batch))
            own: Floats = np.stack([counts.get(symbol, nowhere) for symbol in species], axis=1)
            fractions.append(own / part.batch.supercell.n_sites)
            energies.append(part.energies)
        for atoms in training.structures:
            symbols = atoms.get_chemical_symbols()
            fractions.append(np.array([[symbols.count(s) / len(atoms) for s in species]]))
            energies.append(np.array([atoms.calc.results["energy"] / len(atoms)]))
        return cls(training, np.concatenate(fractions), np.concatenate(energies))

    def name(self, index: int) -> str:
        """Return what to call one of them in a message."""
        left = index
        for part in self.training.labelings:
            if left < len(part.batch):
                return f"labeling {index} ({part.batch[left].formula}, {part.batch[left].key})"
            left -= len(part.batch)
        return f"structure {left} ({self.training.structures[left].get_chemical_formula()})"

    def heights(self) -> Floats:
        """Return the energies above the hull, (n,), eV per site; raises without a hull."""
        # Loads much, and only fits ask for it.
        from latticesearch.hull import Hull

        return Hull(self.fractions, self.energies).energies_above_hull


def rms(errors: Floats) -> float:
    """Return the root of the mean square of errors of any shape, in their unit."""
    return float(np.sqrt(np.mean(errors**2)))


def scatter(fractions: Floats, energies: Floats) -> float:
    """Return the root mean square of what the species' energies do not explain.

    Of `energies`, (n,), and in their unit; species fractions are (n, n_species).
    """
    own, *_ = np.linalg.lstsq(fractions, energies, rcond=1e-10)
    return rms(energies - fractions @ own)
