"""Put the atoms of a structure on the sites of a supercell of which the orientation is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice.parent import VACANCY
from latticesearch.lattice.supercell import Supercell

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice.orientations import Structure
    from latticesearch.lattice.parent import ParentLattice

FORBIDDEN_COST = 1e6
"""Cost, Å^2, of an atom on a site that does not allow it; far above any distance in a cell."""

EMPTY_COST = 1e3
"""Cost, Å^2, of a site that has to be filled and is empty."""

ROUNDING_RADIUS = 4.5
"""Distance, Å, within which images are found exactly in any case: beyond a site's neighbours."""

MAX_STEPS = 10
"""Times that the origin is moved to the mean of the atoms; two or three are usual."""

_NEIGHBOUR_IMAGES = np.indices((3, 3, 3)).reshape(3, -1).T - 1


@dataclass(frozen=True, eq=False)
class Placement:
    """Atoms on sites.

    Attributes
    ----------
    supercell : Supercell
    sites : (n_atoms,) int
        Site of the supercell that each atom is on, all different.
    displacements : (n_atoms, 3) float
        From the sites to the atoms, Å, their mean taken out.
    """

    supercell: Supercell
    sites: npt.NDArray[np.intp]
    displacements: npt.NDArray[np.float64]

    @property
    def rms(self) -> float:
        """Root mean square displacement, Å."""
        return _rms(self.displacements)


def _rms(vectors: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt((vectors**2).sum(axis=1).mean()))


def placements(
    structure: Structure,
    parent: ParentLattice,
    matrix: npt.NDArray[np.int64],
    largest_rms: float = np.inf,
) -> list[Placement]:
    """Return the placements of the atoms on the sites of a supercell, that of least squares first.

    Candidate origins put one atom of the rarest species on each site of the basis. Every atom then
    takes the site nearest to it, and the common shift is taken out until nothing changes. Where
    two atoms ask for one site, or a site that has to be filled is left, all atoms are assigned at
    once (the Hungarian method). Each origin gives one placement; further ones move an atom of the
    best placement to a vacancy beside it.

    Parameters
    ----------
    structure : Structure
    parent : ParentLattice
    matrix : (3, 3) int
        The structure's lattice vectors in units of those of the parent.
    largest_rms : float
        Root mean square displacement, Å, beyond which no placement is wanted.
    """
    nearest = _nearest(structure, parent, matrix)
    settled = [_settled(nearest, origin) for origin in nearest.origins()]
    # Atoms that may share sites are no farther from them than atoms that may not.
    within = [one for one in settled if one.rms <= largest_rms]
    if not within:
        return []
    supercell = Supercell.from_matrix(parent, matrix)
    found = [_without_clashes(structure, supercell, matrix, one) for one in within]
    ordered = sorted(
        (one for one in found if one is not None and one.rms <= largest_rms),
        key=lambda one: one.rms,
    )
    return ordered + [
        other for one in ordered[:1] for other in _beside(structure, one, matrix, largest_rms)
    ]


def _beside(
    structure: Structure,
    placement: Placement,
    matrix: npt.NDArray[np.int64],
    largest_rms: float,
) -> list[Placement]:
    """Return the placements with one atom on a vacant site instead, at most so far away."""
    supercell, sites = placement.supercell, placement.sites
    vacant = np.setdiff1d(np.arange(supercell.n_sites), sites)
    vacant = vacant[~_must_be_filled(supercell)[vacant]]
    movable = np.flatnonzero(~_must_be_filled(supercell)[sites])
    if len(vacant) == 0 or len(movable) == 0:
        return []
    coordinates = supercell.parent.basis[:, None] + supercell.cell_vectors
    fractional = coordinates.reshape(-1, 3) @ np.linalg.inv(matrix)
    own = placement.displacements @ np.linalg.inv(structure.cell)
    between = fractional[sites[movable], None] + own[movable, None] - fractional[vacant]
    vectors = nearest_vectors(between, structure.cell)
    n_atoms, before = len(sites), placement.displacements[movable, None]
    sums = (placement.displacements**2).sum() + (vectors**2).sum(-1) - (before**2).sum(-1)
    # The mean of the others is taken out again.
    squares = sums / n_atoms - (((vectors - before) / n_atoms) ** 2).sum(axis=-1)
    allowed = supercell.allowed[vacant][:, structure.labels[movable]].T
    atoms, places = np.nonzero(allowed & (squares <= largest_rms**2))
    others = []
    for atom, place in zip(atoms.tolist(), places.tolist(), strict=True):
        moved, displacements = sites.copy(), placement.displacements.copy()
        moved[movable[atom]] = vacant[place]
        displacements[movable[atom]] = vectors[atom, place]
        others.append(Placement(supercell, moved, displacements - displacements.mean(axis=0)))
    return others


