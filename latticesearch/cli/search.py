"""The verb `search`: low-energy structures under the potential of a run or a campaign file."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.cli.export import FORMATS
from latticesearch.cli.run import add_overrides
from latticesearch.errors import InputError
from latticesearch.progress import NoProgress, StreamProgress
from latticesearch.stopping import EXIT_STOPPED, StopRequest, asked_by_signals

if TYPE_CHECKING:
    import argparse

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from latticesearch.campaign.settings import Settings
    from latticesearch.hull import Hull
    from latticesearch.lattice import ParentLattice
    from latticesearch.parallel import Communicator
    from latticesearch.potential import Potential
    from latticesearch.search import CandidatePool
    from latticesearch.storage import RunDirectory

log = logging.getLogger(__name__)

NUMBERS = (
    ("--max-sites", int, "N", "largest supercells, in sites (default as in the campaign)"),
    (
        "--shapes",
        int,
        "N",
        "supercells per size beyond enumeration: little skewed or commensurate",
    ),
    ("--budget", int, "N", "most energy evaluations"),
    ("--seconds", float, "S", "wall time after which what was found is returned"),
    ("--keep", int, "N", "candidates kept per composition"),
    ("--certify", int, "N", "prove the stable structures against all cells of up to N sites"),
    ("--seed", int, "N", "of chance (default as in the campaign)"),
    ("--window", float, "EV", "height above the hull up to which structures are listed, eV/atom"),
)


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("search", help="search low-energy structures under a potential")
    parser.set_defaults(function=run_search)
    parser.add_argument("source", metavar="RUN_OR_CONFIG", help="run directory or campaign file")
    add_overrides(parser)
    parser.add_argument("--potential", type=Path, metavar="FILE", help=".mtp file to use instead")
    parser.add_argument(
        "--supercell",
        action="append",
        metavar="MATRIX",
        help="a supercell instead of sizes, as JSON: [2,2,2] or three rows; may be repeated",
    )
    parser.add_argument("--method", default="auto", help="auto, enumerate, screening, ...")
    parser.add_argument("--mode", help="name of the method in earlier versions")
    for flag, kind, metavar, meaning in NUMBERS:
        parser.add_argument(flag, type=kind, metavar=metavar, help=meaning)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table as CSV")
    parser.add_argument(
        "--write", type=Path, metavar="DIR", help="write the structures of the table to files"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="poscar", help="of these files, default %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="answer as JSON")


def _matrix(text: str) -> list[Any]:
    """Return the matrix in JSON text."""
    try:
        matrix = json.loads(text)
    except json.JSONDecodeError:
        matrix = None
    if not isinstance(matrix, list):
        raise InputError(
            f"--supercell {text} is no matrix; write [2,2,2] or [[1,0,0],[0,2,0],[0,0,2]]"
        )
    return matrix


def run_search(options: argparse.Namespace, comm: Communicator) -> int:
    """Search; print the structures near the hull of what was found."""
    from latticesearch.parallel import collective_errors, on_root
    from latticesearch.search import search

    with collective_errors(comm):
        parent, potential, settings = _given(options)
    arguments: dict[str, Any] = {"method": options.method, "seed": settings["seed"]}
    if options.mode is not None:
        if options.method != "auto":
            raise InputError(f"--mode {options.mode} is the old name of --method: leave it out")
        arguments["method"] = _method_called(options.mode)
    given = [_matrix(text) for text in options.supercell or ()]
    if given or (settings["supercell"] is not None and options.max_sites is None):
        arguments["supercells"] = given or [settings["supercell"]]
    else:
        size = options.max_sites
        arguments["max_sites"] = settings["max_sites"] if size is None else size
    stop = StopRequest()
    with asked_by_signals(stop):
        pool = search(
            potential,
            parent,
            composition=settings["composition"],
            shapes=options.shapes,
            max_per_composition=options.keep or settings["keep"],
            budget=options.budget,
            seconds=options.seconds,
            certify=options.certify,
            progress=StreamProgress() if comm.rank == 0 else NoProgress(),
            stop=stop,
            comm=comm,
            **arguments,
        )
        on_root(comm, _finish, options, pool, settings)
    if stop:
        log.warning("stopped by %s before its end; this is what it had found", stop.reason)
        return EXIT_STOPPED
    return 0


def _finish(options: argparse.Namespace, pool: CandidatePool, settings: dict[str, Any]) -> None:
    """Print the table, and write it and its structures where that is asked for."""
    window = settings["window"] if options.window is None else options.window
    table = candidate_table(pool, window, settings["hull"])
    if options.certify is None:
        table = table.drop(columns="proven_gap")
    if options.write is not None:
        _write_structures(options, pool, table)
    _answer(options, pool, table)


def _write_structures(
    options: argparse.Namespace, pool: CandidatePool, table: pd.DataFrame
) -> None:
    """Write the structures of the table, on the parent lattice, to files."""
    from latticesearch.lattice import VACANCY
    from latticesearch.results import Entry, write_entries

    found = {c.key: c.configuration for c in pool.candidates}
    entries = []
    for row in table.to_dict("records"):
        key, atoms = row["key"], found[row["key"]].canonical().to_atoms()
        energy, above = row["energy"] * len(atoms), row["energy_above_hull"]
        entries.append(Entry(key, row["formula"], atoms, energy, above=above))
    elements = [symbol for symbol in pool.parent.species if symbol != VACANCY]
    files = write_entries(entries, options.write, options.format, elements)
    log.info("wrote %d structures to %s (%d files)", len(entries), options.write, len(files))


def _method_called(mode: str) -> str:
    """Return what a method is called now that had another name in earlier versions."""
    from latticesearch.search.driver import OLD_MODES

    if mode not in OLD_MODES:
        raise InputError(f"--mode {mode}: it must be one of {', '.join(OLD_MODES)}")
    log.warning("--mode %s is called --method %s now", mode, OLD_MODES[mode])
    return OLD_MODES[mode]


def _given(
    options: argparse.Namespace,
) -> tuple[ParentLattice, Potential, dict[str, Any]]:
    """Return the lattice, the potential and the campaign's defaults."""
    from latticesearch.campaign import factories
    from latticesearch.campaign.known import potential_of_run, settings_of_run
    from latticesearch.campaign.settings import read_settings
    from latticesearch.potential.registry import KINDS
    from latticesearch.storage import RunDirectory, is_run_directory

    source = Path(options.source)
    run = RunDirectory.read(source) if is_run_directory(source) else None
    settings = settings_of_run(run) if run else read_settings(source, options.overrides)
    parent = factories.parent_lattice(settings)
    kind, potential = factories.potential_kind(settings), None
    if options.potential is not None:
        potential = kind.read(options.potential, parent)
    elif run is not None:
        potential = potential_of_run(run, settings, parent)
    elif settings.potential.file is not None or kind.name not in KINDS:
        # What has to be trained first says nothing yet; one that others bring may know.
        potential = factories.start_potential(settings, parent)
    if potential is None:
        raise InputError(
            f"{source} has no potential: give --potential FILE, set potential.file, or name a run "
            "that has trained one"
        )
    candidates = settings.candidates
    return (
        parent,
        potential,
        {
            "seed": settings.campaign.seed if options.seed is None else options.seed,
            "max_sites": candidates.max_sites or _largest_listed(settings, parent),
            "supercell": factories.search_matrix(settings, parent),
            "composition": candidates.composition or None,
            "keep": settings.search.keep,
            "window": candidates.near_hull,
            "hull": None if run is None else known_hull(run, settings, parent),
        },
    )


