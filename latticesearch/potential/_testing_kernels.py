"""A walk of given steps, for tests: in go the steps, out come the answers and the energies met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numba import njit

from latticesearch.potential.walk import LEAN, accept, begin, flip_change, swap_change, swap_row

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@njit(**LEAN)
def walk_along(
    model: tuple[Any, Any], steps: npt.NDArray[np.int64], answers: npt.NDArray[np.float64]
) -> None:
    """Ask about steps in turn and carry out those that say so.

    Parameters
    ----------
    model
        Tables and state.
    steps
        (n, 4): 0 for a flip and 1 for a swap; a site; its new species, or the other site; 1 to
        carry it out.
    answers
        (n, 2): receives the change announced, and the energy of the state afterwards, eV.
    """
    # Compiled, because the functions asked exist for compiled code only (`latticesearch.potential.
    # walk`); all steps in one call, so that a test compiles one function per model.
    tables, state = model
    for n in range(steps.shape[0]):
        if steps[n, 0] == 0:
            answers[n, 0] = flip_change(tables, state, steps[n, 1], steps[n, 2])
        else:
            answers[n, 0] = swap_change(tables, state, steps[n, 1], steps[n, 2])
        # What was asked and not carried out must leave no trace: the next answer shows it.
        if steps[n, 3] == 1:
            accept(tables, state)
        answers[n, 1] = state.energy[0]


@njit(**LEAN)
def row_of(model: tuple[Any, Any], site: int, least: npt.NDArray[np.float64]) -> None:
    """Write what the swaps of a site cost at least.

    Parameters
    ----------
    model
        Tables and state.
    site
        Which site.
    least
        (n_sites,), eV of the cell, written; infinite where both sites have the same species.
    """
    swap_row(model[0], model[1], site, least)


@njit(**LEAN)
def begin_again(model: tuple[Any, Any]) -> None:
    """Work out the state of a model, tables and state, from its labels, (n_sites,)."""
    begin(model[0], model[1])
