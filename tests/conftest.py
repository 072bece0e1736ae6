from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the third-party reference data, which the project does not ship."""
    path = Path(os.environ.get("LATTICESEARCH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"reference data not found in {path} (set LATTICESEARCH_SHARED_DATA)")
    return path
