"""A run as an object: its tables as data frames, its structures, its potential, its diagram."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from latticesearch.campaign import factories
from latticesearch.campaign.damage import damages
from latticesearch.campaign.known import potential_of_run, results_of_run, settings_of_run
from latticesearch.errors import InputError
from latticesearch.lattice import VACANCY
from latticesearch.results import columns
from latticesearch.results.status import FINISHED, state_of
from latticesearch.results.structures import Structures, computed_keys
from latticesearch.storage import RunDirectory

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ase import Atoms
    from matplotlib.figure import Figure

    from latticesearch.campaign.competing import CompetingPhases
    from latticesearch.campaign.settings import Settings
    from latticesearch.hull import Hull
    from latticesearch.lattice import ParentLattice
    from latticesearch.potential import Potential
    from latticesearch.results.cells import Cell
    from latticesearch.results.entries import Entry
    from latticesearch.storage import StoredResult

log = logging.getLogger(__name__)


def load(path: str | os.PathLike[str]) -> Run:
    """Open a run to look at what it has found, even while it goes on.

    Parameters
    ----------
    path
        The run directory.

    Returns
    -------
    Run
        Tables, structures, potential and diagrams; each is read when it is first asked for, and
        kept: load the run again to see what it has found since.

    Raises
    ------
    InputError
        There is no run.
    """
    directory = RunDirectory.read(Path(path))
    for one in damages(directory):
        log.warning("damaged: %s", one)
    return Run(directory)


class Run:
    """What a run has found; made by `load`.

    Parameters
    ----------
    directory
        Its files.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    def __repr__(self) -> str:
        """Return name, system, and how much there is."""
        table = self._directory.read_hull()
        n_stable = 0 if table is None else int((table["cif"].fillna("") != "").sum())
        state = "finished" if self.is_finished else "not finished"
        system = "-".join(self.elements)
        return f"<Run {self.name!r}: {system}, {n_stable} stable, {state}>"

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._directory.path

    @property
    def name(self) -> str:
        """Name of the campaign."""
        return self.settings.campaign.name

    @property
    def is_finished(self) -> bool:
        """Whether the run has come to its end."""
        return state_of(self._directory) == FINISHED

    @cached_property
    def settings(self) -> Settings:
        """All settings, defaults included."""
        return settings_of_run(self._directory)

    @cached_property
    def parent(self) -> ParentLattice:
        """The parent lattice."""
        return factories.parent_lattice(self.settings)

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements, in the order of the columns ``x_El``."""
        return tuple(symbol for symbol in self.parent.species if symbol != VACANCY)

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """A row per structure that competes; `columns.CANDIDATES`.

        Raises
        ------
        InputError
            The run has no tables yet.
        """
        table = self._directory.read_candidates()
        if table is None:
            raise self._nothing("candidates")
        table = columns.typed(table, columns.CANDIDATES, self.elements)
        table["total_energy"] = table["energy"] * table["n_atoms"].astype("float64")
        table["volume"] = self._volumes(table)
        return table

    def _volumes(self, table: pd.DataFrame) -> list[float]:
        """Return Å³/atom of each structure: relaxed where it was computed, else on the lattice."""
        cell = abs(float(np.linalg.det(self.parent.cell))) / self.parent.n_basis
        atoms = table["n_atoms"].tolist()
        ideal = [cell * len(labels) for labels in table["labels"]]
        volumes: dict[str, float] = {
            key: abs(float(np.linalg.det(stored.result.atoms.cell.array)))
            / len(stored.result.atoms)
            for key, stored in self._results.items()
            if stored.status == "done" and stored.result.atoms is not None
        }
        given = zip(table["key"], ideal, atoms, strict=True)
        nothing = float("nan")
        return [volumes.get(key, volume / n if n else nothing) for key, volume, n in given]

    @cached_property
    def hull(self) -> pd.DataFrame:
        """A row per stable or nearly stable structure, the stable ones first; `columns.HULL`.

        Raises
        ------
        InputError
            The run has no tables yet.
        """
        table = self._directory.read_hull()
        if table is None:
            raise self._nothing("hull")
        if "stable" not in table:
            table["stable"] = table["cif"].fillna("") != ""
        table = columns.typed(table, columns.HULL, self.elements)
        phases = dict(zip(self._phases.keys, self._phases.energies.tolist(), strict=True))
        known = {**phases, **self._oracle_energies}
        table["energy"] = table["energy"].fillna(table["key"].map(known))
        table["total_energy"] = table["energy"] * table["n_atoms"].astype("float64")
        table["volume"] = table["volume"].fillna(table["key"].map(self._volume_of))
        empty = table["decomposition"] == ""
        table.loc[empty, "decomposition"] = [
            self._decomposition(row) for _, row in table[empty].iterrows()
        ]
        return table

    def _volume_of(self, key: str) -> float:
        """Return Å³/atom of a structure, NaN for a phase that has none."""
        try:
            atoms = self.structures.entry(key).atoms
        except InputError:
            return float("nan")
        return float(atoms.get_volume()) / len(atoms)

    def _decomposition(self, row: pd.Series) -> str:
        """Return what a structure above the hull falls into; nothing for a vertex."""
        if row["stable"]:
            return ""
        x = [float(row[f"x_{symbol}"]) for symbol in self.elements]
        return " + ".join(f"{part:.3g} {name}" for name, part in self.decomposition(x).items())

    @property
    def _oracle_energies(self) -> dict[str, float]:
        known = self.candidates[self.candidates["oracle_energy"].notna()]
        return dict(zip(known["key"], known["oracle_energy"], strict=True))

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """A row per round; `columns.ROUNDS`."""
        # A round that was replayed after an interruption is logged again: the last word counts.
        events = {e["round"]: e for e in self._directory.events() if e["event"] == "round"}
        rows = [
            {name: value for name, value in events[n].items() if name not in {"event", "keys"}}
            for n in sorted(events)
        ]
        return columns.typed(pd.DataFrame(rows), columns.ROUNDS)

    @cached_property
    def failures(self) -> pd.DataFrame:
        """A row per structure of which no energy is used; `columns.FAILURES`."""
        from latticesearch.lattice import Configuration

        rows = []
        for key, stored in self._directory.store.by_key().items():
            answer = stored.result
            if stored.status == "done" and answer.on_lattice:
                continue
            status = "off the lattice" if stored.status == "done" else stored.status
            rows.append(
                {
                    "key": key,
                    "formula": Configuration.from_key(self.parent, key).formula,
                    "status": status,
                    "attempts": answer.attempt,
                    "round": stored.round_number,
                    "seconds": answer.seconds,
                    "error": answer.error or "",
                }
            )
        return columns.typed(pd.DataFrame(rows), columns.FAILURES)

    @cached_property
    def structures(self) -> Structures:
        """The structures by key: ``run.structures[key]`` for ASE, ``.pymatgen(key)``."""
        try:
            candidates = self.candidates
        except InputError:
            candidates = None
        return Structures(self.parent, self._results, candidates, self._phases)

    def structure(
        self, key: str, *, relaxed: bool = True, form: Literal["ase", "pymatgen"] = "ase"
    ) -> Any:
        """Return one structure.

        Parameters
        ----------
        key
            Its key; any key on the run's lattice has a structure.
        relaxed
            As the oracle left it, where it was computed; else on the parent lattice.
        form
            "ase": an ``Atoms`` with energy, forces and stress attached where they are known;
            "pymatgen": a ``Structure``.

        Raises
        ------
        InputError
            The key is malformed or of another lattice.
        """
        if form not in {"ase", "pymatgen"}:
            raise InputError(f"form is {form!r}: it must be 'ase' or 'pymatgen'")
        entry = self.structures.entry(key, relaxed=relaxed)
        return entry.to_ase() if form == "ase" else entry.to_pymatgen()

    @cached_property
    def potential(self) -> Potential:
        """The current potential.

        Raises
        ------
        InputError
            There is none yet.
        """
        found = potential_of_run(self._directory, self.settings, self.parent)
        if found is None:
            raise self._nothing("potential")
        return found

    def selected(
        self,
        *,
        within: float | None = 0.0,
        keys: Sequence[str] = (),
        relaxed: bool = True,
    ) -> list[Entry]:
        """Return structures with their energies.

        Parameters
        ----------
        within
            Greatest height above the hull, eV/atom, of the structures with an oracle energy;
            None for all of them, 0 for the stable ones.
        keys
            These structures instead, computed or not.
        relaxed
            As `structure`.

        Returns
        -------
        list of Entry
            In the order of `keys`, else those of the hull first and then by height; competing
            phases of which the structure is known are among them.
        """
        if keys:
            return [self.structures.entry(key, relaxed=relaxed) for key in keys]
        files = [Path(cif).stem for cif in self.hull["cif"]]
        names = dict(zip(self.hull["key"], files, strict=True))
        above = dict(zip(self.hull["key"], self.hull["energy_above_hull"], strict=True))
        hull = self.hull if within != 0.0 else self.hull[self.hull["stable"]]
        wanted = [key for key in hull["key"] if within is None or above[key] <= within]
        if within != 0.0:
            wanted += computed_keys(self.candidates, within)
        has_structure = [key for key in dict.fromkeys(wanted) if key in self.structures]
        entries = [self.structures.entry(key, relaxed=relaxed) for key in has_structure]
        return [
            replace(one, file=names.get(one.key, ""), above=above.get(one.key, one.above))
            for one in entries
        ]

    def entries(self, *, within: float | None = None) -> list[Any]:
        """Return pymatgen entries of all structures with an oracle energy, and of the phases.

        Parameters
        ----------
        within
            Greatest height above the hull, eV/atom; None for all.

        Returns
        -------
        list
            ``ComputedStructureEntry``, of a phase without structure ``ComputedEntry``; the key is
            the ``entry_id``.
        """
        from pymatgen.core import Composition
        from pymatgen.entries.computed_entries import ComputedEntry

        found = [one.computed_entry() for one in self.selected(within=within)]
        for key, phase in zip(self._phases.keys, self._phases.phases, strict=True):
            if phase.atoms is None:
                energy = phase.energy * Composition(phase.formula).num_atoms
                found.append(ComputedEntry(phase.formula, energy, entry_id=key))
        return found

    def phase_diagram(self) -> Any:
        """Return the ``PhaseDiagram`` of pymatgen, of all oracle energies and competing phases.

        Where the elements have no energies of their own (nitrides, oxides) it is a
        ``CompoundPhaseDiagram`` between the end members.
        """
        from pymatgen.analysis.phase_diagram import CompoundPhaseDiagram, PhaseDiagram
        from pymatgen.core import Composition

        entries = self.entries()
        pure = {str(e.composition.elements[0]) for e in entries if len(e.composition.elements) == 1}
        if pure >= {str(element) for e in entries for element in e.composition.elements}:
            return PhaseDiagram(entries)
        hull = self.lower_hull
        formulas = [self._hull_names[i] for i in hull.end_members.tolist()]
        ends = [Composition(formula) for formula in formulas]
        if len(ends) != hull.dimension + 1:
            raise InputError(
                f"the {len(ends)} end members {', '.join(formulas)} do not span a simplex, which "
                "diagrams of pymatgen need; add competing phases of the elements"
            )
        return CompoundPhaseDiagram(entries, ends)

    @cached_property
    def lower_hull(self) -> Hull:
        """The hull of all oracle energies and competing phases; see `Hull`."""
        from latticesearch.campaign.competing import hull_with_phases

        table = self._known
        x = table[[f"x_{symbol}" for symbol in self.elements]].to_numpy(dtype="float64")
        return hull_with_phases(x, table["oracle_energy"].to_numpy(), self._phases)

    @property
    def _known(self) -> pd.DataFrame:
        """The candidates with an oracle energy; small cells first, which win ties."""
        known = self.candidates[self.candidates["oracle_energy"].notna()]
        return known.sort_values("n_atoms", kind="stable")

    @property
    def _hull_names(self) -> list[str]:
        """Formulas of the points of `lower_hull`."""
        return [*self._known["formula"], *(phase.formula for phase in self._phases.phases)]

    def decomposition(self, composition: Sequence[float]) -> dict[str, float]:
        """Return what a composition falls into.

        Parameters
        ----------
        composition
            (n_elements,) atomic fractions.

        Returns
        -------
        dict
            Fractions of the atoms by formula.
        """
        indices, weights = self.lower_hull.decomposition(composition)
        names = self._hull_names
        return {names[i]: float(w) for i, w in zip(indices.tolist(), weights, strict=True)}

    def predict(self, *structures: Atoms | str | os.PathLike[str]) -> pd.DataFrame:
        """Return what the potential says of structures; as the verb ``predict``.

        Parameters
        ----------
        *structures
            ASE's atoms, or files of structures.
        """
        from latticesearch.campaign.prediction import frames_of, predict

        frames = [frame for one in structures for frame in frames_of(one)]
        return predict(self._directory, frames)

    def next(self, n: int = 10) -> pd.DataFrame:
        """Return the candidates to compute next: first what is predicted lowest above the hull.

        Where the run has ranked them itself (column ``next``) it is its own order.

        Parameters
        ----------
        n
            How many.
        """
        table = self.candidates
        asked = table["key"].isin(set(self._results))
        left = table[table["oracle_energy"].isna() & ~asked]
        if "next" in left and (left["next"].fillna(0) > 0).any():
            return left[left["next"] > 0].sort_values("next").head(n)
        return left.sort_values(["energy_above_hull", "key"]).head(n)

    def plot(self) -> Figure:
        """Return the figure of the hull, as in the report.

        Raises
        ------
        InputError
            There is nothing to draw yet.
        """
        from latticesearch.report.figures import draw_figures

        figures = draw_figures(self.candidates, self.hull, [])
        if "hull" not in figures:
            raise self._nothing("hull that could be drawn")
        return figures["hull"]

    def export(
        self,
        form: str,
        folder: str | os.PathLike[str],
        *,
        cell: Cell | None = None,
        **selection: Any,
    ) -> list[Path]:
        """Write structures to files.

        Parameters
        ----------
        form
            "cif", "poscar", "extxyz", "lammps", "espresso" or "json".
        folder
            Where to.
        cell
            "primitive" or "conventional"; default the cell that was computed.
        **selection
            As for `selected`.

        Returns
        -------
        list of Path
            The files.
        """
        from latticesearch.results.formats import write_entries

        return write_entries(self.selected(**selection), Path(folder), form, self.elements, cell)

    @cached_property
    def _phases(self) -> CompetingPhases:
        return factories.phases(self.settings, self.parent)

    @cached_property
    def _results(self) -> dict[str, StoredResult]:
        """What is known by key; the run's own energies before those of others."""
        return results_of_run(self._directory)

    def _nothing(self, what: str) -> InputError:
        return InputError(f"{self.path} has no {what} yet; see latticesearch status {self.path}")
