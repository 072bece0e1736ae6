"""The structures of a run by key."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from latticesearch.campaign.answers import believed_energy
from latticesearch.campaign.sources import COMPETING, COMPUTED, PREDICTED
from latticesearch.errors import InputError
from latticesearch.lattice import Configuration
from latticesearch.results.entries import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from ase import Atoms

    from latticesearch.campaign.competing import CompetingPhases
    from latticesearch.lattice import ParentLattice
    from latticesearch.storage import StoredResult


class Structures(Mapping[str, "Atoms"]):
    """All structures of a run; ``structures[key]`` is the relaxed one where it was computed.

    Parameters
    ----------
    parent
        The parent lattice: any key on it has a structure, whether it is listed or not.
    results
        What oracle and other sources have answered, by key.
    candidates
        Columns of ``Run.candidates``; None where a run has none yet.
    phases
        Competing phases.
    """

    def __init__(
        self,
        parent: ParentLattice,
        results: Mapping[str, StoredResult] | None = None,
        candidates: pd.DataFrame | None = None,
        phases: CompetingPhases | None = None,
    ) -> None:
        self._parent, self._results = parent, results or {}
        self._rows: dict[str, int] = {}
        self._table = candidates
        if candidates is not None:
            self._rows = {key: i for i, key in enumerate(candidates["key"])}
        pairs = () if phases is None else zip(phases.keys, phases.phases, strict=True)
        known = dict(pairs)
        self._phases = {k: (p, p.atoms) for k, p in known.items() if p.atoms is not None}
        self._formulas = {*known} - {*self._phases}

    def __repr__(self) -> str:
        """Return how many there are."""
        return f"<{len(self)} structures by key>"

    def __len__(self) -> int:
        """Return the number of candidates, computed structures and competing phases."""
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        """Go through the keys."""
        return iter(self._names)

    def __contains__(self, key: object) -> bool:
        """Tell whether a key is one of the run's."""
        return key in self._names

    def __getitem__(self, key: str) -> Atoms:
        """Return a structure with its energy, forces and stress, relaxed where it was computed."""
        return self.entry(key).to_ase()

    def _ipython_key_completions_(self) -> list[str]:
        """Return what the Tab key offers."""
        return list(self)

    @property
    def _names(self) -> dict[str, None]:
        return dict.fromkeys([*self._rows, *self._results, *self._phases])

    def ideal(self, key: str) -> Atoms:
        """Return a structure on the parent lattice; a phase off the lattice as it is.

        Raises
        ------
        InputError
            The key is malformed or of another lattice, or nobody knows this phase's structure.
        """
        if key in self._phases:
            return self._phases[key][1].copy()
        if key in self._formulas:
            raise InputError(f"of {key!r} only formula and energy are known, no structure")
        return Configuration.from_key(self._parent, key).to_atoms()

    def pymatgen(self, key: str, *, relaxed: bool = True) -> Any:
        """Return a structure as pymatgen has it."""
        return self.entry(key, relaxed=relaxed).to_pymatgen()

    def entry(self, key: str, *, relaxed: bool = True) -> Entry:
        """Return a structure with its energy.

        Parameters
        ----------
        key
            Its key.
        relaxed
            As the oracle left it, where it was computed; else on the parent lattice, with the
            energy that it has after relaxation, and without forces and stress.

        Raises
        ------
        InputError
            As `ideal`.
        """
        if key in self._phases:
            return self._of_phase(key)
        ideal = self.ideal(key)
        above, energy, source = self._known(key, len(ideal))
        name = Configuration.from_key(self._parent, key).formula
        stored = self._results.get(key)
        answer = None if stored is None or stored.status != "done" else stored.result
        if not relaxed or answer is None or answer.atoms is None:
            return Entry(key, name, ideal, energy, source, above=above)
        # What left the lattice has its own energy, which the candidate of this key has not.
        energy, atoms = answer.energy, answer.atoms.copy()
        if source == PREDICTED:
            source, above = COMPUTED, None
        return Entry(key, name, atoms, energy, source, answer.forces, answer.stress, above)

    def _of_phase(self, key: str) -> Entry:
        phase, atoms = self._phases[key]
        return Entry(key, phase.name, atoms.copy(), phase.energy * len(atoms), COMPETING)

    def _known(self, key: str, n_atoms: int) -> tuple[float | None, float | None, str]:
        """Return height, eV/atom, energy, eV per primitive cell, and where it comes from."""
        if self._table is None or key not in self._rows:
            stored = self._results.get(key)
            energy = float("nan") if stored is None else believed_energy(stored.result)
            return None, _number(energy * n_atoms), COMPUTED if isfinite(energy) else PREDICTED
        row = self._table.iloc[self._rows[key]]
        energy = float(row["energy"]) * n_atoms
        return _number(row["energy_above_hull"]), _number(energy), str(row["energy_source"])


def computed_keys(candidates: pd.DataFrame, within: float | None) -> Sequence[str]:
    """Return the keys of candidates with an oracle energy, the lowest above the hull first.

    Parameters
    ----------
    candidates
        Columns of ``Run.candidates``.
    within
        Greatest height above the hull, eV/atom; None for all.
    """
    known = candidates[candidates["oracle_energy"].notna()]
    if within is not None:
        known = known[known["energy_above_hull"] <= within]
    keys: list[str] = known.sort_values(["energy_above_hull", "key"])["key"].tolist()
    return keys


def _number(value: Any) -> float | None:
    """Return a number, None for NaN."""
    number = float(value)
    return number if isfinite(number) else None
