"""Compiled walks of a model that is written in Python: every question calls back into it.

In goes a labeling, out comes what Python says of its energy; nothing is worked out here. The
function is called through its address, which stands in the tables as a number like any other. So
the search kernels that are compiled for these tables hold no pointer of one process and can be
kept on disk, and no reference is counted in them (`latticesearch.potential.walk.LEAN`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from latticesearch.potential import walk
from latticesearch.potential.walk import LEAN

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

NOBODY = -1
"""Stands in `CallbackState.pending` where no change was asked about."""


class CallbackTables(NamedTuple):
    """How to reach the Python function, and the arrays through which it is spoken to.

    Parameters
    ----------
    address
        Of a C function of two integers: `handle`, and the number of labelings to work out.
    handle
        Which model and supercell is meant.
    trials
        (n_sites, n_sites): the labelings asked about, one per row, so that a row of swaps can be
        asked in one call.
    answers
        (n_sites,): the energies of the cell, eV, for the rows of `trials`.
    """

    address: int
    handle: int
    trials: npt.NDArray[np.int8]
    answers: npt.NDArray[np.float64]


class CallbackState(NamedTuple):
    """A labeling that changes by flips and swaps.

    Parameters
    ----------
    labels
        (n_sites,).
    energy
        (1,), eV, as the model gave it: no rounding adds up.
    pending
        (4,): sites and new species of the change last asked about; the second site is `NOBODY`
        for a flip, the first where there is nothing to carry out.
    trial
        (1,): the energy after that change, eV.
    """

    labels: npt.NDArray[np.int8]
    energy: npt.NDArray[np.float64]
    pending: npt.NDArray[np.int64]
    trial: npt.NDArray[np.float64]


@intrinsic
def _call(_typing: Any, address: Any, handle: Any, n: Any) -> Any:
    """Call the C function at an address, int64, with two integers of 64 bits; nothing comes back.

    The answers come through memory that both sides know, `CallbackTables.answers`.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        integer = ir.IntType(64)
        numbers = [
            context.cast(builder, value, kind, types.int64)
            for value, kind in zip(values, signature.args, strict=True)
        ]
        # ctypes takes the interpreter's lock and calls Python; here it is a function as any other.
        kind = ir.FunctionType(ir.VoidType(), [integer, integer])
        builder.call(builder.inttoptr(numbers[0], kind.as_pointer()), numbers[1:])
        return context.get_dummy_value()

    return types.void(address, handle, n), generate


@njit(**LEAN)
def _answer(tables: CallbackTables, n: int) -> None:
    """Fill the first n `answers`, eV, with the energies of the first n rows of `trials`.

    What Python cannot answer stays infinite.
    """
    # An infinite energy is refused by every walk, whatever its temperature.
    for row in range(n):
        tables.answers[row] = np.inf
    _call(tables.address, tables.handle, n)


@njit(**LEAN)
def _copy_labels(tables: CallbackTables, state: CallbackState, row: int) -> None:
    """Write the labels, (n_sites,), to one row of `trials`, where they are changed and asked."""
    for i in range(state.labels.size):
        tables.trials[row, i] = state.labels[i]


@njit(**LEAN)
def _begin(tables: CallbackTables, state: CallbackState) -> None:
    """Ask for the energy of the labels, eV."""
    _copy_labels(tables, state, 0)
    _answer(tables, 1)
    state.energy[0] = tables.answers[0]
    state.pending[0] = NOBODY


@njit(**LEAN)
def _flip_change(tables: CallbackTables, state: CallbackState, site: int, species: int) -> float:
    """Return the energy after a flip minus that before, eV: one call of Python."""
    state.pending[0] = NOBODY
    if state.labels[site] == species:
        return 0.0
    # Nothing is kept of the labels asked last: several states may share one pair of arrays.
    _copy_labels(tables, state, 0)
    tables.trials[0, site] = species
    _answer(tables, 1)
    state.pending[0], state.pending[1], state.pending[2] = site, species, NOBODY
    state.trial[0] = tables.answers[0]
    return float(state.trial[0] - state.energy[0])


@njit(**LEAN)
def _swap_change(tables: CallbackTables, state: CallbackState, one: int, other: int) -> float:
    """Return the energy after a swap minus that before, eV: one call of Python."""
    state.pending[0] = NOBODY
    a, b = state.labels[one], state.labels[other]
    # The same labeling again is the same energy: Python need not say so.
    if a == b:
        return 0.0
    _copy_labels(tables, state, 0)
    tables.trials[0, one], tables.trials[0, other] = b, a
    _answer(tables, 1)
    state.pending[0], state.pending[1] = one, b
    state.pending[2], state.pending[3] = other, a
    state.trial[0] = tables.answers[0]
    return float(state.trial[0] - state.energy[0])


@njit(**LEAN)
def _swap_row(
    tables: CallbackTables, state: CallbackState, site: int, least: npt.NDArray[np.float64]
) -> None:
    """Write the changes of all swaps of a site to `least`, (n_sites,), eV; here they are exact."""
    labels = state.labels
    state.pending[0] = NOBODY
    # All swaps in one call: a model that works on whole arrays takes little longer for them.
    n = 0
    for j in range(labels.size):
        if labels[j] != labels[site]:
            _copy_labels(tables, state, n)
            tables.trials[n, site], tables.trials[n, j] = labels[j], labels[site]
            n += 1
    _answer(tables, n)
    # The answers stand in the order of the questions, without those that were not asked.
    n = 0
    for j in range(labels.size):
        least[j] = np.inf
        if labels[j] != labels[site]:
            least[j] = tables.answers[n] - state.energy[0]
            n += 1


@njit(**LEAN)
def _accept(state: CallbackState) -> None:
    """Carry out the pending change; its energy is known already."""
    if state.pending[0] == NOBODY:
        return
    for c in range(0, 4, 2):
        if state.pending[c] != NOBODY:
            state.labels[state.pending[c]] = state.pending[c + 1]
    # The model's own number, not the sum of changes: there is nothing to be worked out anew.
    state.energy[0] = state.trial[0]
    state.pending[0] = NOBODY


def _is_ours(tables: Any) -> bool:
    return isinstance(tables, types.BaseNamedTuple) and tables.instance_class is CallbackTables


# Each registration is a call of a function that the disk cache knows. Numba compares the names of
# the arguments with those of the implementation, so all of them stand there.


@overload(walk.begin, jit_options=LEAN)
def _overload_begin(tables: Any, state: Any) -> Callable[..., Any] | None:
    def carry_out(tables: Any, state: Any) -> Any:
        _begin(tables, state)

    return carry_out if _is_ours(tables) else None


@overload(walk.accept, jit_options=LEAN)
def _overload_accept(tables: Any, state: Any) -> Callable[..., Any] | None:
    def carry_out(tables: Any, state: Any) -> Any:
        _accept(state)

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
        _swap_row(tables, state, site, least)

    return ask if _is_ours(tables) else None
