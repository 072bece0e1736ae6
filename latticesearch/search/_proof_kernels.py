"""Compiled branch and bound over the addition tree of a cell.

Land & Doig, Econometrica 28, 497 (1960), with the energy as a sum over sites: what each can have at
least, whatever its undecided neighbours become, stands in a table, so a bound is one look-up per
site. A bound never falls when a site is decided, and is the energy when all are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from numba import njit

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from latticesearch.search._walk_kernels import Best


class Bounds(NamedTuple):
    """Lower bounds of site energies of partial cells.

    Parameters
    ----------
    tables
        Per basis site, flat: the least energy of the site whatever its undecided neighbours
        become, eV; in mixed radix n_species + 1, the last digit value for "undecided".
    basis
        Which table each site has, (n_sites,).
    place
        ``place[i, j]``: weight of site j in the index of site i; 0 where it does not see it,
        (n_sites, n_sites).
    order
        Sequence in which sites are decided, (n_sites,).
    """

    tables: npt.NDArray[np.float64]
    basis: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]


class Tree(NamedTuple):
    """Where a depth-first search stands; see `prove`.

    Parameters
    ----------
    labels
        (n_sites,), -1 where undecided.
    remaining
        (n_species,) atoms to place.
    position
        (n_sites,): place of each site in its table.
    children, bounds
        Species still to be tried at each depth, the most promising last, and the lower bounds of
        the cell they give, (n_sites, n_species), eV.
    numbers
        (n_sites,): how many these are.
    """

    labels: npt.NDArray[np.int8]
    remaining: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    children: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.float64]
    numbers: npt.NDArray[np.int64]


@njit(cache=True)
def _decide_site(bounds: Bounds, tree: Tree, site: int, species: int, sign: int) -> None:
    """Decide a site with sign 1, or take that back with sign -1; the tree is brought up to date.

    Every site's place in its table is a number with one digit per site it sees. To decide a site
    changes one digit of all: additions instead of new indices, and exact when taken back.
    """
    undecided = tree.remaining.size
    # Sites that do not see this one have weight 0: no list and no branch.
    for i in range(tree.labels.size):
        tree.position[i] += sign * (species - undecided) * bounds.place[i, site]
    tree.remaining[species] -= sign
    tree.labels[site] = species if sign > 0 else -1


@njit(cache=True)
def _lower_bound(bounds: Bounds, tree: Tree) -> float:
    """Return what the cell has at least, whatever undecided sites become, eV."""
    # The remaining atoms are not looked at: each site may have its best neighbours.
    total = 0.0
    for i in range(tree.labels.size):
        total += bounds.tables[bounds.basis[i], tree.position[i]]
    return total


@njit(cache=True)
def _branch(bounds: Bounds, tree: Tree, depth: int, highest: float) -> None:
    """List the species of the next site whose bounds lie below `highest`, eV, the lowest last.

    They go to the row `depth` of ``tree.children`` and ``tree.bounds``.
    """
    site = bounds.order[depth]
    n = 0
    for species in range(tree.remaining.size):
        if tree.remaining[species] == 0:
            continue
        _decide_site(bounds, tree, site, species, 1)
        bound = _lower_bound(bounds, tree)
        _decide_site(bounds, tree, site, species, -1)
        if bound >= highest:
            continue
        # Sorted by insertion: species are few. The most promising is taken first, from the end: the
        # sooner a low labeling is known, the more branches are left out.
        at = n
        while at > 0 and tree.bounds[depth, at - 1] < bound:
            tree.bounds[depth, at] = tree.bounds[depth, at - 1]
            tree.children[depth, at] = tree.children[depth, at - 1]
            at -= 1
        tree.bounds[depth, at] = bound
        tree.children[depth, at] = species
        n += 1
    tree.numbers[depth] = n


@njit(cache=True)
def prove(
    bounds: Bounds, tree: Tree, best: Best, tolerance: float, max_nodes: int
) -> tuple[int, float]:
    """Search the addition tree depth first, leaving out what cannot be lower than the best.

    Land & Doig, Econometrica 28, 497 (1960).

    Parameters
    ----------
    bounds, tree
        Of an undecided cell.
    best
        The lowest labeling known; brought up to date.
    tolerance
        Branches that cannot be lower by more than this are left out, eV.
    max_nodes
        Nodes after which the search ends.

    Returns
    -------
    nodes : int
        Partial cells looked at.
    bound : float
        No labeling is lower, eV.
    """
    # Lists of children per depth instead of recursion: what is open when the search is cut off can
    # be read from them.
    n_sites = tree.labels.size
    depth, nodes = 0, 1
    _branch(bounds, tree, 0, best.energy[0] - tolerance)
    while depth >= 0:
        if tree.numbers[depth] == 0:
            depth -= 1
            if depth >= 0:
                site = bounds.order[depth]
                _decide_site(bounds, tree, site, tree.labels[site], -1)
            continue
        if nodes >= max_nodes:
            break
        tree.numbers[depth] -= 1
        last = tree.numbers[depth]
        # The best may have become lower since this child was listed.
        if tree.bounds[depth, last] >= best.energy[0] - tolerance:
            continue
        _decide_site(bounds, tree, bounds.order[depth], tree.children[depth, last], 1)
        nodes += 1
        if depth == n_sites - 1:
            # All sites are decided, so the bound is the energy.
            best.energy[0] = tree.bounds[depth, last]
            best.labels[:] = tree.labels
            site = bounds.order[depth]
            _decide_site(bounds, tree, site, tree.labels[site], -1)
            continue
        depth += 1
        _branch(bounds, tree, depth, best.energy[0] - tolerance)
    # Of what was left out nothing is lower than the best; of what is open, than the bounds there.
    lowest = best.energy[0] - tolerance
    for d in range(depth + 1):
        for k in range(tree.numbers[d]):
            lowest = min(lowest, tree.bounds[d, k])
    return nodes, lowest
