"""Asking the oracle: nothing twice, every answer on disk before the next question.

This is the one place that turns the oracle's answers into energies the campaign believes:
failed calculations are retried and then quarantined, nonsense counts as failure, structures that
relaxed away from the parent lattice are kept apart.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from latticesearch.energies import cell_to_atom
from latticesearch.hull import Hull
from latticesearch.learning.loop import Answer
from latticesearch.oracles import OracleJob, OracleResult, still_on_lattice

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from latticesearch.learning import CandidateSet
    from latticesearch.oracles import Oracle
    from latticesearch.progress import Progress
    from latticesearch.storage import OracleStore

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
    max_formation_energy
        Formation energies beyond this, eV/atom, either sign, are failures.
    references
        Known energies of pure elements, eV/atom: never asked of the oracle.
    """

    attempts: int = 2
    max_formation_energy: float = 3.0
    references: Mapping[str, float] | None = None


class Answers:
    """The oracle and the store of its answers; lives on rank 0 only.

    Parameters
    ----------
    oracle
        Computes energies.
    store
        Keeps them.
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
        store: OracleStore,
        candidates: CandidateSet,
        rules: AnswerRules,
        progress: Progress,
    ) -> None:
        self._oracle, self._store, self._candidates = oracle, store, candidates
        self._rules, self._progress = rules, progress
        self._end_members: Hull | None = None
        self.answers: dict[str, OracleResult] = {}
        self.attempts: dict[str, int] = {}
        for stored in store.results():
            self._remember(stored.result)

    def ask(self, indices: Sequence[int], round_: int) -> Answer:
        """Return the energies of candidates, computing only what no earlier run has.

        Parameters
        ----------
        indices
            Positions in the candidate set.
        round_
            Stored with every calculation.
        """
        keys = [self._candidates.keys[i] for i in indices]
        known = {i: self._reference(i) for i in indices}
        wanted = [k for i, k in zip(indices, keys, strict=True) if known[i] is None]
        self._compute(wanted, round_)
        energies = [
            self.energy_per_atom(key) if (e := known[i]) is None else e
            for i, key in zip(indices, keys, strict=True)
        ]
        return Answer(energies, sum(self.attempts[k] for k in wanted))

    def set_end_members(self, indices: Sequence[int], energies: Sequence[float]) -> None:
        """Judge formation energies from now on against these candidates, eV/atom."""
        x = self._candidates.compositions[list(indices)]
        self._end_members = Hull(x, np.asarray(energies))

    def energy_per_atom(self, key: str) -> float:
        """Return the believed energy of a computed structure, eV/atom; NaN where there is none."""
        answer = self.answers.get(key)
        return float("nan") if answer is None else believed_energy(answer)

    def _reference(self, i: int) -> float | None:
        """Return the given energy of a pure element, eV/atom, None for everything else."""
        if not self._rules.references:
            return None
        symbols = self._candidates.configuration(i).symbols
        return self._rules.references.get(symbols[0]) if len(symbols) == 1 else None

    def _compute(self, keys: Sequence[str], round_: int) -> None:
        """Ask for what is open, again for what failed, until all is done or quarantined."""
        self._progress.start("oracle", len(keys))
        while jobs := [self._job(key) for key in keys if self._is_open(key)]:
            for result in self._oracle.run(jobs):
                judged = self._judge(result)
                final = judged.status == "failed" and judged.attempt >= self._rules.attempts
                self._store.append(judged, round_, quarantine=final)
                self._remember(judged)
                self._progress.advance(len(keys) - sum(self._is_open(key) for key in keys))
        self._progress.finish()

    def _is_open(self, key: str) -> bool:
        """Tell whether a structure has neither an energy nor used up its attempts."""
        answer = self.answers.get(key)
        failed = answer is None or answer.status != "done"
        return failed and self.attempts.get(key, 0) < self._rules.attempts

    def _job(self, key: str) -> OracleJob:
        configuration = self._candidates.configuration(self._candidates.index(key))
        return OracleJob(key, configuration.to_atoms(), self.attempts.get(key, 0) + 1)

    def _remember(self, result: OracleResult) -> None:
        self.attempts[result.key] = self.attempts.get(result.key, 0) + 1
        if (old := self.answers.get(result.key)) is None or old.status != "done":
            self.answers[result.key] = result

    def _judge(self, result: OracleResult) -> OracleResult:
        """Return the result as it is stored: nonsense is a failure, the log says so."""
        if result.status == "done":
            result = self._check(result)
        if result.status == "failed":
            log.warning(
                "oracle failed on %s (attempt %d of %d): %s",
                *(result.key, result.attempt, self._rules.attempts, result.error),
            )
        return result

    def _check(self, result: OracleResult) -> OracleResult:
        """Compare a finished calculation with the end members and with the parent lattice."""
        assert result.energy is not None
        assert result.atoms is not None
        if self._end_members is not None:
            x = self._candidates.composition(self._candidates.index(result.key))[None]
            energy = np.array([cell_to_atom(result.energy, len(result.atoms))])
            formation = float(self._end_members.formation_energy(x, energy)[0])
            limit = self._rules.max_formation_energy
            if abs(formation) > limit:
                error = f"formation energy {formation:.3g} eV/atom is beyond ±{limit:g}"
                return replace(result, status="failed", error=error)
        if not still_on_lattice(result, self._candidates.parent):
            log.warning("%s relaxed away from the parent lattice; it is set aside", result.key)
            return replace(result, on_lattice=False)
        return result

    def failures(self) -> Iterator[dict[str, object]]:
        """Yield the structures without a usable energy, and why."""
        for key, answer in self.answers.items():
            if answer.status == "done" and answer.on_lattice:
                continue
            formula = self._candidates.configuration(self._candidates.index(key)).formula
            reason = answer.error or "relaxed away from the parent lattice"
            attempts = self.attempts[key]
            yield {"key": key, "formula": formula, "error": reason, "attempts": attempts}

    def energies(self) -> dict[str, float]:
        """Return the believed energies by key, eV/atom, with the references."""
        known = {key: self.energy_per_atom(key) for key in self.answers}
        if self._rules.references:
            # Of a pure element there may be several candidates: other sites are vacant.
            for i in np.flatnonzero(self._candidates.compositions.max(axis=1) == 1.0).tolist():
                if (reference := self._reference(i)) is not None:
                    known[self._candidates.keys[i]] = reference
        return {key: e for key, e in known.items() if np.isfinite(e)}
