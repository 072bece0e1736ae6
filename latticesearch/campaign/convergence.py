"""How far the energies of a campaign are converged in basis and k-points, and what they cost.

One element and one compound are computed on their ideal sites with coarser and finer settings, one
of the two at a time. What counts is the formation energy of the compound, in which part of the
errors cancels; that of the element shows how much.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import spglib

from latticesearch.campaign import factories
from latticesearch.campaign.space import candidate_space, end_members
from latticesearch.errors import InputError, Stopped
from latticesearch.hull import Hull
from latticesearch.lattice import Configuration
from latticesearch.oracles import AseOracle, OracleJob
from latticesearch.oracles.presets import PRESETS
from latticesearch.oracles.scratch import fingerprint
from latticesearch.storage.events import EventLog
from latticesearch.storage.lock import DirectoryLock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from latticesearch.campaign.settings import Settings
    from latticesearch.lattice import ParentLattice
    from latticesearch.oracles import OracleResult
    from latticesearch.oracles.presets import Wanted
    from latticesearch.progress import Progress
    from latticesearch.stopping import StopRequest

log = logging.getLogger(__name__)

LOG: Final = "results.jsonl"
SCRATCH: Final = "scratch"

BASIS_FACTORS: Final = (0.8, 1.0, 1.25, 1.5)
"""Cutoffs in units of the campaign's: one coarser, and the finest where the energy of any usual
data set stands still, with 1.8 times the plane waves."""
KSPACING_FACTORS: Final = (1.5, 1.0, 0.75, 0.5)
"""Spacings of k-points in units of the campaign's; the finest has eight times the points."""
RGKMAX: Final = 8.0
RGKMAX_STEP: Final = 1.0
"""R·K_max of Elk by default, and the step to coarser and finer ones: factors would be too wide."""
EV_STEP: Final = 5.0
"""Cutoffs are rounded to this, eV: people write such numbers."""

STEPS_OF_RELAXATION: Final = 10
"""Single points in one relaxation: 5 to 15 where it converges as it should."""
GROWTH: Final = 2.0
"""Power of the number of atoms with which a calculation is assumed to grow where the two structures
do not tell: bands times plane waves times bands, times k-points that become fewer."""
GROWTHS: Final = (1.0, 3.0)
"""Least and largest power that is believed of two timings."""

BASIS: Final = "basis"
KSPACING: Final = "kspacing"


@dataclass(frozen=True)
class Setting:
    """One set of parameters of the code.

    Parameters
    ----------
    varied
        "basis", "kspacing", or both where it is the campaign's own.
    basis
        Cutoff, eV; of Elk R·K_max.
    kspacing
        1/Å.
    """

    varied: frozenset[str]
    basis: float
    kspacing: float


@dataclass(frozen=True)
class Case:
    """What is computed with every setting.

    Parameters
    ----------
    ends
        The end members that the compound's formation energy needs, the element first.
    compound
        The compound.
    """

    ends: tuple[Configuration, ...]
    compound: Configuration

    @property
    def structures(self) -> tuple[Configuration, ...]:
        """All of them, the element first."""
        return (*self.ends, self.compound)


@dataclass(frozen=True, eq=False)
class Cost:
    """What a whole campaign will cost.

    Parameters
    ----------
    calculations
        The budget.
    hours
        Of all of them, one after the other.
    power
        With which the time grows with the number of atoms.
    mean_atoms
        Mean number of atoms of the candidates.
    relaxed
        Whether each is a relaxation.
    """

    calculations: int
    hours: float
    power: float
    mean_atoms: float
    relaxed: bool


@dataclass(frozen=True, eq=False)
class Convergence:
    """What was found.

    Parameters
    ----------
    element, compound
        Formulas.
    table
        Columns `varied`, `value`, `is_campaign`, `element_energy` and `formation_energy` (eV/atom),
        `element_error` and `formation_error` (eV/atom, relative to the finest), `seconds`, `error`.
    basis_name
        "cutoff" or "rgkmax".
    cost
        None where the campaign's own settings could not be computed.
    """

    element: str
    compound: str
    table: pd.DataFrame
    basis_name: str
    cost: Cost | None

    def enough(self, varied: str, target: float) -> float | None:
        """Return the cheapest value from which on the formation energy stays within `target`.

        Parameters
        ----------
        varied
            "basis" or "kspacing".
        target
            eV/atom.

        Returns
        -------
        float or None
            None where only the finest does, of which nothing finer tells.
        """
        rows = self.table[self.table["varied"] == varied]
        # From the finest to the coarsest.
        rows = rows.sort_values("value", ascending=varied == KSPACING).reset_index(drop=True)
        good = rows["formation_error"].abs().to_numpy() <= target
        n_good = len(good) if good.all() else int(np.argmin(good))
        return float(rows["value"].iloc[n_good - 1]) if n_good > 1 else None


