"""The verb `enumerate`: all distinct structures of a campaign's sizes, as tables or files."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.cli.run import add_campaign

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from latticesearch.lattice import Labelings
    from latticesearch.parallel import Communicator
    from latticesearch.settings import Settings

FORMATS = {"poscar": ("vasp", ".vasp"), "cif": ("cif", ".cif"), "extxyz": ("extxyz", ".xyz")}
"""Structure formats: their names in ASE and their file endings."""


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
    from latticesearch import build
    from latticesearch.enumeration import enumerate_labelings
    from latticesearch.settings import read_settings

    settings = read_settings(Path(options.config), options.overrides)
    parent = build.parent_lattice(settings)
    plan = build.candidate_plan(settings, parent)
    composition = settings.candidates.composition or None
    if plan.supercell is not None:
        rules: dict[str, Any] = {"supercell": plan.supercell, "superperiodic": True}
        sizes = [rules]
    else:
        counts = {**plan.exhaustive, **plan.greedy}
        sizes = [{"min_index": n, "max_index": n} for n in sorted(counts) if counts[n]]
    batches = chain.from_iterable(
        enumerate_labelings(parent, composition=composition, comm=comm, **size) for size in sizes
    )
    target = _target(options, settings)
    target.mkdir(parents=True, exist_ok=True)
    if options.format == "parquet":
        written = _write_table(batches, target / f"part-{comm.rank:04d}.parquet")
    else:
        written = _write_files(batches, target, options.format, comm.rank)
    shares = comm.allgather(written)
    expected = plan.n_possible
    if sum(shares) != expected:
        raise RuntimeError(
            f"internal error: wrote {sum(shares)} structures, but there are {expected} "
            "by Burnside's lemma; please report this"
        )
    if comm.rank == 0:
        imbalance = max(shares) * len(shares) / max(1, sum(shares))
        sys.stdout.write(f"wrote {sum(shares)} structures to {target}")
        sys.stdout.write(
            f"; largest share {imbalance:.2f} of the mean\n" if comm.size > 1 else "\n"
        )
    return 0


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


def _write_files(batches: Iterable[Labelings], target: Path, kind: str, rank: int) -> int:
    """Write one file per structure, named by rank, number and key; return how many.

    In a given supercell several labelings may be one crystal in different orientations, so the
    key alone is no name.
    """
    from ase.io import write

    written = 0
    name, ending = FORMATS[kind]
    options: dict[str, Any] = {"sort": True, "direct": True} if kind == "poscar" else {}
    for batch in batches:
        for key, configuration in zip(batch.keys(), batch, strict=True):
            path = target / f"{rank}-{written:07d}-{key}{ending}"
            write(path, configuration.to_atoms(), format=name, **options)
            written += 1
    return written
