"""The module map in docs/architecture.md lists every module once, with its path."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.helpers.installations import REPO

PACKAGES = ("core", "gpu", "products", "matching", "catalogmatch")


def listed_modules() -> list[str]:
    """Return the paths in the tables below the heading "Module map"."""
    text = (REPO / "docs" / "architecture.md").read_text("utf-8").partition("## Module map")[2]
    paths, folder = [], ""
    for line in text.splitlines():
        if heading := re.fullmatch(r"### `([a-z_/]+/)`", line):
            folder = heading[1]
        elif row := re.match(r"\| `(\w+\.py)` \| \S", line):
            paths.append(folder + row[1])
    return paths


def is_listed(path: Path) -> bool:
    """Return whether a file belongs on the map. Migrations and packages without code do not."""
    if "migrations" in path.parts:
        return False
    statements = ast.parse(path.read_text("utf-8")).body
    has_code = any(not isinstance(node, ast.Expr) for node in statements)
    return path.name != "__init__.py" or has_code


def test_every_module_is_on_the_map_once():
    paths = [path for package in PACKAGES for path in (REPO / package).rglob("*.py") if is_listed(path)]
    assert sorted(listed_modules()) == sorted(str(path.relative_to(REPO)) for path in paths)
