"""The structures behind the keys of a campaign's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

    from latticesearch.learning import CandidateSet
    from latticesearch.oracles import OracleResult


class KnownStructures:
    """Gives the structures of a campaign by key.

    Parameters
    ----------
    candidates
        All candidates.
    answers
        The oracle's results by key.
    phases
        Structures of competing phases by what stands for their keys.
    """

    def __init__(
        self,
        candidates: CandidateSet,
        answers: Mapping[str, OracleResult],
        phases: Mapping[str, Atoms | None],
    ) -> None:
        self._candidates, self._answers, self._phases = candidates, answers, phases

    def ideal(self, key: str) -> Atoms | None:
        """Return a structure on the lattice, or that of a phase; None where there is none."""
        if key in self._phases:
            return self._phases[key]
        try:
            return self._candidates.configuration(self._candidates.index(key)).to_atoms()
        except KeyError:
            return None

    def relaxed(self, key: str) -> Atoms | None:
        """Return a structure as the oracle left it, None where it gave none."""
        answer = self._answers.get(key)
        return None if answer is None or answer.status != "done" else answer.atoms

    def moments(self, key: str) -> Sequence[float]:
        """Return the magnetic moments of the atoms, Bohr magnetons; nothing where unknown."""
        answer = self._answers.get(key)
        known = None if answer is None else answer.provenance
        return [] if known is None else known.get("moments", [])
