"""The joint hull of campaigns on several parent lattices: bcc, fcc and hcp, say.

A campaign says what is stable on its own lattice. Energies of the same method may be compared
across lattices, so all computed structures of all runs make one hull, in which the lowest of each
element, on whatever lattice, sets the zero. Structures that relaxed away from their lattice take
part, too: their energies are as good as the others'.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from latticesearch.campaign import factories
from latticesearch.campaign.competing import CompetingPhases, Phase
from latticesearch.campaign.damage import require_sound
from latticesearch.campaign.known import energies_of_run, results_of_run, settings_of_run
from latticesearch.campaign.reuse import method_of_run
from latticesearch.campaign.sources import COMPETING
from latticesearch.campaign.tables import COARSE, NEAR_STABLE, cif_names, space_group
from latticesearch.errors import InputError
from latticesearch.hull import Hull, corners
from latticesearch.lattice import Configuration
from latticesearch.lattice.labelings import reduced_formula
from latticesearch.lattice.parent import VACANCY
from latticesearch.learning import CandidateSet
from latticesearch.report import write_report
from latticesearch.report.tables import is_stable
from latticesearch.storage import RunDirectory, is_run_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt
    from ase import Atoms

    from latticesearch.lattice import ParentLattice
    from latticesearch.oracles import Method, OracleResult

    Floats = npt.NDArray[np.float64]

LEFT: Final = "left {}"
"""In the column of lattices: a structure that relaxed away from that one."""


@dataclass(frozen=True, eq=False)
class LatticeRun:
    """What a joint hull takes from one run.

    Parameters
    ----------
    path
        The run directory.
    lattice
        Name of the parent lattice.
    parent
        The parent lattice.
    method
        How its energies were computed, without the lattice.
    table
        Its candidates; energies of the oracle in ``oracle_energy``, eV/atom.
    answers
        The oracle's results by key.
    is_finished
        Nothing is left to do in this run.
    """

    path: Path
    lattice: str
    parent: ParentLattice
    method: Method
    table: pd.DataFrame
    answers: dict[str, OracleResult]
    is_finished: bool

    @classmethod
    def read(cls, path: Path) -> LatticeRun:
        """Read a run.

        Raises
        ------
        InputError
            There is none, or it has no energies yet.
        """
        directory = RunDirectory.read(path)
        require_sound(directory)
        settings = settings_of_run(directory)
        parent = factories.parent_lattice(settings)
        table = directory.read_candidates()
        if table is None:
            table = _table_of_answers(directory, parent)
        if not table["oracle_energy"].notna().any():
            raise InputError(f"{path} has no energies yet; see latticesearch status {path}")
        answers = {key: stored.result for key, stored in results_of_run(directory).items()}
        name = settings.lattice.prototype or Path(str(settings.lattice.file)).stem
        finished = _is_finished(directory)
        method = method_of_run(directory, parent).without_lattice()
        return cls(path, name, parent, method, table, answers, finished)

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols of its species without the vacancy."""
        return tuple(symbol for symbol in self.parent.species if symbol != VACANCY)

    @property
    def strays(self) -> list[tuple[str, OracleResult]]:
        """Keys and results of structures that relaxed away from the lattice."""
        return [
            (key, answer)
            for key, answer in self.answers.items()
            if answer.status == "done" and not answer.on_lattice and answer.converged
        ]


@dataclass(frozen=True, eq=False)
class JointHull:
    """The joint hull of several runs.

    Parameters
    ----------
    candidates
        The runs' candidates and all phases: columns of candidates.parquet, ``lattice`` and ``run``.
    hull
        The stable and nearly stable ones: columns of hull.csv, ``lattice`` and ``run``.
    stable
        File names and relaxed structures of the stable ones.
    notes
        What a reader has to know: what the energies refer to, and which runs are not finished.
    """

    candidates: pd.DataFrame
    hull: pd.DataFrame
    stable: dict[str, Atoms]
    notes: list[str]


def joint_hull(runs: Sequence[LatticeRun], phases: CompetingPhases | None = None) -> JointHull:
    """Make one hull of the computed structures of several runs.

    Parameters
    ----------
    runs
        Runs of one method, with one element in common at least. Their elements may differ: a
        binary is a part of a ternary.
    phases
        Further phases, over `elements_of` the runs.

    Raises
    ------
    InputError
        The methods differ, or the runs have nothing in common.
    """
    _require_one_method(runs)
    _require_common_elements(runs)
    elements = elements_of(runs)
    others = CompetingPhases(elements, list(phases.phases) if phases else [])
    lattices = [COMPETING] * len(others)
    for run in runs:
        for key, answer in run.strays:
            others.phases.append(_stray(key, answer, elements, run.path))
            lattices.append(LEFT.format(run.lattice))
    parts = [_rows_of(run, elements) for run in runs]
    if others:
        parts.append(_rows_of_phases(others, lattices))
    table = pd.concat(parts, ignore_index=True)
    hull, points = _hull_of(table, elements)
    table = _judged(table, hull, points, elements)
    near, stable = _near(table, runs, others)
    notes = [_zero_note(hull, elements), *_unfinished(runs)]
    return JointHull(table.drop(columns=["depth", "phase"]), near, stable, notes)


