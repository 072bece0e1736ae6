"""The lower convex hull of energy over composition: what is stable, and how far all else is."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError
from latticesearch.hull.depths import depths_below_others, depths_below_vertices
from latticesearch.hull.end_members import end_member_points
from latticesearch.hull.facets import lower_facets
from latticesearch.hull.points import (
    as_compositions,
    energies_like,
    lowest_per_composition,
    validated,
)
from latticesearch.hull.region import Frame, Region
from latticesearch.hull.surface import Surface

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


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
        self.compositions, self.energies = validated(compositions, energies)
        lowest = lowest_per_composition(self.compositions, self.energies)
        frame = Frame.of(self.compositions[lowest])
        self.end_members = end_member_points(self.compositions, lowest, frame, end_members, species)
        self._region = Region.of(frame, self.compositions[self.end_members])
        x = self._region.coordinates(self.compositions)
        self._surface = Surface.under(x, self.energies, lowest, self.end_members)
        self.facets = self._surface.facets
        self.vertices = np.unique(self.facets)

    @property
    def dimension(self) -> int:
        """Number of independent composition variables, k - 1 where all mixtures are possible."""
        return self._region.frame.dimension

    @property
    def formation_energies(self) -> Floats:
        """(n,) eV/atom of the points relative to the end members."""
        return self._surface.formation

    @functools.cached_property
    def energies_above_hull(self) -> Floats:
        """(n,) eV/atom of the points above the hull, never negative, 0 for the vertices."""
        surface = self._surface
        above = np.maximum(surface.above(surface.coordinates, surface.formation), 0.0)
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
        return depths_below_others(self._surface, self.vertices)

    @functools.cached_property
    def stabilities(self) -> Floats:
        """(n_vertices,) eV/atom each vertex lies below the best mixture of the other vertices.

        The energy a phase gains over its neighbours in the phase diagram (the equilibrium
        reaction energy with its sign changed); never less than its depth, infinite for end
        members.
        """
        return depths_below_vertices(self._surface, self.vertices)

    def vertices_with(
        self, compositions: Floats, energies: Floats
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return what would be stable if there were further points, all below this hull.

        Much faster than a new hull of all points, for whoever asks hundreds of times.

        Parameters
        ----------
        compositions, energies
            The points, (n, k) within the region and (n,) eV/atom.

        Returns
        -------
        stays
            Which of `vertices` would stay, (n_vertices,).
        new
            Which of the points would be vertices, (n,).
        """
        own = len(self.vertices)
        further = self._region.frame.coordinates(compositions)
        x = np.concatenate([self._surface.coordinates[self.vertices], further])
        e = np.concatenate([self.energies[self.vertices], energies])
        lowest = lowest_per_composition(x, e)
        stable = np.zeros(len(x), dtype=np.bool_)
        stable[lowest[lower_facets(x[lowest], e[lowest])]] = True
        return stable[:own], stable[own:]

    def covers(self, compositions: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which compositions, (n, k), are mixtures of the end members, (n,)."""
        return self._region.covers(as_compositions(compositions))

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
        return (self._surface.envelope(x) + self._surface.reference(x)).reshape(shape)

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
        return (energies_like(energies, shape) - self._surface.reference(x)).reshape(shape)

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
        formation = energies_like(energies, shape) - self._surface.reference(x)
        return self._surface.above(x, formation).reshape(shape)

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
        indices, weights = self._surface.envelope.decompose(x[0])
        order = np.argsort(indices)
        return indices[order], weights[order]

    def _located(self, compositions: npt.ArrayLike) -> tuple[Floats, tuple[int, ...]]:
        """Return (n, d) coordinates and the shape of the answer."""
        given = np.asarray(compositions, dtype=np.float64)
        flat = as_compositions(given.reshape(-1, given.shape[-1]) if given.ndim else given)
        n_components = self.compositions.shape[1]
        if flat.shape[1] != n_components:
            raise InputError(
                f"compositions have {flat.shape[1]} components, the hull has {n_components}; "
                "give the same components in the same order"
            )
        return self._region.coordinates(flat), given.shape[:-1]


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
