"""Integer lattices: Hermite normal forms of supercell matrices.

A superlattice of index n is the set of integer combinations of the rows of a 3x3 integer matrix;
row operations do not change it, so its upper triangular Hermite normal form (HNF) is its name
(Hart & Forcade, Phys. Rev. B 77, 224115 (2008)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.lattice._hermite_kernels import hermite_batch

if TYPE_CHECKING:
    import numpy.typing as npt


_ROWS, _COLUMNS = np.triu_indices(3)
"""Where the entries (a, b, c, d, e, f) stand."""

LARGEST_ENTRY = 10**6
"""Largest entry of a supercell matrix: determinants stay within 64 bits."""


def hermite_normal_form(generators: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the Hermite normal form of the lattice that integer rows span.

    Parameters
    ----------
    generators : (m, 3) int
        At least three rows; their order, signs and redundancy do not matter.

    Returns
    -------
    (3, 3) int
        Upper triangular, ``[[a, b, c], [0, d, e], [0, 0, f]]`` with 0 <= b < d, 0 <= c, e < f.

    Raises
    ------
    InputError
        The rows do not span three dimensions.
    """
    rows = np.array(generators, dtype=np.int64)
    form = np.asarray(hermite_batch(rows[None])[0])
    if not form.any():
        raise InputError(
            f"the matrix {rows.tolist()} spans no volume; give three independent integer rows"
        )
    return form


def hermite_normal_forms(matrices: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the Hermite normal forms, (..., 3, 3), of non-singular matrices, (..., 3, 3)."""
    array = np.array(matrices, dtype=np.int64)
    forms = np.asarray(hermite_batch(np.ascontiguousarray(array.reshape(-1, 3, 3))))
    return forms.reshape(array.shape)


def is_superlattice(
    large: npt.NDArray[np.int64], small: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Return whether every vector of one lattice is a vector of another.

    Parameters
    ----------
    large : (..., 3, 3) int
        Rows that span the first.
    small : (..., 3, 3) int
        Rows that span the second, non-singular; the leading shapes are broadcast.

    Returns
    -------
    (...) bool
    """
    # Cross products of the rows: the inverse times the determinant, exact in integers.
    following = np.cross(np.roll(small, -1, axis=-2), np.roll(small, -2, axis=-2))
    determinant = (small[..., 0, :] * following[..., 0, :]).sum(axis=-1)
    multiples = large @ np.swapaxes(following, -1, -2)
    whole: npt.NDArray[np.bool_] = (multiples % determinant[..., None, None] == 0).all(
        axis=(-2, -1)
    )
    return whole


def hnf_entries(forms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the entries (a, b, c, d, e, f), shape (..., 6), of forms of shape (..., 3, 3)."""
    entries: npt.NDArray[np.int64] = forms[..., _ROWS, _COLUMNS]
    return entries


def hnf_from_entries(entries: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the matrix, (3, 3), with the entries (a, b, c, d, e, f)."""
    form = np.zeros((3, 3), np.int64)
    form[_ROWS, _COLUMNS] = np.asarray(entries, dtype=np.int64)
    return form


def lexicographic_order(entries: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Return the order, (n,), that sorts the rows of (n, m) integers, first column first."""
    return np.lexsort(entries.T[::-1])


def integer_matrix(matrix: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return `matrix` as (3, 3) integers of positive determinant.

    Three numbers mean a diagonal matrix.

    Raises
    ------
    InputError
        The shape is wrong, an entry is not an integer or enormous, or the determinant is zero.
    """
    try:
        array = np.asarray(matrix, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(f"a supercell matrix has 3 x 3 integers, or 3; got {matrix!r}") from error
    if array.shape == (3,):
        array = np.diag(array)
    if array.shape != (3, 3) or not np.isfinite(array).all():
        raise InputError(
            f"a supercell matrix has 3 x 3 integers, rows in units of the parent's rows; "
            f"got shape {array.shape}"
        )
    if np.abs(array).max() > LARGEST_ENTRY:
        raise InputError(
            f"the supercell matrix {array.tolist()} is too large: entries go up to {LARGEST_ENTRY}"
        )
    rounded: npt.NDArray[np.int64] = np.rint(array).astype(np.int64)
    if np.abs(array - rounded).max() > 1e-6:
        raise InputError(f"the supercell matrix {array.tolist()} has entries that are no integers")
    if round(np.linalg.det(rounded)) == 0:
        raise InputError(
            f"the supercell matrix {rounded.tolist()} spans no volume; give independent rows"
        )
    return rounded