def _largest_listed(settings: Settings, parent: ParentLattice) -> int | None:
    """Return the most sites of structures that are taken from another run; None if none are."""
    from latticesearch.campaign.space import candidate_space

    if settings.candidates.from_run is None:
        return None
    return max(candidate_space(settings, parent).sizes) * parent.n_basis


def known_hull(run: RunDirectory, settings: Settings, parent: ParentLattice) -> Hull | None:
    """Return the hull of the true energies of a run, None where it has none yet."""
    from latticesearch.campaign import factories
    from latticesearch.campaign.competing import hull_with_phases

    table = run.read_candidates()
    if table is None:
        return None
    known = table[table["oracle_energy"].notna()]
    x = known[[name for name in known.columns if name.startswith("x_")]].to_numpy()
    energies = known["oracle_energy"].to_numpy()
    return hull_with_phases(x, energies, factories.phases(settings, parent))


def candidate_table(pool: CandidatePool, window: float, hull: Hull | None = None) -> pd.DataFrame:
    """Return the candidates near a hull, the lowest above it first.

    Parameters
    ----------
    pool
        Result of a search.
    window
        Greatest height above the hull, eV per atom.
    hull
        Of true energies, such as those of a run; default that of the pool itself.

    Returns
    -------
    DataFrame
        formula, n_atoms, energy, energy_above_hull and proven_gap (eV/atom; the last but one
        negative where a prediction lies below true energies, NaN where the end members are not in
        the pool, the last where nothing is proven), source, found_in, evaluations, key.
    """
    import pandas as pd

    columns = {
        "formula": [c.configuration.formula for c in pool.candidates],
        "n_atoms": [c.configuration.n_atoms for c in pool.candidates],
        "energy": pool.energies,
        "energy_above_hull": pool.heights if hull is None else _heights(pool, hull),
        "proven_gap": pool.proven_gaps,
        "source": [c.source for c in pool.candidates],
        "found_in": [json.dumps(c.found_in.tolist()) for c in pool.candidates],
        "evaluations": [c.evaluations for c in pool.candidates],
        "key": [c.key for c in pool.candidates],
    }
    table = pd.DataFrame(columns)
    near = table[(table.n_atoms > 0) & ~(table.energy_above_hull > window)]
    return near.sort_values("energy_above_hull", kind="stable").reset_index(drop=True)