def _without_clashes(
    structure: Structure, supercell: Supercell, matrix: npt.NDArray[np.int64], one: _Settled
) -> Placement | None:
    """Return the placement if each atom has a site of its own and all sites that must are filled.

    The atoms are assigned anew where that is not so; None if it cannot be.
    """
    sites, displacements = supercell.site_of(one.basis, one.vectors), one.displacements
    if len(np.unique(sites)) < len(sites) or not _is_filled(supercell, sites):
        sites, displacements = _assigned(structure, supercell, matrix, one.origin)
        allowed = supercell.allowed[sites, structure.labels].all()
        if not (allowed and _is_filled(supercell, sites)):
            return None
    return Placement(supercell, sites, displacements)


def _must_be_filled(supercell: Supercell) -> npt.NDArray[np.bool_]:
    """Return the sites, (n_sites,), that allow no vacancy."""
    species = supercell.parent.species
    if VACANCY not in species:
        return np.ones(supercell.n_sites, np.bool_)
    filled: npt.NDArray[np.bool_] = ~supercell.allowed[:, species.index(VACANCY)]
    return filled


def _is_filled(supercell: Supercell, sites: npt.NDArray[np.intp]) -> bool:
    empty = np.ones(supercell.n_sites, np.bool_)
    empty[sites] = False
    return not (empty & _must_be_filled(supercell)).any()


