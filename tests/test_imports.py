"""The house: imports go one way, and what is heavy is imported only where it is used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGES = ["gpu", "products", "matching", "catalogmatch"]  # each may import those before it
HEAVY = {"torch", "sentence_transformers", "transformers", "onnxruntime", "onnx", "faiss", "safetensors", "openpyxl"}
MODULES = sorted(path for package in PACKAGES for path in (REPO / package).rglob("*.py"))


def imported(nodes: Iterator[ast.AST] | list[ast.stmt]) -> set[str]:
    """The top packages that these statements import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which package they reach"
            names.add((node.module or "").split(".")[0])
    return names


def at_import_time(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported: all but those in functions and for type checkers."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for part in ("body", "orelse", "finalbody", "handlers"):
            for inner in getattr(node, part, []):
                yield from at_import_time(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(REPO)))
def test_a_module_imports_only_what_stands_below_it_and_nothing_heavy(path):
    tree = ast.parse(path.read_text())
    package = path.relative_to(REPO).parts[0]
    above = set(PACKAGES[PACKAGES.index(package) + 1 :])
    assert not imported(ast.walk(tree)) & (above | {"tests", "benchmarks"})
    assert not imported(list(at_import_time(tree.body))) & HEAVY


def test_what_the_rules_look_at_is_really_there():
    assert len(MODULES) > 30
    encoders = ast.parse((REPO / "gpu" / "clip.py").read_text())
    assert "sentence_transformers" in imported(ast.walk(encoders))
