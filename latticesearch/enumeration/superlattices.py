"""Symmetrically distinct superlattices of a parent lattice.

Hart & Forcade, Phys. Rev. B 77, 224115 (2008): one Hermite normal form for each superlattice,
and one superlattice for each set that the parent's point group carries into each other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.enumeration.restrictions import whole_number
from latticesearch.errors import InputError
from latticesearch.lattice import Supercell
from latticesearch.lattice.normal_forms import (
    hermite_normal_forms,
    hnf_entries,
    lexicographic_order,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice


LARGEST_INDEX = 500
"""Beyond it there are millions of superlattices."""


def all_superlattices(index: int) -> npt.NDArray[np.int64]:
    """Return the Hermite normal forms, (n, 3, 3), of all superlattices of one index.

    They are in ascending order of (a, b, c, d, e, f).

    Raises
    ------
    InputError
        The index is no whole number from 1 to `LARGEST_INDEX`.
    """
    index = whole_number("the index of a superlattice", index)
    if not 1 <= index <= LARGEST_INDEX:
        raise InputError(f"the index of a superlattice is 1 to {LARGEST_INDEX}; got {index}")
    divisors = [d for d in range(1, index + 1) if index % d == 0]
    forms = [
        [[a, b, c], [0, d, e], [0, 0, index // (a * d)]]
        for a in divisors
        for d in divisors
        if index % (a * d) == 0
        for b in range(d)
        for c in range(index // (a * d))
        for e in range(index // (a * d))
    ]
    array = np.array(forms, dtype=np.int64)
    return array[lexicographic_order(hnf_entries(array))]


def superlattices(
    parent: ParentLattice, index: int, *, layer_axis: int | None = None
) -> list[npt.NDArray[np.int64]]:
    """Return the symmetrically distinct superlattices of one index.

    Parameters
    ----------
    parent : ParentLattice
    index : int
        Number of primitive cells.
    layer_axis : int, optional
        Only superlattices that contain this lattice vector of the parent (0, 1 or 2), or have
        an equivalent that does: cells one parent cell thick, for two-dimensional layers.

    Returns
    -------
    list of (3, 3) int
        Hermite normal forms, the smallest (a, b, c, d, e, f) of each set of equivalent ones,
        in ascending order.

    Raises
    ------
    InputError
        The index is no whole number from 1 to `LARGEST_INDEX`, or there is no such axis.
    """
    if layer_axis not in {None, 0, 1, 2}:
        raise InputError(f"the layer axis is lattice vector 0, 1 or 2; got {layer_axis!r}")
    index = whole_number("the index of a superlattice", index)
    return list(_distinct(parent, index, layer_axis))


@lru_cache(maxsize=64)  # sizes at a time; 72 bytes for each superlattice
def _distinct(
    parent: ParentLattice, index: int, layer_axis: int | None
) -> tuple[npt.NDArray[np.int64], ...]:
    forms = all_superlattices(index)
    entries = hnf_entries(forms)
    # Base-(index + 1) digits order like the tuples and fit in 64 bits up to index 1447.
    weights = (index + 1) ** np.arange(5, -1, -1, dtype=np.int64)
    codes = entries @ weights
    smallest = codes.copy()
    for rotation in np.unique(parent.rotations, axis=0):
        images = hermite_normal_forms(forms @ rotation.T)
        np.minimum(smallest, hnf_entries(images) @ weights, out=smallest)
    kept = codes == smallest
    if layer_axis is not None:
        # A unit row is in the lattice exactly if it is a row of the Hermite normal form.
        flat = (forms[:, layer_axis] == np.eye(3, dtype=np.int64)[layer_axis]).all(axis=1)
        kept &= np.isin(codes, smallest[flat])
    distinct = forms[kept]
    distinct.flags.writeable = False
    return tuple(distinct)


def chosen_supercells(
    parent: ParentLattice,
    index: int | None,
    supercell: Supercell | npt.ArrayLike | None,
    *,
    layer_axis: int | None = None,
) -> list[Supercell]:
    """Return the supercells of all distinct superlattices of one index, or the one that is given.

    Parameters
    ----------
    parent : ParentLattice
    index : int, optional
        Number of primitive cells; not needed with a supercell.
    supercell : Supercell or integer matrix, optional
    layer_axis : int, optional
        See `superlattices`.
    """
    if supercell is None:
        forms = superlattices(parent, index or 0, layer_axis=layer_axis)
        return [Supercell.from_hnf(parent, form) for form in forms]
    if isinstance(supercell, Supercell):
        return [supercell]
    return [Supercell.from_matrix(parent, supercell)]
