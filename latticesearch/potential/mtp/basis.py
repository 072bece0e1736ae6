"""Basis functions of a moment tensor potential, generated for a level.

The basis functions of level L are all ways to contract up to four moments M_{mu,nu} completely
with each other whose levels ``2 + 4 mu + nu`` sum to L at most (Shapeev, Multiscale Model. Simul.
14, 1153 (2016)). A contraction is a multigraph: moments are vertices labelled with mu, pairs of
contracted indices are edges, and nu is the degree of the vertex. So the basis functions are these
multigraphs up to isomorphism. Each is worked out as products of two tensors at a time; tensors
that several basis functions need are computed once.

Tensors are symmetric in the indices of one group, so a component is named by how often x, y and
z occur in each group, its powers; ``multiplicity`` counts the index tuples behind one name.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from latticesearch.errors import InputError
from latticesearch.potential.mtp.coefficients import START_SPREAD
from latticesearch.potential.mtp.model import MtpPotential

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

MAX_MOMENTS = 4
"""Most moments in one basis function; MLIP's lists stop there too."""

MIN_LEVEL, MAX_LEVEL = 2, 28
"""Levels from the lone M_{0,0} to the largest list that MLIP ships."""

START_DENSITY = 0.05
"""Start value of ``scaling * (cutoff - min_dist)**2``: some 50 neighbours give moments near 1."""

Powers: TypeAlias = tuple[int, int, int]
Vertex: TypeAlias = tuple[int, int]
"""A moment M_{mu,nu} as (mu, nu)."""
Name: TypeAlias = Any
"""Name of a tensor, or of a component: (name of its tensor, powers...); nested tuples."""
Terms: TypeAlias = "Counter[tuple[Name, Name]]"
"""A sum of products of two quantities with integer factors."""
Tensor: TypeAlias = dict[Name, Terms]


@dataclass(frozen=True)
class Contraction:
    """A multigraph: one basis function.

    Parameters
    ----------
    mus
        Radial index of each vertex, (k,).
    edges
        Number of index pairs contracted between vertices i and j, (k, k), symmetric, zero diagonal.
    """

    mus: tuple[int, ...]
    edges: tuple[tuple[int, ...], ...]

    @cached_property
    def vertices(self) -> tuple[Vertex, ...]:
        """(mu, nu) of each moment."""
        return tuple((mu, sum(row)) for mu, row in zip(self.mus, self.edges, strict=True))

    @property
    def level(self) -> int:
        """Sum of the levels of the moments."""
        return sum(2 + 4 * mu + nu for mu, nu in self.vertices)

    def subgraph(self, chosen: Iterable[int]) -> Contraction:
        """Return the graph of the `chosen` vertices in canonical order."""
        orders = itertools.permutations(chosen)
        return min((self._reordered(order) for order in orders), key=lambda g: (g.mus, g.edges))

    def _reordered(self, order: tuple[int, ...]) -> Contraction:
        edges = tuple(tuple(self.edges[i][j] for j in order) for i in order)
        return Contraction(tuple(self.mus[i] for i in order), edges)

    def component(self) -> frozenset[int]:
        """Return the vertices connected with the first one."""
        found = {0}
        for _ in self.mus:
            found |= {j for i in found for j, count in enumerate(self.edges[i]) if count}
        return frozenset(found)


def contractions(level: int) -> list[Contraction]:
    """Return the basis functions up to `level`, by level, then number of moments."""
    found = {
        graph.subgraph(range(len(graph.mus)))
        for n_moments in range(1, MAX_MOMENTS + 1)
        for graph in _labelled_graphs(n_moments, level)
    }
    return sorted(found, key=lambda g: (g.level, len(g.mus), g.mus, g.edges))