@lru_cache(maxsize=32)
def _reduced_change(parent: ParentLattice) -> npt.NDArray[np.int64]:
    """Return the matrix, (3, 3), that takes the parent's cell to its Minkowski-reduced one."""
    from ase.geometry.minkowski_reduction import minkowski_reduce

    return np.asarray(minkowski_reduce(parent.cell)[1], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Nearest:
    """Atoms folded into the parent's reduced and strained cell, to find their nearest sites.

    Attributes
    ----------
    cell : (3, 3) float
        The parent's reduced lattice vectors as the structure strains them, rows, Å.
    atoms : (n_atoms, 3) float
        Coordinates of the atoms in units of `cell`.
    basis : (n_basis, 3) float
        Coordinates of the parent's sites.
    forbidden : (n_atoms, n_basis) bool
    anchor : int
        The atom that origins are tried for.
    change : (3, 3) int
        From coordinates in units of `cell` to those of the parent's own cell.
    """

    cell: npt.NDArray[np.float64]
    atoms: npt.NDArray[np.float64]
    basis: npt.NDArray[np.float64]
    forbidden: npt.NDArray[np.bool_]
    anchor: int
    change: npt.NDArray[np.int64]

    def origins(self) -> npt.NDArray[np.float64]:
        """Return the origins, (n, 3), that put the anchor on a site that allows it."""
        allowed = ~self.forbidden[self.anchor]
        origins: npt.NDArray[np.float64] = self.atoms[self.anchor] - self.basis[allowed]
        return origins

    def sites(
        self, origin: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return basis index, primitive cell (n, 3) and displacement (n, 3) Å, for each atom."""
        fractional = self.atoms[:, None] - self.basis - origin
        cells = np.rint(fractional)
        rest = (fractional - cells)[:, :, None] - _NEIGHBOUR_IMAGES
        vectors = rest @ self.cell
        squares = (vectors**2).sum(axis=-1) + FORBIDDEN_COST * self.forbidden[:, :, None]
        best = squares.reshape(len(squares), -1).argmin(axis=1)
        basis, image = np.divmod(best, len(_NEIGHBOUR_IMAGES))
        atoms = np.arange(len(best))
        lattice = cells[atoms, basis].astype(np.int64) + _NEIGHBOUR_IMAGES[image]
        return basis, lattice @ self.change, vectors[atoms, basis, image]


def _nearest(
    structure: Structure, parent: ParentLattice, matrix: npt.NDArray[np.int64]
) -> _Nearest:
    change = _reduced_change(parent)
    back = np.linalg.inv(change)
    counts = np.bincount(structure.labels, minlength=parent.n_species)
    sites = parent.allowed.sum(axis=0)
    # The fewest origins first, then the atom that is least likely to be one of a disturbed many.
    rarest = min(np.unique(structure.labels).tolist(), key=lambda s: (sites[s], counts[s]))
    return _Nearest(
        cell=change @ np.linalg.solve(matrix, structure.cell),
        atoms=structure.fractional @ matrix @ back,
        basis=parent.basis @ back,
        forbidden=~parent.allowed[:, structure.labels].T,
        anchor=int(np.flatnonzero(structure.labels == rarest)[0]),
        change=change,
    )


@dataclass(frozen=True, eq=False)
class _Settled:
    """Atoms on their nearest sites, which two of them may share.

    Attributes
    ----------
    origin : (3,) float
        Where the origin of the sites is, in units of the parent's lattice vectors.
    basis : (n_atoms,) int
    vectors : (n_atoms, 3) int
        Primitive cells of the sites.
    displacements : (n_atoms, 3) float
        From the sites to the atoms, Å, their mean taken out.
    """

    origin: npt.NDArray[np.float64]
    basis: npt.NDArray[np.intp]
    vectors: npt.NDArray[np.int64]
    displacements: npt.NDArray[np.float64]

    @property
    def rms(self) -> float:
        """Root mean square displacement, Å."""
        return _rms(self.displacements)


def _settled(nearest: _Nearest, origin: npt.NDArray[np.float64]) -> _Settled:
    """Return the nearest sites once the mean shift is out."""
    previous = None
    for _ in range(MAX_STEPS):
        basis, vectors, displacements = nearest.sites(origin)
        mean = displacements.mean(axis=0)
        now = np.column_stack([basis, vectors])
        if previous is not None and (now == previous).all():
            break
        previous = now
        origin = origin + np.linalg.solve(nearest.cell.T, mean)
    return _Settled(origin @ nearest.change, basis, vectors, displacements - mean)


def _assigned(
    structure: Structure,
    supercell: Supercell,
    matrix: npt.NDArray[np.int64],
    origin: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the site of each atom and its displacement, (n_atoms, 3) Å, all sites different.

    Parameters
    ----------
    origin : (3,) float
        Where the origin of the sites is, in units of the parent's lattice vectors.
    """
    from scipy.optimize import linear_sum_assignment

    to_fractional = np.linalg.inv(matrix)
    basis = supercell.parent.basis
    sites = (basis[:, None] + supercell.cell_vectors).reshape(-1, 3) @ to_fractional
    shift = origin @ to_fractional
    fixed = FORBIDDEN_COST * ~supercell.allowed[:, structure.labels].T
    fixed = fixed - EMPTY_COST * _must_be_filled(supercell)
    previous = None
    for _ in range(MAX_STEPS):
        vectors = nearest_vectors(structure.fractional[:, None] - sites - shift, structure.cell)
        atoms, assigned = linear_sum_assignment((vectors**2).sum(axis=-1) + fixed)
        displacements = vectors[atoms, assigned]
        mean = displacements.mean(axis=0)
        shift = shift + np.linalg.solve(structure.cell.T, mean)
        if previous is not None and (assigned == previous).all():
            break
        previous = assigned
    return assigned, displacements - mean


def nearest_vectors(
    fractional: npt.NDArray[np.float64], cell: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the shortest periodic images, (..., 3) Å, of fractional vectors of a reduced cell.

    A vector shorter than half of every height of the cell has components between -1/2 and 1/2,
    so rounding finds it. Only where longer ones matter are the neighbouring images needed.
    """
    rounded = fractional - np.rint(fractional)
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    if heights.min() / 2 > ROUNDING_RADIUS:
        return rounded @ cell
    vectors = (rounded[..., None, :] + _NEIGHBOUR_IMAGES) @ cell
    nearest = (vectors**2).sum(axis=-1).argmin(axis=-1)
    shortest: npt.NDArray[np.float64] = np.take_along_axis(
        vectors, nearest[..., None, None], axis=-2
    )[..., 0, :]
    return shortest
