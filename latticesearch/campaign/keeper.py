"""What only rank 0 has: the run directory, the oracle, and the tables written from both."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from latticesearch.campaign.answers import AnswerRules, Answers
from latticesearch.campaign.competing import ZERO_TEXTS
from latticesearch.campaign.structures import KnownStructures
from latticesearch.campaign.tables import Tables, TrueEnergies, make_tables, phase_structures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from latticesearch.campaign.competing import CompetingPhases, ZeroKind
    from latticesearch.campaign.opening import Opened
    from latticesearch.campaign.settings import Settings
    from latticesearch.campaign.stages import Stage
    from latticesearch.learning import CandidateSet, Round
    from latticesearch.oracles import Oracle
    from latticesearch.progress import Progress
    from latticesearch.storage import RunDirectory

log = logging.getLogger(__name__)

EARLIER = "earlier"
"""What candidates.parquet calls the source of a candidate that an earlier stage computed."""


@dataclass(eq=False)
class Keeper:
    """The run directory and the oracle of a campaign; exists on rank 0 only.

    Parameters
    ----------
    opened
        The run directory, locked for writing, with its method and stage.
    suffix
        What the names of files of potentials end with.
    oracle
        Asked through `answers`.
    rules
        How answers are judged.
    progress
        Told about oracle calculations.
    phases
        Compete with the candidates.
    zero
        What formation energies refer to.
    """

    opened: Opened
    suffix: str
    oracle: Oracle
    rules: AnswerRules
    progress: Progress
    phases: CompetingPhases
    zero: ZeroKind
    _answers: Answers | None = field(default=None, repr=False)

    @property
    def directory(self) -> RunDirectory:
        """The files of the run."""
        return self.opened.directory

    @property
    def stage(self) -> Stage:
        """What is known from the start."""
        return self.opened.stage

    def known_keys(self) -> list[tuple[str, str]]:
        """Return the keys that are known from the start, each with its source, in key order."""
        rows = [row for row in self.opened.rows if row.row <= self.stage.known_rows]
        found = {row.key: EARLIER for row in rows}
        for one in self.opened.known:
            found.setdefault(one.key, one.source.partition(":")[0])
        return sorted(found.items())

    def answers(self, candidates: CandidateSet) -> Answers:
        """Return the way to ask the oracle about candidates, made at the first call."""
        if self._answers is None:
            self._answers = Answers(self.oracle, self.opened, candidates, self.rules, self.progress)
        return self._answers

    def fitted(self, number: int, digest: str) -> tuple[str, dict[str, Any]] | None:
        """Return text and figures of a potential that an earlier run fitted to the same data."""
        for event in self.directory.events():
            if event["event"] == "fit" and (event["round"], event["digest"]) == (number, digest):
                text = self.directory.read_potential(number, self.suffix)
                return None if text is None else (text, event["figures"])
        return None

    def keep_potential(
        self, number: int, text: str, digest: str, figures: Mapping[str, Any]
    ) -> None:
        """Write the potential of a round; the event that vouches for it comes last."""
        self.directory.write_potential(text, number, self.suffix)
        self.directory.log_event("fit", round=number, digest=digest, figures=dict(figures))

    def write_tables(
        self, candidates: CandidateSet, rounds: Sequence[Round], before: Tables | None
    ) -> Tables:
        """Write candidates.parquet, hull.csv and the CIF files as of the last round.

        Parameters
        ----------
        candidates
            All candidates.
        rounds
            All rounds so far.
        before
            What this process wrote one round earlier.
        """
        answers = self.answers(candidates)
        predicting = next((r for r in reversed(rounds) if len(r.predicted)), rounds[-1])
        known, sources = answers.energies(), answers.energy_sources()
        true = TrueEnergies(known, sources, answers.rounds, answers.answers)
        tables = make_tables(candidates, true, predicting, self.phases, self.zero, before)
        self.directory.write_candidates(tables.candidates)
        # A relaxed structure never changes once it is known, so the same keys mean the same files.
        unchanged = tables.same_stable(before)
        self.directory.write_hull(tables.hull, None if unchanged else tables.stable)
        self.directory.write_off_lattice(answers.off_lattice())
        return tables

    def earlier_rounds(self) -> list[dict[str, Any]]:
        """Return the rows of the rounds of earlier stages, as the log has them."""
        found: dict[int, dict[str, Any]] = {}
        for event in self.directory.events():
            if event["event"] == "round" and event["round"] < self.stage.first_round:
                found[event["round"]] = event
        return [found[number] for number in sorted(found)]

    def finish(
        self,
        candidates: CandidateSet,
        tables: Tables,
        summary: dict[str, Any],
        rounds: Sequence[dict[str, Any]],
        settings: Settings,
    ) -> None:
        """Write the report and the whole hull table; complete the summary by the failures."""
        # matplotlib and pymatgen: only who draws waits for them
        from latticesearch.report import computational_details, describe_hull, write_report

        answers, values = self.answers(candidates), settings.resolved()
        failures = list(answers.failures())
        summary["failures"] = len(failures)
        summary["zero"] = ZERO_TEXTS[self.zero]
        structures = KnownStructures(candidates, answers.answers, phase_structures(self.phases))
        # What needs no energy is worked out once, not in every round.
        hull = describe_hull(tables.candidates, tables.hull, summary, values, structures)
        self.directory.write_hull(hull, None)
        known = self.directory.read_settings() | values
        provenances = [p for one in answers.answers.values() if (p := one.provenance) is not None]
        html, figures = write_report(
            *(tables.candidates, hull, summary, rounds, failures, values),
            structures=structures,
            details=computational_details(known, provenances),
        )
        self.directory.write_report(html, figures)
        self.directory.log_event("end", **summary)

    def close(self) -> None:
        """End the oracle's processes and unlock the run directory."""
        self.oracle.close()
        # Folders of failed calculations stay.
        with contextlib.suppress(OSError):
            self.directory.scratch.rmdir()
        self.directory.close()
