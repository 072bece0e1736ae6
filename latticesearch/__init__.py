"""latticesearch: find the stable ordered structures of multicomponent alloys with few DFT runs."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import zlib
from pathlib import Path

__version__ = "0.1.0"


def _compiled_sources() -> list[Path]:
    """Return the files of all compiled code: kernels, and what several packages build them on."""
    package = Path(__file__).parent
    kernels = sorted(package.rglob("_[a-z]*.py"))
    return [*kernels, package / "vectors.py", package / "potential" / "walk.py"]


def _numba_cache_dir() -> str:
    """Return a folder for compiled kernels that no other user, version or kind of CPU shares.

    Numba compiles a kernel anew when its own file changes, but not when the file of a kernel that
    it calls does. So the folder's name depends on the text of all of them.
    """
    text = zlib.crc32(b"".join(path.read_bytes() for path in _compiled_sources()))
    python = f"py{sys.version_info[0]}{sys.version_info[1]}"
    name = f"{__version__}-{python}-{platform.machine()}-{text:08x}"
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

_PUBLIC = {
    "Campaign": "latticesearch.campaign",
    "Configuration": "latticesearch.lattice",
    "FitReport": "latticesearch.potential",
    "Hull": "latticesearch.hull",
    "InputError": "latticesearch.errors",
    "LabelledBatch": "latticesearch.potential",
    "Labelings": "latticesearch.lattice",
    "MappingFailure": "latticesearch.lattice",
    "Mismatch": "latticesearch.lattice",
    "MtpBasis": "latticesearch.potential",
    "MtpPotential": "latticesearch.potential",
    "ParentLattice": "latticesearch.lattice",
    "Regularisation": "latticesearch.potential",
    "Supercell": "latticesearch.lattice",
    "TrainingSet": "latticesearch.potential",
    "certify": "latticesearch.search",
    "count_labelings": "latticesearch.enumeration",
    "enumerate_labelings": "latticesearch.enumeration",
    "fit": "latticesearch.potential",
    "load": "latticesearch.results",
    "map_to_lattice": "latticesearch.lattice",
    "match_to_lattice": "latticesearch.lattice",
    "match_to_start": "latticesearch.lattice",
    "near_hull_weights": "latticesearch.potential",
    "read_cfg": "latticesearch.potential",
    "read_mtp": "latticesearch.potential",
    "sample_labelings": "latticesearch.enumeration",
    "search": "latticesearch.search",
    "superlattices": "latticesearch.enumeration",
    "world": "latticesearch.parallel",
    "write_cfg": "latticesearch.storage",
    "write_mtp": "latticesearch.storage",
}
__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - the names of the table above


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: the command line starts in no time."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    """Return the names that the Tab key offers, imported or not."""
    return sorted([*globals(), *_PUBLIC])
