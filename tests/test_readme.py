"""What the README shows has to run."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs_and_says_the_truth():
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    example = next(e for e in examples if "import latticesearch" in e)
    # The campaign of the last line is the quick start, which has a test of its own.
    lines = [line for line in example.splitlines() if "Campaign" not in line]
    names: dict[str, object] = {}
    exec("\n".join(lines), names)  # noqa: S102
    bcc, count = names["bcc"], names["ls"].count_labelings
    shown = re.search(r"count_labelings\(bcc, index=8\)\s+# (\d+)", example)
    assert count(bcc, index=8) == int(shown.group(1))
    assert len(names["pool"].energies)


@pytest.mark.parametrize("name", re.findall(r"\]\(((?!http)[^)]+)\)", README))
def test_links_lead_somewhere(name):
    assert (REPOSITORY / name).exists()
