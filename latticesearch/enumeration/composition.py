"""Compositions: what a user asks for, as bounds on the numbers of sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice

    Composition = Mapping[str, float | tuple[float, float]]

FRACTION_TOLERANCE = 5e-4
"""Difference of site fractions that counts as none: people write 0.333 for a third."""


def fraction_bounds(
    parent: ParentLattice, composition: Composition | None
) -> npt.NDArray[np.float64]:
    """Return the lowest and highest fraction of all sites that each species may have.

    Parameters
    ----------
    parent : ParentLattice
    composition : mapping of str to float or (low, high), optional
        Fractions of all sites, vacancies and sites without a choice included. Species that
        are not named are free.

    Returns
    -------
    (n_species, 2) float

    Raises
    ------
    InputError
        Unknown species, fractions outside 0 to 1, or fractions that cannot add up to one.
    """
    bounds = np.tile([0.0, 1.0], (parent.n_species, 1))
    for symbol, wanted in (composition or {}).items():
        if symbol not in parent.species:
            raise InputError(
                f"composition names {symbol}, which this parent lattice does not hold; its "
                f"species are {', '.join(parent.species)}"
            )
        pair = np.asarray(wanted, dtype=float).reshape(-1)
        low, high = (pair[0], pair[-1]) if len(pair) in {1, 2} else (np.nan, np.nan)
        if not 0 <= low <= high <= 1:
            raise InputError(
                f"composition of {symbol} is {wanted!r}; give a site fraction from 0 to 1 or a "
                f"pair (low, high)"
            )
        bounds[parent.species.index(symbol)] = low, high
    low, high = bounds.sum(axis=0)
    margin = FRACTION_TOLERANCE * parent.n_species
    if low > 1 + margin or high < 1 - margin:
        raise InputError(
            f"composition {dict(composition or {})!r} cannot add up to 1: the species sum to at "
            f"least {low:g} and at most {high:g}"
        )
    return bounds


def count_bounds(
    parent: ParentLattice, n_cells: int, composition: Composition | None
) -> npt.NDArray[np.int64]:
    """Return the smallest and largest number of sites of each species, (n_species, 2).

    Parameters
    ----------
    parent : ParentLattice
    n_cells : int
        Number of primitive cells.
    composition
        See `fraction_bounds`.

    Raises
    ------
    InputError
        See `fraction_bounds`.
    """
    n_sites = n_cells * parent.n_basis
    low, high = fraction_bounds(parent, composition).T
    smallest = np.ceil((low - FRACTION_TOLERANCE) * n_sites).clip(0)
    largest = np.floor((high + FRACTION_TOLERANCE) * n_sites).clip(max=n_sites)
    capacity = parent.allowed.sum(axis=0) * n_cells
    return np.stack([smallest, np.minimum(largest, capacity)], axis=1).astype(np.int64)


def require_possible(
    parent: ParentLattice, cell_numbers: Iterable[int], composition: Composition | None
) -> None:
    """Check that at least one of some supercell sizes can have a composition.

    Parameters
    ----------
    parent : ParentLattice
    cell_numbers : iterable of int
        Numbers of primitive cells.
    composition
        See `fraction_bounds`.

    Raises
    ------
    InputError
        None of them can; the message names the nearest compositions that are possible.
    """
    if not composition:
        return
    numbers = list(cell_numbers)
    for n_cells in numbers:
        distance, _ = _nearest_counts(parent, n_cells, count_bounds(parent, n_cells, composition))
        if distance < 0.5:
            return
    wanted = fraction_bounds(parent, composition)
    nearest: dict[tuple[float, ...], tuple[float, str]] = {}
    for n_cells in numbers:
        n_sites = n_cells * parent.n_basis
        distance, counts = _nearest_counts(parent, n_cells, wanted * n_sites)
        text = ", ".join(
            f"{s} {c}/{n_sites}" for s, c in zip(parent.species, counts, strict=True) if c
        )
        # The smallest supercell speaks for all that have the same composition.
        nearest.setdefault(tuple(c / n_sites for c in counts), (round(distance / n_sites, 9), text))
    options = "; ".join(text for _, text in sorted(nearest.values(), key=lambda o: o[0])[:2])
    raise InputError(
        f"no supercell of {numbers[0]} to {numbers[-1]} primitive cells can have the composition "
        f"{dict(composition)!r}; nearest possible: {options}"
    )


def _nearest_counts(
    parent: ParentLattice, n_cells: int, bounds: npt.NDArray[np.int64] | npt.NDArray[np.float64]
) -> tuple[float, list[int]]:
    """Return the counts that sites and allowed species permit closest to bounds, and how far off.

    A transport problem in integers: the sites of each kind go to their allowed species; what
    leaves the bounds costs one per site.
    """
    from scipy.optimize import linprog

    kinds, sizes = np.unique(parent.allowed, axis=0, return_counts=True)
    n_kinds, n_species = kinds.shape
    flows = n_kinds * n_species
    fill = np.hstack(
        [np.kron(np.eye(n_kinds), np.ones(n_species)), np.zeros((n_kinds, 2 * n_species))]
    )
    counts = np.hstack([np.tile(np.eye(n_species), n_kinds), np.zeros((n_species, 2 * n_species))])
    below, above = np.zeros_like(counts), np.zeros_like(counts)
    below[:, flows : flows + n_species] = np.eye(n_species)
    above[:, flows + n_species :] = np.eye(n_species)
    limits = [(0, None if ok else 0) for ok in kinds.reshape(-1)] + [(0, None)] * (2 * n_species)
    result = linprog(
        np.r_[np.zeros(flows), np.ones(2 * n_species)],
        A_ub=np.vstack([counts - above, -counts - below]),
        b_ub=np.r_[bounds[:, 1], -bounds[:, 0]],
        A_eq=fill,
        b_eq=sizes * n_cells,
        bounds=limits,
        integrality=np.r_[np.ones(flows), np.zeros(2 * n_species)],
    )
    distance = float(np.asarray(result.fun))
    return distance, np.rint(counts @ result.x).astype(int).tolist()
