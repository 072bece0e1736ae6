"""Small campaigns, and the real command line to run them."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import tomli_w

from latticesearch.stopping import SIGNALS
from tests.conftest import HANG, REPOSITORY

BIN = Path(sys.executable).parent

SMALL = {
    "campaign": {"name": "small", "seed": 3},
    "lattice": {"prototype": "fcc", "a": 3.8, "species": ["Cu", "Pd"]},
    "candidates": {"max_sites": 5, "exhaustive_limit": 30},  # five sites by greedy search
    "potential": {"level": 6, "cutoff": 4.5},
    "oracle": {"kind": "emt"},
    "learning": {"budget": 24, "per_round": 4, "tolerance": 0.001},
}


def write_config(folder, **changes):
    """Write a small campaign with changes ``section={key: value}``; None removes a key."""
    data = {section: {**values} for section, values in SMALL.items()}
    for section, values in changes.items():
        data.setdefault(section, {}).update(values)
        data[section] = {k: v for k, v in data[section].items() if v is not None}
    path = folder / "campaign.toml"
    path.write_text(tomli_w.dumps(data))
    return path


def environment(**extra):
    return {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}", **extra}


def command(*words, ranks=1):
    """Return the command line as a list of words."""
    start = [BIN / "mpirun", "-n", ranks] if ranks > 1 else []
    return [str(w) for w in (*start, sys.executable, "-m", "latticesearch", *words)]


def latticesearch(*words, ranks=1, cwd=None, **extra):
    """Run the command line to its end."""
    return subprocess.run(
        command(*words, ranks=ranks),
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
        cwd=cwd,
        env=environment(**extra),
    )


def wait_until_listening(process):
    """Wait until a process handles the signals that end a run in order."""
    status = Path(f"/proc/{process}/status")
    wanted = sum(1 << (number - 1) for number in SIGNALS)
    for _ in range(int(HANG / 0.001)):
        lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
        if lines["State"].startswith("Z") or int(lines["SigCgt"], 16) & wanted == wanted:
            return
        time.sleep(0.001)
    raise AssertionError(f"process {process} does not handle signals")


def in_process(*words):
    """Run the command line here, where everything is imported already; answer as `latticesearch`.

    Starting a process costs more than most of what a test asks the command line for.
    """
    import latticesearch.campaign.run  # noqa: F401 - a process that has to load it says so
    from latticesearch.cli import main

    package = logging.getLogger("latticesearch")
    handlers, propagate, level = package.handlers, package.propagate, package.level
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(word) for word in words])
    except SystemExit as end:  # as after --help
        code = end.code or 0
    finally:
        package.handlers, package.propagate = handlers, propagate
        package.setLevel(level)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
