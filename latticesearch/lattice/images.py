"""Images of labelings under permutations of sites: the smallest one names its orbit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.lattice import _image_kernels as kernels

if TYPE_CHECKING:
    import numpy.typing as npt


def smallest_images(
    labels: npt.NDArray[np.int8], permutations: npt.NDArray[np.intp]
) -> npt.NDArray[np.int8]:
    """Return the lexicographically smallest image of each labeling.

    Parameters
    ----------
    labels : (n, n_sites) int8
    permutations : (n_perms, n_sites) intp
        A group, or a coset of one; the images are ``labels[i][permutations[p]]``.

    Returns
    -------
    (n, n_sites) int8
        The same for all labelings of an orbit, where the permutations are a group.
    """
    smallest: npt.NDArray[np.int8] = kernels.smallest_images(
        np.ascontiguousarray(labels), np.ascontiguousarray(permutations)
    )
    return smallest


def fixed_by(
    labels: npt.NDArray[np.int8], permutations: npt.NDArray[np.intp]
) -> npt.NDArray[np.bool_]:
    """Return which permutations leave which labelings unchanged.

    Parameters
    ----------
    labels : (n, n_sites) int8
    permutations : (n_perms, n_sites) intp

    Returns
    -------
    (n, n_perms) bool
    """
    fixed: npt.NDArray[np.bool_] = kernels.fixed_by(
        np.ascontiguousarray(labels), np.ascontiguousarray(permutations)
    )
    return fixed
