from __future__ import annotations

import fcntl
import json
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


def pytest_configure(config: pytest.Config) -> None:
    """Let the workers of a run share what they compile."""
    if hasattr(config, "workerinput"):
        import latticesearch  # noqa: F401 - says where compiled code is kept, before numba asks
        from tests.compiling import take_turns

        take_turns()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Take one process for a few tests, for what prints, and for what measures speed."""
    names = config.args if config.args_source is config.ArgsSource.ARGS else ()
    is_short = bool(names) and all("::" in name or name.endswith(".py") for name in names)
    is_watched = config.option.capture == "no" or config.option.markexpr == "benchmark"
    return 0 if is_short or is_watched else None


FIRST = ("campaign/test_run.py", "search/test_driver.py", "test_docs.py")
"""Files that take longest: begun last, one of them would keep a single worker busy.

The campaign and the search compile what others need, so the processes that pages start find it.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files begin first; all others keep their order."""
    rank = {REPOSITORY / "tests" / name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def quick_start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The README's quick start, done once for all tests: its folder, and command -> output."""
    from tests.pages import Reader, blocks_of

    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # where all workers have their folders
    folder, record = base / "quick_start", base / "quick_start.json"
    folder.mkdir(exist_ok=True)
    block = next(b for b in blocks_of(REPOSITORY / "README.md") if b.language == "sh")
    with (base / "quick_start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        if not record.exists():
            record.write_text(json.dumps({block.text: Reader(folder).type_in(block)}))
    return folder, json.loads(record.read_text())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of other people's data and potentials, which the project does not ship.

    What it does ship is read by the functions of ``tests/shipped.py`` and never skipped.
    """
    path = Path(os.environ.get("LATTICESEARCH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"data of others not found in {path} (set LATTICESEARCH_SHARED_DATA)")
    return path
