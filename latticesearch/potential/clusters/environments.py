"""What surrounds the sites of a supercell, arranged for the rows of many swaps at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.potential.clusters._row_kernels import SwapTables
from latticesearch.potential.clusters._table_kernels import add_functions
from latticesearch.potential.clusters.functions import site_functions

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.lattice import Supercell
    from latticesearch.potential.clusters.geometry import ClusterGeometry

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]


def swap_tables(supercell: Supercell, geometry: ClusterGeometry) -> SwapTables:
    """Return the clusters around the sites of `supercell` for `swap_features`."""
    terms = geometry.basis.orientations.terms
    seen = geometry.classes >= 0
    # Places in `around`, of the sites of the supercell as seen from the first cell.
    places = np.cumsum(seen, axis=1) - 1
    partners = np.concatenate([_pairs(geometry, places), _triplets(geometry, places)])
    kind_start, kinds, segments, partners = _segments(geometry, partners, terms.start)
    return SwapTables(
        np.ascontiguousarray(site_functions(geometry.basis.points.shape[1])),
        np.asarray(supercell.basis_index, dtype=np.int64),
        _around(supercell, seen),
        kind_start,
        kinds,
        segments,
        partners,
        terms.rows,
        terms.weights,
        _points(geometry),
    )


def _pairs(geometry: ClusterGeometry, places: Integers) -> Integers:
    """Return the pairs of the first cell, (n, 4): its site, row of the terms, -1 and partner."""
    centre, other = np.nonzero(geometry.classes >= 0)
    rows = geometry.counts[geometry.classes[centre, other], : geometry.n_elements]
    pair, element = np.nonzero(rows)
    centre, other = centre[pair], other[pair]
    pairs = np.column_stack([centre, element, np.full(len(pair), -1), places[centre, other]])
    return np.repeat(pairs, rows[pair, element], axis=0)


def _triplets(geometry: ClusterGeometry, places: Integers) -> Integers:
    """Return the triplets of the first cell, (n, 4), as `_pairs` with a vertex in place of -1."""
    triplets = geometry.basis.orientations.triplets
    first = triplets.centre * geometry.n_cells
    one, other = geometry.sites[triplets.others].T
    kept = np.flatnonzero((one != first) & (other != first) & (one != other))
    hub, centre = triplets.hub[kept], triplets.centre[kept]
    others = geometry.sites[triplets.others[kept]]
    row = geometry.n_elements + triplets.oriented[kept, hub]
    pick = np.arange(len(kept))
    vertices = places[centre[:, None], others]
    return np.column_stack([centre, row, vertices[pick, hub], vertices[pick, 1 - hub]])


def _segments(
    geometry: ClusterGeometry, partners: Integers, term_start: Integers
) -> tuple[Integers, Integers, Integers, Integers]:
    """Return `kind_start`, `kinds`, `segments` and `partners`, as in `SwapTables`.

    Parameters
    ----------
    partners
        (n, 4): site of the basis, row of the terms, one vertex or -1, last vertex.
    term_start
        (n_rows + 1,): first term of each row.
    """
    centre, row, vertex, place = partners.T
    n_places, n_rows = geometry.classes.shape[1] + 1, len(term_start) - 1
    names = (centre * n_rows + row) * n_places + vertex + 1
    order = np.argsort(names, kind="stable")
    first = _changes(names[order])
    segment_names = names[order[first[:-1]]]
    segments = np.column_stack([segment_names % n_places - 1, first[:-1], first[1:]])
    kind_of_segment = segment_names // n_places
    first = _changes(kind_of_segment)
    kind_names = kind_of_segment[first[:-1]]
    terms = kind_names % n_rows
    kinds = np.column_stack([first[:-1], first[1:], term_start[terms], term_start[terms + 1]])
    kind_start = np.searchsorted(kind_names, np.arange(len(geometry.classes) + 1) * n_rows)
    return kind_start, kinds, segments, place[order]


def _changes(names: Integers) -> Integers:
    """Return where sorted names, (n,), begin to differ from the last, (m,), and then n."""
    return np.flatnonzero(np.diff(names, prepend=-1, append=-1)) if names.size else np.zeros(1, int)


def _around(supercell: Supercell, seen: npt.NDArray[np.bool_]) -> Integers:
    """Return what surrounds every site, (n_sites, n_around), padded with the site itself."""
    n_cells, n_around = supercell.n_cells, int(seen.sum(axis=1).max())
    result = np.repeat(np.arange(supercell.n_sites)[:, None], n_around, axis=1)
    sums = np.argsort(supercell.translation_permutations[:, :n_cells], axis=1)
    for b, row in enumerate(seen):
        basis, cells = np.divmod(np.flatnonzero(row), n_cells)
        moved = basis * n_cells + sums[:, cells]
        result[b * n_cells : (b + 1) * n_cells, : len(cells)] = moved
    return result


def _points(geometry: ClusterGeometry) -> Floats:
    """Return what coefficients multiply whatever the other sites, (n_basis, n_species, n)."""
    points, seen = geometry.basis.points.copy(), geometry.basis.orientations
    add_functions(points, geometry.alone, *seen.alone_functions)
    classes, counts = geometry.classes, geometry.counts[:, : geometry.n_elements]
    around = [counts[row[row >= 0]].sum(axis=0) for row in classes]
    add_functions(points, np.array(around, dtype=np.int32), *seen.mean_functions)
    return points
