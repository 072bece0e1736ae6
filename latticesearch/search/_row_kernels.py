"""Compiled walks under models that answer all swaps of one site at once.

A cluster expansion keeps what every site would cost as every species, so all swaps of a site cost
little more than a few of them. The walks here choose a site and ask its partners in turn, from a
random one on; each partner asked is one evaluation. That is Metropolis' walk with another order
of the questions: asking in turn keeps the Boltzmann distribution as asking at random does
(Manousiouthakis & Deem, J. Chem. Phys. 110, 2753 (1999)). How many partners are asked is what makes
about one swap, by the share of those before: to swap one site many times is of no use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from latticesearch.potential.walk import INLINE, LEAN, accept, swap_change, swap_row
from latticesearch.search._walk_kernels import (
    DRAWS,
    SAME,
    STRIDE,
    Best,
    Cooling,
    SwapRules,
    is_accepted,
    is_swap,
    keep_best,
    may_pass,
    mixed,
    random_below,
    random_unit,
    unit_of,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from latticesearch.search._walk_kernels import Model

PATIENCE = 5000
"""Partners that a guide refuses one after the other before a walk counts as frozen."""

FEWEST = 8
"""Partners asked in turn at least: a row takes as long as so many single questions."""

RECENT = 0.05
"""Weight of the last turn in the share of partners that a site was swapped with."""


class Row(NamedTuple):
    """All swaps of one site.

    Parameters
    ----------
    least
        (n_sites,): what the swap with each site costs at least, eV; infinite where there is none.
    units
        (n_sites,): random numbers in [0, 1).
    passes
        (n_sites,): which swaps may be accepted, by their least cost.
    is_free
        Every site may have every species.
    """

    least: npt.NDArray[np.float64]
    units: npt.NDArray[np.float64]
    passes: npt.NDArray[np.bool_]
    is_free: bool


def empty_row(rules: SwapRules) -> Row:
    """Return a row to be filled, (n_sites,) each, for compiled walks that allocate nothing.

    It is made in Python, as one function more around a walk would compile the walk once more.
    """
    n_sites = rules.allowed.shape[0]
    is_free = bool(rules.allowed.all())
    return Row(np.empty(n_sites), np.empty(n_sites), np.empty(n_sites, np.bool_), is_free)


@njit(**INLINE)
def _draw_all(row: Row, rng: npt.NDArray[np.uint64]) -> None:
    """Draw a random number in [0, 1) for each site, as one `random_unit` after the other gives.

    `rng` is (1,), brought up to date. Successive states of the generator are one stride apart,
    so those of all sites are worked out side by side, in vector code.
    """
    seed = rng[0]
    for j in range(row.units.size):
        row.units[j] = unit_of(mixed(seed + np.uint64(j + 1) * STRIDE))
    rng[0] = seed + np.uint64(row.units.size) * STRIDE


@njit(**INLINE)
def fill_row(model: Model, rules: SwapRules, site: int, temperature: float, row: Row) -> None:
    """Find out which swaps of a site may be accepted with the random numbers of the row.

    Parameters
    ----------
    model, rules
        Of the cell.
    site
        Which site.
    temperature
        eV.
    row
        With `units`; `least` and `passes` are written.
    """
    tables, state = model
    least = row.least
    swap_row(tables, state, site, least)
    # Models know of no rules; most lattices have none, and then this loop is spared.
    if not row.is_free:
        for j in range(least.size):
            if not is_swap(rules, state.labels, site, j):
                least[j] = np.inf
    _test_all(row, 1.0 / temperature)


@njit(**INLINE)
def _test_all(row: Row, beta: float) -> None:
    """Note which swaps may be accepted at 1 / temperature, 1/eV.

    A loop of its own without branches or exponentials, so that it becomes vector code.
    """
    for j in range(row.least.size):
        cost = row.least[j] * beta
        row.passes[j] = may_pass(row.units[j], max(cost, 0.0))


def anneal_rows(
    model: Model,
    rules: SwapRules,
    cooling: Cooling,
    best: Best,
    n_steps: int,
    rng: npt.NDArray[np.uint64],
) -> int:
    """Metropolis swaps while cooling, the partners of one site in turn.

    Metropolis et al., J. Chem. Phys. 21, 1087 (1953), cooled as by Kirkpatrick, Gelatt & Vecchi,
    Science 220, 671 (1983).

    Parameters
    ----------
    model, rules
        Of the cell; the state of the model walks.
    cooling
        Temperatures, eV.
    best
        Brought up to date.
    n_steps
        Evaluations.
    rng
        (1,), state of the random numbers.

    Returns
    -------
    int
        Number of evaluations, `n_steps` at most.
    """
    return _anneal_rows(model, rules, cooling, best, n_steps, rng, empty_row(rules))  # type: ignore[no-any-return]


@njit(**LEAN)
def _anneal_rows(
    model: Model,
    rules: SwapRules,
    cooling: Cooling,
    best: Best,
    n_steps: int,
    rng: npt.NDArray[np.uint64],
    row: Row,
) -> int:
    """Carry out `anneal_rows` with space for a row."""
    ratio = np.log(cooling.last / cooling.first)
    span = (cooling.end - cooling.begin) / max(n_steps, 1)
    # The temperature follows the evaluations: turns differ in length, and a limit counts them.
    asked, in_vain, share = 0, 0, 1.0
    while asked < n_steps and in_vain < DRAWS:
        site = rules.sites[random_below(rng, rules.sites.size)]
        temperature = cooling.first * np.exp(ratio * (cooling.begin + asked * span))
        turn = min(partners_in_turn(share, row.least.size), n_steps - asked)
        partners, swapped = _ask_row(model, rules, site, temperature, row, turn, best, rng)
        asked += partners
        share += RECENT * (swapped / turn - share)
        in_vain = in_vain + 1 if partners == 0 else 0
    return asked


@njit(**INLINE)
def partners_in_turn(share: float, n_sites: int) -> int:
    """Return how many partners make one swap on average, where a share of them does."""
    return min(max(int(1.0 / max(share, 1e-9)), FEWEST), n_sites)


@njit(**INLINE)
def _ask_row(
    model: Model,
    rules: SwapRules,
    site: int,
    temperature: float,
    row: Row,
    turn: int,
    best: Best,
    rng: npt.NDArray[np.uint64],
) -> tuple[int, int]:
    """Ask partners of a site in turn.

    Parameters
    ----------
    model, rules, best, rng
        As in `anneal_rows`.
    site
        Whose partners.
    temperature
        eV.
    row
        Overwritten.
    turn
        How many sites are looked at.

    Returns
    -------
    asked : int
        Partners of another species among them; each is one evaluation.
    swapped : int
        How many were swapped.
    """
    tables, state = model
    n, asked, swapped = state.labels.size, 0, 0
    _draw_all(row, rng)
    fill_row(model, rules, site, temperature, row)
    other = random_below(rng, n)
    for _ in range(turn):
        other = other + 1 if other + 1 < n else 0
        asked += row.least[other] < np.inf
        # Refused at its least cost, it is refused at its cost: the exact one is never worked out.
        if not row.passes[other]:
            continue
        change = swap_change(tables, state, site, other)
        if change <= SAME or is_accepted(row.units[other], change / temperature):
            accept(tables, state)
            keep_best(state, best)
            swapped += 1
            # The site is another species now. Numbers of partners still to come are unused, so
            # they are as random as new ones.
            fill_row(model, rules, site, temperature, row)
    return asked, swapped


class AskedSwaps(NamedTuple):
    """What a guided walk asked the model.

    Parameters
    ----------
    swaps
        (n, 3): two sites, and 1 where they were swapped.
    changes
        (n,) answers, eV.
    """

    swaps: npt.NDArray[np.int64]
    changes: npt.NDArray[np.float64]


def anneal_guided(
    model: Model,
    guide: Model,
    rules: SwapRules,
    cooling: Cooling,
    noise: float,
    best: Best,
    log: AskedSwaps,
    rng: npt.NDArray[np.uint64],
) -> int:
    """Metropolis swaps that a cheap guide has to accept before the model is asked.

    Delayed acceptance (Christen & Fox, J. Comput. Graph. Stat. 14, 795 (2005)): what the guide
    lets through is accepted with the ratio of the two Boltzmann factors, so the model's
    distribution is met whatever the guide is; a good guide saves most of the evaluations. Its
    temperature is the higher the larger its error. The guide is asked about the partners of
    one site in turn.

    Parameters
    ----------
    model, guide
        Of one cell, with equal labels.
    rules, cooling
        Of the walk.
    noise
        Error of the guide's changes, eV.
    best
        Brought up to date.
    log
        Receives what is asked; its length is the number of evaluations.
    rng
        (1,), state of the random numbers.

    Returns
    -------
    int
        Number of evaluations, fewer than fit into the log where the walk froze.
    """
    return _anneal_guided((model, guide), rules, cooling, noise, best, log, rng, empty_row(rules))  # type: ignore[no-any-return]


@njit(**LEAN)
def _anneal_guided(
    models: tuple[Model, Model],
    rules: SwapRules,
    cooling: Cooling,
    noise: float,
    best: Best,
    log: AskedSwaps,
    rng: npt.NDArray[np.uint64],
    row: Row,
) -> int:
    """Carry out `anneal_guided` with space for a row."""
    n_steps = log.changes.size
    ratio = np.log(cooling.last / cooling.first)
    span = (cooling.end - cooling.begin) / max(n_steps, 1)
    # Not the literal 0: a tuple of it is another type, for which the loop would be compiled again.
    asked, in_vain, share = np.int64(0), 0, 1.0
    while asked < n_steps and in_vain < PATIENCE:
        site = rules.sites[random_below(rng, rules.sites.size)]
        temperature = cooling.first * np.exp(ratio * (cooling.begin + asked * span))
        # As if the guide's error were heat: what it is not sure of it lets through.
        soft = np.sqrt(temperature * temperature + noise * noise)
        turn, before = partners_in_turn(share, row.least.size), asked
        notes = (best, log, asked)
        asked = _ask_guided(models, rules, site, (temperature, soft), row, turn, notes, rng)
        share += RECENT * ((asked - before) / turn - share)
        in_vain = in_vain + turn if asked == before else 0
    return int(asked)


@njit(**INLINE)
def _ask_guided(
    models: tuple[Model, Model],
    rules: SwapRules,
    site: int,
    temperatures: tuple[float, float],
    row: Row,
    turn: int,
    notes: tuple[Best, AskedSwaps, int],
    rng: npt.NDArray[np.uint64],
) -> int:
    """Ask the guide about partners of a site in turn, and the model about those that pass.

    Parameters
    ----------
    models, rules, rng
        As in `anneal_guided`, the model first.
    site
        Whose partners.
    temperatures
        Of the model and of the guide, eV.
    row
        Overwritten.
    turn
        How many sites are looked at.
    notes
        The best, the log, and how much stands in it.

    Returns
    -------
    int
        How much stands in the log afterwards.
    """
    (tables, state), guide = models
    best, log, asked = notes
    temperature, soft = temperatures
    n = state.labels.size
    _draw_all(row, rng)
    fill_row(guide, rules, site, soft, row)
    other = random_below(rng, n)
    for _ in range(turn):
        other = other + 1 if other + 1 < n else 0
        if not row.passes[other]:
            continue
        guess = swap_change(guide[0], guide[1], site, other)
        if guess > SAME and not is_accepted(row.units[other], guess / soft):
            continue
        # Only what comes here costs anything.
        if asked == log.changes.size:
            break
        change = swap_change(tables, state, site, other)
        log.swaps[asked, 0], log.swaps[asked, 1], log.swaps[asked, 2] = site, other, 0
        log.changes[asked] = change
        # The second stage of Christen & Fox: the ratio of the models' Boltzmann factors, with a
        # number of its own. What the guide thinks too cheap is made up for here.
        if is_accepted(random_unit(rng), change / temperature - guess / soft):
            log.swaps[asked, 2] = 1
            accept(tables, state)
            # The guide walks along, so its next answers are of the same labeling.
            accept(guide[0], guide[1])
            keep_best(state, best)
            fill_row(guide, rules, site, soft, row)
        asked += 1
    return asked
