"""What only rank 0 has: the run directory, the oracle, and the tables written from both."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from latticesearch.campaign.answers import AnswerRules, Answers
from latticesearch.campaign.settings import Settings, differences
from latticesearch.campaign.structures import KnownStructures
from latticesearch.campaign.tables import Tables, make_tables
from latticesearch.errors import InputError
from latticesearch.report import describe_hull, write_report
from latticesearch.storage import RunDirectory, is_run_directory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from latticesearch.learning import CandidateSet, Round
    from latticesearch.oracles import Oracle
    from latticesearch.progress import Progress

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Keeper:
    """The run directory and the oracle of a campaign; exists on rank 0 only.

    Parameters
    ----------
    directory
        Locked for writing.
    suffix
        What the names of files of potentials end with.
    oracle
        Asked through `answers`.
    rules
        How answers are judged.
    progress
        Told about oracle calculations.
    """

    directory: RunDirectory
    suffix: str
    oracle: Oracle
    rules: AnswerRules
    progress: Progress
    _answers: Answers | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        path: Path,
        record: Mapping[str, Any],
        suffix: str,
        oracle: Oracle,
        rules: AnswerRules,
        progress: Progress,
        *,
        resume: bool,
    ) -> Keeper:
        """Create the run directory, or open the one this campaign left.

        Parameters
        ----------
        path
            The folder.
        record
            The resolved settings, with versions and number of ranks.
        suffix, oracle, rules, progress
            See the class.
        resume
            Refuse to begin anew.

        Raises
        ------
        InputError
            `path` holds another campaign, or none although `resume` asks for one.
        """
        if not is_run_directory(path):
            if resume:
                raise InputError(f"{path} holds no run to resume; start it without --resume")
            directory = RunDirectory.create(path)
            directory.write_settings(record)
            directory.log_event("start", **record["environment"])
        else:
            directory = RunDirectory.open(path)
            try:
                _require_same_campaign(directory, record)
            except InputError:
                directory.close()
                raise
            directory.log_event("resume", **record["environment"])
            log.info("%s: going on where the last run stopped", path)
        return cls(directory, suffix, oracle, rules, progress)

    def answers(self, candidates: CandidateSet) -> Answers:
        """Return the way to ask the oracle about candidates, made at the first call."""
        if self._answers is None:
            self._answers = Answers(
                self.oracle, self.directory.store, candidates, self.rules, self.progress
            )
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
        asked = {candidates.keys[c.index]: r.number for r in rounds for c in r.choices}
        predicting = next((r for r in reversed(rounds) if len(r.predicted)), rounds[-1])
        tables = make_tables(
            candidates, answers.energies(), answers.answers, predicting, asked, before
        )
        self.directory.write_candidates(tables.candidates)
        # A relaxed structure never changes once it is known, so the same keys mean the same files.
        unchanged = tables.same_stable(before)
        self.directory.write_hull(tables.hull, None if unchanged else tables.stable)
        return tables

    def finish(
        self,
        candidates: CandidateSet,
        tables: Tables,
        summary: dict[str, Any],
        rounds: Sequence[dict[str, Any]],
        settings: Settings,
    ) -> None:
        """Write the report and the whole hull table; complete the summary by the failures."""
        answers, values = self.answers(candidates), settings.resolved()
        failures = list(answers.failures())
        summary["failures"] = len(failures)
        structures = KnownStructures(candidates, answers.answers)
        # What needs no energy is worked out once, not in every round.
        hull = describe_hull(tables.candidates, tables.hull, summary, values, structures)
        self.directory.write_hull(hull, None)
        html, figures = write_report(
            *(tables.candidates, hull, summary, rounds, failures, values), structures=structures
        )
        self.directory.write_report(html, figures)
        self.directory.log_event("end", **summary)

    def close(self) -> None:
        """End the oracle's processes and unlock the run directory."""
        self.oracle.close()
        self.directory.close()


def _require_same_campaign(directory: RunDirectory, record: Mapping[str, Any]) -> None:
    """Refuse a run directory whose settings differ in anything that changes the result."""
    old, new = dict(directory.read_settings()), dict(record)
    for settings in (old, new):
        settings.pop("environment", None)
    if found := differences(old, new):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InputError(
            f"{directory.path} holds another campaign: {found[0]}{more}; "
            "choose another directory with --output"
        )
