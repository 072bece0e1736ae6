"""The lower convex hull of energy over composition, for any number of components.

The hull works in the affine hull of the compositions it is given: three components of which one
is fixed by its sublattice make a pseudo-binary, and so on. Compositions are fractions of the
components and energies are per the same unit: per atom, or per site where vacancies are a
component.

Facets come from Qhull (Barber, Dobkin & Huhdanpaa, ACM Trans. Math. Softw. 22 469 (1996)), or
from a monotone chain for two components. The envelope at a composition is the maximum over the
facets' planes, so many points are judged with one matrix product.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.linalg import qr
from scipy.optimize import nnls
from scipy.spatial import ConvexHull, QhullError

from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

log = logging.getLogger(__name__)

ENERGY_TOLERANCE: Final = 1e-9
"""eV: a point that lies less than this below the tie line of others is no vertex; it is far
below any energy resolution, and far above the rounding of energies of 1000 eV."""

COMPOSITION_TOLERANCE: Final = 1e-7
"""Compositions closer than this are the same; cells with a million sites differ by more."""

SUM_TOLERANCE: Final = 1e-6
"""How far the fractions of one composition may add up to something else than 1."""

_SLIVER: Final = 1e-7
"""Facets thinner than this, left by the triangulation of a flat region, carry no information."""

_VERTICAL: Final = 1e-9
"""Facets whose unit normal points down by less than this bound the compositions, not energies."""

_BLOCK: Final = 1 << 16
"""Entries of the (points, facets) matrix held at once: 512 kB stay in the cache, 10x faster."""


class Hull:
    """Lower hull of energies over compositions.

    Of several points with one composition the lowest counts, of equal energies the first.

    Parameters
    ----------
    compositions
        (n, k) fractions of the k components; every row adds up to 1.
    energies
        (n,) eV/atom.
    end_members
        (m, k) compositions that formation energies refer to. By default the pure components
        where the compositions span all mixtures of them, else the corners of the region that
        the compositions span (TiN and HfN for (Ti,Hf)N).
    species
        k names of the components, for messages.

    Raises
    ------
    InputError
        No points, wrong shapes, numbers that are not finite, rows that do not add up to 1, an
        end member without a point, or a point outside the region the end members span.

    Attributes
    ----------
    compositions
        (n, k), as given, each row scaled to add up to exactly 1.
    energies
        (n,) eV/atom, as given.
    end_members
        (m,) indices of the points that formation energies refer to.
    facets
        (n_facets, d + 1) indices of the points at the corners of each lower facet, where d is
        the dimension of the region of compositions; the facets tile that region. Rows, and the
        indices in each, ascend.
    vertices
        (n_vertices,) ascending indices of the corners of all facets: the stable points.
    """

    compositions: Floats
    energies: Floats
    end_members: Integers
    facets: Integers
    vertices: Integers

    def __init__(
        self,
        compositions: npt.ArrayLike,
        energies: npt.ArrayLike,
        *,
        end_members: npt.ArrayLike | None = None,
        species: Sequence[str] | None = None,
    ) -> None:
        self.compositions, self.energies = _validated(compositions, energies)
        lowest = _lowest_per_composition(self.compositions, self.energies)
        self._frame = _Frame.of(self.compositions[lowest])
        corners = self._find_end_members(lowest, end_members, species)
        self.end_members = np.sort(corners)
        self._coordinates = self._frame.coordinates(self.compositions)
        x, e = self._coordinates, self.energies
        self._domain = _domain(x[self.end_members])
        self._check_inside(self.compositions, x)
        reference = _lower_facets(x[self.end_members], e[self.end_members])
        self._reference = _Envelope.of(x, e, self.end_members[reference])
        formation = e - self._reference(x)
        # A point above the end members' envelope is never stable, so Qhull need not see it.
        below = lowest[formation[lowest] < -ENERGY_TOLERANCE]
        candidates = np.union1d(below, self.end_members)
        facets = np.sort(candidates[_lower_facets(x[candidates], formation[candidates])], axis=1)
        facets = facets[np.lexsort(facets.T[::-1])]
        self._envelope = _Envelope.of(x, formation, facets)
        self.facets = self._envelope.facets
        self.vertices = np.unique(facets)
        self._formation = formation

    def _find_end_members(
        self,
        lowest: Integers,
        end_members: npt.ArrayLike | None,
        species: Sequence[str] | None,
    ) -> Integers:
        """Return the (m,) indices of the points at the end members' compositions."""
        n_components = self.compositions.shape[1]
        if end_members is not None:
            wanted = _as_compositions(end_members)
            if wanted.shape[1] != n_components:
                message = (
                    f"end members have {wanted.shape[1]} components, the points have "
                    f"{n_components}; give the same components in the same order"
                )
                raise InputError(message)
        elif self._frame.dimension == n_components - 1:
            wanted = np.eye(n_components)
        else:
            x = self._frame.coordinates(self.compositions[lowest])
            return lowest[_extreme_points(x)]
        return np.array(
            [_point_at(row, self.compositions, lowest, species) for row in wanted], dtype=np.int64
        )

    @property
    def dimension(self) -> int:
        """Number of independent composition variables, k - 1 where all mixtures are possible."""
        return self._frame.dimension

    @property
    def formation_energies(self) -> Floats:
        """(n,) eV/atom of the points relative to the end members."""
        return self._formation

    @functools.cached_property
    def energies_above_hull(self) -> Floats:
        """(n,) eV/atom of the points above the hull, never negative, 0 for the vertices."""
        above = np.maximum(_snapped(self._formation - self._envelope(self._coordinates)), 0.0)
        above[self.vertices] = 0.0
        return above

    @functools.cached_property
    def tie_lines(self) -> Integers:
        """(n_lines, 2) index pairs of vertices that share a facet, each pair once, ascending."""
        n_corners = self.facets.shape[1]
        first, second = np.triu_indices(n_corners, 1)
        pairs = np.stack([self.facets[:, first], self.facets[:, second]], axis=-1).reshape(-1, 2)
        unique: Integers = np.unique(np.sort(pairs, axis=1), axis=0)
        return unique

    @functools.cached_property
    def depths(self) -> Floats:
        """(n_vertices,) eV/atom each vertex lies below the hull of all other points.

        Another structure of the same composition and nearly the same energy makes it small.
        Infinite for an end member that no other point could replace.
        """
        facet_of_point = self._envelope.locate(self._coordinates)
        return np.array([self._depth(int(v), facet_of_point) for v in self.vertices])

    @functools.cached_property
    def stabilities(self) -> Floats:
        """(n_vertices,) eV/atom each vertex lies below the best mixture of the other vertices.

        The energy a phase gains over its neighbours in the phase diagram (the equilibrium
        reaction energy with its sign changed); never less than its depth, infinite for end
        members.
        """
        nowhere = np.full(len(self.energies), -1, dtype=np.int64)
        return np.array([self._depth(int(v), nowhere) for v in self.vertices])

    def _depth(self, vertex: int, facet_of_point: Integers) -> float:
        """Return how far `vertex` lies below the hull of points on known facets and vertices.

        Facets that do not touch the vertex stay what they are, so only points over the touching
        ones can replace it.
        """
        star = np.flatnonzero((self.facets == vertex).any(axis=1))
        others = np.flatnonzero(np.isin(facet_of_point, star))
        others = np.setdiff1d(np.union1d(others, self.facets[star]), [vertex])
        x, e = self._coordinates, self._formation
        distance = np.abs(x[others] - x[vertex]).max(axis=1, initial=0.0)
        if vertex in self.end_members and not (distance < COMPOSITION_TOLERANCE).any():
            return float("inf")
        local = others[_lowest_per_composition(x[others], e[others])]
        facets = local[_lower_facets(x[local], e[local])]
        return float(_Envelope.of(x, e, facets)(x[[vertex]])[0] - e[vertex])

    def energy(self, compositions: npt.ArrayLike) -> Floats:
        """Return the energy of the hull at any compositions.

        Parameters
        ----------
        compositions
            (..., k) fractions of the components.

        Returns
        -------
        Floats
            (...) eV/atom of the most stable mixture of phases.

        Raises
        ------
        InputError
            A composition that no mixture of the end members has.
        """
        x, shape = self._located(compositions)
        return (self._envelope(x) + self._reference(x)).reshape(shape)

    def formation_energy(self, compositions: npt.ArrayLike, energies: npt.ArrayLike) -> Floats:
        """Return energies relative to the end members.

        Parameters
        ----------
        compositions
            (..., k) fractions of the components.
        energies
            (...) eV/atom.

        Returns
        -------
        Floats
            (...) eV/atom.

        Raises
        ------
        InputError
            A composition that no mixture of the end members has, or shapes that do not fit.
        """
        x, shape = self._located(compositions)
        return (_energies_like(energies, shape) - self._reference(x)).reshape(shape)

    def energy_above_hull(self, compositions: npt.ArrayLike, energies: npt.ArrayLike) -> Floats:
        """Return energies relative to the hull; negative where the point would change the hull.

        Parameters
        ----------
        compositions
            (..., k) fractions of the components.
        energies
            (...) eV/atom.

        Returns
        -------
        Floats
            (...) eV/atom; differences below `ENERGY_TOLERANCE` are exactly 0.

        Raises
        ------
        InputError
            A composition that no mixture of the end members has, or shapes that do not fit.
        """
        x, shape = self._located(compositions)
        formation = _energies_like(energies, shape) - self._reference(x)
        return _snapped(formation - self._envelope(x)).reshape(shape)

    def decomposition(self, composition: npt.ArrayLike) -> tuple[Integers, Floats]:
        """Return the stable phases that make up a composition.

        Parameters
        ----------
        composition
            (k,) fractions of the components.

        Returns
        -------
        indices
            (p,) ascending indices of vertices, p <= d + 1.
        weights
            (p,) positive fractions of the atoms in each phase; they add up to 1 and
            ``weights @ compositions[indices]`` is the composition.

        Raises
        ------
        InputError
            A composition that no mixture of the end members has.
        """
        x, shape = self._located(composition)
        if shape:
            raise InputError(f"decomposition takes one composition, not an array of shape {shape}")
        indices, weights = self._envelope.decompose(x[0])
        order = np.argsort(indices)
        return indices[order], weights[order]

    def _located(self, compositions: npt.ArrayLike) -> tuple[Floats, tuple[int, ...]]:
        """Return (n, d) coordinates and the shape of the answer."""
        given = np.asarray(compositions, dtype=np.float64)
        flat = _as_compositions(given.reshape(-1, given.shape[-1]) if given.ndim else given)
        n_components = self.compositions.shape[1]
        if flat.shape[1] != n_components:
            message = (
                f"compositions have {flat.shape[1]} components, the hull has {n_components}; "
                "give the same components in the same order"
            )
            raise InputError(message)
        x = self._frame.coordinates(flat)
        self._check_inside(flat, x)
        return x, given.shape[:-1]

    def _check_inside(self, compositions: Floats, x: Floats) -> None:
        """Raise for compositions that no mixture of the end members has."""
        off = np.abs(self._frame.compositions(x) - compositions).max(axis=1, initial=0.0)
        normals, offsets = self._domain
        outside = (x @ normals.T + offsets).max(axis=1, initial=-np.inf)
        bad = np.flatnonzero((off > SUM_TOLERANCE) | (outside > SUM_TOLERANCE))
        if bad.size:
            row = np.array2string(compositions[bad[0]], precision=4, separator=", ")
            message = (
                f"composition {row} is no mixture of the {len(self.end_members)} end members; "
                "add the missing end member or leave the point out"
            )
            raise InputError(message)


