"""The verb `oracle-test`: convergence of the energies, and what the campaign will cost."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.cli.run import add_campaign
from latticesearch.errors import InputError
from latticesearch.progress import StreamProgress
from latticesearch.stopping import StopRequest, stopping_in_order

if TYPE_CHECKING:
    import argparse

    from latticesearch.campaign.convergence import Convergence
    from latticesearch.campaign.settings import Settings
    from latticesearch.parallel import Communicator

TARGET = 1.0
"""meV/atom, by default: what most hulls need."""


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "oracle-test", help="convergence in cutoff and k-points, and what a campaign will cost"
    )
    parser.set_defaults(function=oracle_test)
    add_campaign(parser)
    parser.add_argument("--element", metavar="FORMULA", help="end member (default: the first)")
    parser.add_argument(
        "--compound",
        metavar="FORMULA_OR_KEY",
        help="default the smallest compound, of those the most symmetric",
    )
    parser.add_argument(
        "--cutoffs", metavar="LIST", help="eV, e.g. 300,400,500; of Elk values of rgkmax"
    )
    parser.add_argument("--kspacings", metavar="LIST", help="1/Å, e.g. 0.25,0.2,0.15")
    parser.add_argument(
        "--target",
        metavar="MEV",
        type=float,
        default=TARGET,
        help="error of formation energies that is good enough, meV/atom (default %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="answer as JSON")


def oracle_test(options: argparse.Namespace, comm: Communicator) -> int:
    """Compute an element and a compound with coarser and finer settings."""
    from latticesearch.campaign.settings import read_settings
    from latticesearch.parallel import on_root

    settings = read_settings(Path(options.config), options.overrides)
    stop = StopRequest()
    with stopping_in_order(
        stop, is_root=comm.rank == 0, grace=settings.oracle.grace, abort=comm.abort
    ):
        on_root(comm, _test, options, settings, comm.size, stop)
    return 0


def _test(options: argparse.Namespace, settings: Settings, workers: int, stop: StopRequest) -> None:
    from latticesearch.campaign.convergence import ConvergenceTest
    from latticesearch.report.convergence import convergence_png
    from latticesearch.storage import write_bytes_atomic, write_text_atomic

    name = f"{settings.campaign.name}-oracle-test"
    folder = Path(options.output) if options.output else Path("runs") / name
    test = ConvergenceTest(settings, folder, workers=workers, stop=stop, progress=StreamProgress())
    found = test.run(
        element=options.element,
        compound=options.compound,
        bases=_numbers("--cutoffs", options.cutoffs),
        kspacings=_numbers("--kspacings", options.kspacings),
    )
    write_text_atomic(folder / "convergence.csv", found.table.to_csv(index=False))
    png = convergence_png(found.table, found.element, found.compound, found.basis_name)
    write_bytes_atomic(folder / "convergence.png", png)
    sys.stdout.write(_json(found, folder) if options.json else _text(found, folder, options.target))


def _numbers(option: str, text: str | None) -> list[float]:
    """Return the numbers of a list.

    Raises
    ------
    InputError
        It is none, or one is not positive.
    """
    try:
        found = [float(one) for one in (text or "").split(",") if one.strip()]
    except ValueError as error:
        raise InputError(f"{option} {text}: write numbers with commas, e.g. 300,400") from error
    if any(not 0 < one < float("inf") for one in found):
        raise InputError(f"{option} {text}: the numbers have to be positive")
    return found


def _json(found: Convergence, folder: Path) -> str:
    rows = json.loads(found.table.to_json(orient="records", double_precision=15))
    cost = None if found.cost is None else vars(found.cost)
    answer = {"path": str(folder), "element": found.element, "compound": found.compound}
    return json.dumps({**answer, "rows": rows, "cost": cost}) + "\n"


def _text(found: Convergence, folder: Path, target: float) -> str:
    from latticesearch.report.convergence import convergence_text

    lines = [
        convergence_text(found.table, found.element, found.compound, found.basis_name),
        "",
        *_verdicts(found, target),
        *_cost_lines(found),
        f"wrote {folder}/convergence.csv and convergence.png",
    ]
    return "\n".join(lines) + "\n"


def _verdicts(found: Convergence, target: float) -> list[str]:
    lines = []
    for varied, name in (("basis", found.basis_name), ("kspacing", "kspacing")):
        enough = found.enough(varied, target / 1000)
        if enough is None:
            lines.append(f"{name}: not converged to {target:g} meV/atom; try finer ones")
        else:
            lines.append(f"{name}: {enough:g} is enough for {target:g} meV/atom")
    return lines


def _cost_lines(found: Convergence) -> list[str]:
    cost = found.cost
    if cost is None:
        return ["what the campaign costs is not known: its own settings failed"]
    what = "relaxations, of ten steps each" if cost.relaxed else "single points"
    text = (
        f"the campaign: {cost.calculations} {what}, cells of {cost.mean_atoms:.1f} atoms in the "
        f"mean: some {cost.hours:.2g} hours one after the other (time ~ atoms^{cost.power:.1f})"
    )
    return [text]
