from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).parents[1]

HANG = 1800.0
"""Seconds after which a process or thread counts as hung: no measure of speed, on no machine."""

# One thread each for the libraries, as on a rank of a campaign: numpy reads this when imported.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# The same examples on every machine, however slow. `--hypothesis-profile=searching` looks for
# others.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.register_profile("searching", deadline=None)
hypothesis.settings.load_profile("steady")


@pytest.fixture(scope="session")
def quick_start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The README's quick start, done once for all tests: its folder, and command -> output."""
    from tests.pages import Reader, blocks_of

    folder = tmp_path_factory.mktemp("quick_start")
    block = next(b for b in blocks_of(REPOSITORY / "README.md") if b.language == "sh")
    return folder, {block.text: Reader(folder).type_in(block)}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of other people's data and potentials, which the project does not ship.

    What it does ship is read by the functions of ``tests/shipped.py`` and never skipped.
    """
    path = Path(os.environ.get("LATTICESEARCH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"data of others not found in {path} (set LATTICESEARCH_SHARED_DATA)")
    return path