def write_joint_hull(joint: JointHull, runs: Sequence[LatticeRun], output: Path) -> None:
    """Write tables, structures, figures and report of a joint hull.

    Raises
    ------
    InputError
        `output` is the directory of a run, or cannot be written.
    """
    if is_run_directory(output):
        raise InputError(f"{output} is the directory of a run; choose another one with --output")
    with RunDirectory.create(output) as directory:
        directory.write_candidates(joint.candidates)
        directory.write_hull(joint.hull, joint.stable)
        directory.write_report(*_report(joint, runs, output.name))


def elements_of(runs: Iterable[LatticeRun]) -> tuple[str, ...]:
    """Return all elements of runs, in the order in which they come."""
    return tuple(dict.fromkeys(symbol for run in runs for symbol in run.elements))


def _require_one_method(runs: Sequence[LatticeRun]) -> None:
    """Refuse runs whose energies cannot be compared."""
    first = runs[0]
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise InputError("a run is named twice; name each once")
    for other in runs[1:]:
        if found := first.method.differences(other.method):
            raise InputError(
                f"{first.path} and {other.path} were computed in different ways, so their "
                f"energies cannot be compared: {found[0]}"
            )


def _require_common_elements(runs: Sequence[LatticeRun]) -> None:
    """Refuse runs that are not linked by common elements: their hulls have nothing to say."""
    linked, rest = set(runs[0].elements), list(runs[1:])
    while rest:
        near = [run for run in rest if linked & set(run.elements)]
        if not near:
            raise InputError(
                f"{rest[0].path} ({', '.join(rest[0].elements)}) has no element in common with "
                f"{runs[0].path} ({', '.join(runs[0].elements)})"
            )
        rest = [run for run in rest if run not in near]
        linked.update(*(run.elements for run in near))


def _is_finished(directory: RunDirectory) -> bool:
    """Tell whether a run has come to its end and was not taken up again since."""
    marks = [e["event"] for e in directory.events() if e["event"] in {"start", "resume", "end"}]
    return marks[-1:] == ["end"]


def _table_of_answers(directory: RunDirectory, parent: ParentLattice) -> pd.DataFrame:
    """Return the table of a run that was stopped before it wrote its own."""
    known = energies_of_run(directory).per_atom
    candidates = CandidateSet(parent)
    found = (Configuration.from_key(parent, key) for key in known)
    candidates.add_configurations(found, "oracle")
    x = candidates.compositions
    energies = [known[key] for key in candidates.keys]
    return pd.DataFrame(
        {
            "key": candidates.keys,
            **{f"x_{s}": x[:, i] for i, s in enumerate(candidates.elements)},
            "n_atoms": candidates.n_atoms,
            "hnf": candidates.hnfs,
            "labels": candidates.labels,
            "energy": energies,
            "oracle_energy": energies,
            "grade": np.nan,
            "round": candidates.rounds,
            "source": candidates.sources,
        }
    )


def _rows_of(run: LatticeRun, elements: Sequence[str]) -> pd.DataFrame:
    """Return the candidates of a run over all elements."""
    table = run.table.drop(columns=[c for c in run.table.columns if c.startswith("x_")])
    for symbol in elements:
        table[f"x_{symbol}"] = run.table.get(f"x_{symbol}", 0.0)
    x = table[[f"x_{s}" for s in elements]].to_numpy()
    counts = np.rint(x * table["n_atoms"].to_numpy()[:, None]).astype(int)
    formulas = [reduced_formula(elements, row) for row in counts.tolist()]
    return table.assign(formula=formulas, lattice=run.lattice, run=str(run.path), phase=-1)


def _rows_of_phases(phases: CompetingPhases, lattices: Sequence[str]) -> pd.DataFrame:
    """Return one row per phase, ``phase`` its position among them."""
    x = phases.compositions
    n_atoms = [0 if phase.atoms is None else len(phase.atoms) for phase in phases.phases]
    return pd.DataFrame(
        {
            "key": [phase.name for phase in phases.phases],
            "formula": [phase.formula for phase in phases.phases],
            **{f"x_{s}": x[:, i] for i, s in enumerate(phases.elements)},
            "n_atoms": np.array(n_atoms, dtype=np.int64),
            "hnf": [[] for _ in n_atoms],
            "labels": [[] for _ in n_atoms],
            "energy": phases.energies,
            "oracle_energy": phases.energies,
            "grade": np.nan,
            "round": np.zeros(len(n_atoms), dtype=np.int64),
            "source": COMPETING,
            "lattice": list(lattices),
            "run": [phase.origin.rpartition("#")[0] for phase in phases.phases],
            "phase": np.arange(len(n_atoms)),
        }
    )


def _stray(key: str, answer: OracleResult, elements: Sequence[str], path: Path) -> Phase:
    """Return a structure that left its lattice as a phase."""
    assert answer.atoms is not None
    assert answer.energy is not None
    symbols = answer.atoms.get_chemical_symbols()
    counts = [symbols.count(symbol) for symbol in elements]
    x = np.array(counts) / len(symbols)
    energy = answer.energy / len(symbols)
    return Phase(key, reduced_formula(elements, counts), x, energy, answer.atoms, f"{path}#{key}")


