"""Contracts that import-linter has no words for: they hold for every file, and name none.

The layers are in pyproject.toml; `lint-imports` checks them.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import latticesearch
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = "latticesearch"

COMPILED_INTERFACES = {f"{PACKAGE}.vectors", f"{PACKAGE}.potential.walk"}
"""Compiled code that several packages build on: public, and open to all kernels."""

KERNELS_MAY_IMPORT = {"__future__", "llvmlite", "math", "numba", "numpy", "typing"}
"""Besides these two and kernels that they may see: what compiled code is written with."""


@dataclass(frozen=True)
class Import:
    """One import statement of one name.

    Attributes
    ----------
    importer : str
        The module it stands in.
    imported : str
        The module it names.
    name : str
        What is taken from that module; empty for the module itself.
    is_for_types : bool
        It is run by type checkers only.
    """

    importer: str
    imported: str
    name: str
    is_for_types: bool


@functools.cache
def sources() -> dict[str, Path]:
    """Return the file of every module of the package."""
    found = {}
    for path in (REPOSITORY / PACKAGE).rglob("*.py"):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def tree_of(module: str) -> ast.Module:
    return ast.parse(sources()[module].read_text(encoding="utf-8"))


@functools.cache
def imports() -> tuple[Import, ...]:
    """Return all imports of the package, those inside functions included."""
    return tuple(
        Import(module, *target, is_for_types)
        for module in sources()
        for statement, is_for_types in import_statements(tree_of(module))
        for target in targets(statement, module)
    )


def import_statements(
    node: ast.AST, *, is_for_types: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        inside = is_for_types or (guarded and child in node.body)
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, inside
        else:
            yield from import_statements(child, is_for_types=inside)


def targets(statement: ast.Import | ast.ImportFrom, module: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of everything that a statement imports."""
    if isinstance(statement, ast.Import):
        yield from ((alias.name, "") for alias in statement.names)
        return
    assert statement.level == 0, f"{module} has a relative import"
    for alias in statement.names:
        full = f"{statement.module}.{alias.name}"
        yield (full, "") if full in sources() else (str(statement.module), alias.name)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_kernel(module: str) -> bool:
    return is_private(module.rpartition(".")[2])


def home(module: str) -> str:
    """Return the package that a module stands in."""
    return module.rpartition(".")[0]


def is_inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the sets of nodes that can all be reached from each other, of two or more."""
    reach = {node: set(after) for node, after in graph.items()}
    for middle, node in itertools.product(graph, graph):
        if middle in reach[node]:
            reach[node] |= reach[middle]
    together = {
        tuple(sorted(n for n in reach[node] if node in reach[n]))
        for node in graph
        if node in reach[node]
    }
    return sorted(list(members) for members in together)


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {module: set() for module in sources()}
    for item in imports():
        if item.imported in graph and not item.is_for_types and item.imported != PACKAGE:
            graph[item.importer].add(item.imported)
    assert circles(graph) == []


@pytest.mark.parametrize(
    "package", sorted(m for m, path in sources().items() if path.name == "__init__.py")
)
def test_no_parts_of_a_package_import_each_other_in_a_circle(package: str) -> None:
    def part(module: str) -> str:
        return ".".join(module.split(".")[: package.count(".") + 2])

    graph: dict[str, set[str]] = {part(m): set() for m in sources() if m.startswith(f"{package}.")}
    for item in imports():
        one, other = part(item.importer), part(item.imported)
        if not item.is_for_types and one in graph and other in graph and one != other:
            graph[one].add(other)
    assert circles(graph) == []


def test_private_modules_are_imported_only_inside_their_package() -> None:
    strangers = [
        f"{item.importer} imports {item.imported}"
        for item in imports()
        if item.imported in sources()
        and is_kernel(item.imported)
        and not is_inside(item.importer, home(item.imported))
    ]
    assert strangers == []


def test_private_names_stay_in_their_module() -> None:
    taken = [
        f"{item.importer} takes {item.name} from {item.imported}"
        for item in imports()
        if item.imported in sources() and is_private(item.name)
    ]
    assert taken == []


def test_kernels_import_nothing_but_what_compiled_code_is_written_with() -> None:
    others = [
        f"{item.importer} imports {item.imported}"
        for item in imports()
        if is_kernel(item.importer)
        and not item.is_for_types
        and item.imported.partition(".")[0] not in KERNELS_MAY_IMPORT
        and item.imported not in COMPILED_INTERFACES
        and not (is_kernel(item.imported) and is_inside(item.importer, home(item.imported)))
    ]
    assert others == []


def test_only_kernels_are_compiled() -> None:
    # mypy lets untyped decorators pass because numba's are; there are no others to miss then.
    compiled = [
        item.importer
        for item in imports()
        if item.imported.partition(".")[0] in {"numba", "llvmlite"}
        and not is_kernel(item.importer)
        and item.importer not in COMPILED_INTERFACES
    ]
    assert compiled == []


def test_kernels_are_compiled_anew_when_any_of_them_changes() -> None:
    hashed = set(latticesearch._compiled_sources())
    assert hashed >= {sources()[i.importer] for i in imports() if i.imported.startswith("numba")}


def test_private_modules_hold_kernels() -> None:
    compiled = {i.importer for i in imports() if i.imported.partition(".")[0] == "numba"}
    assert [m for m in sources() if is_kernel(m) and m not in compiled] == []


def test_the_ci_runs_what_the_readme_says() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    steps = re.findall(r'^step "(.*)"$', script, re.MULTILINE)
    command = "pip install '.[test]' && pytest"
    assert f"\n{command}\n" in readme
    assert steps[0] == command
    (line,) = re.findall(r"\npip install -e '\.\[dev\]'\n(.*)\n", readme)
    checks = line.removesuffix(" && pytest").split(" && ")
    assert steps[1:] == ["pip install -e '.[dev]'", *checks]
