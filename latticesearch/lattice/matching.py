"""Find the labeling of a relaxed, strained, rotated or re-described structure.

A structure belongs to a parent lattice if an integer matrix and a small deformation take the
parent's lattice vectors to those of the structure, and each atom then sits closest to a site of
its own that allows it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice.labelings import Configuration
from latticesearch.lattice.parent import VACANCY, ParentLattice
from latticesearch.lattice.supercell import Supercell

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from ase import Atoms

log = logging.getLogger(__name__)

MAX_STRAIN = 0.09
"""Shape strain beyond which a cell is another lattice: half of bcc to fcc (Bain), 0.18."""

MAX_SCORE = 0.15
"""Score beyond which a structure is another lattice; bcc to hcp (Burgers) is 0.24."""

VACANCY_SCALE = 1.1
"""With vacancies the number of cells follows from the volume: linear scale at most this."""

LENGTH_MARGIN = 0.12
"""Relative difference of lengths within which lattice vectors are tried on each other."""

MAX_ORIENTATIONS = 48
"""Orientations tried, least strained first; a cubic lattice has 24 proper rotations."""

CERTAIN = 0.1
"""Displacement, relative to the tolerance, below which no better match is looked for."""

FORBIDDEN_COST = 1e6
"""Cost, Å^2, of an atom on a site that does not allow it; far above any distance in a cell."""

ROUNDING_RADIUS = 4.5
"""Distance, Å, within which images are found exactly in any case: beyond a site's neighbours."""

_NEIGHBOUR_IMAGES = np.indices((3, 3, 3)).reshape(3, -1).T - 1.0


@dataclass(frozen=True, eq=False)
class LatticeMatch:
    """A structure seen as a labeling of a parent lattice.

    Attributes
    ----------
    configuration : Configuration
    sites : (n_atoms,) int
        Site of ``configuration.supercell`` that each atom sits on.
    displacement_rms, displacement_max : float
        Distances of the atoms from their sites, Å, in the structure's own (strained) cell and
        after taking out their mean.
    strain : float
        Root mean square of the principal stretches minus one, at the structure's own volume.
    scale : float
        Cube root of the ratio of its volume per site to that of the parent.
    """

    configuration: Configuration
    sites: npt.NDArray[np.intp]
    displacement_rms: float
    displacement_max: float
    strain: float
    scale: float

    @property
    def supercell(self) -> Supercell:
        """The supercell that the structure's lattice vectors span."""
        return self.configuration.supercell

    @property
    def score(self) -> float:
        """Distance from the ideal structure, 0 for none: strain plus displacement per spacing."""
        return self.strain + self.displacement_rms / (_spacing(self.supercell) * self.scale)


def _spacing(supercell: Supercell) -> float:
    """Return the cube root of the parent's volume per site, Å."""
    parent = supercell.parent
    return float(np.cbrt(abs(np.linalg.det(parent.cell)) / parent.n_basis))


def map_to_lattice(
    atoms: Atoms, parent: ParentLattice, *, tolerance: float = 0.6, max_strain: float = MAX_STRAIN
) -> LatticeMatch | None:
    """Find the labeling of a parent lattice that a periodic structure is a distortion of.

    The structure may be strained, scaled, relaxed, rattled, shifted as a whole, wrapped, rotated,
    and given in any cell of its lattice with its atoms in any order. Sites without an atom are
    vacancies where the parent allows them.

    Parameters
    ----------
    atoms : ase.Atoms
    parent : ParentLattice
    tolerance : float
        Largest distance, Å, of an atom from its site.
    max_strain : float
        Largest shape strain of the cell.

    Returns
    -------
    LatticeMatch or None
        None if the structure is not on this lattice: unknown elements, a number of atoms that
        fits no supercell, or a cell or positions too far off.
    """
    symbols = atoms.get_chemical_symbols()
    if not (symbols and all(s in parent.species for s in symbols) and all(atoms.pbc)):
        return None
    if abs(atoms.cell.volume) < 1e-6 or not np.isfinite(atoms.positions).all():
        return None
    from ase.geometry.minkowski_reduction import minkowski_reduce

    cell = np.array(minkowski_reduce(atoms.cell.array)[0], dtype=float)
    structure = _Structure(
        cell,
        atoms.positions @ np.linalg.inv(cell),
        np.array([parent.species.index(s) for s in symbols]),
    )
    return _best_match(structure, parent, tolerance, max_strain)


@dataclass(frozen=True, eq=False)
class _Structure:
    """Reduced cell (3, 3), Å, fractional positions (n_atoms, 3) and labels (n_atoms,)."""

    cell: npt.NDArray[np.float64]
    fractional: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]


