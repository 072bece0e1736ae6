"""Through which compiled functions search kernels see any model: its tables and its state.

A model brings two NamedTuples, its tables (fixed for a supercell) and its state (updated in
place), and registers an implementation of each function below for them with ``numba.extending.
overload``. Search kernels call the functions by these names; numba chooses by the type of the
tables when it compiles, so a second model needs no second search kernel and the disk cache works.
A model that registers nothing is asked through Python, see `latticesearch.potential.callback`.

Every state has the arrays

labels : (n_sites,) int8
    Species of each site.
energy : (1,) float64
    Energy of the cell, eV; kept up to date by `accept`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Tables = Any
    State = Any

# Kernels stand without signatures: what they get are tuples of arrays, and which ones is only known
# when a model is there. They are compiled when first called, and kept on disk.

LEAN: dict[str, Any] = {"cache": True, "_nrt": False}
"""How kernels are compiled that allocate nothing.

Numba counts the references to each array of a tuple whenever a function gets it. Where nothing is
allocated there is nothing to count, and a flip takes half the time.
"""

# Only what is short and called in inner loops: what is copied everywhere is compiled everywhere.
INLINE: dict[str, Any] = LEAN | {"forceinline": True}
"""The same for short ones: to hand over a tuple of twenty arrays takes longer than a look-up."""


def begin(tables: Tables, state: State) -> None:
    """Work out everything in the state from ``state.labels``, which the caller has filled.

    Parameters
    ----------
    tables, state
        Of one supercell and model; everything in the state but the labels is overwritten.
    """
    raise NotImplementedError


def flip_change(tables: Tables, state: State, site: int, species: int) -> float:
    """Return the change of energy when a site becomes a species; nothing changes yet.

    Parameters
    ----------
    tables, state
        Of one supercell and model; the state remembers the question for `accept`.
    site
        Which site, 0 to n_sites - 1.
    species
        What it becomes.

    Returns
    -------
    float
        Of the energy of the cell, eV.
    """
    raise NotImplementedError


def swap_change(tables: Tables, state: State, one: int, other: int) -> float:
    """Return the change of energy when two sites swap species; nothing changes yet.

    Parameters
    ----------
    tables, state
        As in `flip_change`.
    one, other
        The sites.

    Returns
    -------
    float
        Of the energy of the cell, eV.
    """
    raise NotImplementedError


def swap_row(tables: Tables, state: State, site: int, least: npt.NDArray[np.float64]) -> None:
    """Write what the swap of a site with each site costs at least.

    A lower bound is enough to refuse a swap, and refusals are most of a cold walk; what a bound
    lets pass is asked with `swap_change`. The closer to that the better. Nothing can be accepted
    after it before another question.

    Parameters
    ----------
    tables, state
        As in `flip_change`.
    site
        Which site.
    least
        (n_sites,), eV of the cell, written; infinite where both sites have the same species.
    """
    raise NotImplementedError


def accept(tables: Tables, state: State) -> None:
    """Carry out the flip or swap last asked about.

    Rounding does not add up: a state is worked out anew after a fixed number of changes.

    Parameters
    ----------
    tables, state
        As in `flip_change`; the state is brought up to date.
    """
    raise NotImplementedError
