"""The verb `bench`: the README's tables, measured again on this machine."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from latticesearch.parallel import Communicator

    Row = dict[str, Any]

PARTS = ("recall", "large", "time", "throughput", "screening")

MODELS = ("fitted-8", "fitted-12", "published", *(f"frustrated-{seed}" for seed in range(1, 6)))

SCREENED = ((2, 12), (2, 16), (3, 9), (3, 10), (4, 8), (4, 9))
"""Species and sites of the cells whose labelings are all evaluated; see `screening`."""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("bench", help="measure searches against brute force and annealing")
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    parser = kinds.add_parser("search", help="recall, large cells, throughput, screening")
    parser.set_defaults(function=bench_search)
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated: %(default)s")
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated: %(default)s")
    parser.add_argument("--sites", default="54,64,128", help="sizes of large cells")
    parser.add_argument("--budgets", default="5000,25000,100000", help="energies per large cell")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="runs per large cell")
    parser.add_argument(
        "--least", type=float, default=0.05, metavar="S", help="shortest equal time, seconds"
    )
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    parser = kinds.add_parser("enumeration", help="energies of all ordered structures of an alloy")
    parser.set_defaults(function=bench_enumeration)
    parser.add_argument("--species", default="V,Nb,Mo,Ta,W", help="comma-separated: %(default)s")
    parser.add_argument("--max-sites", type=int, default=12, metavar="N", help="of bcc cells")
    parser.add_argument("--level", type=int, default=8, metavar="N", help="of the potential")
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    parser = kinds.add_parser(
        "learning", help="calculations until the hull of recorded data is right"
    )
    parser.set_defaults(function=bench_learning)
    parser.add_argument("--data", required=True, metavar="FILE", help="frames with energies")
    parser.add_argument("--system", required=True, metavar="A-B", help="elements, e.g. Mo-Ta")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="starts: %(default)s")
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="calculations per round")
    parser.add_argument("--budget", type=int, default=150, metavar="N", help="calculations at most")
    parser.add_argument(
        "--tolerance", type=float, default=0.001, metavar="E", help="of the hull, eV/atom"
    )
    parser.add_argument("--lattice", metavar="NAME", help="prototype; default the one that fits")
    parser.add_argument(
        "--select", action="append", default=[], metavar="NAME=VALUE", help="frames that count"
    )
    parser.add_argument(
        "--reference", action="append", default=[], metavar="EL=E", help="pure element, eV/atom"
    )
    parser.add_argument("--json", action="store_true", help="answer as JSON")


def bench_learning(options: argparse.Namespace, comm: Communicator) -> int:
    """Measure how many recorded calculations a campaign needs."""
    from latticesearch.bench.learning import measure, record_of

    species = tuple(options.system.split("-"))
    if len(species) < 2 or min(options.seeds, options.batch, options.budget) < 1:
        raise InputError(
            f"--system {options.system} --seeds {options.seeds} --batch {options.batch} --budget "
            f"{options.budget}: give two elements or more, and numbers of one or more"
        )
    if comm.rank != 0:
        return 0
    references = {name: _number(name, text) for name, text in _pairs(options.reference)}
    select = dict(_pairs(options.select))
    record = record_of(Path(options.data), species, options.lattice, select, references)
    row = {
        "system": options.system,
        **measure(record, options.seeds, options.batch, options.budget, options.tolerance),
    }
    sys.stdout.write((json.dumps(row) if options.json else _rows_of_text(row)) + "\n")
    return 0


def _pairs(given: list[str]) -> list[tuple[str, str]]:
    """Return names and values of words such as "group=MoTa_SS"."""
    for text in given:
        if "=" not in text:
            raise InputError(f"{text!r} is no name with a value: write NAME=VALUE")
    return [(name, value) for name, _, value in (text.partition("=") for text in given)]


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--reference {name}={text}: an energy in eV/atom is needed") from None


def _rows_of_text(row: Row) -> str:
    """Return a measurement for people: a line for what is a number, a line per table."""
    tables = {name: value for name, value in row.items() if isinstance(value, dict)}
    numbers = {name: value for name, value in row.items() if name not in tables}
    lines = [_line(numbers), *(f"{name}: {_line(table)}" for name, table in tables.items())]
    return "\n".join(lines)


def bench_enumeration(options: argparse.Namespace, comm: Communicator) -> int:
    """Measure the enumeration of a whole alloy with energies."""
    from latticesearch.bench.enumeration import enumerate_everything

    species = tuple(options.species.split(","))
    if len(species) < 2 or options.max_sites < 1:
        raise InputError(
            f"--species {options.species} --max-sites {options.max_sites}: give two species or "
            "more and one site or more"
        )
    row = enumerate_everything(species, options.max_sites, options.level, comm)
    if comm.rank == 0:
        sys.stdout.write((json.dumps(row) if options.json else _line(row)) + "\n")
    return 0


def bench_search(options: argparse.Namespace, comm: Communicator) -> int:
    """Measure what is asked for; models whose data are not here are skipped with the reason."""
    parts, models = options.parts.split(","), options.models.split(",")
    for given, known in ((parts, PARTS), (models, MODELS)):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise InputError(f"{unknown[0]!r} is unknown; known are {', '.join(known)}")
    if not options.least > 0.0:
        raise InputError(
            f"--least is {options.least:g} s, but a search needs some time: give more than 0"
        )
    answer: Row = {"skipped": {}}
    for part in parts:
        if part == "throughput":
            from latticesearch.bench.search import throughput

            answer[part] = throughput(comm)
        elif comm.rank == 0:
            answer[part] = _measure(part, models, options, answer["skipped"])
    if comm.rank == 0:
        sys.stdout.write(json.dumps(answer) + "\n" if options.json else _text(answer))
    return 0


def _measure(part: str, models: list[str], options: argparse.Namespace, skipped: Row) -> Any:
    """Return the rows of one part."""
    from latticesearch.bench import search
    from latticesearch.bench.models import MissingDataError

    if part == "screening":
        cells = [(n, range(size, size + 1)) for n, size in SCREENED] + [(2, range(8, 13))]
        return [search.screening(*cell, lattice) for cell in cells for lattice in ("bcc", "fcc")]
    rows: list[Row] = []
    for model in models:
        try:
            rows += _rows_of(part, model, options)
        except MissingDataError as error:
            skipped[model] = str(error)
    if part == "recall":
        return rows
    return {"runs": rows, "summary": search.summary(rows)}


def _rows_of(part: str, model: str, options: argparse.Namespace) -> list[Row]:
    """Return the rows of one model."""
    from latticesearch.bench import search

    if part == "recall":
        rows = []
        for lattice in ("bcc", "fcc"):
            for n_species, max_sites, share in search.RECALL:
                rows.append(search.recall(model, lattice, n_species, max_sites, share))
                _say(rows[-1])
        return rows
    budgets = tuple(int(number) for number in options.budgets.split(","))
    contest: Callable[..., list[Row]] = search.large_cell
    if part == "time":
        contest = partial(search.equal_time, least=options.least)
    rows = []
    for n_sites in (int(number) for number in options.sites.split(",")):
        for kind in search.COMPOSITIONS:
            found = contest(model, n_sites, kind, budgets, range(options.seeds))
            rows += found
            for line in search.summary(found):
                _say({"model": model, "sites": n_sites, "composition": kind, **line})
    return rows


def _say(row: Row) -> None:
    """Show on stderr how far the measurement is."""
    sys.stderr.write(_line(row) + "\n")


def _line(row: Row) -> str:
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.items()
    )


def _text(answer: Row) -> str:
    """Return the answer for people, a line per row."""
    lines = []
    for part, found in answer.items():
        rows = found["summary"] if part in ("large", "time") else found
        rows = rows if isinstance(rows, list) else [rows]
        lines += [part, *(f"  {_line(row)}" for row in rows if row)]
    return "\n".join(lines) + "\n"
