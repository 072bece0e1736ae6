"""Compositions: what a user asks for, as bounds on the numbers of sites."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np

from latticesearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice

    Composition = Mapping[str, float | tuple[float, float]]

FRACTION_TOLERANCE = 5e-4
"""Difference of site fractions that counts as none: people write 0.333 for a third."""


def whole_number(name: str, value: object) -> int:
    """Return an integer argument as an int.

    Raises
    ------
    InputError
        It is not an integer.
    """
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise InputError(f"{name} is a whole number; got {value!r}") from error


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
    if not isinstance(composition, Mapping | None):
        raise InputError(
            f"a composition maps species to fractions, like {{{parent.species[0]!r}: 0.5}}; got "
            f"{composition!r}"
        )
    for symbol, wanted in (composition or {}).items():
        if symbol not in parent.species:
            raise InputError(
                f"composition names {symbol}, which this parent lattice does not hold; its "
                f"species are {', '.join(parent.species)}"
            )
        try:
            pair = np.asarray(wanted, dtype=float).reshape(-1)
        except (TypeError, ValueError):
            pair = np.array([])
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
    fractions = fraction_bounds(parent, composition)
    capacity = parent.allowed.sum(axis=0) * n_cells
    return _whole_numbers(fractions, n_cells * parent.n_basis, capacity)


class Rules(TypedDict, total=False):
    """The fields of `Restrictions` other than the composition, as keywords."""

    superperiodic: bool
    sublattices: Mapping[int, Composition] | None
    complete: bool
    exchange: bool
    layer_axis: int | None


class Limits(NamedTuple):
    """Bounds on the numbers of sites of one supercell size that hold each species.

    Attributes
    ----------
    row : (n_basis,) int64
        Row of the bounds that each site of the basis counts for besides row 0; 0 for none.
    smallest, largest : (n_rows, n_species) int64
        Row 0 bounds all sites, the others a sublattice each.
    first : (n_species,) int64
        First of the species interchangeable with each; itself where none is.
    previous : (n_species,) int64
        The interchangeable species before each, or -1.
    """

    row: npt.NDArray[np.int64]
    smallest: npt.NDArray[np.int64]
    largest: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    previous: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Restrictions:
    """Which of all labelings are wanted; two that ask the same are equal.

    Attributes
    ----------
    composition : mapping of str to float or (low, high), optional
        Fractions of all sites, exact or a range.
    superperiodic : bool
        Keep labelings that a translation of the parent leaves unchanged; they have a smaller
        cell.
    sublattices : mapping of int to composition, optional
        Fractions of the sites of single sublattices, by index into ``parent.sublattices``.
    complete : bool
        Every species of the parent is on some site.
    exchange : bool
        Labelings that differ only by exchanging species count as one. Species are
        interchangeable if they are allowed on the same sites and bounded alike. With
        `complete` this is the convention of the tables of Hart & Forcade (2008).
    layer_axis : int, optional
        Lattice vector (0, 1 or 2) along which nothing is stacked: only supercells one cell thick
        along it are made, as for a two-dimensional layer. A given supercell is not affected.
    """

    composition: Composition | None = None
    superperiodic: bool = False
    sublattices: Mapping[int, Composition] | None = None
    complete: bool = False
    exchange: bool = False
    layer_axis: int | None = None

    def __post_init__(self) -> None:
        if self.layer_axis not in {None, 0, 1, 2}:
            raise InputError(f"the layer axis is lattice vector 0, 1 or 2; got {self.layer_axis!r}")

    def __eq__(self, other: object) -> bool:
        """Return whether the same is asked."""
        return isinstance(other, Restrictions) and self._content == other._content

    def __hash__(self) -> int:
        """Return the same number for all that ask the same."""
        return hash(self._content)

    @cached_property
    def _content(self) -> tuple[object, ...]:
        """All that is asked, hashable."""
        sublattices = {n: _hashable(c) for n, c in (self.sublattices or {}).items()}
        rules = (self.superperiodic, self.complete, self.exchange, self.layer_axis)
        return _hashable(self.composition), frozenset(sublattices.items()), rules

    @property
    def restricts_counts(self) -> bool:
        """Whether some labelings are left out because of how many sites hold which species."""
        return bool(self.composition or self.sublattices or self.complete)

    @property
    def rules(self) -> Rules:
        """All but the composition, as keywords."""
        return {
            "superperiodic": self.superperiodic,
            "sublattices": self.sublattices,
            "complete": self.complete,
            "exchange": self.exchange,
            "layer_axis": self.layer_axis,
        }

    def limits(self, parent: ParentLattice, n_cells: int) -> Limits:
        """Return the bounds on the numbers of sites, all sites of a supercell counted.

        Raises
        ------
        InputError
            See `fraction_bounds`, or an unknown sublattice.
        """
        totals = count_bounds(parent, n_cells, self.composition)
        if self.complete:
            totals[:, 0] = totals[:, 0].clip(1)
        row = np.zeros(parent.n_basis, np.int64)
        bounds = [totals]
        if not isinstance(self.sublattices, Mapping | None):
            raise InputError(
                "sublattices maps numbers of sublattices to compositions, like "
                f"{{0: {{{parent.species[0]!r}: 0.5}}}}; got {self.sublattices!r}"
            )
        for number, composition in (self.sublattices or {}).items():
            if number not in range(len(parent.sublattices)):
                raise InputError(
                    f"composition of sublattice {number}: this parent lattice has "
                    f"{len(parent.sublattices)} sublattice(s), counted from 0"
                )
            sites = parent.sublattices[number]
            row[sites] = len(bounds)
            capacity = parent.allowed[sites].sum(axis=0) * n_cells
            fractions = fraction_bounds(parent, composition)
            bounds.append(_whole_numbers(fractions, len(sites) * n_cells, capacity))
        smallest, largest = np.moveaxis(np.array(bounds), -1, 0)
        first = np.arange(parent.n_species)
        if self.exchange:
            columns = np.vstack([parent.allowed, smallest, largest])
            first = (columns[:, :, None] == columns[:, None, :]).all(axis=0).argmax(axis=1)
        previous = [
            max(np.flatnonzero(first[:s] == first[s]), default=-1) for s in range(len(first))
        ]
        return Limits(
            row,
            np.ascontiguousarray(smallest),
            np.ascontiguousarray(largest),
            first.astype(np.int64),
            np.array(previous, dtype=np.int64),
        )

    def exact_bounds(
        self, parent: ParentLattice, n_cells: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the bounds on numbers of sites, (n_rows, n_species) each, not yet rounded."""
        totals = fraction_bounds(parent, self.composition) * (n_cells * parent.n_basis)
        if self.complete:
            totals[:, 0] = totals[:, 0].clip(1)
        bounds = [totals]
        for number, composition in (self.sublattices or {}).items():
            n_sites = len(parent.sublattices[number]) * n_cells
            bounds.append(fraction_bounds(parent, composition) * n_sites)
        smallest, largest = np.moveaxis(np.array(bounds), -1, 0)
        return smallest, largest

    def __str__(self) -> str:
        """Return what is asked of the counts, for messages."""
        words = [f"{dict(self.composition)!r}"] if self.composition else []
        words += [f"sublattice {n} {dict(c)!r}" for n, c in (self.sublattices or {}).items()]
        words += ["all species present"] if self.complete else []
        return " and ".join(words)

    def active_limits(self, parent: ParentLattice, n_cells: int) -> Limits:
        """Return the bounds left for the sites that have a choice; see `limits`."""
        limits = self.limits(parent, n_cells)
        for row in range(len(limits.smallest)):
            sites = ~parent.is_active & ((limits.row == row) | (row == 0))
            taken = parent.allowed[sites].sum(axis=0) * n_cells
            limits.smallest[row] = (limits.smallest[row] - taken).clip(0)
            limits.largest[row] -= taken
        return limits


