"""Points that come from elsewhere beside a campaign's own: phases that compete with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.hull.end_members import corners
from latticesearch.hull.lower_hull import Hull

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Points = tuple[Floats, Floats]
    """Compositions, (n, k), and energies, (n,) eV/atom."""


def joined(compositions: npt.ArrayLike, energies: npt.ArrayLike, others: Points | None) -> Points:
    """Return points, (n, k) and (n,), and the others behind them."""
    x, e = np.asarray(compositions, dtype=np.float64), np.asarray(energies, dtype=np.float64)
    if others is None:
        return x, e
    return np.concatenate([x, others[0]]), np.concatenate([e, others[1]])


def hull_with(
    compositions: npt.ArrayLike, energies: npt.ArrayLike, others: Points | None = None
) -> Hull:
    """Return the hull of the region that points, and others, span.

    Parameters
    ----------
    compositions
        (n, k) fractions of the components.
    energies
        (n,) eV/atom.
    others
        Compositions, (p, k), and energies, (p,) eV/atom, that may lie outside the region of the
        points, or below one of its end members; None where there are none.

    Returns
    -------
    Hull
        Point ``n + i`` is the i-th of the others. Formation energies refer to the lowest points at
        the corners of all: the pure components where these are among them.
    """
    x, e = joined(compositions, energies, others)
    return Hull(x, e, end_members=corners(x))
