"""The verb `enumerate`: all distinct structures of a campaign's sizes, as tables or files."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.cli.run import add_campaign
from latticesearch.errors import InputError
from latticesearch.parallel import on_root
from latticesearch.progress import NoProgress, StreamProgress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from latticesearch.campaign.settings import Settings
    from latticesearch.lattice import Labelings
    from latticesearch.parallel import Communicator

log = logging.getLogger(__name__)

FORMATS = {"poscar": ("vasp", ".vasp"), "cif": ("cif", ".cif"), "extxyz": ("extxyz", ".xyz")}
"""Structure formats: their names in ASE and their file endings."""


HOLD_NOTHING = {"extxyz"}
"""Formats that can hold a cell without atoms."""

OUR_FILES = re.compile(r"part-\d{4}\.(parquet|unfinished)|\d+-\d{7}-s[\w.-]+\.(vasp|cif|xyz)")
"""Names of the files that this verb writes."""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("enumerate", help="write all symmetry-distinct structures")
    parser.set_defaults(function=write_all)
    add_campaign(parser)
    parser.add_argument(
        "--format",
        choices=["parquet", *FORMATS],
        default="parquet",
        help="one table per rank (default), or one file per structure",
    )


def write_all(options: argparse.Namespace, comm: Communicator) -> int:
    """Write the structures; each rank its share, compared with the exact number at the end."""
    from latticesearch.campaign import factories
    from latticesearch.campaign.settings import read_settings
    from latticesearch.campaign.space import candidate_space

    settings = read_settings(Path(options.config), options.overrides, needs_oracle=False)
    parent = factories.parent_lattice(settings)
    space = candidate_space(settings, parent)
    expected = space.n_possible
    target = _target(options, settings)
    on_root(comm, _make_room, target)
    log.info("%d structures to write to %s", expected, target)
    progress = StreamProgress() if comm.rank == 0 else NoProgress()
    batches = space.labelings(space.sizes, comm, progress)
    if options.format == "parquet":
        written = _write_table(batches, target / f"part-{comm.rank:04d}.parquet"), 0
    else:
        written = _write_files(batches, target, options.format, comm.rank)
    counts, empty = zip(*comm.allgather(written), strict=True)
    if sum(counts) != expected:
        raise RuntimeError(
            f"internal error: wrote {sum(counts)} structures, but there are {expected} "
            "by Burnside's lemma; please report this"
        )
    if sum(empty):
        log.warning("no file for %d structure(s) with a vacancy on every site", sum(empty))
    if comm.rank == 0:
        sys.stdout.write(f"wrote {sum(counts)} structures to {target}")
        share = max(counts) * len(counts) / max(1, sum(counts))
        sys.stdout.write(f"; largest share {share:.2f} of the mean\n" if comm.size > 1 else "\n")
    return 0


def _make_room(target: Path) -> None:
    """Make the folder; take out what this verb wrote there before, perhaps on more ranks.

    Raises
    ------
    InputError
        The folder cannot be made or changed.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        old = [path for path in target.iterdir() if OUR_FILES.fullmatch(path.name)]
        for path in old:
            path.unlink()
    except OSError as error:
        raise InputError(f"cannot write to {target}: {error.strerror}") from error
    if old:
        log.info("removed %d files of an earlier enumeration from %s", len(old), target)


def _target(options: argparse.Namespace, settings: Settings) -> Path:
    if options.output:
        return Path(options.output)
    return Path("runs") / settings.campaign.name / "structures"


def _write_table(batches: Iterable[Labelings], path: Path) -> int:
    """Write key, formula, supercell and labels of each structure; return the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [
        ("key", pa.string()),
        ("formula", pa.string()),
        ("n_sites", pa.int32()),
        ("hnf", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int8())),
    ]
    schema = pa.schema(columns)
    written = 0
    # The file gets its name when it is whole.
    unfinished = path.with_suffix(".unfinished")
    with pq.ParquetWriter(unfinished, schema) as writer:
        for batch in batches:
            n = len(batch)
            hnf = batch.supercell.hnf.reshape(-1).tolist()
            values = [
                batch.keys(),
                [configuration.formula for configuration in batch],
                [batch.supercell.n_sites] * n,
                [hnf] * n,
                batch.labels.tolist(),
            ]
            writer.write_table(
                pa.table(
                    {
                        name: pa.array(column, kind)
                        for (name, kind), column in zip(columns, values, strict=True)
                    },
                    schema=schema,
                )
            )
            written += n
    unfinished.replace(path)
    return written


def _write_files(
    batches: Iterable[Labelings], target: Path, kind: str, rank: int
) -> tuple[int, int]:
    """Write one file per structure, named by rank, number and key.

    Returns the number of structures, and how many of them have no atoms and so no file.

    In a given supercell several labelings may be one crystal in different orientations, so the
    key alone is no name.
    """
    from ase.io import write

    number = empty = 0
    name, ending = FORMATS[kind]
    options: dict[str, Any] = {"sort": True, "direct": True} if kind == "poscar" else {}
    for batch in batches:
        for key, configuration in zip(batch.keys(), batch, strict=True):
            path = target / f"{rank}-{number:07d}-{key}{ending}"
            if configuration.n_atoms or kind in HOLD_NOTHING:
                # Under MPI ase.io would write on one rank only.
                write(path, configuration.to_atoms(), format=name, parallel=False, **options)
            else:
                empty += 1
            number += 1
    return number, empty
