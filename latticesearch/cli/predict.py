"""The verb `predict`: what a run's potential says of structure files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from latticesearch.parallel import Communicator


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    text = "energies of any structures on the run's lattice, and how far to trust them"
    parser = verbs.add_parser("predict", help=text)
    parser.set_defaults(function=predict)
    parser.add_argument("run", metavar="RUN", type=Path, help="run directory")
    parser.add_argument("files", metavar="FILE", nargs="+", help="structure files")
    parser.add_argument("--json", action="store_true", help="answer as JSON")


def predict(options: argparse.Namespace, comm: Communicator) -> int:
    """Print what the run's potential says of structures."""
    from latticesearch.parallel import on_root

    table = on_root(comm, _table, options)
    if comm.rank == 0:
        json = options.json
        text = table.to_json(orient="records", double_precision=15) if json else _text(table)
        sys.stdout.write(text + "\n")
    return 0


def _table(options: argparse.Namespace) -> pd.DataFrame:
    from latticesearch.campaign.prediction import frames_of, predict
    from latticesearch.storage import RunDirectory

    run = RunDirectory.read(options.run)
    return predict(run, [frame for name in options.files for frame in frames_of(name)])


def _text(table: pd.DataFrame) -> str:
    """Return the table for people: units in the heads, and why what is missing is missing."""
    import pandas as pd

    on = table[table["reason"] == ""]
    single = on.groupby("file")["frame"].transform("count") == 1
    names = on["file"].where(single, on["file"] + "#" + on["frame"].astype(str))
    columns = {
        ("file", ""): names,
        ("formula", ""): on["formula"],
        ("atoms", ""): on["n_atoms"],
        ("energy", "eV/atom"): on["energy"].map("{:.4f}".format),
        ("formation", "meV/atom"): (1000 * on["formation_energy"]).map("{:.1f}".format),
        ("above hull", "meV/atom"): (1000 * on["energy_above_hull"]).map("{:.1f}".format),
        ("uncertainty", "meV/atom"): (1000 * on["uncertainty"]).map("{:.1f}".format),
        ("grade", ""): on["grade"].map("{:.2f}".format),
        ("computed", "eV/atom"): on["oracle_energy"].map("{:.4f}".format).replace("nan", "-"),
        ("most like", ""): on["nearest"],
    }
    lines = [pd.DataFrame(columns).to_string(index=False)]
    return "\n".join([*lines, *map(_refusal, table[table["reason"] != ""].itertuples())])


def _refusal(row: Any) -> str:
    """Return why a structure has no numbers."""
    return f"{row.file}#{row.frame} ({row.formula}) is not on the lattice: {row.reason}"
