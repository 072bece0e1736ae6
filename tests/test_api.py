"""The names users are promised, in whatever order modules were imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

import latticesearch as ls
from tests.campaign.runs import environment


@pytest.mark.parametrize("name", sorted(set(ls.__all__) - {"__version__"}))
def test_every_public_name_can_be_called(name):
    assert callable(getattr(ls, name))


@pytest.mark.parametrize("first", ["", "import latticesearch.search", "latticesearch.fit"])
def test_search_is_a_function_before_and_after_its_package_is_imported(first):
    code = f"import latticesearch\n{first}\nlatticesearch.search()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment()
    )
    assert "missing 2 required positional arguments" in done.stderr


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ls.nonsense