def _best_match(
    structure: _Structure, parent: ParentLattice, tolerance: float, max_strain: float
) -> LatticeMatch | None:
    """Return the best match in the parent's own orientation, else in the best other one."""
    for orientations in (_same_orientation, _any_orientation):
        best: LatticeMatch | None = None
        for n_cells in _cell_numbers(structure, parent):
            for matrix in orientations(structure.cell, parent, n_cells, max_strain):
                match = _match_sites(structure, parent, matrix)
                if match.displacement_max > tolerance or match.score > MAX_SCORE:
                    continue
                if match.displacement_max < CERTAIN * tolerance:
                    return match
                if best is None or match.score < best.score:
                    best = match
        if best is not None:
            return best
    return None


def _cell_numbers(structure: _Structure, parent: ParentLattice) -> list[int]:
    """Return the possible numbers of primitive cells, the one closest in volume first."""
    n_atoms = len(structure.labels)
    if VACANCY not in parent.species:
        return [n_atoms // parent.n_basis] if n_atoms % parent.n_basis == 0 else []
    occupied = int((~parent.allowed[:, parent.species.index(VACANCY)]).sum())
    ratio = abs(np.linalg.det(structure.cell) / np.linalg.det(parent.cell))
    fewest = max(-(-n_atoms // parent.n_basis), int(np.ceil(ratio / VACANCY_SCALE**3)))
    most = int(ratio * VACANCY_SCALE**3)
    if occupied:
        most = min(most, n_atoms // occupied)
    return sorted(range(fewest, most + 1), key=lambda n: abs(np.log(n / ratio)))


def _strain(
    cell: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return shape strain and scale, (n,), of `cell`, (3, 3), against `reference`, (n, 3, 3)."""
    stretches = np.linalg.svd(np.linalg.solve(reference, cell), compute_uv=False)
    scale = np.cbrt(stretches.prod(axis=-1))
    return np.sqrt(((stretches / scale[..., None] - 1) ** 2).mean(axis=-1)), scale


def _same_orientation(
    cell: npt.NDArray[np.float64], parent: ParentLattice, n_cells: int, max_strain: float
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the integer matrix that rounding gives, if it spans the right number of cells."""
    volumes = np.linalg.det(cell) / np.linalg.det(parent.cell)
    scale = np.cbrt(abs(volumes) / n_cells)
    matrix = np.rint(cell @ np.linalg.inv(parent.cell) / scale).astype(np.int64)
    if round(np.linalg.det(matrix)) == int(np.sign(volumes)) * n_cells:
        strain, _ = _strain(cell, matrix @ parent.cell)
        if strain <= max_strain:
            yield matrix


def _any_orientation(
    cell: npt.NDArray[np.float64], parent: ParentLattice, n_cells: int, max_strain: float
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield integer matrices whose rows have the lengths and angles of `cell`, best first.

    Matrices that the parent's operations carry into each other give the same labeling up to
    symmetry, so one of them is enough.
    """
    determinant = np.linalg.det(cell) / np.linalg.det(parent.cell)
    scale = np.cbrt(abs(determinant) / n_cells)
    gram = cell @ cell.T / scale**2
    vectors = _vectors_by_length(parent, np.sqrt(np.diag(gram)))
    matrices = _triples(vectors, parent.cell, gram, int(np.sign(determinant)) * n_cells)
    if len(matrices) == 0:
        return
    strains, _ = _strain(cell, matrices @ parent.cell)
    seen: set[bytes] = set()
    tried = 0
    for index in np.argsort(strains, kind="stable"):
        if strains[index] > max_strain or tried == MAX_ORIENTATIONS:
            return
        matrix = matrices[index]
        if matrix.tobytes() in seen:
            continue
        tried += 1
        proper = parent.rotations[np.linalg.det(parent.rotations) > 0]
        seen.update(m.tobytes() for m in matrix @ proper.transpose(0, 2, 1))
        yield matrix


def _vectors_by_length(
    parent: ParentLattice, lengths: npt.NDArray[np.float64]
) -> list[npt.NDArray[np.int64]]:
    """Return, for each of three lengths, Å, the parent's lattice vectors about as long."""
    longest = lengths.max() * (1 + LENGTH_MARGIN)
    # Component k of a vector is its projection on the k-th reciprocal vector.
    bounds = np.floor(longest * np.linalg.norm(np.linalg.inv(parent.cell), axis=0)).astype(int)
    vectors = np.indices(tuple(2 * bounds + 1)).reshape(3, -1).T - bounds
    norms = np.linalg.norm(vectors @ parent.cell, axis=1)
    return [vectors[np.abs(norms / length - 1) < LENGTH_MARGIN] for length in lengths]


def _triples(
    vectors: list[npt.NDArray[np.int64]],
    cell: npt.NDArray[np.float64],
    gram: npt.NDArray[np.float64],
    determinant: int,
) -> npt.NDArray[np.int64]:
    """Return the matrices, (n, 3, 3), of one vector of each list with nearly the given products.

    Parameters
    ----------
    vectors : three arrays, (n_k, 3) int
        Candidates for the three rows.
    cell : (3, 3) float
        Lattice vectors, Å, that the candidates are combinations of.
    gram : (3, 3) float
        Wanted scalar products of the rows, Å^2.
    determinant : int
        Wanted determinant.
    """
    lengths = np.sqrt(np.diag(gram))
    margins = 2 * LENGTH_MARGIN * np.outer(lengths, lengths)

    def fits(i: int, j: int) -> npt.NDArray[np.bool_]:
        products = (vectors[i] @ cell) @ (vectors[j] @ cell).T
        return np.asarray(np.abs(products - gram[i, j]) < margins[i, j])

    with_second, with_third, among = fits(0, 1), fits(0, 2), fits(1, 2)
    found = []
    for first in range(len(vectors[0])):
        second, third = np.nonzero(among & with_second[first][:, None] & with_third[first])
        rows = np.broadcast_to(vectors[0][first], (len(second), 3))
        found.append(np.stack([rows, vectors[1][second], vectors[2][third]], axis=1))
    matrices = np.concatenate(found) if found else np.zeros((0, 3, 3), np.int64)
    chosen: npt.NDArray[np.int64] = matrices[np.rint(np.linalg.det(matrices)) == determinant]
    return chosen


def _match_sites(
    structure: _Structure, parent: ParentLattice, matrix: npt.NDArray[np.int64]
) -> LatticeMatch:
    """Return the best placement of the atoms on the sites of the supercell `matrix`.

    Candidate origins put the first atom of the rarest species on each site of the basis; a
    common shift of all atoms is then taken out.
    """
    supercell = Supercell.from_matrix(parent, matrix)
    sites = (parent.basis[:, None] + supercell.cell_vectors).reshape(-1, 3) @ np.linalg.inv(matrix)
    counts = np.bincount(structure.labels, minlength=parent.n_species)
    anchor = int(np.argmin(counts[structure.labels]))
    candidates = np.flatnonzero(parent.allowed[:, structure.labels[anchor]])
    placements = [
        _place(
            structure, supercell, sites, structure.fractional[anchor] - sites[b * supercell.n_cells]
        )
        for b in candidates.tolist()
    ]
    assigned, displacements = min(placements, key=lambda p: float((p[1] ** 2).sum()))
    vacancy = parent.species.index(VACANCY) if VACANCY in parent.species else 0
    labels = np.full(supercell.n_sites, vacancy, np.int8)
    labels[assigned] = structure.labels
    distances = np.linalg.norm(displacements, axis=1)
    if not supercell.allowed[np.arange(supercell.n_sites), labels].all():
        distances = np.full_like(distances, np.inf)
    strain, scale = _strain(structure.cell, (matrix @ parent.cell)[None])
    return LatticeMatch(
        configuration=Configuration(supercell, labels),
        sites=assigned,
        displacement_rms=float(np.sqrt((distances**2).mean())),
        displacement_max=float(distances.max()),
        strain=float(strain[0]),
        scale=float(scale[0]),
    )


def _place(
    structure: _Structure,
    supercell: Supercell,
    sites: npt.NDArray[np.float64],
    origin: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the site of each atom and its displacement, (n_atoms, 3) Å, from near an origin.

    The assignment of least squares is repeated with the mean displacement taken out until it
    stays; the anchor atom may itself be displaced, so the first origin is only approximate.
    """
    from scipy.optimize import linear_sum_assignment

    forbidden = ~supercell.allowed[:, structure.labels].T
    previous = None
    for _ in range(10):
        vectors = _nearest_vectors(structure.fractional[:, None] - sites - origin, structure.cell)
        cost = (vectors**2).sum(axis=-1) + FORBIDDEN_COST * forbidden
        atoms, assigned = linear_sum_assignment(cost)
        displacements = vectors[atoms, assigned]
        mean = displacements.mean(axis=0)
        origin = origin + mean @ np.linalg.inv(structure.cell)
        if previous is not None and (assigned == previous).all():
            break
        previous = assigned
    return assigned, displacements - mean


def _nearest_vectors(
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
