"""Asking the oracle: nothing twice, every answer on disk before the next question.

This is the one place that turns the oracle's answers into energies the campaign believes:
failed calculations are retried and then quarantined, structures that relaxed away from the parent
lattice are kept apart, what others have computed is believed unless this run knows better.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from latticesearch.campaign.sources import COMPUTED, REFERENCE
from latticesearch.energies import cell_to_atom
from latticesearch.errors import OracleUnavailable, Stopped
from latticesearch.lattice import Configuration
from latticesearch.learning.loop import Answer
from latticesearch.oracles import OracleJob, OracleResult, still_on_lattice
from latticesearch.oracles.scratch import forget_done

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ase import Atoms

    from latticesearch.campaign.opening import Opened
    from latticesearch.learning import CandidateSet
    from latticesearch.oracles import Oracle
    from latticesearch.progress import Progress

log = logging.getLogger(__name__)


def believed_energy(result: OracleResult) -> float:
    """Return the energy of an answer, eV/atom; NaN for failures and what left the lattice."""
    if result.status != "done" or not result.on_lattice:
        return float("nan")
    assert result.energy is not None
    assert result.atoms is not None
    return cell_to_atom(result.energy, len(result.atoms))


@dataclass(frozen=True)
class AnswerRules:
    """How the oracle's answers are judged.

    Parameters
    ----------
    attempts
        Calculations per structure before it is quarantined.
    references
        Known energies of end members, eV/atom by key: never asked of the oracle.
    start
        Makes the structure from which a calculation starts; default the parent lattice's own.
    """

    attempts: int = 2
    references: Mapping[str, float] | None = None
    start: Callable[[Configuration], Atoms] | None = None


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What a stage of a run knows from its start; see `latticesearch.campaign.stages`.

    Parameters
    ----------
    energies
        eV/atom by key.
    closed
        Keys that are never asked again, with or without energy.
    calculations
        Oracle calculations of earlier stages.
    """

    energies: Mapping[str, float]
    closed: frozenset[str]
    calculations: int


