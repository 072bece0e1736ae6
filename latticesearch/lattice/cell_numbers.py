"""How many primitive cells of a parent lattice a structure can fill, from its atoms and volume."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice.parent import VACANCY, ParentLattice

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from latticesearch.lattice.orientations import Structure

VACANCY_SCALE = 1.1
"""With vacancies the number of cells follows from the volume: linear scale at most this."""

MAX_JOINT = 10
"""Species, or kinds of sites, that are looked at together; of more only one at a time."""


def cell_numbers(structure: Structure, parent: ParentLattice) -> range:
    """Return the numbers of primitive cells whose sites the atoms can be distributed on.

    Hall's theorem says when they can: any set of species must have enough sites that allow one of
    them, and any set of sites that may not be vacant enough atoms. Without vacancies the number
    follows from that of the atoms, otherwise from the volume within `VACANCY_SCALE`.

    Returns
    -------
    range
        Empty if there is no such number.
    """
    if VACANCY not in parent.species:
        number, left = divmod(structure.n_atoms, parent.n_basis)
        first, last = (1, 0) if left else (number, number)
    else:
        ratio = abs(np.linalg.det(structure.cell) / np.linalg.det(parent.cell))
        first = max(1, int(np.ceil(ratio / VACANCY_SCALE**3)))
        last = int(ratio * VACANCY_SCALE**3)
    counts = np.bincount(structure.labels, minlength=parent.n_species)
    least = max(-(-atoms // sites) for atoms, sites, _ in _crowding(counts, parent))
    most = min((atoms // sites for atoms, sites in _filling(counts, parent)), default=last)
    return range(max(first, least), min(last, most) + 1)


def sublattice_shortage(structure: Structure, parent: ParentLattice) -> str | None:
    """Return in words which atoms lack sites, or which sites lack atoms, whatever the volume."""
    counts = np.bincount(structure.labels, minlength=parent.n_species)
    atoms, sites, names = max(_crowding(counts, parent), key=lambda row: -(-row[0] // row[1]))
    least = -(-atoms // sites)
    most = min((n // m for n, m in _filling(counts, parent)), default=least)
    if VACANCY not in parent.species:
        most = min(most, structure.n_atoms // parent.n_basis)
    if least <= most:
        return None
    return (
        f"{atoms} atoms of {', '.join(names)} need {least} cells with {sites} sites for them, "
        f"the other atoms fill no more than {most}"
    )


def _subsets(n: int) -> Iterator[tuple[int, ...]]:
    sizes = range(1, n + 1) if n <= MAX_JOINT else (1,)
    return itertools.chain.from_iterable(itertools.combinations(range(n), size) for size in sizes)


def _crowding(
    counts: npt.NDArray[np.int64], parent: ParentLattice
) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yield, for sets of species, their atoms, their sites per primitive cell, their names."""
    present = np.flatnonzero(counts)
    # All sets of species ask for the same sites where every site allows everything.
    everywhere = parent.allowed[:, present].all()
    subsets = [tuple(range(len(present)))] if everywhere else _subsets(len(present))
    for subset in subsets:
        species = present[list(subset)]
        sites = int(parent.allowed[:, species].any(axis=1).sum())
        yield int(counts[species].sum()), sites, tuple(parent.species[s] for s in species)


def _filling(counts: npt.NDArray[np.int64], parent: ParentLattice) -> Iterator[tuple[int, int]]:
    """Yield, for sets of sites that may not be vacant, their atoms and their number."""
    allowed = parent.allowed
    if VACANCY in parent.species:
        allowed = allowed[~allowed[:, parent.species.index(VACANCY)]]
    if len(allowed) == 0:
        return
    kinds, numbers = np.unique(allowed, axis=0, return_counts=True)
    for subset in _subsets(len(kinds)):
        species = kinds[list(subset)].any(axis=0)
        yield int(counts[species].sum()), int(numbers[list(subset)].sum())
