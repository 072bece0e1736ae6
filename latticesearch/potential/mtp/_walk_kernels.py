"""Changes of single sites of a labeling, with incremental moments.

The functions that search kernels see, in `latticesearch.potential.walk`, are registered below.
A change touches the sites that see a changed site, nothing else: their moments are moved by the
difference of two table rows and contracted again: moments are linear in the neighbours (Shapeev,
Multiscale Model. Simul. 14, 1153 (2016)), the energy is not. What a question works out stays in the
state, so that carrying it out copies only; most questions of a cold walk are refused, and leave
nothing to take back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from latticesearch.potential import walk
from latticesearch.potential.mtp._contraction import contract_rows
from latticesearch.potential.mtp._lattice_kernels import (
    LatticeTables,
    sum_rows,
)
from latticesearch.potential.walk import LEAN
from latticesearch.vectors import LANES, load, minus, plus, store

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

ROUNDS = 10_000
"""Accepted changes after which a state is worked out anew: rounding stays below 1e-12 eV."""


class WalkState(NamedTuple):
    """A labeling with the moments and energies of its sites.

    Parameters
    ----------
    labels
        Species of each site, (n_sites,).
    energy
        Energy of the cell, (1,), eV.
    moments
        Basic moments as wide as the table rows, (n_sites, width).
    energies
        Energies of the sites, (n_sites,), eV.
    changed, species
        The sites last asked about and their species after the change, (2,).
    touched
        Sites whose energies that change moves, (n_touched_max,).
    slots
        ``touched[slots[i]] == i`` while the change is worked out, else -1, (n_sites,).
    trial_moments, trial_energies
        What the touched sites have after the change, (n_touched_max, width), (n_touched_max,).
    change
        The answer last given, (1,), eV.
    counts
        Numbers of touched sites, of changed sites, and of changes accepted since `begin`, (3,).
    work
        Space for a contraction.
    """

    labels: npt.NDArray[np.int8]
    energy: npt.NDArray[np.float64]
    moments: npt.NDArray[np.float64]
    energies: npt.NDArray[np.float64]
    changed: npt.NDArray[np.int64]
    species: npt.NDArray[np.int8]
    touched: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    trial_moments: npt.NDArray[np.float64]
    trial_energies: npt.NDArray[np.float64]
    change: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    work: npt.NDArray[np.float64]


@njit(**LEAN)
def copy_row(
    source: npt.NDArray[np.float64], row: int, target: npt.NDArray[np.float64], into: int
) -> None:
    """Copy a row to the row `into` of an array of the same width.

    Parameters
    ----------
    source, target
        (any, width), whole vectors; `target` is written.
    row, into
        Which rows.
    """
    # By position in the whole array, as `load` and `store` count.
    width = source.shape[-1]
    for k in range(0, width, LANES):
        store(target, into * width + k, load(source, row * width + k))


@njit(**LEAN)
def begin(tables: LatticeTables, state: WalkState) -> None:
    """Work out a state from its labels; see `latticesearch.potential.walk.begin`."""
    # All sites at once: the contraction has full lanes.
    for i in range(state.labels.size):
        sum_rows(tables, state.labels, i, state.moments[i])
    contract_rows(tables.contraction, state.moments, state.labels.size, state.work, state.energies)
    total = 0.0
    for i in range(state.labels.size):
        state.energies[i] += tables.species_coeffs[state.labels[i]]
        total += state.energies[i]
    state.energy[0] = total
    state.slots[:] = -1
    state.counts[:] = 0


@njit(**LEAN)
def _touch(state: WalkState, site: int) -> int:
    """Return the row of the trial moments, 0 to n_touched - 1, of a site not yet touched."""
    # Touched sites are numbered in the order they are met: their rows lie together and fill lanes.
    slot: int = state.counts[0]
    state.counts[0] = slot + 1
    state.slots[site] = slot
    state.touched[slot] = site
    return slot


@njit(**LEAN)
def _move_seers(tables: LatticeTables, state: WalkState, site: int, after: int) -> None:
    """Move the trial moments of all sites that see `site`, which becomes the species `after`.

    Trial moments are (n_touched_max, width); those of a site met first begin at its moments.
    """
    n_species, width = tables.moments.shape[2:]
    before = state.labels[site]
    for s in range(tables.n_seers[site]):
        j = tables.seers[site, s]
        # Rows of j as it is labeled now. Where j itself changes, what comes of them is overwritten
        # in `_change`: as another centre it has other rows throughout.
        rows = tables.seer_offsets[site, s] + state.labels[j] * n_species * width
        slot = state.slots[j]
        is_new = slot < 0
        if is_new:
            slot = _touch(state, j)
        for k in range(0, width, LANES):
            new = load(tables.moments, rows + after * width + k)
            old = load(tables.moments, rows + before * width + k)
            # Copy and difference in one go. In a swap, a site that sees both is here twice.
            if is_new:
                present = load(state.moments, j * width + k)
            else:
                present = load(state.trial_moments, slot * width + k)
            store(state.trial_moments, slot * width + k, plus(present, minus(new, old)))


@njit(**LEAN)
def _exchange(state: WalkState) -> None:
    """Exchange the species of the changed sites, before and after; twice is as it was."""
    for c in range(state.counts[1]):
        site = state.changed[c]
        before = state.labels[site]
        state.labels[site] = state.species[c]
        state.species[c] = before


@njit(**LEAN)
def _change(tables: LatticeTables, state: WalkState) -> float:
    """Return the change of energy, eV, of the sites `changed` to their `species`.

    ``counts[1]`` says how many of these there are. Trial moments and energies of all touched sites
    stay in the state, the labels are as before.
    """
    state.counts[0] = 0
    for c in range(state.counts[1]):
        _move_seers(tables, state, state.changed[c], state.species[c])
    _exchange(state)
    # A changed site is a centre of another species: nothing of its moments can be kept. With the
    # labels after the change, its rows see the other changed site as it will be.
    for c in range(state.counts[1]):
        site = state.changed[c]
        slot = state.slots[site]
        if slot < 0:
            slot = _touch(state, site)
        sum_rows(tables, state.labels, site, state.trial_moments[slot])
    n_touched = state.counts[0]
    # The contraction is most of the work, so it comes once, for all touched sites in lanes.
    contract_rows(
        tables.contraction, state.trial_moments, n_touched, state.work, state.trial_energies
    )
    total = 0.0
    for n in range(n_touched):
        site = state.touched[n]
        # Forgotten one by one: to clear all slots would take as long as the cell is large.
        state.slots[site] = -1
        state.trial_energies[n] += tables.species_coeffs[state.labels[site]]
        # Differences of sites, not of cells: they are small, and so is their rounding.
        total += state.trial_energies[n] - state.energies[site]
    _exchange(state)
    state.change[0] = total
    return total


@njit(**LEAN)
def _flip_change(tables: LatticeTables, state: WalkState, site: int, species: int) -> float:
    """Return the change of energy, eV, when a site becomes a species; keep what it takes."""
    state.counts[1] = 0
    if state.labels[site] == species:
        return 0.0
    state.counts[1] = 1
    state.changed[0] = site
    state.species[0] = species
    change: float = _change(tables, state)
    return change


@njit(**LEAN)
def _swap_change(tables: LatticeTables, state: WalkState, one: int, other: int) -> float:
    """Return the change of energy, eV, when two sites swap species; keep what it takes.

    A site that sees both is moved twice and contracted once.
    """
    state.counts[1] = 0
    if state.labels[one] == state.labels[other]:
        return 0.0
    state.counts[1] = 2
    state.changed[0] = one
    state.changed[1] = other
    state.species[0] = state.labels[other]
    state.species[1] = state.labels[one]
    change: float = _change(tables, state)
    return change


@njit(**LEAN)
def _accept(tables: LatticeTables, state: WalkState) -> None:
    """Carry out the change last asked about: what it takes is copied, not worked out again."""
    if state.counts[1] == 0:
        return
    for n in range(state.counts[0]):
        site = state.touched[n]
        copy_row(state.trial_moments, n, state.moments, site)
        state.energies[site] = state.trial_energies[n]
    for c in range(state.counts[1]):
        state.labels[state.changed[c]] = state.species[c]
    state.energy[0] += state.change[0]
    state.counts[1] = 0
    state.counts[2] += 1
    if state.counts[2] == ROUNDS:
        begin(tables, state)


@njit(cache=True)
def flip_changes(
    tables: LatticeTables,
    state: WalkState,
    sites: npt.NDArray[np.int64],
    species: npt.NDArray[np.int8],
) -> npt.NDArray[np.float64]:
    """Return the changes of energy of flips, each of the same state.

    Parameters
    ----------
    tables, state
        Of the supercell; labels and energies of the state stay as they are.
    sites, species
        (m,): flip k sets ``labels[sites[k]] = species[k]``.

    Returns
    -------
    (m,)
        Of the energy of the cell, eV.
    """
    changes = np.empty(sites.size)
    for n in range(sites.size):
        changes[n] = _flip_change(tables, state, sites[n], species[n])
    return changes


@njit(cache=True)
def swap_changes(
    tables: LatticeTables, state: WalkState, pairs: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the changes of energy of swaps, each of the same state.

    Parameters
    ----------
    tables, state
        As in `flip_changes`.
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
    return isinstance(tables, types.BaseNamedTuple) and tables.instance_class is LatticeTables


# Each registration is a call of a function that the disk cache knows. Numba compares the names of
# the arguments with those of the implementation, so all of them stand there.


@overload(walk.begin, jit_options=LEAN)
def _overload_begin(tables: Any, state: Any) -> Callable[..., Any] | None:
    def carry_out(tables: Any, state: Any) -> Any:
        begin(tables, state)

    return carry_out if _is_ours(tables) else None


@overload(walk.accept, jit_options=LEAN)
def _overload_accept(tables: Any, state: Any) -> Callable[..., Any] | None:
    def carry_out(tables: Any, state: Any) -> Any:
        _accept(tables, state)

    return carry_out if _is_ours(tables) else None


@overload(walk.flip_change, jit_options=LEAN)
def _overload_flip(tables: Any, state: Any, site: Any, species: Any) -> Callable[..., Any] | None:
    def ask(tables: Any, state: Any, site: Any, species: Any) -> Any:
        return _flip_change(tables, state, site, species)

    return ask if _is_ours(tables) else None


@overload(walk.swap_change, jit_options=LEAN)
def _overload_swap(tables: Any, state: Any, one: Any, other: Any) -> Callable[..., Any] | None:
    def ask(tables: Any, state: Any, one: Any, other: Any) -> Any:
        return _swap_change(tables, state, one, other)

    return ask if _is_ours(tables) else None


@overload(walk.swap_row, jit_options=LEAN)
def _overload_row(tables: Any, state: Any, site: Any, least: Any) -> Callable[..., Any] | None:
    def ask(tables: Any, state: Any, site: Any, least: Any) -> Any:
        # Swaps of one site share nothing here: each is asked for, and the bound is exact.
        for j in range(least.size):
            least[j] = np.inf
            if state.labels[j] != state.labels[site]:
                least[j] = _swap_change(tables, state, site, j)

    return ask if _is_ours(tables) else None
