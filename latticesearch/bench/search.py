"""What `latticesearch bench search` measures: recall, large cells, throughput, screening."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.bench.models import SPECIES, Case, case_of, parent_of
from latticesearch.enumeration import enumerate_labelings
from latticesearch.hull import Hull
from latticesearch.lattice import Supercell
from latticesearch.search import Budget, CandidatePool, Problem, search
from latticesearch.search.annealing import anneal_plainly
from latticesearch.search.blocks import blocks_of_cells, blocks_of_sizes
from latticesearch.search.driver import carry_out
from latticesearch.search.enumerate import enumerate_all
from latticesearch.search.partial import random_labeling

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from latticesearch.lattice import ParentLattice
    from latticesearch.parallel import Communicator
    from latticesearch.potential.protocol import Potential

    Floats = npt.NDArray[np.float64]
    Row = dict[str, Any]

SAME = 1e-8
"""eV per site: energies that agree so well are those of one structure."""

RECALL = ((2, 12, 0.10), (3, 9, 0.10), (4, 8, 0.03))
"""Species, largest cells in sites, and the part of all labelings that may be evaluated."""

COMPOSITIONS = {"equiatomic": (0.25, 0.25, 0.25, 0.25), "off": (0.4, 0.3, 0.2, 0.1)}

CELLS = {
    54: ((0, 3, 3), (3, 0, 3), (3, 3, 0)),
    64: ((4, 0, 0), (0, 4, 0), (0, 0, 4)),
    128: ((0, 4, 4), (4, 0, 4), (4, 4, 0)),
}
"""Supercells of bcc: 3x3x3 cubes, 4x4x4 primitive cells, 4x4x4 cubes."""

CALIBRATION = 200_000
"""Swaps of the first annealing that says how many fit into a time."""

LEAST_SECONDS = 0.05
"""Shortest time of a search that is compared at equal time: a call costs some milliseconds."""

RANDOM = 300
"""Random labelings whose mean energy is the top of the depth."""


def recall(name: str, lattice: str, n_species: int, max_sites: int, share: float) -> Row:
    """Compare a search with the hull of all labelings of all cells up to a size.

    Returns
    -------
    dict
        vertices: of the true hull; found: with their true energy; evaluations, and their share
        of all labelings; error: mean height of the search's hull above the true one at the true
        vertices, meV per atom; seconds of search and brute force.
    """
    case = case_of(name, lattice, n_species)
    began = time.process_time()
    truth, n = _all_labelings(case, max_sites)
    brute = time.process_time() - began
    began = time.process_time()
    pool = search(case.model, case.parent, max_sites=max_sites, budget=int(share * n), seed=0)
    seconds = time.process_time() - began
    x, e = truth.compositions[truth.vertices], truth.energies[truth.vertices]
    found = _lowest(pool.compositions, pool.energies)
    hits = [found.get(_name(row), np.inf) < energy + SAME for row, energy in zip(x, e, strict=True)]
    error = Hull(pool.compositions, pool.energies).energy(x) - e
    return {
        "model": name,
        "lattice": lattice,
        "species": n_species,
        "sites": max_sites,
        "labelings": n,
        "vertices": len(x),
        "found": int(np.sum(hits)),
        "evaluations": pool.evaluations,
        "share": pool.evaluations / n,
        "error": 1000 * float(np.mean(error)),
        "seconds": seconds,
        "seconds_brute_force": brute,
    }


def _all_labelings(case: Case, max_sites: int) -> tuple[Hull, int]:
    """Return the true hull and the number of distinct labelings."""
    x, e = [], []
    for batch in enumerate_labelings(case.parent, max_index=max_sites // case.parent.n_basis):
        x.append(batch.compositions)
        e.append(case.model.evaluator(batch.supercell).energies(batch.labels))
    return Hull(np.concatenate(x), np.concatenate(e)), sum(map(len, e))


def _name(composition: Floats) -> tuple[float, ...]:
    return tuple(np.round(composition, 9).tolist())


def _lowest(compositions: Floats, energies: Floats) -> dict[tuple[float, ...], float]:
    found: dict[tuple[float, ...], float] = {}
    for row, energy in zip(compositions, energies.tolist(), strict=True):
        found[_name(row)] = min(energy, found.get(_name(row), np.inf))
    return found


@dataclass(frozen=True, eq=False)
class Contest:
    """One composition of one large cell under one model."""

    case: Case
    cell: Supercell
    composition: dict[str, float]

    @classmethod
    def of(cls, case: Case, n_sites: int, kind: str) -> Contest:
        """Return the contest of a size and one of `COMPOSITIONS`, as near as the size allows."""
        counts = np.floor(np.array(COMPOSITIONS[kind]) * n_sites + 1e-9).astype(int)
        for i in range(n_sites - counts.sum()):
            counts[i] += 1
        cell = Supercell.from_matrix(case.parent, CELLS[n_sites])
        pairs = zip(case.parent.species, (counts / n_sites).tolist(), strict=True)
        return cls(case, cell, dict(pairs))

    def search(self, budget: int, seed: int) -> tuple[float, float]:
        """Return the best energy, eV per site, and the CPU seconds of the search."""
        return self._timed(lambda: self._run(Budget(budget), seed))

    def anneal(self, budget: int, seed: int) -> tuple[float, float]:
        """Return the same of one annealing."""
        return self._timed(lambda: self._anneal(budget, seed))

    def search_for(self, seconds: float, seed: int) -> tuple[float, float]:
        """Return the same of a search for a time, CPU s."""

        def run() -> float:
            deadline = time.process_time() + seconds
            return self._run(Budget(deadline=deadline, clock=time.process_time), seed)

        return self._timed(run)

    def steps_per_second(self, seconds: float) -> float:
        """Return the pace of annealings that take a time, CPU s; longer ones reject more."""
        steps, rate = CALIBRATION, 0.0
        for _ in range(3):
            rate = steps / self.anneal(steps, 0)[1]
            steps = max(int(rate * seconds), 1)
        return rate

    def _anneal(self, budget: int, seed: int) -> float:
        evaluator, rng = self.case.model.evaluator(self.cell), np.random.default_rng(seed)
        start = random_labeling(self.cell.allowed, self.counts, rng)
        best = anneal_plainly(evaluator, start, Budget(budget), rng)
        return float(best.energy[0]) / self.cell.n_sites

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Atoms of each species in the cell, (n_species,)."""
        fractions = np.array(list(self.composition.values()))
        counts: npt.NDArray[np.int64] = np.rint(fractions * self.cell.n_sites).astype(np.int64)
        return counts

    def _run(self, budget: Budget, seed: int) -> float:
        problem = Problem(self.case.model, self.case.parent, self.composition, seed=seed)
        blocks = blocks_of_cells(self.case.parent, [self.cell], self.composition)
        pool, _ = carry_out(problem, blocks, budget, "annealing")
        assert pool.evaluations <= budget.limit
        return float(pool.energies.min())

    @staticmethod
    def _timed(function: Callable[[], float]) -> tuple[float, float]:
        began = time.process_time()
        energy = function()
        return energy, time.process_time() - began

    def random_mean(self) -> float:
        """Return the mean energy of random labelings, eV per site."""
        evaluator, rng = self.case.model.evaluator(self.cell), np.random.default_rng(0)
        allowed, counts = self.cell.allowed, self.counts
        rows = np.array([random_labeling(allowed, counts, rng) for _ in range(RANDOM)])
        return float(evaluator.energies(rows).mean())


