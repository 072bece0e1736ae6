"""Compiled loops over the environments of a training set.

Environments come in blocks of `WIDTH`, side by side in memory, so that every step of the
contraction is one vector operation. Each environment's numbers are the same in whichever block it
stands, and those of one labeling are added up in their order: results do not depend on how
labelings are split over ranks.

A fit evaluates the same environments at many radial functions. So what depends on the environment
alone, sums over the neighbours of each species, is worked out beforehand (`Blocks.geometry`), and
moments (Shapeev, Multiscale Model. Simul. 14, 1153 (2016)) are these times the coordinates of the
radial functions. `basis_rows` are the columns that are linear given the coordinates, `slope_rows`
the derivatives by the coordinates: what variable projection asks for (Golub & Pereyra, SIAM J.
Numer. Anal. 10, 413 (1973)).

Loops over a block have a length known to the compiler and no dependence between their steps; LLVM
makes vector code of them without help. Which environments share a block does not matter, so they
are sorted by the species in the centre: the coefficients are then the same throughout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    import numpy.typing as npt

WIDTH = 32
"""Environments in one block."""

_W = np.uint64(WIDTH)
"""Unsigned: indices that cannot be negative need no wrapping, and the loops become vector code."""


class Blocks(NamedTuple):
    """Environments in blocks; all of one block have the same species in the centre.

    Parameters
    ----------
    geometry
        Sums over the neighbours of one species of the functions behind one coordinate times the
        powers, (n_blocks, n_species * n_coordinates, n_powers, WIDTH).
    present
        Where ``geometry[b, v]`` has something, (n_blocks, n_species * n_coordinates).
    centres
        Species of the centre, (n_blocks,).
    owners, shares
        Row that an environment belongs to, and its weight there (zero for the padding of a block),
        (n_blocks, WIDTH).
    """

    geometry: npt.NDArray[np.float64]
    present: npt.NDArray[np.bool_]
    centres: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]


class TrainingLists(NamedTuple):
    """The index lists of a potential.

    Parameters
    ----------
    mu, power
        Radial function and index of the powers of each basic moment, (n_basic,).
    times
        (n_times, 3): a, b, c of ``m[c] += factors * m[a] * m[b]``.
    factors
        (n_times,).
    scalars
        Which moment each basis function is, (n_scalars,).
    n_moments
        Number of moments.
    """

    mu: npt.NDArray[np.int64]
    power: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    factors: npt.NDArray[np.float64]
    scalars: npt.NDArray[np.int64]
    n_moments: int


@njit(cache=True)
def work_out_moments(
    blocks: Blocks,
    lists: TrainingLists,
    coordinates: npt.NDArray[np.float64],
    block: int,
    moments: npt.NDArray[np.float64],
) -> None:
    """Fill all moments of one block.

    Parameters
    ----------
    blocks, lists
        Environments and index lists.
    coordinates
        Of the radial functions, (n_species, n_radial, n_species * n_coordinates).
    block
        Which block.
    moments
        (n_moments * WIDTH,), written: moment k of environment w at ``k * WIDTH + w``.
    """
    moments[:] = 0.0
    coeffs = coordinates[blocks.centres[block]]
    for v in range(coeffs.shape[1]):
        # Nothing stands behind the coordinates of species that no environment of the block sees.
        if blocks.present[block, v]:
            values = blocks.geometry[block, v].reshape(-1)
            for k in range(lists.mu.size):
                coeff = coeffs[lists.mu[k], v]
                # One coefficient for the whole block, since all its centres are of one species.
                source, target = np.uint64(lists.power[k]) * _W, np.uint64(k) * _W
                for w in range(_W):
                    moments[target + w] += coeff * values[source + w]
    for t in range(lists.factors.size):
        a, b, c = times_row(lists.times, t)
        factor = lists.factors[t]
        for w in range(_W):
            moments[c + w] += factor * moments[a + w] * moments[b + w]


@njit(cache=True)
def times_row(times: npt.NDArray[np.int64], t: int) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Return where the moments a, b, c of product t of `times`, (n_times, 3), stand in a block."""
    return (
        np.uint64(times[t, 0]) * _W,
        np.uint64(times[t, 1]) * _W,
        np.uint64(times[t, 2]) * _W,
    )


