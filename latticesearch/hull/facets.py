"""Lower facets of points: a monotone chain for two components, Qhull for more.

Qhull: Barber, Dobkin & Huhdanpaa, ACM Trans. Math. Softw. 22 469 (1996).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.spatial import ConvexHull, QhullError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

log = logging.getLogger(__name__)

ENERGY_TOLERANCE: Final = 1e-9
"""eV: a point that lies less than this below the tie line of others is no vertex; it is far
below any energy resolution, and far above the rounding of energies of 1000 eV."""

_VERTICAL: Final = 1e-9
"""Facets whose unit normal points down by less than this bound the compositions, not energies."""


def lower_facets(x: Floats, energies: Floats) -> Integers:
    """Return the (m, d + 1) indices of the lower facets of points (n, d) that span d dimensions.

    The points have distinct coordinates. Energies are lifted by a tiny strictly concave
    function, which takes points that lie on the tie line of others off the hull, whatever the
    rounding. Corners of the region stay: nothing lies around them.
    """
    n_points, dimension = x.shape
    if dimension == 0:
        return np.array([[int(energies.argmin())]], dtype=np.int64)
    if n_points == dimension + 1:
        return np.arange(n_points, dtype=np.int64)[None]
    affine = with_one(x)
    flat = energies - affine @ np.linalg.lstsq(affine, energies, rcond=None)[0]
    spread = max(float(np.ptp(flat)), ENERGY_TOLERANCE)
    centred = x - x.mean(axis=0)
    lift = ENERGY_TOLERANCE * min(1.0, 1.0 / spread)
    scaled = flat / spread - lift * (centred**2).sum(axis=1)
    if dimension == 1:
        return _monotone_chain(x[:, 0], scaled)
    try:
        return _qhull_lower_facets(x, scaled, "Qt" if dimension < 4 else "Qt Qx")
    except QhullError as error:
        log.debug("Qhull failed (%s); repeated with joggled input", str(error).splitlines()[0])
        return _qhull_lower_facets(x, scaled, "QJ")


def _monotone_chain(x: Floats, energies: Floats) -> Integers:
    """Return the (m, 2) segments of the lower hull of points with distinct abscissae (n,)."""
    chain: list[int] = []
    for point in np.argsort(x, kind="stable").tolist():
        while len(chain) > 1:
            left, middle = chain[-2], chain[-1]
            straight = (energies[point] - energies[left]) * (x[middle] - x[left])
            if (energies[middle] - energies[left]) * (x[point] - x[left]) < straight:
                break
            chain.pop()
        chain.append(point)
    return np.column_stack([chain[:-1], chain[1:]]).astype(np.int64)


def _qhull_lower_facets(x: Floats, energies: Floats, options: str) -> Integers:
    """Return the (m, d + 1) lower facets of points (n, d), n > d + 1.

    A point high above the middle gives the body its height where all energies lie in one plane.
    """
    top = np.append(x.mean(axis=0), energies.max() + 1.0)
    body = ConvexHull(np.vstack([np.column_stack([x, energies]), top]), qhull_options=options)
    down = body.equations[:, -2] < -_VERTICAL
    lower = down & (body.simplices < len(x)).all(axis=1)
    return body.simplices[lower].astype(np.int64)


def with_one(x: Floats) -> Floats:
    """Return coordinates (n, d) with a column of ones behind."""
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)