def large_cell(
    name: str, n_sites: int, kind: str, budgets: tuple[float, ...], seeds: range
) -> list[Row]:
    """Compare the search with one annealing at equal numbers of energies.

    Returns
    -------
    list of dict
        One per budget and seed: how far search and annealing end above the best energy known, in
        percent of the depth (random mean minus best), and their CPU seconds.
    """
    contest = Contest.of(case_of(name, "bcc"), n_sites, kind)
    contest.search(500, 0)  # what is worked out once per supercell is nobody's time
    contest.anneal(500, 0)
    rows = []
    for budget in budgets:
        for seed in seeds:
            row: Row = {"model": name, "sites": n_sites, "composition": kind, "budget": budget}
            row["seed"] = seed
            row["search"], row["search_seconds"] = contest.search(int(budget), seed)
            row["annealing"], row["annealing_seconds"] = contest.anneal(int(budget), seed)
            rows.append(row)
    return _above_best(contest, rows)


def equal_time(
    name: str,
    n_sites: int,
    kind: str,
    budgets: tuple[float, ...],
    seeds: range,
    least: float = LEAST_SECONDS,
) -> list[Row]:
    """Compare the search with one annealing at equal time.

    The time is what an annealing with so many energies takes, but `least` at least, s, in which
    both make as many as they can. Both are given CPU time, so that other work on the machine
    favours neither.

    Returns
    -------
    list of dict
        As of `large_cell`, with the time, s, and the swaps of the annealing. Of budgets that take
        less than the least time only the largest has rows.
    """
    contest = Contest.of(case_of(name, "bcc"), n_sites, kind)
    contest.search(2000, 0)  # tables that are worked out once per supercell are nobody's time
    contest.search_for(4 * least, 0)
    contest.anneal(500, 0)
    rate = contest.steps_per_second(least)
    long = [budget for budget in budgets if budget / rate > least]
    short = [budget for budget in budgets if budget not in long]
    rows = []
    for budget in sorted(short)[-1:] + long:
        seconds = max(budget / rate, least)
        rate = contest.steps_per_second(seconds)
        for seed in seeds:
            row: Row = {"model": name, "sites": n_sites, "composition": kind, "budget": budget}
            row["seed"], row["time"] = seed, seconds
            row["search"], row["search_seconds"] = contest.search_for(seconds, seed)
            row["steps"] = steps = max(int(rate * row["search_seconds"]), 1)
            row["annealing"], row["annealing_seconds"] = contest.anneal(steps, seed)
            rows.append(row)
    return _above_best(contest, rows)


