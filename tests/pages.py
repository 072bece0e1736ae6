"""The pages of the documentation as what they are to a reader: commands to be typed in, in order.

A page is Markdown. Its fenced blocks are run as they stand, top to bottom, in one folder: ``sh`` by
bash, ``python`` in one namespace per page, where ``expression  # value`` is checked if the comment
is a Python literal. Comments that a reader does not see say more of the block that follows:

``<!-- file: NAME -->``
    Its text is saved as NAME instead of being run.
``<!-- output -->``, ``<!-- output: like -->``
    What the block before prints; ``...`` stands for anything. "like": the numbers may be others.
``<!-- needs: CODE -->``
    Run only where CODE is to be had.
``<!-- slow: REASON -->``
    Run only among the slow tests.
``<!-- quick: ARGUMENTS -->``
    The tests add these to every command of the block: the same, but smaller.
``<!-- ci -->``
    The test run itself: never run from inside, but compared with what CI does.

``pip install`` is left out: the tests run on what is installed.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.campaign.runs import in_process
from tests.conftest import REPOSITORY

PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))

LANGUAGES = {"sh", "python", "toml", "text"}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_DIRECTIVE = re.compile(r"<!-- (\w+)(?:: (.*?))? -->")
_DIRECTIVES = re.compile(r"(?:^<!-- .* -->\n\n?)*\Z", re.MULTILINE)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page, and what the comments before it say."""

    language: str
    text: str
    line: int
    says: dict[str, str] = field(default_factory=dict)


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page from top to bottom."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        before = _DIRECTIVES.search(text[: fence.start()])
        says = dict(_DIRECTIVE.findall(before.group()))
        found.append(Block(fence[1], fence[2], text.count("\n", 0, fence.start()) + 1, says))
    return found


