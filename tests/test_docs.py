"""What README and docs show has to run, and to say the truth."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest

import latticesearch
from latticesearch.campaign.settings import Settings
from tests.conftest import REPOSITORY
from tests.pages import LANGUAGES, PAGES, Reader, blocks_of, prose_of

SHARED = Path(os.environ.get("LATTICESEARCH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))

FAKES = REPOSITORY / "tests" / "fakes"
"""Modules that stand for codes which tests cannot have; they check what they are given."""


def name_of(page):
    return str(page.relative_to(REPOSITORY))


def pages(holds):
    """Return the pages with a block of which `holds` is true."""
    return [
        pytest.param(page, id=name_of(page))
        for page in PAGES
        if any(holds(block) for block in blocks_of(page))
    ]


def needed(page):
    return {block.says["needs"] for block in blocks_of(page) if "needs" in block.says}


def is_here(name):
    """Tell whether a module, a program or a folder of the reference data is to be had."""
    if (SHARED / name).exists() or shutil.which(name):
        return True
    return importlib.util.find_spec(name) is not None


def runs(block):
    return block.language in {"sh", "python"}


@pytest.mark.mpi
@pytest.mark.parametrize("page", pages(runs))
def test_what_a_page_shows_comes_out(page, tmp_path, request):
    there = frozenset(path.stem for path in FAKES.glob("*.py"))
    folder, done = tmp_path, {}
    if page == PAGES[0]:
        folder, done = request.getfixturevalue("quick_start")
    Reader(folder, available=there, path=(FAKES,), done=done).work_through(page)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(lambda block: {"slow", "needs", "quick"} & {*block.says}))
def test_what_takes_long_comes_out_as_well(page, tmp_path):
    there = frozenset(filter(is_here, needed(page)))
    if needed(page) and not there:
        pytest.skip(f"not here: {', '.join(sorted(needed(page)))}")
    Reader(tmp_path, available=there, patient=True).work_through(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_of_a_kind_that_is_checked(page):
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"line {block.line}: {block.language!r}"
        assert "needs" not in block.says or "output" not in block.says


@pytest.mark.parametrize("page", pages(lambda block: block.language == "toml"))
def test_settings_that_are_shown_exist(page):
    for block in blocks_of(page):
        if block.language != "toml":
            continue
        for section, values in tomllib.loads(block.text).items():
            model = Settings.model_fields[section].annotation
            assert set(values) <= set(model.model_fields), f"line {block.line}: [{section}]"


def inline_commands(page):
    """Return the command lines in running text and tables."""
    spans = re.findall(r"`((?:mpirun -n \d+ )?latticesearch [^`]+)`", prose_of(page))
    return [re.sub(r"^mpirun -n \d+ ", "", span) for span in spans]


def is_understood(command):
    """Tell whether the command line takes a command; nothing is done."""
    from latticesearch.cli import _parser

    _, *words = shlex.split(command)
    # A verb alone is a mention, not a command; its help says whether it exists.
    try:
        _parser().parse_args([*words, "--help"] if len(words) == 1 else words)
    except SystemExit as end:
        return not end.code
    return True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_the_text_are_understood(page, capsys):
    assert [c for c in inline_commands(page) if not is_understood(c)] == []


def test_the_commands_of_development_are_those_of_ci():
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    shown = [b.text for page in PAGES for b in blocks_of(page) if "ci" in b.says]
    assert shown
    for command in re.split(r"&&|\n", "\n".join(shown)):
        if words := command.partition("#")[0].strip():
            assert words in ci, f"{words!r} is not in .ci/run"


def links(page):
    return re.findall(r"\]\(((?!http)[^)]+)\)", prose_of(page))


def anchors(page):
    """Return the anchors that the headings of a page have where Markdown is shown."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_index():
    index = REPOSITORY / "docs" / "README.md"
    listed = {link.partition("#")[0] for link in links(index)}
    there = {str(page.relative_to(index.parent)) for page in PAGES[1:]}
    assert there - {"README.md"} <= listed


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_citation_names_this_version():
    text = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", text, re.MULTILINE)[1] == latticesearch.__version__