def require_something_to_converge(settings: Settings) -> None:
    """Refuse oracles without basis and k-points, or that nobody here can compute.

    Raises
    ------
    InputError
        In one line.
    """
    source = settings.oracle
    if source.kind not in PRESETS or not PRESETS[source.kind].is_costly:
        raise InputError(
            f'oracle.kind = "{source.kind}" has no cutoff and no k-points that are known here: '
            "there is nothing to converge"
        )


def case_of(
    settings: Settings, parent: ParentLattice, element: str | None, compound: str | None
) -> Case:
    """Return what is computed.

    Parameters
    ----------
    settings, parent
        Those of the campaign.
    element
        Formula of an end member; default the first that the compound needs.
    compound
        Formula or key of a structure; default the smallest that is none of the end members, of
        those the most symmetric.

    Raises
    ------
    InputError
        There is no such structure.
    """
    ends = [one for one in end_members(parent).canonical() if one.n_atoms]
    chosen = _compound(settings, parent, compound, {one.key for one in ends}, element)
    needed = [one for one in ends if set(one.symbols) <= set(chosen.symbols)]
    if element is not None:
        first = [one for one in needed if one.formula == element]
        if not first:
            names = ", ".join(dict.fromkeys(one.formula for one in needed))
            raise InputError(
                f"--element {element}: the end members of {chosen.formula} are {names}"
            )
        needed = first[:1] + [one for one in needed if one not in first]
    unique = {one.formula: one for one in reversed(needed)}
    return Case(tuple(one for one in needed if unique[one.formula] is one), chosen)


def _compound(
    settings: Settings,
    parent: ParentLattice,
    wanted: str | None,
    ends: set[str],
    element: str | None,
) -> Configuration:
    if wanted is not None and "-" in wanted:
        return Configuration.from_key(parent, wanted).canonical()
    for candidates in _by_size(settings, parent):
        fits = [
            one
            for one in candidates
            if one.key not in ends
            and len(set(one.symbols)) > 1
            and wanted in {None, one.formula}
            and (element is None or wanted is not None or element in one.symbols)
        ]
        if fits:
            return max(fits, key=lambda one: (_n_operations(one), one.key))
    what = f"--compound {wanted}" if wanted else "oracle-test"
    raise InputError(f"{what}: the campaign has no such compound")


def _by_size(settings: Settings, parent: ParentLattice) -> Iterator[list[Configuration]]:
    """Yield the candidates, cell size by cell size."""
    space = candidate_space(settings, parent)
    for size, count in space.sizes.items():
        yield [one for batch in space.labelings({size: count}) for one in batch.canonical()]


