"""Which supercells of a parent lattice a cell full of atoms can be: a search among lattice planes.

If a structure with lattice vectors C (rows) is a strained and rotated supercell M of a parent P,
``C = M @ P @ F``, the columns of M are what the parent's three reciprocal vectors have become: the
i-th is ``inv(C) @ M[:, i]``, and ``fractional @ M[:, i]`` are the coordinates of the atoms in units
of the parent's i-th lattice vector. So each column can be judged for itself, by its length and by
whether the atoms lie on the planes that the parent's sites leave room for (their Bragg condition,
species by species). Triples are formed of the few columns that pass, pairs first, and sorted by a
lower bound of their misfit. Planes do not care for strain, missing atoms or the number of cells.

All windows and bounds follow from the limits: no matrix within them is left out, except where more
than `MAX_VECTORS` columns, `MAX_PAIRS` pairs or `MAX_TRIPLES` triples pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice.parent import ParentLattice

BINS = 64
"""Parts of a period in which atoms are counted; two of them, 0.05 to 0.1 Å, blur the bound."""

MAX_VECTORS = 4000
"""Columns that are kept, those with the least displaced atoms; 500 sites have fewer."""

MAX_PAIRS = 100_000
"""Pairs of columns that a third is looked for, least displaced first."""

MAX_TRIPLES = 300_000
"""Triples after which no further pairs are looked at; on the lattice there are some dozens, in
cells of a few atoms among many vacancies ten thousands."""

CHUNK = 4_000_000
"""Numbers in one temporary array, 32 MB."""


@dataclass(frozen=True, eq=False)
class Structure:
    """A crystal to be mapped.

    Attributes
    ----------
    cell : (3, 3) float
        Reduced lattice vectors, rows, Å.
    fractional : (n_atoms, 3) float
    labels : (n_atoms,) int
        Indices into the parent's species.
    n_given : int
        How many of the atoms, the first ones, are those of the cell as given; of a cell that was
        repeated the others are copies. Default all.
    """

    cell: npt.NDArray[np.float64]
    fractional: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    n_given: int = -1

    def __post_init__(self) -> None:
        if self.n_given < 0:
            object.__setattr__(self, "n_given", len(self.labels))

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.labels)


@dataclass(frozen=True)
class Limits:
    """How far a structure may be from the ideal one.

    Attributes
    ----------
    tolerance : float
        Largest distance of an atom from its site, Å.
    strain : float
        Largest shape strain.
    score : float
        Largest sum of shape strain and root mean square displacement per spacing.
    rms : float
        Largest root mean square displacement per spacing; only `score` by default.
    """

    tolerance: float
    strain: float
    score: float
    rms: float = np.inf


@dataclass(frozen=True, eq=False)
class Orientations:
    """Integer matrices, (n, 3, 3), that may span a structure, by rising lower bound of the score.

    Attributes
    ----------
    matrices : (n, 3, 3) int
    bounds : (n,) float
        No placement of the atoms on the sites of the supercell has a lower score.
    """

    matrices: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.float64]


def spacing(parent: ParentLattice) -> float:
    """Return the cube root of the parent's volume per site, Å."""
    return float(np.cbrt(abs(np.linalg.det(parent.cell)) / parent.n_basis))


