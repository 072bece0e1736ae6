"""The verb `run`: the whole loop."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticesearch.progress import NoProgress, StreamProgress
from latticesearch.stopping import seconds_until, stopping_in_order

if TYPE_CHECKING:
    import argparse

    from latticesearch.campaign import CampaignResult
    from latticesearch.campaign.settings import Settings
    from latticesearch.parallel import Communicator
    from latticesearch.stopping import StopRequest

log = logging.getLogger(__name__)


def add_verbs(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("run", help="run a campaign, or go on with an interrupted one")
    parser.set_defaults(function=run)
    add_campaign(parser)
    parser.add_argument("--resume", action="store_true", help="refuse to begin a new run")
    parser.add_argument(
        "--reuse",
        action="append",
        default=[],
        metavar="RUN",
        help="take over the energies of another run of the same method; may be given several times",
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="try structures again that were given up"
    )
    parser.add_argument(
        "--accept-loss",
        action="store_true",
        help="go on although oracle.db is damaged or incomplete",
    )
    parser.add_argument(
        "--until",
        metavar="TIME",
        help="stop in order then: a duration (90m, 1.5h) or a date and time (ISO)",
    )
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="with [oracle.queue]: hand over what is wanted and end (75); the next call goes on",
    )
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
    parser.add_argument(
        "config", metavar="CONFIG", help="campaign file (TOML), or the directory of a run"
    )
    add_overrides(parser)
    parser.add_argument("--output", metavar="DIR", help="run directory (default runs/NAME)")


def run(options: argparse.Namespace, comm: Communicator) -> int:
    """Run a campaign, in order to its end or to a signal; print the stable structures."""
    stop: StopRequest = options.stop
    # The science is imported only once the file is known to be good.
    with stop.beginning():
        seconds = None if options.until is None else seconds_until(options.until)
        settings = _settings(options, comm)
        from latticesearch.campaign import Campaign

    campaign = Campaign(settings, Path(options.output) if options.output else None)
    with stopping_in_order(
        stop,
        is_root=comm.rank == 0,
        grace=settings.oracle.grace,
        abort=comm.abort,
        seconds=seconds,
    ):
        result = campaign.run(
            comm,
            resume=options.resume,
            retry_failed=options.retry_failed,
            accept_loss=options.accept_loss,
            stop=stop,
            progress=StreamProgress() if comm.rank == 0 else NoProgress(),
            wait=not options.no_wait,
        )
    if comm.rank == 0:
        _print(result, as_json=options.json)
    return int(result.summary["end"] == "model")


def _settings(options: argparse.Namespace, comm: Communicator) -> Settings:
    """Read the campaign file; say what comes next, which may take a while."""
    from latticesearch.campaign.settings import read_settings

    settings = read_settings(Path(options.config), options.overrides, reuse=options.reuse)
    if comm.rank == 0 and "latticesearch.campaign.run" not in sys.modules:
        ranks = f"{comm.size} rank{'s' * (comm.size > 1)}"
        log.info("%s on %s: loading libraries", settings.campaign.name, ranks)
    return settings


def _print(result: CampaignResult, *, as_json: bool) -> None:
    """Print the stable structures and the counts."""
    from latticesearch.report import summary_text

    if as_json:
        rows = json.loads(result.hull.to_json(orient="records", double_precision=15))
        text = json.dumps({**result.summary, "path": str(result.path), "hull": rows})
    else:
        text = summary_text(result.hull, result.summary, result.path)
    sys.stdout.write(text + "\n")
