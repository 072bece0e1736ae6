"""The verb `run`: the whole loop."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.campaign.settings import read_settings
from latticesearch.progress import NoProgress, StreamProgress

if TYPE_CHECKING:
    import argparse

    from latticesearch.parallel import Communicator


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("run", help="run a campaign, or go on with an interrupted one")
    parser.set_defaults(function=run)
    add_campaign(parser)
    parser.add_argument("--resume", action="store_true", help="refuse to begin a new run")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the option that replaces values of the campaign file."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="replace a value of the campaign file; may be given several times",
    )


def add_campaign(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a campaign."""
    parser.add_argument("config", metavar="CONFIG", help="campaign file (TOML)")
    add_overrides(parser)
    parser.add_argument("--output", metavar="DIR", help="run directory (default runs/NAME)")


def run(options: argparse.Namespace, comm: Communicator) -> int:
    """Run a campaign; print the table of stable structures."""
    settings = read_settings(Path(options.config), options.overrides)
    # The science is imported only once the file is known to be good.
    from latticesearch.campaign import Campaign
    from latticesearch.report import summary_text

    campaign = Campaign(settings, Path(options.output) if options.output else None)
    progress = StreamProgress() if comm.rank == 0 else NoProgress()
    result = campaign.run(comm, resume=options.resume, progress=progress)
    if comm.rank == 0:
        if options.json:
            rows = json.loads(result.hull.to_json(orient="records", double_precision=15))
            text = json.dumps({**result.summary, "path": str(result.path), "hull": rows})
        else:
            text = summary_text(result.hull, result.summary, result.path)
        sys.stdout.write(text + "\n")
    return 0