class Answers:
    """The oracle and the store of its answers; lives on rank 0 only.

    Parameters
    ----------
    oracle
        Computes energies.
    opened
        The run: keeps the answers, knows the method and what is known from the start.
    candidates
        Gives structures and compositions for keys.
    rules
        How answers are judged.
    progress
        Told how many structures of a round are ready.
    """

    def __init__(
        self,
        oracle: Oracle,
        opened: Opened,
        candidates: CandidateSet,
        rules: AnswerRules,
        progress: Progress,
    ) -> None:
        self._oracle, self._candidates = oracle, candidates
        self._rules, self._progress = rules, progress
        self._directory, self._method = opened.directory, opened.method
        self._stage = opened.stage
        self._references = dict(rules.references or {})
        self._in_stage: Counter[str] = Counter()
        self.answers: dict[str, OracleResult] = {}
        self.attempts: Counter[str] = Counter()
        """Calculations that count as attempts, by key."""
        self._hopeless: set[str] = set()
        """Structures whose failure another attempt would only repeat."""
        self._tries: Counter[str] = Counter()
        self.sources: dict[str, str] = {}
        """Where an energy comes from that this run has not computed, by key."""
        self.rounds: dict[str, int] = {}
        """In which round this run's oracle answered last, by key."""
        for stored in opened.known:
            self.answers[stored.key] = stored.result
            self.sources[stored.key] = stored.source
        for stored in opened.rows:
            self._remember(stored.result, stored.row, stored.round_number)
            if stored.source:
                self.sources[stored.key] = stored.source
        # A kill may fall between storing a result and removing its folder.
        forget_done(opened.directory.scratch, self._done())

    def _done(self) -> list[str]:
        """Return the keys whose energies are known, by whomever they were computed."""
        return [key for key, answer in self.answers.items() if answer.status == "done"]

    def knowledge(self) -> Knowledge:
        """Return what is known before the first question."""
        known = {k: e for k in self.answers if not self._in_stage[k] for e in [self._energy(k)]}
        known = {key: energy for key, energy in known.items() if key in self._candidates}
        closed = frozenset(key for key in known if not self._is_open(key))
        energies = {key: energy for key, energy in known.items() if np.isfinite(energy)}
        energies |= self._references
        return Knowledge(energies, closed | energies.keys(), self._stage.known_rows)

    def ask(self, indices: Sequence[int], round_: int, limit: int, *, ends: bool = False) -> Answer:
        """Return the energies of candidates, computing only what no earlier run has.

        Parameters
        ----------
        indices
            Positions in the candidate set.
        round_
            Stored with every calculation.
        limit
            Calculations at most, those of this stage included that are on disk already.
        ends
            These are the end members: where all fail alike, it is the oracle that fails.

        Raises
        ------
        Stopped
            The run has to end before all is computed.
        OracleUnavailable
            The oracle cannot compute anything, whatever the structure.
        """
        keys = [self._candidates.keys[i] for i in indices]
        wanted = [key for key in keys if key not in self._references]
        spent = sum(self._in_stage[key] for key in wanted)
        self._compute(wanted, round_, limit - spent, ends=ends)
        energies = [self._references.get(key, self._energy(key)) for key in keys]
        return Answer(energies, sum(self._in_stage[key] for key in wanted))

    def _energy(self, key: str) -> float:
        """Return the believed energy of a structure, eV/atom; NaN where there is none."""
        answer = self.answers.get(key)
        return float("nan") if answer is None else believed_energy(answer)

    def _compute(self, keys: Sequence[str], round_: int, limit: int, *, ends: bool) -> None:
        """Ask for what is open, again for what failed, until all is settled or paid for."""
        self._progress.start("oracle", len(keys), sum(not self._is_open(key) for key in keys))
        while jobs := self._jobs(keys)[: max(0, limit)]:
            failed: list[OracleResult] = []
            is_first = ends and not any(self.attempts[key] for key in keys)
            try:
                for result in self._oracle.run(jobs):
                    judged = self._judge(result)
                    limit -= 1
                    if is_first and judged.status == "failed":
                        failed.append(judged)
                    else:
                        self._keep(judged, round_)
                    left = sum(self._is_open(key) for key in keys)
                    self._progress.advance(len(keys) - left)
            except Stopped:
                # Whether all fail alike is not known before all have been computed.
                for one in failed:
                    self._keep(one, round_)
                raise
            if failed:
                _require_different(failed, jobs)
                for one in failed:
                    self._keep(one, round_)
            if self._oracle.interrupted:
                raise Stopped("calculations that were under way have ended or were given up")
        self._progress.finish()

    def _jobs(self, keys: Sequence[str]) -> list[OracleJob]:
        """Return what is open; what has failed comes last, also where the rest is still out."""
        open_ = [key for key in keys if self._is_open(key)]
        return [self._job(key) for key in sorted(open_, key=self._tries.__getitem__)]

    def _keep(self, result: OracleResult, round_: int) -> None:
        """Write an answer to the disk, then believe it."""
        is_last = self.attempts[result.key] + 1 >= self._rules.attempts or not result.repeatable
        final = result.status == "failed" and is_last
        row = self._directory.store.append(result, round_, quarantine=final, method=self._method)
        self._directory.log_event("result", row=row, key=result.key, status=result.status)
        self._remember(result, row, round_)

    def _is_open(self, key: str) -> bool:
        """Tell whether a structure has neither an energy nor used up its attempts."""
        answer = self.answers.get(key)
        failed = answer is None or answer.status != "done"
        hopeless = key in self._hopeless
        return failed and not hopeless and self.attempts[key] < self._rules.attempts

    def _job(self, key: str) -> OracleJob:
        configuration = self._candidates.configuration(self._candidates.index(key))
        # A number of its own for every try: what an earlier one left must not answer for it.
        start = self._rules.start
        atoms = configuration.to_atoms() if start is None else start(configuration)
        return OracleJob(key, atoms, self._tries[key] + 1)

    def _remember(self, result: OracleResult, row: int, round_: int) -> None:
        """Take over an answer; what this run computed replaces what others did."""
        key = result.key
        self._tries[key] += 1
        if row > self._stage.forgiven_rows or result.status == "done":
            self.attempts[key] += 1
            if not result.repeatable:
                self._hopeless.add(key)
        if row > self._stage.known_rows:
            self._in_stage[key] += 1
        old = self.answers.get(key)
        if result.status == "done" or old is None or old.status != "done":
            self.answers[key] = result
            self.rounds[key] = round_
            self.sources.pop(key, None)

    def _judge(self, result: OracleResult) -> OracleResult:
        """Return the result as it is stored; the log says what is wrong with it."""
        if result.status == "failed":
            log.warning(
                "oracle failed on %s (attempt %d of %d): %s",
                *(result.key, self.attempts[result.key] + 1, self._rules.attempts, result.error),
            )
            return result
        assert result.atoms is not None
        if not still_on_lattice(result, self._candidates.parent):
            log.warning("%s relaxed away from the parent lattice; it is set aside", result.key)
            return replace(result, on_lattice=False)
        return result

    def closed(self) -> set[str]:
        """Return the keys that are not asked again, with or without energy."""
        return {key for key in self.answers if not self._is_open(key)}

    def failures(self) -> Iterator[dict[str, object]]:
        """Yield the structures without a usable energy, and why."""
        for key, answer in self.answers.items():
            if answer.status == "done" and answer.on_lattice:
                continue
            formula = Configuration.from_key(self._candidates.parent, key).formula
            reason = answer.error or "relaxed away from the parent lattice"
            attempts = self.attempts[key]
            yield {"key": key, "formula": formula, "error": reason, "attempts": attempts}

    def off_lattice(self) -> list[Atoms]:
        """Return the structures that left the lattice, with energy (eV per cell) and key."""
        found = []
        for key, answer in self.answers.items():
            if answer.status == "done" and not answer.on_lattice and answer.atoms is not None:
                atoms = answer.atoms.copy()
                atoms.calc = SinglePointCalculator(atoms, energy=answer.energy)
                atoms.info["key"] = key
                found.append(atoms)
        return found

    def energies(self) -> dict[str, float]:
        """Return the believed energies by key, eV/atom, with the references."""
        known = {key: self._energy(key) for key in self.answers if key in self._candidates}
        return {key: e for key, e in (known | self._references).items() if np.isfinite(e)}

    def energy_sources(self) -> dict[str, str]:
        """Return where the energies come from, by key: a word, or the origin of own data."""
        return {
            key: REFERENCE if key in self._references else self.sources.get(key, COMPUTED)
            for key in self.energies()
        }


def _require_different(failed: Sequence[OracleResult], jobs: Sequence[OracleJob]) -> None:
    """Blame the oracle, not the structures, where all end members fail in the same way.

    Raises
    ------
    OracleUnavailable
        Nothing was stored: once the oracle works, the same command goes on.
    """
    reasons = {re.sub(r"[\d.]+", "", one.error or "") for one in failed}
    if len(jobs) > 1 and len(failed) == len(jobs) and len(reasons) == 1:
        raise OracleUnavailable(
            f"the oracle failed on all {len(jobs)} end members in the same way: {failed[0].error}; "
            "none counts as tried"
        )
