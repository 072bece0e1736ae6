"""Changes of single sites of a labeling under a cluster expansion.

The functions that search kernels see, in `latticesearch.potential.walk`, are registered below.
What every site would cost as every species is kept up to date, so a question is a look-up and
only carrying out a change touches the neighbours. That is possible because the energy is linear in
the occupation of every single site (products of site functions, one per vertex: Sanchez, Ducastelle
& Gratias, Physica A 128, 334 (1984)); and it pays because walks ask more often than they move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from latticesearch.potential import walk
from latticesearch.potential.clusters._kernels import ClusterTables
from latticesearch.potential.walk import INLINE, LEAN
from latticesearch.vectors import BLOCK, item, load_block, plus_difference, store_block

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

REFRESH = 1000
"""Changes after which a state is worked out anew, before rounding adds up."""


class ClusterState(NamedTuple):
    """A labeling that changes by flips and swaps.

    Parameters
    ----------
    labels
        (n_sites,).
    energy
        (1,), eV.
    field
        ``field[i, z]``: energy of all clusters of site i if it were species z and all other
        sites as they are, (n_sites, n_species), eV.
    pending
        (5,): sites and new species of the change last asked about (second site -1 for a flip),
        and the number of changes since the state was worked out.
    change
        (1,): its energy, eV.
    """

    labels: npt.NDArray[np.int8]
    energy: npt.NDArray[np.float64]
    field: npt.NDArray[np.float64]
    pending: npt.NDArray[np.int64]
    change: npt.NDArray[np.float64]


@njit(**INLINE)
def _add_line(field: Any, i: int, table: Any, new: int, old: int) -> None:
    """Add to the field of site i the difference of two lines of a table.

    `field` is (n_sites, width), eV; `table` is (..., width), its lines are numbered through.
    """
    width = field.shape[1]
    for first in range(0, width, BLOCK):
        block = load_block(field, i * width + first)
        block = plus_difference(block, table, new * width + first, old * width + first)
        store_block(field, i * width + first, block)


@njit(**LEAN)
def _move_field(tables: ClusterTables, state: ClusterState, site: int, species: int) -> None:
    """Set one site's species and bring the fields of all others up to date.

    A neighbour's field, (width,) eV, moves by the difference of two lines of the pair, and of two
    lines of every triplet of both sites, at the third one's species.
    """
    labels, field, old = state.labels, state.field, np.int64(state.labels[site])
    n_sites, n_species = tables.points.shape
    width, n_rows = field.shape[1], tables.near.shape[1]
    new_lines, old_lines = species * n_species * width, old * n_species * width
    for r in range(site * n_rows, (site + 1) * n_rows):
        j, pair = np.int64(item(tables.near, 2 * r)), np.int64(item(tables.near, 2 * r + 1))
        if j < 0:
            break
        begin, end = _triples(tables, site * n_sites + j)
        # One neighbour at a time: its block stays in a register through all its triplets. The
        # triplets of two sites stand together in the list for this.
        for part in range(0, width, BLOCK):
            block = load_block(field, j * width + part)
            new, was = (pair + species) * width + part, (pair + old) * width + part
            block = plus_difference(block, tables.pairs, new, was)
            for t in range(begin, end):
                line = item(tables.oriented, t) * n_species * n_species
                line = (line + item(labels, item(tables.third, t))) * width + part
                new, was = line + new_lines, line + old_lines
                block = plus_difference(block, tables.triplet_lines, new, was)
            store_block(field, j * width + part, block)
    labels[site] = species


@njit(**INLINE)
def _triples(tables: ClusterTables, pair: int) -> tuple[int, int]:
    """Return first and end of the triples that begin with a pair, ``i * n_sites + j``, of sites."""
    return item(tables.start, pair), item(tables.start, pair + 1)


@njit(**INLINE)
def _common(tables: ClusterTables, labels: npt.NDArray[np.int8], i: int, j: int) -> float:
    """Return what two flips miss when sites i and j of `labels`, (n_sites,), swap, eV."""
    a, b, n_species = np.int64(labels[i]), np.int64(labels[j]), tables.points.shape[1]
    energy = 0.0
    # E(both) - E(first alone) - E(second alone) + E(none) of the clusters that contain both sites,
    # as tables: a swap has only n_species**2 cases per class.
    pair = i * labels.size + j
    row = np.int64(item(tables.class_of, pair))
    if row >= 0:
        energy += item(tables.pair_swaps, (row * n_species + a) * n_species + b)
    begin, end = _triples(tables, pair)
    for t in range(begin, end):
        line = (item(tables.oriented, t) * n_species + a) * n_species + b
        energy += item(tables.triplet_swaps, line * n_species + item(labels, item(tables.third, t)))
    return energy


@njit(**LEAN)
def begin(tables: ClusterTables, state: ClusterState) -> None:
    """Work out a state from its labels; see `latticesearch.potential.walk.begin`."""
    labels, field = state.labels, state.field
    for i in range(labels.size):
        for z in range(field.shape[1]):
            field[i, z] = 0.0
    _add_pairs(tables, labels, field)
    # Twice the energy of pairs, each counted from both ends; triplets will be counted three times.
    pairs = _own(field, labels)
    # Each of the two other sites of a triplet adds it to the field of the third.
    for i in range(labels.size):
        for z in range(field.shape[1]):
            field[i, z] *= 2.0
    _add_triplets(tables, labels, field)
    both, points = 0.5 * _own(field, labels), 0.0
    for i in range(labels.size):
        points += tables.points[i, labels[i]]
        for z in range(tables.points.shape[1]):
            field[i, z] = 0.5 * field[i, z] + tables.points[i, z]
    state.energy[0] = points + pairs / 2.0 + (both - pairs) / 3.0
    state.pending[4] = 0


@njit(**LEAN)
def _add_pairs(
    tables: ClusterTables, labels: npt.NDArray[np.int8], field: npt.NDArray[np.float64]
) -> None:
    """Add to the fields, (n_sites, width) eV, what every site as it is brings by pairs."""
    # The difference to a line of zeros, so that `_move_field` and this are one operation.
    nothing = (tables.pairs.shape[0] - 1) * tables.pairs.shape[1]
    for i in range(labels.size):
        for r in range(tables.near.shape[1]):
            j, line = tables.near[i, r, 0], np.int64(tables.near[i, r, 1])
            if j < 0:
                break
            _add_line(field, j, tables.pairs, line + labels[i], nothing)


@njit(**LEAN)
def _add_triplets(
    tables: ClusterTables, labels: npt.NDArray[np.int8], field: npt.NDArray[np.float64]
) -> None:
    """Add to the fields, (n_sites, width) eV, what every ordered triple brings to its second site.

    (i, j, k) and (k, j, i) are both in the list: a triplet is added twice to each of its sites.
    """
    n_sites, n_species = tables.points.shape
    nothing = (tables.triplet_lines.shape[0] - 1) * n_species * n_species
    for i in range(n_sites):
        for r in range(tables.near.shape[1]):
            j = np.int64(tables.near[i, r, 0])
            if j < 0:
                break
            begin, end = _triples(tables, i * n_sites + j)
            for t in range(begin, end):
                line = (item(tables.oriented, t) * n_species + labels[i]) * n_species
                line += item(labels, item(tables.third, t))
                _add_line(field, j, tables.triplet_lines, line, nothing)


@njit(**LEAN)
def _own(field: npt.NDArray[np.float64], labels: npt.NDArray[np.int8]) -> float:
    """Return the sum of the fields, (n_sites, width) eV, of all sites at their species, eV."""
    total = 0.0
    for i in range(labels.size):
        total += field[i, labels[i]]
    return total


@njit(**INLINE)
def swap_row(
    tables: ClusterTables, state: ClusterState, site: int, least: npt.NDArray[np.float64]
) -> None:
    """Write what the swaps of a site cost at least to `least`, (n_sites,), eV.

    See `latticesearch.potential.walk.swap_row`. The third sites of triplets are not looked at: what
    they can spare is taken off.
    """
    labels, field, a = state.labels, state.field, np.int64(state.labels[site])
    width, n_rows = field.shape[1], tables.near.shape[1]
    n_species = tables.points.shape[1]
    own = field[site, a]
    # First all sites as if none were a neighbour: no branch, no list. Then the few that are.
    for j in range(labels.size):
        b = np.int64(item(labels, j))
        change = item(field, j * width + a) - item(field, j * width + b)
        change += item(field, site * width + b) - own
        least[j] = np.inf if b == a else change
    for r in range(site * n_rows, (site + 1) * n_rows):
        other = np.int64(item(tables.near, 2 * r))
        if other < 0:
            break
        line = (np.int64(item(tables.near, 2 * r + 1)) + a) * n_species
        least[other] += item(tables.floors, line + item(labels, other))


@njit(**INLINE)
def _accept(tables: ClusterTables, state: ClusterState) -> None:
    """Carry out the pending flip or swap: the only walk function that touches neighbours."""
    # One flip after the other: each moves the fields as they are by then, so that the clusters of
    # both sites need no care.
    for c in range(2):
        if state.pending[2 * c] >= 0:
            _move_field(tables, state, state.pending[2 * c], state.pending[2 * c + 1])
    state.energy[0] += state.change[0]
    state.pending[4] += 1
    if state.pending[4] >= REFRESH:
        begin(tables, state)


@njit(**INLINE)
def _flip_change(tables: ClusterTables, state: ClusterState, site: int, species: int) -> float:
    """Return ``field[site, new] - field[site, old]``, eV: the fields hold all there is to know."""
    state.pending[0], state.pending[1], state.pending[2] = site, species, -1
    state.change[0] = state.field[site, species] - state.field[site, state.labels[site]]
    return float(state.change[0])


@njit(**INLINE)
def _swap_change(tables: ClusterTables, state: ClusterState, one: int, other: int) -> float:
    """Return what the swap of two sites costs, eV.

    The two flips are look-ups, each with the other site as it is now; the clusters that contain
    both sites are therefore counted wrongly, which `_common` makes good.
    """
    a, b = state.labels[one], state.labels[other]
    state.pending[0], state.pending[1] = one, b
    state.pending[2], state.pending[3] = other, a
    flips = state.field[one, b] - state.field[one, a]
    flips += state.field[other, a] - state.field[other, b]
    state.change[0] = flips + _common(tables, state.labels, one, other)
    return float(state.change[0])


@njit(cache=True)
def swap_changes(
    tables: ClusterTables, state: ClusterState, pairs: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the changes of energy of swaps, each of the same state.

    Parameters
    ----------
    tables, state
        Of the supercell; labels and fields of the state stay as they are.
    pairs
        (m, 2) sites.

    Returns
    -------
    (m,)
        Of the energy of the cell, eV.
    """
    changes = np.empty(pairs.shape[0])
    for n in range(pairs.shape[0]):
        changes[n] = _swap_change(tables, state, pairs[n, 0], pairs[n, 1])
    return changes