def hull_change(previous: Hull, current: Hull) -> float:
    """Return the largest distance between two hulls over all compositions.

    The difference of a convex function and one that is linear on a facet is largest at a corner
    of that facet, so the vertices of both hulls are all that has to be looked at.

    Parameters
    ----------
    previous, current
        Hulls over the same region of compositions.

    Returns
    -------
    float
        eV/atom, never negative.

    Raises
    ------
    InputError
        The hulls cover different regions.
    """
    x = np.concatenate([hull.compositions[hull.vertices] for hull in (previous, current)])
    return float(np.abs(previous.energy(x) - current.energy(x)).max())


@dataclass(frozen=True, eq=False)
class _Frame:
    """Coordinates in the affine hull of compositions: a choice of d of the k fractions."""

    columns: Integers
    """(d,) the components whose fractions are the coordinates."""
    linear: Floats
    """(d, k); ``compositions = coordinates @ linear + offset``."""
    offset: Floats
    """(k,)."""

    @property
    def dimension(self) -> int:
        return len(self.columns)

    @classmethod
    def of(cls, compositions: Floats) -> _Frame:
        """Return the frame of (n, k) distinct compositions."""
        centre = compositions.mean(axis=0)
        centred = compositions - centre
        triangular, pivots = qr(centred, mode="r", pivoting=True)
        diagonal = np.abs(np.diag(triangular))
        rank = int((diagonal > SUM_TOLERANCE * np.sqrt(len(compositions))).sum())
        rank = min(rank, compositions.shape[1] - 1)
        columns = np.sort(pivots[:rank]).astype(np.int64)
        linear = np.linalg.lstsq(centred[:, columns], centred, rcond=None)[0]
        return cls(columns, linear, centre - centre[columns] @ linear)

    def coordinates(self, compositions: Floats) -> Floats:
        return np.ascontiguousarray(compositions[:, self.columns])

    def compositions(self, coordinates: Floats) -> Floats:
        mixed: Floats = coordinates @ self.linear + self.offset
        return mixed