def _hull_of(table: pd.DataFrame, elements: Sequence[str]) -> tuple[Hull, npt.NDArray[np.intp]]:
    """Return the hull of all computed rows, and which rows these are."""
    energies = table["oracle_energy"].to_numpy(dtype=np.float64)
    points = np.flatnonzero(np.isfinite(energies))
    x = table[[f"x_{s}" for s in elements]].to_numpy(dtype=np.float64)
    x = x[points]
    return Hull(x, energies[points], end_members=corners(x)), points


def _judged(
    table: pd.DataFrame, hull: Hull, points: npt.NDArray[np.intp], elements: Sequence[str]
) -> pd.DataFrame:
    """Return the table with formation energies, heights above the hull and depths, eV/atom."""
    x = table[[f"x_{s}" for s in elements]].to_numpy(dtype=np.float64)
    energies = table["energy"].to_numpy(dtype=np.float64)
    formation, above, depths = np.full((3, len(table)), np.nan)
    # A run that is not finished may lack an end member that its candidates need.
    inside = hull.covers(x)
    formation[inside] = hull.formation_energy(x[inside], energies[inside])
    above[inside] = hull.energy_above_hull(x[inside], energies[inside])
    above[points] = hull.energies_above_hull
    depths[points[hull.vertices]] = hull.depths
    return table.assign(formation_energy=formation, energy_above_hull=above, depth=depths)


def _near(
    table: pd.DataFrame, runs: Sequence[LatticeRun], phases: CompetingPhases
) -> tuple[pd.DataFrame, dict[str, Atoms]]:
    """Return the stable and nearly stable rows, sorted, and the relaxed stable structures."""
    fractions = [str(c) for c in table.columns if c.startswith("x_")]
    is_near = table["oracle_energy"].notna() & (table["energy_above_hull"] <= NEAR_STABLE)
    near = table[is_near].assign(is_stable=table["depth"].notna())
    near = near.sort_values(
        ["is_stable", *fractions, "energy_above_hull", "lattice", "key"],
        ascending=[False, *[False] * len(fractions), True, True, True],
    ).reset_index(drop=True)
    by_path = {str(run.path): run for run in runs}
    shapes = [_shape(row, by_path, phases) for row in near.to_dict("records")]
    names = cif_names(near, [group or "unknown" for group, _ in shapes])
    files = [
        f"stable/{name}" if name and atoms is not None else ""
        for name, (_, atoms) in zip(names, shapes, strict=True)
    ]
    stable = {
        Path(file).name: atoms
        for file, (_, atoms) in zip(files, shapes, strict=True)
        if file and atoms is not None
    }
    hull = near.assign(
        space_group=[group for group, _ in shapes],
        cif=files,
        depth=near["depth"].replace(np.inf, np.nan),
    )
    order = ["formula", "n_atoms", "space_group", "formation_energy", "energy_above_hull"]
    return hull[[*order, *fractions, "key", "cif", "depth", "lattice", "run"]], stable


def _shape(
    row: dict[Any, Any], runs: dict[str, LatticeRun], phases: CompetingPhases
) -> tuple[str, Atoms | None]:
    """Return space group and relaxed structure of a row; nothing where there is no structure."""
    if row["phase"] >= 0:
        atoms = phases.phases[row["phase"]].atoms
        return ("", None) if atoms is None else (space_group(atoms, COARSE), atoms)
    run = runs[row["run"]]
    ideal = Configuration.from_key(run.parent, row["key"]).to_atoms()
    answer = run.answers.get(row["key"])
    relaxed = ideal if answer is None or answer.atoms is None else answer.atoms
    return space_group(ideal), relaxed


def _zero_note(hull: Hull, elements: Sequence[str]) -> str:
    """Say what formation energies refer to."""
    pure = hull.compositions[hull.end_members].max(axis=1) > 1.0 - 1e-6
    if len(pure) == len(elements) and pure.all():
        return "formation energies relative to the lowest computed structure of each element"
    return "formation energies relative to the corners of the computed compositions"


def _unfinished(runs: Iterable[LatticeRun]) -> list[str]:
    return [
        f"provisional: {run.path} is not finished; latticesearch run {run.path} goes on"
        for run in runs
        if not run.is_finished
    ]


def _report(
    joint: JointHull, runs: Sequence[LatticeRun], name: str
) -> tuple[str, dict[str, bytes]]:
    """Return report and figures of a joint hull."""
    summary = {
        "name": f"{name} (provisional)" if len(joint.notes) > 1 else name,
        "stable": int(is_stable(joint.hull).sum()),
        "candidates": len(joint.candidates),
    }
    settings = {
        "joint hull": {"runs": [str(run.path) for run in runs], "notes": joint.notes},
        "method": dict(runs[0].method.record),
    }
    drawn = joint.candidates.drop(columns=["predicted_energy"], errors="ignore")
    return write_report(drawn, joint.hull, summary, [], [], settings)