def _hashable(composition: Composition | None) -> frozenset[tuple[str, tuple[float, float]]]:
    """Return a checked composition as pairs of a species and its lowest and highest fraction."""
    pairs = [(s, np.ravel(bounds).tolist()) for s, bounds in (composition or {}).items()]
    return frozenset((symbol, (bounds[0], bounds[-1])) for symbol, bounds in pairs)


def _whole_numbers(
    fractions: npt.NDArray[np.float64], n_sites: int, capacity: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the smallest and largest numbers of sites, (n_species, 2), within fractions."""
    low, high = fractions.T
    smallest = np.ceil((low - FRACTION_TOLERANCE) * n_sites).clip(0)
    largest = np.floor((high + FRACTION_TOLERANCE) * n_sites).clip(max=n_sites)
    return np.stack([smallest, np.minimum(largest, capacity)], axis=1).astype(np.int64)


def require_possible(
    parent: ParentLattice, cell_numbers: Iterable[int], wanted: Composition | Restrictions | None
) -> None:
    """Check that at least one of some supercell sizes can have a composition.

    Parameters
    ----------
    parent : ParentLattice
    cell_numbers : iterable of int
        Numbers of primitive cells.
    wanted
        A composition, see `fraction_bounds`, or all restrictions.

    Raises
    ------
    InputError
        None of them can; the message names the nearest compositions that are possible.
    """
    if not isinstance(wanted, Restrictions):
        wanted = Restrictions(wanted)
    if not wanted.restricts_counts:
        return
    numbers = list(cell_numbers)
    for n_cells in numbers:
        limits = wanted.limits(parent, n_cells)
        distance, _ = _nearest_counts(parent, n_cells, limits, limits.smallest, limits.largest)
        if distance < 0.5:
            return
    nearest: dict[tuple[float, ...], tuple[float, str]] = {}
    for n_cells in numbers:
        n_sites = n_cells * parent.n_basis
        limits = wanted.limits(parent, n_cells)
        exact = wanted.exact_bounds(parent, n_cells)
        distance, counts = _nearest_counts(parent, n_cells, limits, *exact)
        text = ", ".join(
            f"{s} {c}/{n_sites}" for s, c in zip(parent.species, counts, strict=True) if c
        )
        # The smallest supercell speaks for all that have the same composition.
        nearest.setdefault(tuple(c / n_sites for c in counts), (round(distance / n_sites, 9), text))
    options = "; ".join(text for _, text in sorted(nearest.values(), key=lambda o: o[0])[:2])
    raise InputError(
        f"no supercell of {numbers[0]} to {numbers[-1]} primitive cells can have the composition "
        f"{wanted}; nearest possible: {options}"
    )


def _nearest_counts(
    parent: ParentLattice,
    n_cells: int,
    limits: Limits,
    smallest: npt.NDArray[np.int64] | npt.NDArray[np.float64],
    largest: npt.NDArray[np.int64] | npt.NDArray[np.float64],
) -> tuple[float, list[int]]:
    """Return the counts that sites and allowed species permit closest to bounds, and how far off.

    A transport problem in integers: the sites of each kind go to their allowed species; what
    leaves the bounds costs one per site.
    """
    from scipy.optimize import linprog

    kinds, sizes = np.unique(
        np.column_stack([limits.row, parent.allowed]), axis=0, return_counts=True
    )
    n_kinds, n_species = len(kinds), parent.n_species
    n_rows = len(smallest)
    flows, slack = n_kinds * n_species, n_rows * n_species
    fill = np.hstack([np.kron(np.eye(n_kinds), np.ones(n_species)), np.zeros((n_kinds, 2 * slack))])
    belongs = kinds[:, 0] == np.arange(n_rows)[:, None]
    belongs[0] = True
    counts = np.kron(belongs, np.eye(n_species))
    off = np.eye(slack)
    limit = [(0, None if ok else 0) for ok in kinds[:, 1:].reshape(-1)] + [(0, None)] * (2 * slack)
    result = linprog(
        np.r_[np.zeros(flows), np.ones(2 * slack)],
        A_ub=np.vstack([np.hstack([counts, 0 * off, -off]), np.hstack([-counts, -off, 0 * off])]),
        b_ub=np.r_[largest.reshape(-1), -smallest.reshape(-1)],
        A_eq=fill,
        b_eq=sizes * n_cells,
        bounds=limit,
        integrality=np.r_[np.ones(flows), np.zeros(2 * slack)],
    )
    distance = float(np.asarray(result.fun))
    found = counts[:n_species] @ np.asarray(result.x)[:flows]
    return distance, np.rint(found).astype(int).tolist()