@dataclass(frozen=True, eq=False)
class _Envelope:
    """A convex piecewise linear function: the maximum of the planes through its facets."""

    facets: Integers
    """(m, d + 1) indices of points."""
    corners: Floats
    """(m, d + 1, d + 1); rows are the corners' coordinates with a 1 behind."""
    planes: Floats
    """(m, d + 1): ``corners[f] @ planes[f]`` are the energies of facet f's corners."""

    @classmethod
    def of(cls, x: Floats, energies: Floats, facets: Integers) -> _Envelope:
        """Return the envelope through given facets of points (n, d), leaving out slivers."""
        corners = np.concatenate([x[facets], np.ones((*facets.shape, 1))], axis=2)
        if x.shape[1]:
            edges = corners[:, 1:, :-1] - corners[:, :1, :-1]
            thickness = np.linalg.svd(edges, compute_uv=False)[:, -1]
            keep = thickness > min(_SLIVER, 0.5 * float(thickness.max()))
            facets, corners = facets[keep], corners[keep]
        planes = np.linalg.solve(corners, energies[facets][..., None])[..., 0]
        return cls(facets, corners, planes)

    def _blocks(self, x: Floats) -> list[slice]:
        step = max(1, _BLOCK // len(self.planes))
        return [slice(start, start + step) for start in range(0, len(x), step)]

    def __call__(self, x: Floats) -> Floats:
        """Return the (n,) values at coordinates (n, d)."""
        values = np.empty(len(x))
        for block in self._blocks(x):
            values[block] = (_with_one(x[block]) @ self.planes.T).max(axis=1)
        return values

    def locate(self, x: Floats) -> Integers:
        """Return the (n,) rows of a facet that holds each of the coordinates (n, d)."""
        rows = np.empty(len(x), dtype=np.int64)
        for block in self._blocks(x):
            rows[block] = (_with_one(x[block]) @ self.planes.T).argmax(axis=1)
        return rows

    def decompose(self, x: Floats) -> tuple[Integers, Floats]:
        """Return point indices and weights of the facet that holds coordinates (d,)."""
        point = np.append(x, 1.0)
        heights = self.planes @ point
        # Flat regions are cut into several facets with one plane; take the one around the point.
        rows = np.flatnonzero(heights >= heights.max() - ENERGY_TOLERANCE)
        transposed = self.corners[rows].swapaxes(1, 2)
        weights = np.linalg.solve(
            transposed, np.broadcast_to(point[:, None], (len(rows), len(point), 1))
        )
        weights = weights[..., 0]
        best = int(weights.min(axis=1).argmax())
        chosen = np.where(weights[best] > COMPOSITION_TOLERANCE, weights[best], 0.0)
        present = chosen > 0
        return self.facets[rows[best]][present], chosen[present] / chosen.sum()


def _lower_facets(x: Floats, energies: Floats) -> Integers:
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
    affine = _with_one(x)
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


def _domain(corners: Floats) -> tuple[Floats, Floats]:
    """Return normals (f, d) and offsets (f,) with ``normals @ x + offsets <= 0`` inside."""
    dimension = corners.shape[1]
    if dimension == 0:
        return np.empty((0, 0)), np.empty(0)
    if dimension == 1:
        return np.array([[-1.0], [1.0]]), np.array([corners.min(), -corners.max()])
    try:
        equations = ConvexHull(corners).equations
    except QhullError as error:
        message = (
            f"the {len(corners)} end members span fewer than the {dimension} dimensions of the "
            "points; give an end member for every corner of the region"
        )
        raise InputError(message) from error
    return equations[:, :-1], equations[:, -1]


def _extreme_points(x: Floats) -> Integers:
    """Return the (m,) indices of the corners of the convex hull of distinct points (n, d)."""
    dimension = x.shape[1]
    if dimension == 0:
        return np.array([0], dtype=np.int64)
    if dimension == 1:
        return np.array([int(x.argmin()), int(x.argmax())], dtype=np.int64)
    corners = ConvexHull(x).vertices.astype(np.int64)
    # By rounding, Qhull keeps some points in the middle of a face.
    for corner in corners.tolist():
        others = corners[corners != corner]
        system = np.vstack([x[others].T, np.ones(len(others))])
        if nnls(system, np.append(x[corner], 1.0))[1] < SUM_TOLERANCE:
            corners = others
    return corners


def _lowest_per_composition(compositions: Floats, energies: Floats) -> Integers:
    """Return the (m,) ascending indices of the lowest, else first, point at each composition."""
    if compositions.shape[1] == 0:
        return np.array([int(energies.argmin())], dtype=np.int64)
    # The shift keeps simple fractions away from the borders of the rounding.
    bins = np.rint(compositions / COMPOSITION_TOLERANCE + 1.0 / np.pi).astype(np.int64)
    order = np.lexsort((energies, *bins.T))
    sorted_bins = bins[order]
    starts = np.append(True, (sorted_bins[1:] != sorted_bins[:-1]).any(axis=1))
    return np.sort(order[starts])


def _point_at(
    wanted: Floats, compositions: Floats, lowest: Integers, species: Sequence[str] | None
) -> int:
    """Return the index of the lowest point at the composition `wanted` (k,)."""
    distance = np.abs(compositions[lowest] - wanted).max(axis=1)
    if distance.min() < SUM_TOLERANCE:
        return int(lowest[distance.argmin()])
    names = species or [f"component {i + 1}" for i in range(len(wanted))]
    parts = [
        f"pure {name}" if part > 1 - SUM_TOLERANCE else f"{name} {part:.4g}"
        for name, part in zip(names, wanted, strict=True)
        if part > SUM_TOLERANCE
    ]
    message = (
        f"the hull has no point for the end member {', '.join(parts)}; add its energy, or name "
        "other end members"
    )
    raise InputError(message)


def _as_compositions(compositions: npt.ArrayLike) -> Floats:
    """Return checked (n, k) fractions whose rows add up to exactly 1."""
    x = np.asarray(compositions, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        message = f"compositions need the shape (points, components), not {x.shape}"
        raise InputError(message)
    total = x.sum(axis=1)
    wrong = ~np.isfinite(total) | (np.abs(total - 1) > SUM_TOLERANCE)
    wrong |= (x < -SUM_TOLERANCE).any(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        values = np.array2string(x[row], precision=6, separator=", ")
        message = (
            f"composition {row} is {values} with the sum {total[row]:.6g}; give fractions between "
            "0 and 1 that add up to 1"
        )
        raise InputError(message)
    x = np.maximum(x, 0.0)
    x /= x.sum(axis=1, keepdims=True)
    return x


def _validated(compositions: npt.ArrayLike, energies: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return compositions (n, k) and energies (n,), n > 0, that fit together."""
    x = _as_compositions(compositions)
    e = np.array(energies, dtype=np.float64)
    if e.shape != (len(x),):
        message = f"{len(x)} compositions need as many energies, not an array of shape {e.shape}"
        raise InputError(message)
    if len(x) == 0:
        raise InputError("a hull needs at least one point")
    bad = np.flatnonzero(~np.isfinite(e))
    if bad.size:
        raise InputError(f"energy {bad[0]} is {e[bad[0]]}; leave failed calculations out")
    return x, e


def _energies_like(energies: npt.ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Return energies flattened to fit compositions of the given leading shape."""
    e = np.asarray(energies, dtype=np.float64)
    if e.shape != shape:
        message = f"energies of shape {e.shape} do not fit compositions of shape {shape}"
        raise InputError(message)
    return e.reshape(-1)


def _with_one(x: Floats) -> Floats:
    """Return coordinates (n, d) with a column of ones behind."""
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _snapped(above: Floats) -> Floats:
    """Return `above` with values smaller than the tolerance set to exactly 0."""
    snapped: Floats = np.where(np.abs(above) < ENERGY_TOLERANCE, 0.0, above)
    return snapped