def _heights(pool: CandidatePool, hull: Hull) -> npt.NDArray[np.float64]:
    """Return the heights of a pool above the hull of a run, (n,) eV/atom; NaN without atoms."""
    import numpy as np

    x = np.array([c.configuration.atomic_fractions for c in pool.candidates])
    heights = np.full(len(x), np.nan)
    inside = np.isfinite(x).all(axis=1)
    inside[inside] = hull.covers(x[inside])
    heights[inside] = hull.energy_above_hull(x[inside], pool.energies[inside])
    return heights


def _answer(options: argparse.Namespace, pool: CandidatePool, table: pd.DataFrame) -> None:
    """Print the table, and write it where that is asked for."""
    if options.output is not None:
        from latticesearch.storage.atomic import write_text_atomic

        write_text_atomic(options.output, table.to_csv(index=False))
    if options.json:
        rows = json.loads(table.to_json(orient="records", double_precision=15))
        answer = {"evaluations": pool.evaluations, "candidates": len(pool), "structures": rows}
        sys.stdout.write(json.dumps(answer) + "\n")
        return
    sys.stdout.write(_text(table) + "\n")
    if options.certify is not None:
        sys.stdout.write(_proven(pool, options.certify) + "\n")
    sys.stdout.write(f"{len(pool)} candidates from {pool.evaluations} energy evaluations\n")


def _text(table: pd.DataFrame) -> str:
    """Return the table for people, units in the heads."""
    import pandas as pd

    def mev(values: pd.Series[float]) -> pd.Series[str]:
        # Adding zero takes the sign off what is rounded to nothing.
        return ((1000 * values).round(1) + 0.0).map("{:.1f}".format).replace("nan", "-")

    shown = {
        ("formula", ""): table["formula"],
        ("atoms", ""): table["n_atoms"],
        ("energy", "eV/atom"): table["energy"].map("{:.4f}".format),
        ("above hull", "meV/atom"): mev(table["energy_above_hull"]),
        **({("proven gap", "meV/atom"): mev(table["proven_gap"])} if "proven_gap" in table else {}),
        ("source", ""): table["source"],
        ("evaluations", ""): table["evaluations"],
        ("key", ""): table["key"],
    }
    return pd.DataFrame(shown).to_string(index=False)


def _proven(pool: CandidatePool, max_sites: int) -> str:
    """Say in one line what is proven of the stable structures."""
    import numpy as np

    gaps = pool.proven_gaps[pool.is_stable]
    proven, attempted = int((gaps == 0.0).sum()), gaps[np.isfinite(gaps)]
    line = (
        f"{proven} of {len(gaps)} stable structures are proven the lowest of their "
        f"composition in cells of up to {max_sites} sites"
    )
    if len(attempted) > proven:
        line += f", {len(attempted) - proven} to within {1000 * attempted.max():.2g} meV/atom"
    if len(gaps) > len(attempted):
        line += f"; {len(gaps) - len(attempted)} not attempted"
    return line