def shape_strain(
    cell: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return shape strain and scale, (n,), of `cell`, (3, 3), against `reference`, (n, 3, 3).

    The strain is the root mean square of the principal stretches minus one at equal volume.
    """
    stretches = np.linalg.svd(np.linalg.solve(reference, cell), compute_uv=False)
    scale = np.cbrt(stretches.prod(axis=-1))
    return np.sqrt(((stretches / scale[..., None] - 1) ** 2).mean(axis=-1)), scale


def orientations(
    structure: Structure, parent: ParentLattice, numbers: range, limits: Limits
) -> Orientations:
    """Return the matrices that may take the parent's lattice vectors to those of a structure.

    Parameters
    ----------
    structure : Structure
    parent : ParentLattice
    numbers : range
        Possible numbers of primitive cells.
    limits : Limits
    """
    frame = _reciprocal_frame(parent)
    volume = np.linalg.det(structure.cell) / np.linalg.det(frame.cell)
    scales = np.cbrt(abs(volume) / np.array([numbers[-1], numbers[0]]))
    reach = min(limits.score, limits.rms) * frame.spacing * scales[1]
    planes: list[_Planes] = []
    for axis, same in enumerate(frame.same_as):
        if same < axis:
            planes.append(planes[same])
        else:
            planes.append(_planes(structure, frame, axis, scales, limits.strain, reach))
    triples = _triples(planes, frame, scales, limits.strain, reach)
    matrices = np.stack([planes[i].vectors[triples[i]] for i in range(3)], axis=-1)
    determinants = np.rint(np.linalg.det(matrices)).astype(np.int64) * int(np.sign(volume))
    kept = (determinants >= numbers[0]) & (determinants <= numbers[-1])
    squares = np.sum([planes[i].squares[triples[i]] for i in range(3)], axis=0)[kept]
    return _sorted(structure, frame, matrices[kept], squares, limits)


@dataclass(frozen=True, eq=False)
class _Frame:
    """The parent in the cell whose reciprocal vectors are shortest.

    Attributes
    ----------
    change : (3, 3) int
        ``cell == change @ parent.cell``.
    cell : (3, 3) float
        Lattice vectors, rows, Å.
    reciprocal : (3, 3) float
        Reciprocal vectors without 2 pi, rows, 1/Å.
    penalties : (3, n_species, BINS) complex
        Conjugated Fourier transforms of the squared distance of a species from the nearest plane
        that allows it, in squared periods, for each reciprocal vector.
    same_as : (3,) int
        The first reciprocal vector of the same length and with the same penalties.
    spacing : float
        Cube root of the volume per site, Å.
    """

    change: npt.NDArray[np.int64]
    cell: npt.NDArray[np.float64]
    reciprocal: npt.NDArray[np.float64]
    penalties: npt.NDArray[np.complex128]
    same_as: tuple[int, ...]
    spacing: float


@lru_cache(maxsize=32)
def _reciprocal_frame(parent: ParentLattice) -> _Frame:
    from ase.geometry.minkowski_reduction import minkowski_reduce

    reduced, operation = minkowski_reduce(np.linalg.inv(parent.cell).T)
    change = np.rint(np.linalg.inv(operation).T).astype(np.int64)
    basis = parent.basis @ np.linalg.inv(change)
    penalties = np.array(
        [[_penalty(basis[allowed, i]) for allowed in parent.allowed.T] for i in range(3)]
    )
    lengths = np.linalg.norm(reduced, axis=1)
    same = np.isclose(lengths[:, None], lengths) & np.isclose(penalties[:, None], penalties).all(
        axis=(2, 3)
    )
    return _Frame(
        change=change,
        cell=change @ parent.cell,
        reciprocal=np.array(reduced, dtype=float),
        penalties=np.conj(np.fft.rfft(penalties, axis=-1)),
        same_as=tuple(same.argmax(axis=1).tolist()),
        spacing=spacing(parent),
    )


def _penalty(offsets: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return least squared distances, (BINS,), of a bin from the nearest of the planes `offsets`.

    Half a bin is the atom's, and half a bin is that of the origin, so one is taken off.
    """
    positions = np.arange(BINS) / BINS
    distance = np.abs(positions[:, None] - offsets)
    distance = np.abs(distance - np.rint(distance)).min(axis=1, initial=0.5)
    blurred: npt.NDArray[np.float64] = np.maximum(distance - 1 / BINS, 0.0) ** 2
    return blurred


@dataclass(frozen=True, eq=False)
class _Planes:
    """Integer vectors (n, 3), reciprocal vectors (n, 3), 1/Å, mean squared distances (n,), Å^2."""

    vectors: npt.NDArray[np.int64]
    reciprocal: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]


def _largest_stretch(strain: float) -> float:
    """Return how much a principal stretch can differ from 1 at a given shape strain.

    The three differences d have a product of 1 + d equal to 1, so to second order their sum is
    half of that of their squares, 3/2 strain^2; the worst are (1, -1/2, -1/2) times sqrt(2) strain.
    """
    return float(np.sqrt(2) * strain + strain**2)


def _planes(
    structure: Structure,
    frame: _Frame,
    axis: int,
    scales: npt.NDArray[np.float64],
    strain: float,
    reach: float,
) -> _Planes:
    """Return the vectors that the parent's reciprocal vector `axis` can have become."""
    stretch = _largest_stretch(strain)
    length = np.linalg.norm(frame.reciprocal[axis])
    shortest = length / (scales[1] * (1 + stretch))
    longest = length / (scales[0] * (1 - stretch))
    # Component k of an integer vector is the product of the reciprocal one and lattice vector k.
    bounds = np.floor(longest * np.linalg.norm(structure.cell, axis=1)).astype(int)
    vectors = np.indices(tuple(2 * bounds + 1)).reshape(3, -1).T - bounds
    reciprocal = vectors @ np.linalg.inv(structure.cell).T
    norms = np.linalg.norm(reciprocal, axis=1)
    kept = (norms >= shortest) & (norms <= longest)
    vectors, reciprocal, norms = vectors[kept], reciprocal[kept], norms[kept]
    squares = _plane_distances(structure, frame.penalties[axis], vectors) / norms**2
    order = np.argsort(squares, kind="stable")
    order = order[squares[order] <= reach**2][:MAX_VECTORS]
    return _Planes(vectors[order], reciprocal[order], squares[order])


