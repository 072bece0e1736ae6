"""Compiled loops of a caller that knows any model only through its tables and its state."""

from __future__ import annotations

from numba import njit

from latticesearch.potential import walk


@njit(cache=True)
def ask_and_flip(tables, state, sites, species, answers):
    """Ask about every flip, carry out every second one."""
    for n in range(sites.size):
        answers[n] = walk.flip_change(tables, state, sites[n], species[n])
        if n % 2 == 0:
            walk.accept(tables, state)


@njit(cache=True)
def ask_and_swap(tables, state, pairs, answers):
    """Ask about every swap, carry out every second one."""
    for n in range(len(pairs)):
        answers[n] = walk.swap_change(tables, state, pairs[n, 0], pairs[n, 1])
        if n % 2 == 0:
            walk.accept(tables, state)


@njit(cache=True)
def flip_all(tables, state, sites, species):
    """Carry out every flip."""
    for n in range(sites.size):
        walk.flip_change(tables, state, sites[n], species[n])
        walk.accept(tables, state)


@njit(cache=True)
def begin(tables, state):
    """Work out a state anew."""
    walk.begin(tables, state)