@njit(cache=True)
def turn_into_derivatives(
    lists: TrainingLists, moments: npt.NDArray[np.float64], derivatives: npt.NDArray[np.float64]
) -> None:
    """Carry derivatives by the basis functions on to the basic moments (reverse mode).

    Parameters
    ----------
    lists
        Index lists.
    moments
        (n_moments * WIDTH,), complete.
    derivatives
        (n_moments * WIDTH,), eV: d(energy)/d(basis functions) in, d(energy)/d(moments) out.
    """
    # Backwards: what uses a product stands behind it in the list.
    for t in range(lists.factors.size - 1, -1, -1):
        a, b, c = times_row(lists.times, t)
        factor = lists.factors[t]
        # For a square both additions go to one place, and are made one.
        if a == b:
            for w in range(_W):
                derivatives[a + w] += 2.0 * factor * derivatives[c + w] * moments[a + w]
        else:
            for w in range(_W):
                outer = factor * derivatives[c + w]
                derivatives[a + w] += outer * moments[b + w]
                derivatives[b + w] += outer * moments[a + w]


@njit(cache=True)
def basis_rows(
    blocks: Blocks,
    lists: TrainingLists,
    coordinates: npt.NDArray[np.float64],
    rows: npt.NDArray[np.float64],
) -> None:
    """Add up the basis functions of all environments in their rows.

    Parameters
    ----------
    blocks, lists
        Environments and index lists.
    coordinates
        Of the radial functions, (n_species, n_radial, n_species * n_coordinates).
    rows
        (n_rows, n_scalars), added to.
    """
    moments = np.empty(lists.n_moments * WIDTH)
    for block in range(blocks.centres.size):
        work_out_moments(blocks, lists, coordinates, block, moments)
        # Environments in turn: several of a block may belong to one labeling. Padding has no share.
        for w in range(WIDTH):
            row = rows[blocks.owners[block, w]]
            share = blocks.shares[block, w]
            for s in range(lists.scalars.size):
                row[s] += share * moments[lists.scalars[s] * WIDTH + w]


@njit(cache=True)
def slope_rows(
    blocks: Blocks,
    lists: TrainingLists,
    coordinates: npt.NDArray[np.float64],
    coeffs: npt.NDArray[np.float64],
    rows: npt.NDArray[np.float64],
) -> None:
    """Add up the derivatives of all environments' energies by the coordinates in their rows.

    Parameters
    ----------
    blocks, lists, coordinates
        As in `basis_rows`.
    coeffs
        Of the basis functions, (n_scalars,).
    rows
        (n_rows, n_species, n_radial, n_species * n_coordinates), added to.
    """
    moments = np.empty(lists.n_moments * WIDTH)
    derivatives = np.empty(lists.n_moments * WIDTH)
    slopes = np.empty(coordinates.shape[1] * WIDTH)
    for block in range(blocks.centres.size):
        work_out_moments(blocks, lists, coordinates, block, moments)
        derivatives[:] = 0.0
        # All basis functions at once: one pass back gives the derivatives of their weighted sum.
        for s in range(lists.scalars.size):
            first = lists.scalars[s] * WIDTH
            derivatives[first : first + WIDTH] += coeffs[s]
        turn_into_derivatives(lists, moments, derivatives)
        for v in range(coordinates.shape[2]):
            if blocks.present[block, v]:
                values = blocks.geometry[block, v].reshape(-1)
                work_out_slopes(lists, values, derivatives, slopes)
                for w in range(WIDTH):
                    row = rows[blocks.owners[block, w], blocks.centres[block], :, v]
                    for mu in range(row.size):
                        row[mu] += blocks.shares[block, w] * slopes[mu * WIDTH + w]


@njit(cache=True)
def work_out_slopes(
    lists: TrainingLists,
    values: npt.NDArray[np.float64],
    derivatives: npt.NDArray[np.float64],
    slopes: npt.NDArray[np.float64],
) -> None:
    """Fill the derivatives by one coordinate of each radial function.

    Parameters
    ----------
    lists
        Index lists.
    values
        (n_powers * WIDTH,): geometry behind this coordinate.
    derivatives
        (n_moments * WIDTH,), eV: d(energy)/d(moments).
    slopes
        (n_radial * WIDTH,), written: eV per unit of the coordinate.
    """
    slopes[:] = 0.0
    # The transpose of what `work_out_moments` does with the same numbers.
    for k in range(lists.mu.size):
        source, place = np.uint64(lists.power[k]) * _W, np.uint64(k) * _W
        target = np.uint64(lists.mu[k]) * _W
        for w in range(_W):
            slopes[target + w] += derivatives[place + w] * values[source + w]
