"""Structures with more periods than the parent lattice has: pure nickel on B2 is bcc.

Such a structure may be given in a cell that no supercell of the parent has, for example of one
atom. A period that is no lattice vector of the parent still takes every atom to a site that allows
it, so it is the difference of two sites of the basis. The structure is a labeling of the *coarser*
parent that has these periods too, and once found there its cell is repeated.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice.normal_forms import hermite_normal_form
from latticesearch.lattice.orientations import Structure
from latticesearch.lattice.parent import SYMMETRY_TOLERANCE, VACANCY, ParentLattice

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class CoarserParent:
    """A parent lattice with more periods.

    Attributes
    ----------
    parent : ParentLattice
        Its symmetry is not worked out: only the identity is listed.
    order : int
        Number of its primitive cells in one of the finer parent.
    inverse : (3, 3) int
        ``inverse / order @ fine.cell == parent.cell``.
    """

    parent: ParentLattice
    order: int
    inverse: npt.NDArray[np.int64]


def coarser_parents(parent: ParentLattice, structure: Structure) -> tuple[CoarserParent, ...]:
    """Return the coarser parents that still allow all species of a structure, fewest periods first.

    For most parents there is none.
    """
    if parent.n_basis == 1:
        return ()
    present = frozenset(structure.labels.tolist())
    return tuple(
        coarse
        for coarse in _coarser(parent)
        if all(coarse.parent.allowed[:, label].any() for label in present)
    )


@lru_cache(maxsize=32)
def _coarser(parent: ParentLattice) -> tuple[CoarserParent, ...]:
    """Return all coarser parents, one for each group of further periods."""
    periods = _periods(parent)
    found = {}
    for size in (1, 2, 3):
        for generators in itertools.combinations(periods, size):
            group = _generated(generators, parent.n_basis)
            if group is not None and group.tobytes() not in found:
                found[group.tobytes()] = _coarsened(parent, group)
    valid = [coarse for coarse in found.values() if coarse is not None]
    return tuple(sorted(valid, key=lambda coarse: coarse.order))


def _periods(parent: ParentLattice) -> list[npt.NDArray[np.int64]]:
    """Return the differences of sites that may be periods, in units of 1 / order, with the order.

    Each is (4,) int: numerators and order. A multiple of a period must again lead to a site.
    """
    found: dict[bytes, npt.NDArray[np.int64]] = {}
    lengths = np.linalg.norm(parent.cell, axis=1)
    for one, other in itertools.permutations(range(parent.n_basis), 2):
        step = parent.basis[other] - parent.basis[one]
        for order in range(2, parent.n_basis + 1):
            off = np.abs(step * order - np.rint(step * order)) * lengths
            if off.max() < order * SYMMETRY_TOLERANCE:
                numerators = np.rint(step * order).astype(np.int64) % order
                period = np.append(numerators, order)
                found.setdefault(period.tobytes(), period)
                break
    return list(found.values())


def _generated(
    generators: tuple[npt.NDArray[np.int64], ...], largest: int
) -> npt.NDArray[np.int64] | None:
    """Return the lattice of periods, (3, 3) / its first factor, as one (4, 3) integer array.

    None where its order is above `largest`: an atom would need more sites than there are.
    """
    multiple = int(np.lcm.reduce([int(period[3]) for period in generators]))
    rows = [period[:3] * (multiple // int(period[3])) for period in generators]
    form = hermite_normal_form(np.vstack([*rows, multiple * np.eye(3, dtype=np.int64)]))
    order = multiple**3 // round(np.linalg.det(form))
    if order > largest:
        return None
    divisor = int(np.gcd(np.gcd.reduce(form.ravel()), multiple))
    return np.vstack([form // divisor, [multiple // divisor, order, 0]])


def _coarsened(parent: ParentLattice, group: npt.NDArray[np.int64]) -> CoarserParent | None:
    """Return the parent with the periods of a group, None if a site is left that must be filled."""
    form, (multiple, order, _) = group[:3], group[3].tolist()
    change = form / multiple
    cell = change @ parent.cell
    fractional = parent.basis @ np.linalg.inv(change)
    difference = fractional[:, None] - fractional
    distance = np.linalg.norm((difference - np.rint(difference)) @ cell, axis=-1)
    same = distance < 4 * SYMMETRY_TOLERANCE
    complete = same.sum(axis=1) == order
    kept = [b for b in np.flatnonzero(complete) if not same[b, :b].any()]
    allowed = np.array([parent.allowed[same[b]].all(axis=0) for b in kept], dtype=bool)
    may_be_vacant = VACANCY in parent.species and bool(
        parent.allowed[~complete, parent.species.index(VACANCY)].all()
    )
    if not kept or not allowed.any(axis=1).all() or not (complete.all() or may_be_vacant):
        return None
    coarse = replace(
        parent,
        cell=np.ascontiguousarray(cell),
        basis=np.ascontiguousarray(fractional[kept]),
        allowed=allowed,
        rotations=np.eye(3, dtype=np.int64)[None],
        translations=np.zeros((1, 3)),
        conventional=np.eye(3, dtype=np.int64),
    )
    return CoarserParent(coarse, order, np.rint(change * order).astype(np.int64))


def repeated(
    structure: Structure, coarse: CoarserParent, matrix: npt.NDArray[np.int64]
) -> tuple[Structure, npt.NDArray[np.int64]]:
    """Return the smallest repetition of a structure that is a supercell of the finer parent.

    Parameters
    ----------
    structure : Structure
    coarse : CoarserParent
    matrix : (3, 3) int
        The structure's lattice vectors in units of those of the coarser parent.

    Returns
    -------
    structure : Structure
        The given atoms come first.
    matrix : (3, 3) int
        Its lattice vectors in units of those of the finer parent.
    """
    from ase.geometry.minkowski_reduction import minkowski_reduce

    numerators = matrix @ coarse.inverse
    multiples = _whole_multiples(numerators, coarse.order)
    cell, operation = minkowski_reduce(multiples @ structure.cell)
    operation = np.asarray(operation, dtype=np.int64)
    a, d, f = np.diag(multiples).tolist()
    shifts = np.indices((a, d, f)).reshape(3, -1).T
    given = (shifts[:, None] + structure.fractional).reshape(-1, 3)
    larger = Structure(
        np.array(cell, dtype=float),
        given @ np.linalg.inv(operation @ multiples),
        np.tile(structure.labels, len(shifts)),
        n_given=structure.n_given,
    )
    return larger, operation @ multiples @ numerators // coarse.order


def _whole_multiples(numerators: npt.NDArray[np.int64], order: int) -> npt.NDArray[np.int64]:
    """Return the normal form, (3, 3), of the rows v for which v @ numerators / order is whole."""
    box = np.indices((order,) * 3).reshape(3, -1).T
    whole = (box @ numerators % order == 0).all(axis=1)
    return hermite_normal_form(np.vstack([box[whole], order * np.eye(3, dtype=np.int64)]))
