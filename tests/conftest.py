from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def quick_start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The README's quick start, done once for all tests: its folder, and command -> output."""
    from tests.pages import Reader, blocks_of

    folder = tmp_path_factory.mktemp("quick_start")
    block = next(b for b in blocks_of(REPOSITORY / "README.md") if b.language == "sh")
    return folder, {block.text: Reader(folder).type_in(block)}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the third-party reference data, which the project does not ship."""
    path = Path(os.environ.get("LATTICESEARCH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"reference data not found in {path} (set LATTICESEARCH_SHARED_DATA)")
    return path