def _n_operations(configuration: Configuration) -> int:
    atoms = configuration.to_atoms()
    found = spglib.get_symmetry_dataset(
        (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    )
    return 0 if found is None else len(found.rotations)


def settings_to_try(
    source: Wanted,
    *,
    is_rgkmax: bool,
    bases: Sequence[float] = (),
    kspacings: Sequence[float] = (),
) -> list[Setting]:
    """Return the settings, the campaign's own first.

    Parameters
    ----------
    source
        What the campaign tells its code.
    is_rgkmax
        The basis is given by R·K_max, not by a cutoff.
    bases, kspacings
        Values to try; by default some around the campaign's own.
    """
    kspacing = source.kspacing
    assert kspacing is not None  # these codes need it
    if is_rgkmax:
        basis = float(source.parameters.get("rgkmax", RGKMAX))
        usual = [basis + n * RGKMAX_STEP for n in (-1, 1, 2)]
    else:
        assert source.cutoff is not None
        basis = source.cutoff
        usual = [EV_STEP * round(factor * basis / EV_STEP) for factor in BASIS_FACTORS]
    spacings = [float(f"{factor * kspacing:.3g}") for factor in KSPACING_FACTORS]
    found = [Setting(frozenset({BASIS, KSPACING}), basis, kspacing)]
    found += [
        Setting(frozenset({BASIS}), one, kspacing) for one in sorted(set(bases or usual) - {basis})
    ]
    wanted = sorted(set(kspacings or spacings) - {kspacing}, reverse=True)
    return found + [Setting(frozenset({KSPACING}), basis, one) for one in wanted]


def told(source: Wanted, setting: Setting, *, is_rgkmax: bool) -> Wanted:
    """Return what the code is told with a setting.

    Spacings said of single elements change by the same factor; grids said of them stay.
    """
    assert source.kspacing is not None
    factor = setting.kspacing / source.kspacing
    elements = {
        symbol: replace(one, kspacing=None if one.kspacing is None else factor * one.kspacing)
        for symbol, one in source.elements.items()
    }
    changed = replace(source, kspacing=setting.kspacing, elements=elements)
    if is_rgkmax:
        return replace(changed, parameters={**source.parameters, "rgkmax": setting.basis})
    return replace(changed, cutoff=setting.basis)


class ConvergenceTest:
    """Computes what is not known yet, and keeps every energy in a folder of its own.

    Parameters
    ----------
    settings
        Those of the campaign.
    folder
        Where the results are; it is made.
    workers
        Calculations at the same time.
    stop
        Ends it before its end when asked.
    progress
        Told how many calculations are done.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        *,
        workers: int = 1,
        stop: StopRequest,
        progress: Progress,
    ) -> None:
        require_something_to_converge(settings)
        self._settings, self._folder = settings, folder
        self._workers, self._stop, self._progress = workers, stop, progress
        self._parent = factories.parent_lattice(settings)
        self._source = factories.wanted(settings.oracle)
        self._kind = settings.oracle.kind
        self._is_rgkmax = "cutoff" not in PRESETS[self._kind].takes
        factories.oracle(settings, self._parent, 1).close()

    def run(
        self,
        *,
        element: str | None = None,
        compound: str | None = None,
        bases: Sequence[float] = (),
        kspacings: Sequence[float] = (),
    ) -> Convergence:
        """Compute what is missing; return the table.

        Raises
        ------
        InputError
            There is no such structure, or another process works in the folder.
        Stopped
            It was asked to stop; the same call goes on.
        OracleUnavailable
            The code does not start.
        """
        case = case_of(self._settings, self._parent, element, compound)
        wanted = settings_to_try(
            self._source, is_rgkmax=self._is_rgkmax, bases=bases, kspacings=kspacings
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = DirectoryLock(self._folder)
        except OSError as error:
            raise InputError(f"cannot write to {self._folder}: {error.strerror}") from error
        try:
            results = self._results(case, wanted)
        finally:
            lock.release()
        table = self._table(case, wanted, results)
        names = case.ends[0].formula, case.compound.formula
        basis_name = "rgkmax" if self._is_rgkmax else "cutoff"
        return Convergence(*names, table, basis_name, self._cost(case, results[0]))

    def _results(self, case: Case, wanted: Sequence[Setting]) -> list[dict[str, dict[str, Any]]]:
        """Return what is known of each setting by key: energy and seconds, or the error."""
        events = EventLog(self._folder / LOG)
        events.repair()
        known = {one["request"]: one for one in events.read() if one["event"] == "result"}
        n_all = len(wanted) * len(case.structures)
        self._progress.start("oracle-test", n_all)
        results = []
        for number, setting in enumerate(wanted):
            told_so = told(self._source, setting, is_rgkmax=self._is_rgkmax)
            found: dict[str, dict[str, Any]] = {}
            jobs = []
            for structure in case.structures:
                job = OracleJob(structure.key, factories.start_of(self._settings)(structure))
                request = self._request(told_so, job)
                if request in known:
                    found[job.key] = known[request]
                else:
                    jobs.append((job, request))
            self._compute(told_so, jobs, found, events)
            results.append(found)
            self._progress.advance((number + 1) * len(case.structures))
        self._progress.finish()
        return results

    def _request(self, told_so: Wanted, job: OracleJob) -> str:
        """Return a fingerprint of one calculation."""
        atoms = job.atoms
        structure = {
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
        }
        said = {k: v for k, v in told_so.to_dict().items() if k not in {"command", "datasets"}}
        symbols = sorted(set(atoms.symbols))
        datasets = PRESETS[self._kind].datasets(told_so, symbols)
        return fingerprint({"kind": self._kind, "told": said, "datasets": datasets}, structure)

    def _compute(
        self,
        told_so: Wanted,
        jobs: Sequence[tuple[OracleJob, str]],
        found: dict[str, dict[str, Any]],
        events: EventLog,
    ) -> None:
        """Compute structures with one setting; every energy is on disk before the next begins."""
        if not jobs:
            return
        requests = {job.key: request for job, request in jobs}
        with self._oracle(told_so) as oracle:
            self._stop.listen(oracle.interrupt)
            for result in oracle.run([job for job, _ in jobs]):
                found[result.key] = _record(result)
                if result.status == "done":
                    request = requests[result.key]
                    events.append("result", request=request, **found[result.key])
                else:
                    log.warning("%s: %s", result.key, result.error)
            if oracle.interrupted:
                reason = self._stop.reason or "interrupted"
                raise Stopped(f"stopped in order ({reason}); the same command goes on")

    def _oracle(self, told_so: Wanted) -> AseOracle:
        return AseOracle(
            self._kind,
            preset=told_so,
            relax_cell=False,
            relax_ions=False,
            timeout=self._settings.oracle.timeout,
            workers=self._settings.oracle.workers or self._workers,
            scratch=self._folder / SCRATCH,
            grace=self._settings.oracle.grace,
        )

    def _table(
        self,
        case: Case,
        wanted: Sequence[Setting],
        results: Sequence[Mapping[str, Mapping[str, Any]]],
    ) -> pd.DataFrame:
        """Return one row per value of each parameter."""
        rows = []
        for number, (setting, found) in enumerate(zip(wanted, results, strict=True)):
            energies = [_energy(found, one) for one in case.structures]
            errors = [str(one["error"]) for one in found.values() if one.get("error")]
            row = {
                "is_campaign": number == 0,
                "element_energy": energies[0],
                "formation_energy": _formation_energy(case, energies),
                "seconds": sum(float(one["seconds"]) for one in found.values()),
                "error": errors[0] if errors else "",
            }
            for varied in sorted(setting.varied):
                value = setting.basis if varied == BASIS else setting.kspacing
                rows.append({"varied": varied, "value": value, **row})
        table = pd.DataFrame(rows)
        parts = []
        for varied in (BASIS, KSPACING):
            part = table[table["varied"] == varied].sort_values("value", ascending=varied == BASIS)
            for name in ("element", "formation"):
                finest = part[f"{name}_energy"].iloc[-1]
                part = part.assign(**{f"{name}_error": part[f"{name}_energy"] - finest})
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def _cost(self, case: Case, found: Mapping[str, Mapping[str, Any]]) -> Cost | None:
        """Return what the campaign will cost, from the times of its own settings."""
        known = [one for one in case.structures if found.get(one.key, {}).get("energy") is not None]
        if case.compound not in known:
            return None
        seconds = {one.n_atoms: float(found[one.key]["seconds"]) for one in known}
        n, m = case.compound.n_atoms, min(seconds)
        power = GROWTH
        if m < n and seconds[m] > 0:
            ratio = math.log(max(seconds[n], 1e-9) / seconds[m]) / math.log(n / m)
            power = min(max(ratio, GROWTHS[0]), GROWTHS[1])
        sizes = candidate_space(self._settings, self._parent).sizes
        atoms = np.array([size * self._parent.n_basis for size in sizes], dtype=float)
        weights = np.array(list(sizes.values()), dtype=float)
        mean = float(np.average(seconds[n] * (atoms / n) ** power, weights=weights))
        source = self._settings.oracle
        relaxed = source.relax_cell or source.relax_ions
        budget = self._settings.learning.budget
        hours = budget * mean * (STEPS_OF_RELAXATION if relaxed else 1) / 3600
        return Cost(budget, hours, power, float(np.average(atoms, weights=weights)), relaxed)


def _record(result: OracleResult) -> dict[str, Any]:
    return {
        "key": result.key,
        "energy": result.energy,
        "seconds": result.seconds,
        "error": result.error,
        "provenance": dict(result.provenance or {}),
    }


def _energy(found: Mapping[str, Mapping[str, Any]], one: Configuration) -> float:
    """Return an energy, eV/atom; NaN where there is none."""
    energy = found.get(one.key, {}).get("energy")
    return float("nan") if energy is None else float(energy) / one.n_atoms


def _formation_energy(case: Case, energies: Sequence[float]) -> float:
    """Return the formation energy of the compound from its end members, eV/atom."""
    if not np.isfinite(energies).all():
        return float("nan")
    x = np.array([one.atomic_fractions for one in case.structures])
    x = x[:, x.max(axis=0) > 0]
    ends = Hull(x[:-1], energies[:-1], end_members=x[:-1])
    return float(ends.energy_above_hull(x[-1], energies[-1]))
