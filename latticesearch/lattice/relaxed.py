"""See whether a relaxed structure is still the decoration that it started as.

Where the start is known nothing has to be searched for: the atoms are in the same order, so the
deformation is that of the cell, and the displacements are what is left of the coordinates. Two
things make it the same decoration: every atom is still closest to its own site, and its neighbours
are still its neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice.matching import (
    MAX_STRAIN,
    LatticeMatch,
    MappingFailure,
    Mismatch,
    unusable,
)
from latticesearch.lattice.neighbours import nearest_distance
from latticesearch.lattice.orientations import shape_strain
from latticesearch.lattice.parent import VACANCY
from latticesearch.lattice.placement import nearest_vectors

if TYPE_CHECKING:
    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.lattice.labelings import Configuration
    from latticesearch.lattice.supercell import Supercell

MAX_KNOWN_STRAIN = 1.5 * MAX_STRAIN
"""Shape strain that neighbours are still compared at: three quarters of the way from fcc to bcc. At
its end four of the twelve neighbours are as far as two others, and nothing tells them apart."""

SHELLS = 2.1
"""Distance, in units of the nearest one, up to which neighbours are compared."""

CLEAR_GAP = 0.9
"""Ratio of distances that separates the neighbours of a site from the others. Of 0.7 in sc, bcc,
fcc and hcp; where the ratio is larger the site has no neighbours in this sense."""


def match_to_start(atoms: Atoms, start: Configuration) -> LatticeMatch | MappingFailure:
    """Compare a relaxed structure with the ideal one that it was relaxed from.

    Parameters
    ----------
    atoms : ase.Atoms
        The relaxed structure: the atoms of ``start.to_atoms()`` in the same order, in a cell that
        is a deformation of its cell. It may be rotated, shifted and wrapped.
    start : Configuration

    Returns
    -------
    LatticeMatch or MappingFailure
        The start as a match if each atom is closer to its own site than to any other site of the
        strained lattice, if it is closer to its former neighbours than to all other atoms, and if
        the cell is strained by less than `MAX_KNOWN_STRAIN`. The reason tells a relaxation that
        cannot be compared, ``Mismatch.OTHER_ATOMS``, from one that left.
    """
    ideal = start.to_atoms()
    wrong = unusable(atoms, start.supercell.parent)
    if wrong is not None:
        return wrong
    if list(atoms.symbols) != list(ideal.symbols):
        message = "not the atoms of the start in the same order"
        return MappingFailure(Mismatch.OTHER_ATOMS, message)
    cell, reference = np.array(atoms.cell.array), np.array(ideal.cell.array)
    (strain,), (scale,) = shape_strain(cell, reference[None])
    if not (strain < MAX_KNOWN_STRAIN and scale > 0):
        message = f"the cell is strained by {strain:.3f}, at most {MAX_KNOWN_STRAIN} is compared"
        return MappingFailure(Mismatch.STRAIN, message)
    fractional = ideal.positions @ np.linalg.inv(reference)
    moved = _displacements(fractional, atoms.positions @ np.linalg.inv(cell))
    left = _left_sites(start, cell, moved) or _changed(start, cell, moved)
    if left is not None:
        return left
    distances = np.linalg.norm(moved @ cell, axis=1)
    return LatticeMatch(
        configuration=start,
        sites=_occupied(start),
        displacement_rms=float(np.sqrt((distances**2).mean())),
        displacement_max=float(distances.max()),
        strain=float(strain),
        scale=float(scale),
    )


def _occupied(start: Configuration) -> npt.NDArray[np.intp]:
    """Return the sites that hold atoms, in the order of the atoms."""
    species = np.array(start.supercell.parent.species)
    return np.flatnonzero(species[start.labels] != VACANCY)


def _displacements(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the fractional displacements, (n_atoms, 3), without wraps and their mean."""
    moved = after - before
    # Seen from one atom no other has gone half a cell, wherever the origin went.
    moved = moved - moved[0]
    moved = moved - np.rint(moved)
    result: npt.NDArray[np.float64] = moved - moved.mean(axis=0)
    return result


def _left_sites(
    start: Configuration, cell: npt.NDArray[np.float64], moved: npt.NDArray[np.float64]
) -> MappingFailure | None:
    """Return a failure if an atom is closer to another site than to its own."""
    supercell, occupied = start.supercell, _occupied(start)
    sites = supercell.positions @ np.linalg.inv(supercell.cell)
    vectors = nearest_vectors((sites[occupied] + moved)[:, None] - sites, cell)
    squares = (vectors**2).sum(axis=-1)
    own = (moved @ cell) ** 2
    gone = squares.min(axis=1) < own.sum(axis=1) - 1e-9
    if not gone.any():
        return None
    farthest = float(np.sqrt(own.sum(axis=1)[gone].max()))
    message = f"{int(gone.sum())} atoms are closer to other sites, up to {farthest:.2f} Å away"
    return MappingFailure(Mismatch.FAR, message)


def _changed(
    start: Configuration, cell: npt.NDArray[np.float64], moved: npt.NDArray[np.float64]
) -> MappingFailure | None:
    """Return a failure if an atom has other neighbours than before."""
    first, second, images, before = _pairs_of_sites(start.supercell)
    occupied = _occupied(start)
    numbers = np.full(start.supercell.n_sites, -1)
    numbers[occupied] = np.arange(len(occupied))
    kept = (numbers[first] >= 0) & (numbers[second] >= 0)
    limits = _neighbour_limits(start.supercell, first, before)[first]
    near, kept = before < limits, kept & np.isfinite(limits)
    sites = start.supercell.positions @ np.linalg.inv(start.supercell.cell)
    ends = sites[second] + images + moved[numbers[second]] - sites[first] - moved[numbers[first]]
    after = np.linalg.norm(ends @ cell, axis=1)
    farthest_near = np.zeros(len(occupied))
    np.maximum.at(farthest_near, numbers[first[kept & near]], after[kept & near])
    nearest_far = np.full(len(occupied), np.inf)
    np.minimum.at(nearest_far, numbers[first[kept & ~near]], after[kept & ~near])
    changed = int((farthest_near >= nearest_far).sum())
    if changed == 0:
        return None
    message = f"{changed} of {len(occupied)} atoms have come closer to others than to neighbours"
    return MappingFailure(Mismatch.NEIGHBOURS, message)


def _pairs_of_sites(
    supercell: Supercell,
) -> tuple[
    npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.int64], npt.NDArray[np.float64]
]:
    """Return first and second sites, images (n, 3) and distances, Å, of all pairs to compare."""
    from vesin import NeighborList

    finder = NeighborList(cutoff=SHELLS * nearest_distance(supercell.parent), full_list=True)
    first, second, images, distances = finder.compute(
        points=supercell.positions, box=supercell.cell, periodic=True, quantities="ijSd"
    )
    return first.astype(np.intp), second.astype(np.intp), images.astype(np.int64), distances


def _neighbour_limits(
    supercell: Supercell, first: npt.NDArray[np.intp], distances: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return for each site the distance, Å, that ends its neighbours: in the widest relative gap.

    Infinite where no gap is clear, so that the site is not compared.
    """
    limits = np.full(supercell.parent.n_basis, np.inf)
    for basis in range(supercell.parent.n_basis):
        shells = np.sort(distances[first == basis * supercell.n_cells])
        ratios = shells[:-1] / shells[1:]
        if len(ratios) and ratios.min() < CLEAR_GAP:
            gap = int(ratios.argmin())
            limits[basis] = (shells[gap] + shells[gap + 1]) / 2
    return limits[supercell.basis_index]