def _plane_distances(
    structure: Structure, penalties: npt.NDArray[np.complex128], vectors: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return bounds of the mean squared distance, (n,), of the atoms from their nearest planes.

    The mean is that at the best origin: the counts of atoms per bin are correlated with the
    penalties of the bins.
    """
    n_species = len(penalties)
    step = max(1, CHUNK // max(structure.n_atoms, n_species * BINS))
    distances = [np.zeros(0)]
    for start in range(0, len(vectors), step):
        chunk = vectors[start : start + step]
        periods = structure.fractional @ chunk.T
        bins = np.floor((periods - np.floor(periods)) * BINS).astype(np.intp) % BINS
        rows = np.arange(len(chunk)) * n_species + structure.labels[:, None]
        size = len(chunk) * n_species * BINS
        counts = np.bincount((rows * BINS + bins).ravel(), minlength=size)
        spectrum = np.fft.rfft(counts.reshape(-1, n_species, BINS), axis=-1)
        sums = np.fft.irfft((spectrum * penalties).sum(axis=1), BINS, axis=-1)
        distances.append(np.maximum(sums.min(axis=-1), 0.0) / structure.n_atoms)
    return np.concatenate(distances)


def _triples(
    planes: list[_Planes],
    frame: _Frame,
    scales: npt.NDArray[np.float64],
    strain: float,
    reach: float,
) -> tuple[npt.NDArray[np.intp], ...]:
    """Return the triples of planes, three arrays (n,), whose pairs all fit each other."""
    fits = {
        (i, j): _pairs(planes[i], planes[j], _window(frame.reciprocal, i, j, scales, strain), reach)
        for i, j in ((0, 1), (0, 2), (1, 2))
    }
    first, second = np.nonzero(fits[0, 1])
    order = np.argsort(planes[0].squares[first] + planes[1].squares[second], kind="stable")
    first, second = first[order[:MAX_PAIRS]], second[order[:MAX_PAIRS]]
    step = max(1, CHUNK // max(1, len(planes[2].vectors)))
    found, n_found = [(np.zeros(0, np.intp),) * 3], 0
    for start in range(0, len(first), step):
        if n_found > MAX_TRIPLES:
            break
        i, j = first[start : start + step], second[start : start + step]
        pair, third = np.nonzero(fits[0, 2][i] & fits[1, 2][j])
        found.append((i[pair], j[pair], third))
        n_found += len(third)
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))


def _window(
    reciprocal: npt.NDArray[np.float64],
    i: int,
    j: int,
    scales: npt.NDArray[np.float64],
    strain: float,
) -> tuple[float, float]:
    """Return the least and the largest product, 1/Å^2, of two reciprocal vectors once strained."""
    product = float(reciprocal[i] @ reciprocal[j])
    norms = np.linalg.norm(reciprocal[i]) * np.linalg.norm(reciprocal[j])
    margin = ((1 - _largest_stretch(strain)) ** -2 - 1) * float(norms)
    ends = np.outer([product - margin, product + margin], scales**-2)
    return float(ends.min()), float(ends.max())


def _pairs(
    one: _Planes, other: _Planes, window: tuple[float, float], reach: float
) -> npt.NDArray[np.bool_]:
    """Return which planes fit each other, (n, m): by angle, and by what both ask of the atoms.

    A displacement u has at most ``(1 + cos) u**2`` as the sum of its squared components along two
    directions.
    """
    products = one.reciprocal @ other.reciprocal.T
    norms = np.linalg.norm(one.reciprocal, axis=1)[:, None] * np.linalg.norm(
        other.reciprocal, axis=1
    )
    sums = one.squares[:, None] + other.squares
    fit: npt.NDArray[np.bool_] = (
        (products >= window[0])
        & (products <= window[1])
        & (sums <= (1 + np.abs(products) / norms) * reach**2)
    )
    return fit


def _sorted(
    structure: Structure,
    frame: _Frame,
    matrices: npt.NDArray[np.int64],
    squares: npt.NDArray[np.float64],
    limits: Limits,
) -> Orientations:
    """Return the matrices within the limits, for the parent's own cell, by rising bound."""
    if len(matrices) == 0:
        return Orientations(matrices, np.zeros(0))
    strains, scales = shape_strain(structure.cell, matrices @ frame.cell)
    kept = strains <= limits.strain
    matrices, strains, scales = matrices[kept], strains[kept], scales[kept]
    reciprocal = np.linalg.inv(structure.cell) @ matrices
    units = reciprocal / np.linalg.norm(reciprocal, axis=1, keepdims=True)
    # Sum of squared components along the three directions, at most the largest eigenvalue times
    # the squared displacement.
    largest = np.linalg.eigvalsh(units.transpose(0, 2, 1) @ units)[:, -1]
    bounds = strains + np.sqrt(squares[kept] / largest) / (frame.spacing * scales)
    order = np.argsort(bounds, kind="stable")
    order = order[bounds[order] <= limits.score]
    return Orientations(matrices[order] @ frame.change, bounds[order])