def _labelled_graphs(n_moments: int, level: int) -> Iterator[Contraction]:
    """Yield every multigraph at least once; vertices in increasing mu."""
    budget = (level - 2 * n_moments) // 2  # an edge costs 2, a unit of mu costs 4
    pairs = list(itertools.combinations(range(n_moments), 2))
    for mus in itertools.combinations_with_replacement(range(max(budget, 0) // 2 + 1), n_moments):
        for counts in _bounded(len(pairs), budget - 2 * sum(mus)):
            edges = np.zeros((n_moments, n_moments), dtype=int)
            for (i, j), count in zip(pairs, counts, strict=True):
                edges[i, j] = edges[j, i] = count
            yield Contraction(mus, tuple(map(tuple, edges.tolist())))


def _bounded(length: int, total: int) -> Iterator[tuple[int, ...]]:
    """Yield all tuples of `length` counts whose sum is `total` at most."""
    if total < 0:
        return
    if length == 0:
        yield ()
        return
    for first in range(total + 1):
        for rest in _bounded(length - 1, total - first):
            yield (first, *rest)


@lru_cache(maxsize=64)
def powers(rank: int) -> tuple[Powers, ...]:
    """Return the components of a symmetric tensor, ((rank + 1) (rank + 2) / 2, 3)."""
    return tuple((x, y, rank - x - y) for x in range(rank, -1, -1) for y in range(rank - x, -1, -1))


@lru_cache(maxsize=4096)
def _orders(group: Powers) -> int:
    """Return how many index tuples one component of a symmetric tensor stands for."""
    return math.factorial(sum(group)) // math.prod(math.factorial(n) for n in group)


def multiplicity(*groups: Powers) -> int:
    """Return how many index tuples the components of independent groups stand for."""
    return math.prod(map(_orders, groups))


def _sum(*groups: Powers) -> Powers:
    x = y = z = 0
    for a, b, c in groups:
        x, y, z = x + a, y + b, z + c
    return x, y, z


def _moment(vertex: Vertex, *groups: Powers) -> Name:
    return (vertex, _sum(*groups))


class _ProductList:
    """Collects the tensors that the basis functions need, each once.

    Components are named, not numbered, while the list grows: so the cheapest way to work out a
    contraction can be found by counting the products that are not there yet.
    """

    def __init__(self) -> None:
        self.tensors: dict[Name, Tensor] = {}
        self.scalars: dict[Contraction, Name] = {}

    def add(self, graph: Contraction) -> None:
        """Add one basis function; those of lower level must be there."""
        everything = frozenset(range(len(graph.mus)))
        part = graph.component()
        if len(everything) == 1:
            self.scalars[graph] = _moment(graph.vertices[0], (0, 0, 0))
        elif part != everything:
            a, b = (self.scalars[graph.subgraph(s)] for s in (part, everything - part))
            self._commit({graph: {graph: _terms([(a, b, 1)])}}, graph)
        else:
            self._commit(min(_plans(graph), key=self._cost), graph)

    def _cost(self, plan: dict[Name, Tensor]) -> int:
        new = (tensor for name, tensor in plan.items() if name not in self.tensors)
        return sum(len(terms) for tensor in new for terms in tensor.values())

    def _commit(self, plan: dict[Name, Tensor], graph: Contraction) -> None:
        for name, tensor in plan.items():
            self.tensors.setdefault(name, tensor)
        self.scalars[graph] = graph


def _terms(products: Iterable[tuple[Name, Name, int]], *, alike: bool = False) -> Terms:
    """Collect products; `alike` factors are of one kind and may change places."""
    result: Terms = Counter()
    for a, b, factor in products:
        result[(b, a) if alike and b < a else (a, b)] += factor
    return result


def _plans(graph: Contraction) -> Iterator[dict[Name, Tensor]]:
    """Yield the ways to work out a connected contraction: the tensors, in order, by name."""
    n = len(graph.mus)
    for last in range(n):
        rest = [v for v in range(n) if v != last]
        if n == 2:
            yield _close(graph, {}, (graph.vertices[rest[0]], False), last)
        elif n == 3:
            tensors, tensor = _pair_for_one(graph, rest[0], rest[1])
            yield _close(graph, tensors, tensor, last)
        else:
            for third in rest:
                i, j = (v for v in rest if v != third)
                tensors, tensor = _triple(graph, (i, j, third), last)
                yield _close(graph, tensors, tensor, last)
    if n == 4:
        for j in (1, 2, 3):
            k, m = (v for v in (1, 2, 3) if v != j)
            yield _two_pairs(graph, (0, j), (k, m))


def _close(
    graph: Contraction, tensors: dict[Name, Tensor], tensor: tuple[Name, bool], last: int
) -> dict[Name, Tensor]:
    """Contract a tensor with the moment `last`; `tensor` says whether it carries multiplicities."""
    name, weighted = tensor
    vertex = graph.vertices[last]
    products = (
        ((name, p), _moment(vertex, p), 1 if weighted else multiplicity(p))
        for p in powers(vertex[1])
    )
    return {**tensors, graph: {graph: _terms(products, alike=not tensors)}}


def _pair_name(graph: Contraction, i: int, j: int) -> tuple[Name, bool]:
    """Return the name of the product of two moments, and whether the order is (j, i)."""
    a, b = graph.vertices[i], graph.vertices[j]
    return ("pair", min(a, b), max(a, b), graph.edges[i][j]), a > b


@lru_cache(maxsize=4096)
def _pair(name: Name) -> Tensor:
    """Return the product of two moments; open indices stay in one group per moment.

    Components are (powers of the first, powers of the second).
    """
    _, a, b, shared = name
    tensor: Tensor = {}
    for p, q in itertools.product(powers(a[1] - shared), powers(b[1] - shared)):
        key = _pair_component(name, p, q)
        if key not in tensor:
            products = (
                (_moment(a, p, s), _moment(b, q, s), multiplicity(s)) for s in powers(shared)
            )
            tensor[key] = _terms(products, alike=True)
    return tensor


def _pair_component(name: Name, p: Powers, q: Powers) -> Name:
    """Return the name of a component; two like moments give a symmetric product."""
    _, a, b, _ = name
    return (name, min(p, q), max(p, q)) if a == b else (name, p, q)


@lru_cache(maxsize=4096)
def _joined_pair(name: Name) -> Tensor:
    """Return the product of two moments whose open indices all meet one third moment.

    Only the part symmetric in all of them survives, so they form one group, and the components
    carry the multiplicities.
    """
    _, (_, a, b, shared) = name
    products: dict[Name, list[tuple[Name, Name, int]]] = defaultdict(list)
    groups = (powers(a[1] - shared), powers(b[1] - shared), powers(shared))
    for p, q, s in itertools.product(*groups):
        factor = multiplicity(p, q, s)
        products[name, _sum(p, q)].append((_moment(a, p, s), _moment(b, q, s), factor))
    return {key: _terms(found, alike=True) for key, found in products.items()}


def _pair_for_one(
    graph: Contraction, i: int, j: int
) -> tuple[dict[Name, Tensor], tuple[Name, bool]]:
    """Return the product of two moments for a third, and that it carries multiplicities."""
    name = ("joined", _pair_name(graph, i, j)[0])
    return {name: _joined_pair(name)}, (name, True)


def _triple(
    graph: Contraction, triple: tuple[int, int, int], last: int
) -> tuple[dict[Name, Tensor], tuple[Name, bool]]:
    """Return the product of three moments whose open indices all meet the moment `last`."""
    i, j, k = triple
    e = graph.edges
    if e[i][last] == e[j][last] == 0:
        tensors, (inner, _) = _pair_for_one(graph, i, j)
        name: Name = ("chain", inner, graph.vertices[k])
        tensor: Tensor = {
            (name, t): _terms(
                ((inner, s), _moment(graph.vertices[k], s, t), multiplicity(t))
                for s in powers(e[i][k] + e[j][k])
            )
            for t in powers(e[k][last])
        }
        return {**tensors, name: tensor}, (name, True)
    inner, swapped = _pair_name(graph, i, j)
    if swapped:
        i, j = j, i
    name = ("triple", inner, graph.vertices[k], e[i][k], e[j][k])
    products: dict[Name, list[tuple[Name, Name, int]]] = defaultdict(list)
    counts = (e[i][k], e[j][k], e[i][last], e[j][last], e[k][last])
    for ik, jk, il, jl, kl in itertools.product(*map(powers, counts)):
        left = _pair_component(inner, _sum(ik, il), _sum(jk, jl))
        right = _moment(graph.vertices[k], ik, jk, kl)
        products[name, _sum(il, jl, kl)].append((left, right, multiplicity(ik, jk, il, jl, kl)))
    return {inner: _pair(inner), name: {key: _terms(p) for key, p in products.items()}}, (
        name,
        True,
    )


def _two_pairs(
    graph: Contraction, one: tuple[int, int], two: tuple[int, int]
) -> dict[Name, Tensor]:
    """Contract the products of two pairs of moments with each other."""
    (left, left_swapped), (right, right_swapped) = _pair_name(graph, *one), _pair_name(graph, *two)
    i, j = reversed(one) if left_swapped else one
    k, m = reversed(two) if right_swapped else two
    e = graph.edges
    products = []
    for ik, im, jk, jm in itertools.product(*map(powers, (e[i][k], e[i][m], e[j][k], e[j][m]))):
        a = _pair_component(left, _sum(ik, im), _sum(jk, jm))
        b = _pair_component(right, _sum(ik, jk), _sum(im, jm))
        products.append((a, b, multiplicity(ik, im, jk, jm)))
    return {left: _pair(left), right: _pair(right), graph: {graph: _terms(products, alike=True)}}


@dataclass(frozen=True, eq=False)
class MomentLists:
    """The index lists of a ``.mtp`` file; fields as in `MtpPotential`."""

    n_radial: int
    n_moments: int
    alpha_index_basic: npt.NDArray[np.int64]
    alpha_index_times: npt.NDArray[np.int64]
    alpha_moment_mapping: npt.NDArray[np.int64]


@lru_cache(maxsize=16)
def moment_lists(level: int) -> MomentLists:
    """Return the lists of moments, products and basis functions of a level.

    Raises
    ------
    InputError
        The level is not an even number from 2 to 28.
    """
    if level not in range(MIN_LEVEL, MAX_LEVEL + 1, 2):
        raise InputError(f"level {level}: must be an even number from {MIN_LEVEL} to {MAX_LEVEL}")
    graphs = contractions(level)
    products = _ProductList()
    for graph in graphs:
        products.add(graph)
    vertices = sorted({vertex for graph in graphs for vertex in graph.vertices})
    basic = [(vertex, p) for vertex in vertices for p in powers(vertex[1])]
    numbers: dict[Name, int] = {_moment(*component): k for k, component in enumerate(basic)}
    rows: list[tuple[int, int, int, int]] = []
    for tensor in products.tensors.values():
        for name, terms in tensor.items():
            numbers[name] = len(numbers)
            rows += [(numbers[a], numbers[b], f, numbers[name]) for (a, b), f in terms.items()]
    return MomentLists(
        n_radial=max(mu for mu, _ in vertices) + 1,
        n_moments=len(numbers),
        alpha_index_basic=np.array([(mu, *p) for (mu, _), p in basic], dtype=np.int64),
        alpha_index_times=np.array(rows, dtype=np.int64).reshape(-1, 4),
        alpha_moment_mapping=np.array([numbers[products.scalars[g]] for g in graphs]),
    )


@dataclass(frozen=True)
class MtpBasis:
    """The form of a moment tensor potential: all that is fixed before training.

    Parameters
    ----------
    level
        Even number from 2 to 28; the basis has 5, 9, 16, 29, 52, 92, 163, 288, 500, 864, 1466,
        2455 functions at levels 6, 8, ..., 28. The lists take 0.3 s at level 20, 20 s at level 28.
    species
        Symbols, in the order of the potential's types.
    cutoff
        Å.
    min_dist
        Lower end of the interval of the Chebyshev polynomials, Å; shorter distances extrapolate.
    radial_size
        Number of Chebyshev polynomials of one radial function.
    """

    level: int
    species: tuple[str, ...]
    cutoff: float
    min_dist: float = 2.0
    radial_size: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "species", tuple(self.species))
        if not self.species or len(set(self.species)) != len(self.species):
            raise InputError(f"species {self.species} must be distinct symbols, at least one")
        if not 0.0 <= self.min_dist < self.cutoff:
            raise InputError(
                f"min_dist {self.min_dist} Å must be 0 or more and below the cutoff {self.cutoff} Å"
            )
        if self.radial_size < 1:
            raise InputError(f"radial_size {self.radial_size}: must be 1 or more")
        moment_lists(self.level)

    @property
    def lists(self) -> MomentLists:
        """Moments, products and basis functions."""
        return moment_lists(self.level)

    @property
    def n_radial(self) -> int:
        """Number of radial functions of one pair of species."""
        return self.lists.n_radial

    @property
    def n_scalars(self) -> int:
        """Number of basis functions."""
        return len(self.lists.alpha_moment_mapping)

    @property
    def n_radial_parameters(self) -> int:
        """Number of radial coefficients."""
        return len(self.species) ** 2 * self.n_radial * self.radial_size

    @property
    def n_linear_parameters(self) -> int:
        """Number of coefficients that enter the energy linearly: species and moments."""
        return len(self.species) + self.n_scalars

    @property
    def n_parameters(self) -> int:
        """Number of all coefficients."""
        return self.n_radial_parameters + self.n_linear_parameters

    def potential(
        self, parameters: npt.NDArray[np.float64] | None = None, *, seed: int = 0
    ) -> MtpPotential:
        """Return a potential of this form.

        Parameters
        ----------
        parameters
            Coefficients in the order radial, species, moments, (n_parameters,). If None, the
            start of a training: radial function mu is the Chebyshev polynomial mu plus a small
            random part, the linear coefficients are small random numbers.
        seed
            Of the random part.

        Raises
        ------
        InputError
            `parameters` has another length.
        """
        if parameters is None:
            drawn = self._start(np.random.default_rng([seed, self.level, len(self.species)]))
            return replace(self.potential(drawn), is_start=True)
        if len(parameters) != self.n_parameters:
            raise InputError(
                f"{len(parameters)} parameters given, the basis has {self.n_parameters}"
            )
        n_species = len(self.species)
        empty = MtpPotential(
            species=self.species,
            scaling=START_DENSITY / (self.cutoff - self.min_dist) ** 2,
            min_dist=self.min_dist,
            max_dist=self.cutoff,
            radial_coeffs=np.zeros((n_species, n_species, self.n_radial, self.radial_size)),
            species_coeffs=np.zeros(n_species),
            moment_coeffs=np.zeros(self.n_scalars),
            alpha_index_basic=self.lists.alpha_index_basic,
            alpha_index_times=self.lists.alpha_index_times,
            alpha_moment_mapping=self.lists.alpha_moment_mapping,
            n_moments=self.lists.n_moments,
        )
        return empty.with_parameters(np.asarray(parameters, dtype=np.float64))

    def _start(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Return random coefficients to start from, (n_parameters,): function mu is mostly Q_mu."""
        shape = (len(self.species), len(self.species), self.n_radial, self.radial_size)
        radial = np.eye(self.n_radial, self.radial_size) + START_SPREAD * rng.normal(size=shape)
        return np.concatenate([radial.ravel(), 0.01 * rng.normal(size=self.n_linear_parameters)])
