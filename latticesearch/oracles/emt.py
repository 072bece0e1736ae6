"""Effective medium theory: the embedded default, so that everything runs without any DFT code.

The physics is ASE's (Jacobsen, Stoltze & Nørskov, Surf. Sci. 366, 394 (1996)). Only its list of
neighbours is replaced: for cells of a few atoms ASE spends most of its time there, because the
list is rebuilt whenever the cell changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.calculators.emt import EMT
from vesin import NeighborList

from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from ase import Atoms

ELEMENTS = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")
"""Metals with fitted parameters; ASE's entries for H, C, N and O are toys and are refused."""


def check_elements(symbols: Iterable[str]) -> None:
    """Raise if there are no serious EMT parameters for one of `symbols`.

    Raises
    ------
    InputError
        An element is not in `ELEMENTS`.
    """
    unknown = sorted(set(symbols) - set(ELEMENTS))
    if unknown:
        raise InputError(
            f"the oracle 'emt' does not know {', '.join(unknown)}; "
            f"it knows {', '.join(ELEMENTS)} (choose another calculator for other elements)"
        )


class _Neighbours:
    """The two methods that ASE's EMT needs of its list of neighbours."""

    def __init__(self, cutoff: float) -> None:
        self._finder = NeighborList(cutoff=cutoff, full_list=True)

    def update(self, atoms: Atoms) -> None:
        """Find all pairs of `atoms`."""
        first, second, shifts = self._finder.compute(
            points=atoms.positions, box=np.asarray(atoms.cell), periodic=True, quantities="ijS"
        )
        order = np.argsort(first, kind="stable")
        self._second = second[order].astype(np.intp)
        self._shifts = shifts[order]
        self._starts = np.searchsorted(first[order], np.arange(len(atoms) + 1))

    def get_neighbors(self, index: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int_]]:
        """Return the neighbours of one atom, (n,), and the cells they are in, (n, 3)."""
        rows = slice(self._starts[index], self._starts[index + 1])
        return self._second[rows], self._shifts[rows]


class FastEmt(EMT):  # type: ignore[misc]  # ASE publishes no types
    """ASE's EMT with a faster list of neighbours for periodic cells."""

    def initialize(self, atoms: Atoms) -> None:
        """Prepare the parameters for the elements of `atoms`."""
        check_elements(atoms.symbols)
        super().initialize(atoms)
        if all(atoms.pbc):
            self.nl = _Neighbours(self.rc_list)
