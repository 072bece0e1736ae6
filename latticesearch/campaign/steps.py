"""What a campaign does in every round: train, explore, ask the oracle, write the tables."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from latticesearch.campaign import factories
from latticesearch.campaign.space import EXPLORED, SAMPLED, explore, imagine, sample
from latticesearch.campaign.tables import describe_round, round_row, summarise
from latticesearch.enumeration import enumerate_labelings
from latticesearch.errors import InputError
from latticesearch.lattice import Supercell
from latticesearch.learning import Beginning, Fitted, learn
from latticesearch.learning.choices import END_MEMBER
from latticesearch.learning.cluster_energies import ClusterEnergies, compiled
from latticesearch.parallel import on_root
from latticesearch.potential import fit_potential, learning_rows
from latticesearch.search import search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latticesearch.campaign.keeper import Keeper
    from latticesearch.campaign.settings import Settings
    from latticesearch.campaign.space import CandidateSpace
    from latticesearch.campaign.tables import Tables
    from latticesearch.hull import Hull
    from latticesearch.lattice import Labelings
    from latticesearch.learning import CandidateSet, Choice, Round
    from latticesearch.learning.loop import Answer
    from latticesearch.parallel import Communicator
    from latticesearch.potential import Potential
    from latticesearch.stopping import StopRequest

log = logging.getLogger(__name__)

MEV = 1000.0
"""meV per eV: reports of fits count in meV, everything else here in eV."""

FEW = 10
"""Energies per species from which on a potential that cannot be fitted is an error: fewer may be
all that is known, and fits of so many make sense."""


@dataclass(eq=False)
class CampaignSteps:
    """The steps the learning loop asks for, and what is written after each round.

    Parameters
    ----------
    settings
        The checked campaign file.
    candidates
        The structures that compete; exploration adds to them.
    space
        Says what is left to exploration.
    keeper
        Run directory and oracle on rank 0, None on the others.
    comm
        The ranks that do this together.
    start
        The potential before the first fit; every round fits it anew.
    stop
        Tells when the run has to end before its end.
    """

    settings: Settings
    candidates: CandidateSet
    space: CandidateSpace
    keeper: Keeper | None
    comm: Communicator
    start: Potential
    stop: StopRequest
    fit_rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    tables: Tables | None = None
    warned: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Run the loop to its end; every round is on disk before the next begins."""
        if not _can_be_fitted(self.start) and self.comm.rank == 0:
            log.info("%s potential: it has no fit, its energies are taken as they are", self.kind)
        options = factories.learning_options(self.settings)
        known = on_root(self.comm, self._known)
        for outcome in learn(self.candidates, self, options, self.comm, known):
            self.rounds.append(outcome)
            on_root(self.comm, self._report_round, outcome)

    def _known(self) -> Beginning:
        """Return what the run knows already, on root."""
        assert self.keeper is not None
        before = self.keeper.answers(self.candidates).knowledge()
        index = self.candidates.index
        if before.energies:
            log.info("%d energies are known from the start", len(before.energies))
        return Beginning(
            {index(key): energy for key, energy in before.energies.items()},
            frozenset(map(index, before.closed)),
            before.calculations,
            self.keeper.stage.first_round,
            self.keeper.phases.points,
        )

    @property
    def kind(self) -> str:
        """The kind of potential, as in the campaign file."""
        return self.settings.potential.model

    @property
    def explores(self) -> bool:
        """Whether there are structures that only a search can find."""
        return bool(self.space.n_explored)

    def finish(self, seconds: float) -> tuple[Tables, dict[str, Any]]:
        """Write the report; return the last tables and the counts, `seconds` of wall time too."""
        return on_root(self.comm, self._finish, seconds)

    def train(
        self, number: int, indices: Sequence[int], energies: Sequence[float]
    ) -> Fitted | None:
        """Fit the potential of a round, or read it where an interrupted run left it."""
        on_root(self.comm, self.stop.check)
        try:
            model, text, row = on_root(self.comm, self._train, number, indices, energies)
        except InputError as error:
            # So few energies may be all there are, and the posterior needs no more.
            if len(indices) > FEW * len(self.candidates.parent.species):
                raise
            log.debug("no potential yet: %s", error)
            return None
        self.fit_rows[number] = row
        if text is not None:
            # Every rank, and every later resumption, sees the numbers that stand in the file.
            kind = factories.potential_kind(self.settings)
            model = kind.parse(text, self.candidates.parent)
        return Fitted(model or self.start, np.asarray(row["left_out_errors"]))

    def _train(
        self, number: int, indices: Sequence[int], energies: Sequence[float]
    ) -> tuple[Potential | None, str | None, dict[str, Any]]:
        """Do the work of `train` on root.

        Returns
        -------
        model
            The potential, None where it is fixed or has a text.
        text
            Its text form, None where it has none.
        row
            The figures of the fit, energies in eV per site.
        """
        assert self.keeper is not None
        digest = self._training_digest(indices, energies)
        if (known := self.keeper.fitted(number, digest)) is not None:
            return None, *known
        began = time.monotonic()
        training = self.candidates.training_set(indices, energies)
        model, summary = fit_potential(self.start, training, seed=self.settings.campaign.seed)
        where = np.concatenate([positions for _, positions in self.candidates.subset(indices)])
        errors = np.empty(len(where))
        errors[where] = np.asarray(summary.left_out_errors) / MEV
        row = {
            "rmse": summary.energy_rmse / MEV,
            "left_out": summary.left_out_rmse / MEV,
            "seconds": time.monotonic() - began,
            "left_out_errors": errors.tolist(),
        }
        if not _can_be_fitted(self.start):
            return None, None, row
        text = model.text() if hasattr(model, "text") else None
        if text is None:
            return model, None, row
        self.keeper.keep_potential(number, text, digest, row)
        return None, text, row

    def _training_digest(self, indices: Sequence[int], energies: Sequence[float]) -> str:
        """Return a fingerprint of everything a fit depends on.

        Every round fits from scratch: it costs a fraction of a second, and a potential that
        depends on its data alone, not on the path to them, was the more reliable one.
        """
        data = sorted(
            (self.candidates.keys[i], float(e)) for i, e in zip(indices, energies, strict=True)
        )
        potential = self.settings.resolved()["potential"]
        content = json.dumps([data, potential, self.settings.campaign.seed])
        return hashlib.sha256(content.encode()).hexdigest()

    def explore(
        self, number: int, model: Potential | None, draw: ClusterEnergies, hull: Hull
    ) -> None:
        """Add what searches of the larger cells find near the hull of what is known."""
        on_root(self.comm, self.stop.check)
        options, tolerance = self.settings.search, self.settings.learning.tolerance
        limits: dict[str, Any] = {
            "shapes": options.supercells,
            "max_per_composition": options.keep,
            "budget": options.budget,
            "seed": self.settings.campaign.seed + number,
        }
        found, n = imagine(compiled(draw, self._sample), self.space, self.comm, **limits)
        if isinstance(model, ClusterEnergies):
            model = compiled(model, self._sample)
        elif model is not None:
            # What is closer to the hull than the accepted error cannot be told from it.
            limits["near"] = (hull, tolerance)
        if model is not None:
            window = max(self.settings.candidates.near_hull, tolerance)
            near, m = explore(model, self.space, hull, window, self.comm, **limits)
            found, n = [*near, *found], n + m
        new = self.candidates.add_configurations(found, EXPLORED, number)
        if self.comm.rank == 0:
            log.info("search: %d energies, %d new structures near the hull", n, new)

    @cached_property
    def _sample(self) -> list[Labelings]:
        """Structures in the larger cells, for compiled expansions to learn from."""
        return sample(self.space, SAMPLED, self.settings.campaign.seed)

    def label(self, number: int, choices: Sequence[Choice], limit: int) -> Answer:
        """Ask the oracle, on root."""
        return on_root(self.comm, self._label, number, choices, limit)

    def _label(self, number: int, choices: Sequence[Choice], limit: int) -> Answer:
        assert self.keeper is not None
        self.stop.check()
        ends = choices[0].reason == END_MEMBER
        indices = [c.index for c in choices]
        return self.keeper.answers(self.candidates).ask(indices, number, limit, ends=ends)

    def _report_round(self, outcome: Round) -> None:
        """Write what a user may want to look at while the campaign goes on."""
        assert self.keeper is not None
        row = round_row(outcome, self._fit_error(outcome))
        keys = [self.candidates.keys[c.index] for c in outcome.choices]
        stage = self.keeper.stage.number
        self.keeper.directory.log_event("round", **row, keys=keys, stage=stage)
        log.info("%s", describe_round(row))
        self.tables = self.keeper.write_tables(self.candidates, self.rounds, self.tables)
        for line in self.tables.surprising(self.settings.oracle.max_formation_energy):
            if line not in self.warned:
                log.warning("%s", line)
                self.keeper.directory.log_event("surprising", what=line)
                self.warned.add(line)

    def _fit_error(self, outcome: Round) -> float | None:
        """Return the fit error of a round, eV per site; the first ones have no fit."""
        row = self.fit_rows.get(outcome.number)
        return None if row is None else row["rmse"]

    def _ending(self) -> dict[str, Any]:
        """Return how the campaign ended, and what would come next."""
        last = self.rounds[-1]
        assert last.end is not None
        keys, formulas = self.candidates.keys, self.candidates.formulas
        following = [
            {"key": keys[c.index], "formula": formulas[c.index], "worth": c.worth}
            for c in last.following
        ]
        return {"end": last.end.kind, "missing": last.end.missing, "next": following}

    def _finish(self, seconds: float) -> tuple[Tables, dict[str, Any]]:
        """Do the work of `finish` on root."""
        assert self.keeper is not None
        assert self.tables is not None
        rows = self.keeper.earlier_rounds()
        rows += [round_row(r, self._fit_error(r)) for r in self.rounds]
        name, n_possible = self.settings.campaign.name, self.space.n_possible
        summary = summarise(self.tables, rows, name, n_possible, seconds)
        summary |= self._ending()
        summary["surprising"] = self.tables.surprising(self.settings.oracle.max_formation_energy)
        self.keeper.finish(self.candidates, self.tables, summary, rows, self.settings)
        if summary["end"] in ("budget", "model"):
            path, budget = self.keeper.directory.path, 2 * self.settings.learning.budget
            log.info("to go on: latticesearch run %s --set learning.budget=%d", path, budget)
        return self.tables, summary


def _can_be_fitted(model: Potential) -> bool:
    """Tell whether a potential learns anything from energies."""
    return hasattr(model, "fit")


def warm_up(model: Potential, space: CandidateSpace) -> None:
    """Compile the kernels of a campaign, or load them from the disk cache, on a tiny problem."""
    cell = Supercell.from_matrix(space.parent, [1, 1, 2])
    batch = next(
        enumerate_labelings(space.parent, supercell=cell, superperiodic=True, batch_size=8)
    )
    model.evaluator(cell).energies(batch.labels)
    learning_rows(model, cell, batch.labels)
    batch.keys()
    if space.n_explored:
        search(model, space.parent, supercells=[cell], budget=200)
