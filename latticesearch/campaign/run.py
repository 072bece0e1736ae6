"""The whole loop from settings to report, on any number of ranks, resumable at any moment.

A campaign is a pure function of its settings and the oracle's answers. Resuming therefore means
running it again: answers and potentials that are on disk are read instead of computed, so the
replay takes the same decisions and arrives where the interrupted run stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch import __version__
from latticesearch.campaign import factories
from latticesearch.campaign.keeper import Keeper
from latticesearch.campaign.settings import Settings, read_settings
from latticesearch.campaign.tables import describe_round, round_row, summarise
from latticesearch.learning import Fitted, learn
from latticesearch.learning.acquisition import END_MEMBER
from latticesearch.learning.candidates import by_supercell
from latticesearch.parallel import SerialComm, first_on_root, kept_on_root, on_root
from latticesearch.potential.mtp.files import format_mtp, parse_mtp
from latticesearch.potential.mtp.training import LabelledBatch, TrainingSet, fit
from latticesearch.progress import NoProgress
from latticesearch.search import search

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt
    import pandas as pd

    from latticesearch.campaign.factories import CandidatePlan
    from latticesearch.campaign.tables import Tables
    from latticesearch.lattice import Labelings, ParentLattice
    from latticesearch.learning import CandidateSet, Choice, Round
    from latticesearch.learning.acquisition import State
    from latticesearch.learning.loop import Answer
    from latticesearch.parallel import Communicator
    from latticesearch.potential import LatticeModel, MtpBasis, MtpPotential
    from latticesearch.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CampaignResult:
    """What a campaign has found.

    Parameters
    ----------
    path
        The run directory.
    hull
        Stable and nearly stable structures, the columns of hull.csv.
    summary
        Counts, times and file names, as printed at the end.
    """

    path: Path
    hull: pd.DataFrame
    summary: dict[str, Any]


class Campaign:
    """A campaign: settings, and everything they name, checked and ready to run.

    Parameters
    ----------
    settings
        The checked campaign file.
    output
        Run directory; default that of the settings, else runs/NAME in the current folder.
    """

    def __init__(self, settings: Settings, output: Path | None = None) -> None:
        self.settings = settings
        self.path = output or settings.campaign.output or Path("runs") / settings.campaign.name

    @classmethod
    def from_toml(
        cls, path: str | Path, overrides: Iterable[str] = (), output: str | Path | None = None
    ) -> Campaign:
        """Read a campaign file.

        Parameters
        ----------
        path
            The TOML file.
        overrides
            Texts ``section.key=value`` that replace values of the file.
        output
            Run directory, instead of the file's.

        Raises
        ------
        InputError
            The file is missing, or something in it is unknown or contradictory.
        """
        settings = read_settings(Path(path), overrides)
        return cls(settings, None if output is None else Path(output))

    def run(
        self,
        comm: Communicator | None = None,
        *,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> CampaignResult:
        """Run the campaign, or go on where an interrupted run stopped.

        Parameters
        ----------
        comm
            The ranks that call this together; default this process alone.
        resume
            Demand that there is something to resume. Without it an interrupted run is
            resumed as well, and a new one begins where there is none.
        progress
            Told about the long steps.

        Raises
        ------
        InputError
            The settings cannot be carried out, or the run directory holds another campaign.
        RuntimeError
            The oracle gave no energy for an end member.
        """
        comm = comm or SerialComm()
        began = time.monotonic()
        if comm.rank == 0 and not _kernels_are_compiled():
            log.info("compiling, as the first run on a machine has to")
        parent = factories.parent_lattice(self.settings)
        basis = factories.mtp_basis(self.settings, parent)
        plan = factories.candidate_plan(self.settings, parent)
        factories.require_searchable(plan)
        start = factories.start_potential(self.settings, basis)
        keeper = kept_on_root(
            comm, self._open, parent, comm.size, resume=resume, progress=progress or NoProgress()
        )
        try:
            # One process fills the compiler's disk cache; many at once would get in their way.
            first_on_root(comm, lambda: factories.warm_up(parent, basis, plan))
            candidates = factories.candidate_set(parent, plan, comm, progress)
            if comm.rank == 0:
                log.info("%s", _announcement(candidates, plan))
            given = start if self.settings.potential.file else None
            steps = _Steps(self.settings, candidates, basis, plan, keeper, comm, start, given)
            return steps.run(began)
        finally:
            if keeper is not None:
                keeper.close()

    def _open(
        self, parent: ParentLattice, n_ranks: int, *, resume: bool, progress: Progress
    ) -> Keeper:
        """Make the oracle, then the run directory: what can be refused is refused first."""
        oracle = factories.oracle(self.settings, parent, n_ranks)
        options = factories.labelling_options(self.settings)
        return Keeper.open(
            self.path, self._record(n_ranks), oracle, options, progress, resume=resume
        )

    def _record(self, n_ranks: int) -> dict[str, Any]:
        """Return what settings.toml keeps: all values, and what else a rerun would need."""
        versions = {"latticesearch": __version__, "python": platform.python_version()}
        for name in ("numpy", "scipy", "numba", "ase", "spglib"):
            versions[name] = metadata.version(name)
        return {**self.settings.resolved(), "environment": {"ranks": n_ranks, **versions}}


def _kernels_are_compiled() -> bool:
    """Tell whether the compiler's disk cache holds anything."""
    folder = os.environ.get("NUMBA_CACHE_DIR")
    return folder is None or any(Path(folder).rglob("*.nbi"))


