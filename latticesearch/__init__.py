"""latticesearch: find the stable ordered structures of multicomponent alloys with few DFT runs."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

__version__ = "0.1.0"


def _numba_cache_dir() -> str:
    """Return a folder for compiled kernels that no other user, version or kind of CPU shares."""
    name = f"{__version__}-py{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    for base in (home, Path(tempfile.gettempdir()) / f"latticesearch-{os.getuid()}"):
        folder = base / "latticesearch" / "numba" / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return str(folder)
    return ""


# Numba reads this once, at its first import, so it has to be set before any module of ours.
if "NUMBA_CACHE_DIR" not in os.environ and (_folder := _numba_cache_dir()):
    os.environ["NUMBA_CACHE_DIR"] = _folder