def _above_best(contest: Contest, rows: list[Row]) -> list[Row]:
    """Return the rows with energies in percent of the depth above the lowest of all."""
    best = min(min(row["search"], row["annealing"]) for row in rows)
    depth = contest.random_mean() - best
    for row in rows:
        for method in ("search", "annealing"):
            row[method] = 100 * max(row[method] - best, 0.0) / depth
    return rows


def summary(rows: list[Row]) -> list[Row]:
    """Return per budget what the contest of all large cells says, of runs and of cases.

    A case is a composition of a cell under a model, and counts by its mean over the seeds.
    """
    result = []
    for budget in sorted({row["budget"] for row in rows}):
        mine = [row for row in rows if row["budget"] == budget]
        ours, theirs = (np.array([row[m] for row in mine]) for m in ("search", "annealing"))
        means = _mean_differences(mine)
        result.append(
            {
                "budget": budget,
                "runs": len(mine),
                "search": float(ours.mean()),
                "annealing": float(theirs.mean()),
                "better": float(np.mean(ours < theirs - 1e-6)),
                "same": float(np.mean(np.abs(ours - theirs) <= 1e-6)),
                "both_best": float(np.mean((ours <= 1e-6) & (theirs <= 1e-6))),
                "worse": float(np.mean(ours > theirs + 1e-6)),
                "worse_by_more_than_half": float(np.mean(ours > theirs + 0.5)),
                "worst": float((ours - theirs).max()),
                "cases": len(means),
                "cases_better": float(np.mean(means < -1e-6)),
                "cases_same": float(np.mean(np.abs(means) <= 1e-6)),
                "worst_case": float(means.max()),
                "search_seconds": float(np.mean([row["search_seconds"] for row in mine])),
                "annealing_seconds": float(np.mean([row["annealing_seconds"] for row in mine])),
            }
        )
    return result


def _mean_differences(rows: list[Row]) -> Floats:
    """Return by how much each case is worse on the mean over its seeds, percent of the depth."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        name = (row["model"], row["sites"], row["composition"])
        groups.setdefault(name, []).append(row["search"] - row["annealing"])
    return np.array([np.mean(values) for values in groups.values()])


def throughput(comm: Communicator) -> Row:
    """Measure candidates per second and core, and the wall time on all ranks, at level 12."""
    from latticesearch.potential import MtpBasis

    parent = parent_of("bcc", SPECIES)
    model = MtpBasis(level=12, species=SPECIES, cutoff=5.0).potential(seed=1)
    case = Case("random level 12", parent, model)
    arguments: Row = {"min_sites": 9, "max_sites": 12, "method": "annealing"}
    arguments |= {"shapes": 4, "composition": {"Nb": 0.25}}
    search(case.model, case.parent, **arguments | {"shapes": 1}, comm=comm)  # compiles
    comm.barrier()
    began = time.perf_counter()
    pool = search(case.model, case.parent, **arguments, comm=comm)
    seconds = time.perf_counter() - began
    return {
        "ranks": comm.size,
        "seconds": seconds,
        "evaluations": pool.evaluations,
        "candidates": len(pool),
        "candidates_per_second_per_core": len(pool) / seconds / comm.size,
        "evaluations_per_second_per_core": pool.evaluations / seconds / comm.size,
    }


def _enumerated(potential: Potential, parent: ParentLattice, sizes: range) -> CandidatePool:
    """Return the lowest labelings of all cells with so many sites."""
    blocks = blocks_of_sizes(parent, sizes[0], sizes[-1], None)
    return enumerate_all(Problem(potential, parent), blocks)


def screening(n_species: int, sizes: range, lattice: str = "bcc", repeats: int = 5) -> Row:
    """Measure enumeration with energies at level 8, keeping the lowest of each composition.

    Parameters
    ----------
    n_species
        Species of the parent lattice.
    sizes
        Sites of the cells, all in one stream.
    lattice
        "bcc" or "fcc".
    repeats
        The best of so many counts.

    Returns
    -------
    dict
        CPU seconds: of the first call with a new parent lattice, which counts labelings and works
        out groups and tables, and the best of the later ones.
    """
    from latticesearch.potential import MtpBasis

    parent: ParentLattice = case_of("frustrated-1", lattice, n_species).parent
    potential = MtpBasis(level=8, species=parent.species, cutoff=5.0).potential(seed=1)
    compiled = case_of("frustrated-1", lattice, n_species).parent
    _enumerated(potential, compiled, range(2, 3))
    seconds, pool = [], CandidatePool.empty(parent, 16)
    for _ in range(1 + repeats):
        began = time.process_time()
        pool = _enumerated(potential, parent, sizes)
        seconds.append(time.process_time() - began)
    best = min(seconds[1:])
    return {
        "lattice": lattice,
        "species": n_species,
        "sites": "-".join(str(n) for n in sorted({sizes[0], sizes[-1]})),
        "structures": pool.evaluations,
        "first_seconds": seconds[0],
        "seconds": best,
        "structures_per_second": pool.evaluations / best,
    }