def _announcement(candidates: CandidateSet, plan: CandidatePlan) -> str:
    """Return the line that says what is about to be searched."""
    system = "-".join(candidates.elements)
    sites = candidates.parent.n_basis
    text = f"{system}: {len(candidates)} structures enumerated"
    if plan.supercell is None and plan.exhaustive:
        text += f" (up to {max(plan.exhaustive) * sites} sites)"
    if left := sum(plan.greedy.values()):
        text += f"; {left} larger ones left to the greedy search"
    return text


def _in_order(
    errors: Sequence[float], parts: Sequence[tuple[Labelings, npt.NDArray[np.intp]]]
) -> list[float]:
    """Return errors, meV in the order of the batches, as eV in the order of the training set."""
    positions = np.concatenate([where for _, where in parts])
    ordered = np.empty(len(positions))
    ordered[positions] = np.asarray(errors) / 1000
    result: list[float] = ordered.tolist()
    return result


@dataclass(eq=False)
class _Steps:
    """The three steps the learning loop asks for, and what is written after each round."""

    settings: Settings
    candidates: CandidateSet
    basis: MtpBasis
    plan: CandidatePlan
    keeper: Keeper | None
    comm: Communicator
    start: MtpPotential
    given: MtpPotential | None
    fit_rows: list[dict[str, Any]] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    tables: Tables | None = None

    def run(self, began: float) -> CampaignResult:
        """Run the loop to its end; return what was found."""
        options = factories.learning_options(self.settings)
        for outcome in learn(self.candidates, self, self.start, options, self.comm):
            self.rounds.append(outcome)
            on_root(self.comm, self._report_round, outcome)
        return on_root(self.comm, self._finish, time.monotonic() - began)

    def train(self, number: int, indices: Sequence[int], energies: Sequence[float]) -> Fitted:
        """Fit the potential of a round, or read it where an interrupted run left it."""
        text, row = on_root(self.comm, self._train, number, indices, energies)
        # Every rank, and every later resumption, sees the numbers that stand in the file.
        self.fit_rows.append(row)
        model = parse_mtp(text, self.basis.species)
        return Fitted(model, np.asarray(row["left_out_errors"]))

    def _train(
        self, number: int, indices: Sequence[int], energies: Sequence[float]
    ) -> tuple[str, dict[str, Any]]:
        """Do the work of `train` on root; return the file's text and the fit's figures."""
        assert self.keeper is not None
        digest = self._training_digest(indices, energies)
        if (known := self.keeper.fitted(number, digest)) is not None:
            return known
        began = time.monotonic()
        per_site = np.asarray(energies) / self.candidates.sites_per_atom[list(indices)]
        parts = self.candidates.subset(indices)
        labelled = tuple(LabelledBatch(batch, per_site[where]) for batch, where in parts)
        model, report = fit(
            self.basis,
            TrainingSet(labelings=labelled),
            initial=self.given,
            seed=self.settings.campaign.seed,
        )
        row = {
            "rmse": report.energy_rmse / 1000,
            "left_out": report.left_out_rmse / 1000,
            "seconds": time.monotonic() - began,
            "left_out_errors": _in_order(report.left_out_errors, parts),
        }
        text = format_mtp(model)
        self.keeper.keep_potential(number, text, digest, row)
        return text, row

    def _training_digest(self, indices: Sequence[int], energies: Sequence[float]) -> str:
        """Return a fingerprint of everything a fit depends on.

        Every round fits from scratch: it costs a fraction of a second, and a potential that
        depends on its data alone, not on the path to them, was the more reliable one.
        """
        data = sorted(
            (self.candidates.keys[i], float(e)) for i, e in zip(indices, energies, strict=True)
        )
        potential = self.settings.potential.model_dump(mode="json")
        content = json.dumps([data, potential, self.settings.campaign.seed])
        return hashlib.sha256(content.encode()).hexdigest()

    def explore(self, number: int, model: LatticeModel, state: State) -> None:
        """Add what the greedy search finds near the hull of what is known."""
        if not self.plan.greedy:
            return
        options = self.settings.search
        hull, usable = state.mixed_hull()
        stable = [self.candidates.configuration(int(i)).supercell for i in usable[hull.vertices]]
        parent = self.candidates.parent
        cells = factories.search_supercells(self.plan, parent, options.supercells, stable)
        if not cells:
            return
        pool = search(
            model,
            parent,
            supercells=cells,
            composition=self.settings.candidates.composition or None,
            beam_width=options.beam_width,
            max_per_composition=options.keep,
            budget=options.budget,
            mode="target",
            exhaustive_up_to=0,
            seed=self.settings.campaign.seed + number,
            comm=self.comm,
        )
        near = factories.near_hull(pool, hull, self.settings.candidates.near_hull)
        new = sum(self.candidates.add(batch, "greedy", number) for batch in by_supercell(near))
        if self.comm.rank == 0:
            log.info(
                "greedy search: %d evaluations, %d new structures near the hull",
                pool.evaluations,
                new,
            )

    def label(self, number: int, choices: Sequence[Choice]) -> Answer:
        """Ask the oracle, on root."""
        return on_root(self.comm, self._label, number, choices)

    def _label(self, number: int, choices: Sequence[Choice]) -> Answer:
        assert self.keeper is not None
        labeller = self.keeper.labeller(self.candidates)
        indices = [c.index for c in choices]
        answer = labeller.label(indices, number)
        if choices[0].reason == END_MEMBER and np.isfinite(answer.energies).all():
            labeller.set_end_members(indices, answer.energies)
        return answer

    def _report_round(self, outcome: Round) -> None:
        """Write what a user may want to look at while the campaign goes on."""
        assert self.keeper is not None
        rmse = self.fit_rows[-1]["rmse"] if self.fit_rows else None
        row = round_row(outcome, rmse)
        keys = [self.candidates.keys[c.index] for c in outcome.choices]
        self.keeper.directory.log_event("round", **row, keys=keys)
        log.info("%s", describe_round(row))
        self.tables = self.keeper.write_tables(self.candidates, self.rounds)

    def _finish(self, seconds: float) -> CampaignResult:
        """Write the report on the tables of the last round; return the result."""
        assert self.keeper is not None
        assert self.tables is not None
        rows = [
            round_row(r, self.fit_rows[i - 1]["rmse"] if i else None)
            for i, r in enumerate(self.rounds)
        ]
        summary = summarise(
            self.tables, rows, self.settings.campaign.name, self.plan.n_possible, seconds
        )
        self.keeper.finish(self.candidates, self.tables, summary, rows, self.settings)
        return CampaignResult(self.keeper.directory.path, self.tables.hull, summary)
