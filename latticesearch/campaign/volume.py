"""The volume at which a structure starts: the mean of its elements' own (Vegard's law)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms

    from latticesearch.lattice import Configuration


def mean_length(lengths: Mapping[str, float]) -> float:
    """Return the lattice parameter of the parent lattice, Å: that of the mean volume of a table.

    It counts all elements of the table, so that campaigns of some of them share one lattice.
    """
    return float(np.mean([a**3 for a in lengths.values()]) ** (1 / 3))


@dataclass(frozen=True)
class MeanVolume:
    """Volumes by element.

    Parameters
    ----------
    lengths
        Lattice parameter of the conventional cell if all its sites that have a choice hold this
        element, Å. What is not there (vacancies, a sublattice without choice) does not count.
    """

    lengths: Mapping[str, float]

    def start(self, configuration: Configuration) -> Atoms:
        """Return a configuration as a structure at the mean volume of its atoms."""
        atoms = configuration.to_atoms()
        found = [self.lengths[s] ** 3 for s in atoms.symbols if s in self.lengths]
        if found:
            scale = float(np.mean(found) ** (1 / 3)) / mean_length(self.lengths)
            atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        return atoms
