"""Compiled descriptors of the surroundings of sites, and quadratic forms of them.

A descriptor is linear in counts: how often each species stands in each shell, and each two species
on each kind of two neighbours (`latticesearch.potential.sites.descriptors` says which invariants of
Bartók, Kondor & Csányi, PRB 87, 184115 (2013), these make). Labelings share most surroundings, so
each gets a code first, and only distinct ones are described.

Sums are taken in a fixed order throughout: what is equal must come out equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from latticesearch.vectors import LANES, load, splat, store, times_plus

if TYPE_CHECKING:
    import numpy.typing as npt


class SiteTables(NamedTuple):
    """The equivalent sites of one supercell and what surrounds each of them.

    Parameters
    ----------
    sites
        The centres, (n_centres,).
    neighbours
        Their neighbours, (n_centres, n_neighbours), in corresponding order.
    singles
        ``singles[j, a]``: column that counts species a on neighbour j.
    pairs
        ``pairs[i, j, a, b]``, i < j: column that counts a on neighbour i with b on neighbour j.
    """

    sites: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]
    singles: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def add_codes(
    labels: npt.NDArray[np.int8],
    tables: SiteTables,
    numbers: npt.NDArray[np.uint64],
    codes: npt.NDArray[np.uint64],
) -> None:
    """Add the numbers of all columns that count something to the codes of the centres.

    Parameters
    ----------
    labels
        (n, n_sites).
    tables
        The centres.
    numbers
        One per column, (n_columns,); sums wrap around.
    codes
        (n, n_sites); those of other sites stay as they are.
    """
    # A sum of random numbers, one per column: it does not matter in which order neighbours are met,
    # just as for the counts, and no counts need to be kept to tell surroundings apart.
    n_neighbours = tables.neighbours.shape[1]
    seen = np.zeros(n_neighbours, dtype=np.int64)
    for n in range(labels.shape[0]):
        for s in range(len(tables.sites)):
            code = codes[n, tables.sites[s]]
            for j in range(n_neighbours):
                seen[j] = labels[n, tables.neighbours[s, j]]
                code += numbers[tables.singles[j, seen[j]]]
                for i in range(j):
                    code += numbers[tables.pairs[i, j, seen[i], seen[j]]]
            codes[n, tables.sites[s]] = code


@njit(cache=True, nogil=True)
def _count(
    labels: npt.NDArray[np.int8],
    tables: SiteTables,
    centre: int,
    counts: npt.NDArray[np.int64],
) -> None:
    """Add to `counts`, (n_columns,), what surrounds one centre of `labels`, (n_sites,)."""
    n_neighbours = tables.neighbours.shape[1]
    for j in range(n_neighbours):
        b = labels[tables.neighbours[centre, j]]
        counts[tables.singles[j, b]] += 1
        for i in range(j):
            a = labels[tables.neighbours[centre, i]]
            counts[tables.pairs[i, j, a, b]] += 1


@njit(cache=True, nogil=True)
def descriptors(
    labels: npt.NDArray[np.int8],
    tables: SiteTables,
    centres: npt.NDArray[np.int64],
    transform: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return ``counts @ transform`` of one centre of each labeling, summed in a fixed order.

    Parameters
    ----------
    labels
        (n, n_sites).
    tables
        All centres.
    centres
        Index into ``tables.sites``, (n,).
    transform
        (n_columns, width).

    Returns
    -------
    (n, width)
        No unit.
    """
    n_columns, width = transform.shape
    result = np.zeros((len(labels), width))
    counts = np.zeros(n_columns, dtype=np.int64)
    for n in range(len(labels)):
        counts[:] = 0
        _count(labels[n], tables, centres[n], counts)
        for c in range(n_columns):
            if counts[c] != 0:
                for k in range(width):
                    result[n, k] += counts[c] * transform[c, k]
    return result


@njit(cache=True, nogil=True)
def quadratic_forms(
    x: npt.NDArray[np.float32], starts: npt.NDArray[np.int64], forms: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return ``x[n] @ forms[f] @ x[n]``, (n,), for ``starts[f] <= n < starts[f + 1]``.

    Each is summed in the same order, wherever it stands.

    Parameters
    ----------
    x
        (n, width).
    starts
        (n_forms + 1,).
    forms
        (n_forms, width, width), zero below the diagonals.

    Returns
    -------
    (n,)
        In the unit of the forms.
    """
    width = x.shape[1]
    result = np.zeros(len(x) + LANES)
    block = np.zeros(width * LANES)
    for f in range(len(forms)):
        for first in range(starts[f], starts[f + 1], LANES):
            # Rows into lanes: one number of the form then serves all of them, and what each lane
            # sums up does not depend on the others.
            for lane in range(min(LANES, starts[f + 1] - first)):
                for k in range(width):
                    block[k * LANES + lane] = x[first + lane, k]
            total = splat(0.0)
            for k in range(width):
                part = splat(0.0)
                for m in range(k, width):
                    part = times_plus(splat(forms[f, k, m]), load(block, m * LANES), part)
                total = times_plus(part, load(block, k * LANES), total)
            store(result, first, total)  # lanes behind the end are overwritten by the next form
    return result[: len(x)]


@njit(cache=True, nogil=True)
def means(values: npt.NDArray[np.float64], index: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Return the mean over the sites of each labeling.

    Parameters
    ----------
    values
        (n_distinct,): of each distinct site, any unit.
    index
        (n, n_sites): which of them the sites are.

    Returns
    -------
    (n,)
        In the same unit.
    """
    result = np.zeros(len(index))
    for n in range(len(index)):
        for s in range(index.shape[1]):
            result[n] += values[index[n, s]]
        result[n] /= index.shape[1]
    return result