def prose_of(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


@dataclass
class Reader:
    """Somebody who types in what a page shows.

    Parameters
    ----------
    folder
        Where everything happens; it gets the `configs` of the project, as a checkout has.
    available
        Names of the codes that are to be had.
    patient
        Runs what is slow, and commands as they stand.
    """

    folder: Path
    available: frozenset[str] = frozenset()
    patient: bool = False
    path: tuple[Path, ...] = ()
    """Folders of modules that stand for those codes."""
    done: dict[str, str] = field(default_factory=dict)
    """What commands have printed that were run in the folder before and need not run again."""

    def __post_init__(self) -> None:
        self._printed: str | None = None
        self._names: dict[str, Any] = {"__name__": "__page__"}
        for name in ("configs", "studies"):
            link = self.folder / name
            if not link.exists():
                link.symlink_to(REPOSITORY / name)

    def work_through(self, page: Path) -> None:
        """Do all that the page says; what it shows must be what comes out."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for folder in (self.folder, *self.path):
                patch.syspath_prepend(folder)
            # Processes that commands start find there what stands for other codes.
            patch.setenv("PYTHONPATH", self._environment()["PYTHONPATH"])
            for block in blocks_of(page):
                where = f"{page.relative_to(REPOSITORY)}, line {block.line}"
                try:
                    self._do(block)
                except Exception as error:  # noqa: BLE001 - any failure is one of the page
                    pytest.fail(f"{where}: {type(error).__name__}: {error}\n\n{block.text}")

    def _do(self, block: Block) -> None:
        says = block.says
        if "output" in says:
            if self._printed is not None:
                check_output(self._printed, block.text, like=says["output"] == "like")
        elif not self._can(says):
            self._printed = None
        elif "file" in says:
            (self.folder / says["file"]).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            self._printed = self.done.get(block.text) or self.type_in(block)
        elif block.language == "python":
            self._printed = run_python(block.text, self._names)

    def _can(self, says: dict[str, str]) -> bool:
        """Tell whether a block can be run here and now."""
        if "ci" in says or ("slow" in says and not self.patient):
            return False
        return "needs" not in says or says["needs"] in self.available

    def type_in(self, block: Block) -> str:
        """Run commands; return what they print."""
        text = without_installation(block.text)
        if "quick" in block.says and not self.patient:
            text = re.sub(r"(?<!\\)$", f" {block.says['quick']}", text.rstrip(), flags=re.MULTILINE)
        return "".join(map(self._type, parts_of(text)))

    def _type(self, text: str) -> str:
        """Run what belongs together: a command that needs no shell here, all else in one."""
        if (words := plain_command(text)) is not None:
            return call(words)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=REPOSITORY if text.startswith("pytest ") else self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        modules = [*map(str, self.path), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
        programs = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        data = REPOSITORY.parent / "shared" / "data"
        return {
            "LATTICESEARCH_SHARED_DATA": str(data),
            **os.environ,
            "PATH": os.pathsep.join(programs),
            "PYTHONPATH": os.pathsep.join(filter(None, modules)),
        }


def parts_of(text: str) -> list[str]:
    """Return commands one by one, or all as one where a shell has to remember something."""
    if re.search(r"^(export|cd|set|if|for|while)\b|^\w+=|<<", text, re.MULTILINE):
        return [text]
    return re.split(r"(?<!\\)\n", text.strip())


def plain_command(text: str) -> list[str] | None:
    """Return the words of a command of ours that needs no shell; None of any other.

    These can run here, where everything is imported: a process of its own for each would take
    longer than what most of them do.
    """
    line = text.replace("\\\n", " ").strip()
    if not line.startswith("latticesearch ") or "\n" in line or set(line) & set("$|&;<>*`~"):
        return None
    return shlex.split(line, comments=True)[1:]


def call(words: list[str]) -> str:
    """Run the command line here, in the current folder; return what it prints."""
    done = in_process(*words)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return str(done.stdout)


def without_installation(text: str) -> str:
    """Return commands without those of pip."""
    kept = re.sub(r"^(?:pip install [^&\n]*(?:&& |\n|\Z))+", "", text, flags=re.MULTILINE)
    if "pip install" in kept:
        # What runs the tests must never be changed by them.
        raise ValueError(f"an installation that is not left out: {kept.strip()}")
    return kept or "true\n"


def run_python(text: str, names: dict[str, Any]) -> str:
    """Run a block line by line, check the values it shows, and return what it prints."""
    lines = text.splitlines()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for node in ast.parse(text).body:
            if not isinstance(node, ast.Expr):
                exec(compile(ast.Module([node], []), "<page>", "exec"), names)  # noqa: S102
                continue
            value = eval(compile(ast.Expression(node.value), "<page>", "eval"), names)  # noqa: S307
            _, hash_, comment = lines[node.end_lineno - 1][node.end_col_offset :].partition("#")
            if hash_:
                _check_value(value, comment.strip())
    return printed.getvalue()


def _check_value(value: Any, comment: str) -> None:
    """Compare a value with the literal that a page shows for it; other comments are words."""
    try:
        shown = ast.literal_eval(comment)
    except (ValueError, SyntaxError):
        return
    value = value.tolist() if hasattr(value, "tolist") else value
    if not (_agree(value, shown) if _is_numeric(shown) else value == shown):
        raise AssertionError(f"{value!r} instead of {shown!r}")


def _is_numeric(shown: Any) -> bool:
    """Tell whether a literal holds numbers only, of which one is no integer."""
    numbers = np.array(shown, dtype=object).ravel().tolist()
    kinds = {type(number) for number in numbers}
    return float in kinds and kinds <= {int, float}


def _agree(value: Any, shown: Any) -> bool:
    """Compare numbers as far as a page shows them: its digits are those that matter."""
    return np.shape(value) == np.shape(shown) and bool(np.allclose(value, shown, rtol=0.02))


def check_output(printed: str, shown: str, *, like: bool) -> None:
    """Compare what was printed with what a page shows of it."""
    if like:
        printed, shown = _NUMBER.sub("#", printed), _NUMBER.sub("#", shown)
    # A line of dots stands for any number of lines, also none.
    shown = re.sub(r"^\.\.\.\n(?=.)", "...", shown, flags=re.MULTILINE)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if not doctest.OutputChecker().check_output(shown, printed, flags):
        raise AssertionError(f"printed:\n{printed}\nshown:\n{shown}")