def _is_ours(tables: Any) -> bool:
    return isinstance(tables, types.BaseNamedTuple) and tables.instance_class is ClusterTables


# Each registration is a call of a function that the disk cache knows. Numba compares the names of
# the arguments with those of the implementation, so all of them stand there.


@overload(walk.begin, jit_options=LEAN)
def _overload_begin(tables: Any, state: Any) -> Callable[..., Any] | None:
    def carry_out(tables: Any, state: Any) -> Any:
        begin(tables, state)

    return carry_out if _is_ours(tables) else None


@overload(walk.accept, jit_options=INLINE)
def _overload_accept(tables: Any, state: Any) -> Callable[..., Any] | None:
    def carry_out(tables: Any, state: Any) -> Any:
        _accept(tables, state)

    return carry_out if _is_ours(tables) else None


@overload(walk.flip_change, jit_options=INLINE)
def _overload_flip(tables: Any, state: Any, site: Any, species: Any) -> Callable[..., Any] | None:
    def ask(tables: Any, state: Any, site: Any, species: Any) -> Any:
        return _flip_change(tables, state, site, species)

    return ask if _is_ours(tables) else None


@overload(walk.swap_change, jit_options=INLINE)
def _overload_swap(tables: Any, state: Any, one: Any, other: Any) -> Callable[..., Any] | None:
    def ask(tables: Any, state: Any, one: Any, other: Any) -> Any:
        return _swap_change(tables, state, one, other)

    return ask if _is_ours(tables) else None


@overload(walk.swap_row, jit_options=INLINE)
def _overload_row(tables: Any, state: Any, site: Any, least: Any) -> Callable[..., Any] | None:
    def carry_out(tables: Any, state: Any, site: Any, least: Any) -> Any:
        swap_row(tables, state, site, least)

    return carry_out if _is_ours(tables) else None
