"""Imports go one way and without circles. Heavy libraries are imported only in the functions that use them."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGES = ["core", "gpu", "products", "matching", "catalogmatch"]  # each package may import those before it
HEAVY = {"torch", "sentence_transformers", "transformers", "onnxruntime", "onnx", "faiss", "safetensors", "openpyxl"}
PATHS = sorted(path for package in PACKAGES for path in (REPO / package).rglob("*.py"))

# The project's modules that may be imported in a function, and why. All others are imported at the top.
LATE_IMPORTS = {
    ("catalogmatch.accounts.apps", "catalogmatch.accounts.signals"): "Django's ready()",
    ("catalogmatch.apps", "catalogmatch.accounts.roles"): "Django's ready()",
    ("catalogmatch.apps", "catalogmatch.operations.permissions"): "Django's ready()",
    ("products.apps", "products.models.triggers"): "Django's ready()",
    ("products.apps", "products.signals"): "Django's ready()",
    ("products.apps", "products.text.trigrams"): "Django's ready()",
    ("matching.apps", "core.sqlite.statistics"): "Django's ready()",
    ("matching.apps", "matching.index.changes"): "Django's ready()",
    ("matching.apps", "matching.signals"): "Django's ready()",
    ("matching.tasks", "matching.answers.calibration"): "it searches, and the service's modules import the tasks",
    ("matching.index", "matching.index.inprocess"): "the choice of search engine",
    ("matching.index", "matching.pgvector.engine"): "the choice of search engine",
    (
        "catalogmatch.web.gunicorn_conf",
        "gpu.monitoring.worker",
    ): "gunicorn reads its configuration before Django starts",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in PATHS}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imported_names(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    """Yield the dotted names that these statements import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which package they reach"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(nodes: Iterator[ast.AST] | list[ast.stmt]) -> set[str]:
    """Return the project's modules that these statements import."""
    found = set()
    for name in imported_names(nodes):
        found |= {part for part in (name, name.rpartition(".")[0]) if part in MODULES and part.count(".")}
    # ``from package import module`` imports the module. The package is left out: its imports are checked separately.
    return {module for module in found if not any(other.startswith(f"{module}.") for other in found)}


def at_import_time(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run at import, without those in functions and for type checkers."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for part in ("body", "orelse", "finalbody", "handlers"):
            for inner in getattr(node, part, []):
                yield from at_import_time(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def late_imports(module: str) -> set[str]:
    """Return the project's modules that are imported in a function or for type checkers."""
    tree = tree_of(module)
    return imported_modules(ast.walk(tree)) - imported_modules(list(at_import_time(tree.body)))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_the_packages_below_it(module):
    package = module.split(".")[0]
    above = set(PACKAGES[PACKAGES.index(package) + 1 :]) | {"tests", "benchmarks"}
    assert not {name.split(".")[0] for name in imported_names(ast.walk(tree_of(module)))} & above


@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_are_not_imported_with_the_module(module):
    at_once = imported_names(list(at_import_time(tree_of(module).body)))
    assert not {name.split(".")[0] for name in at_once} & HEAVY


def test_only_the_listed_modules_are_imported_inside_functions():
    found = {(module, late) for module in MODULES for late in late_imports(module)}
    assert found == set(LATE_IMPORTS)


def test_there_is_no_import_circle():
    """Imports in functions count too, except the listed ones."""
    arrows = {
        module: {other for other in imported_modules(ast.walk(tree_of(module))) if (module, other) not in LATE_IMPORTS}
        for module in MODULES
    }
    assert circles(arrows) == []


def test_no_room_holds_more_than_eighteen_files():
    paths = [*PATHS, *(REPO / "tests").rglob("*.py")]
    files = Counter(str(path.parent.relative_to(REPO)) for path in paths)
    assert {folder: count for folder, count in files.items() if count > 18} == {}


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of names that can reach each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(arrows.get(name, ())):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1 or name in arrows.get(name, ()):
                found.append(sorted(group))

    for name in sorted(arrows):
        if name not in index:
            visit(name)
    return found


def test_the_import_rules_see_known_imports():
    assert len(MODULES) > 100
    assert "sentence_transformers" in {
        name.split(".")[0] for name in imported_names(ast.walk(tree_of("gpu.encoders.torch")))
    }
    assert "gpu.vectors" in imported_modules(ast.walk(tree_of("products.models.catalogue")))
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
