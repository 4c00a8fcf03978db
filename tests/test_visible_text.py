"""All visible text of templates, scripts and Python code goes through Django's translation functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.helpers.installations import REPO

TEMPLATES = sorted((REPO / "templates").rglob("*.html"))
SCRIPTS = sorted((REPO / "static").rglob("*.js"))
PAGES = sorted(
    path
    for app in ("gpu", "products", "matching", "catalogmatch")
    for path in (REPO / app).rglob("*.py")
    if path.name.startswith("admin") or path.name == "models.py"
)

BLOCK = re.compile(r"{%\s*(blocktranslate|comment)\b.*?{%\s*end\1\s*%}", re.DOTALL)
TAG = re.compile(r"{%.*?%}|{{.*?}}|{#.*?#}", re.DOTALL)
READ_OUT = {"aria-label", "title", "alt", "placeholder"}
NOT_READ = {"code", "script", "style", "kbd", "span.material-symbols-outlined"}
NAMES = {"CatalogMatch", "CLIP", "CSV", "GB", "MB", "XLSX"}  # the same in every language
TRANSLATE = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy", "pgettext"}
SENTENCE = re.compile(r"[A-Z][a-z]+( [a-z]+)+|[A-Z][a-z]+.*\.$")
SHOWN = {"success", "warning", "error", "info", "ValidationError"}
ERRORS = {"UnreadableFileError", "RowError", "ExportError", "FeaturesPendingError"}  # their text is shown on pages


class Text(HTMLParser):
    """Collect the text of a page, and of attributes that screen readers read."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        icon = "material-symbols-outlined" in (values.get("class") or "")
        self.said += [value for name, value in attrs if name in READ_OUT and value]
        if tag not in {"input", "img", "br", "link", "meta", "rect", "polyline"}:
            self.within.append(f"{tag}.material-symbols-outlined" if icon else tag)

    def handle_endtag(self, tag: str) -> None:
        if self.within:
            self.within.pop()

    def handle_data(self, data: str) -> None:
        if not NOT_READ & set(self.within):
            self.said.append(data)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_templates_contain_no_untranslated_text(path: Path) -> None:
    text = Text()
    text.feed(TAG.sub("", BLOCK.sub("", path.read_text())))
    words = {word for said in text.said for word in re.findall(r"[A-Za-z]{2,}", said)}
    assert words - NAMES == set()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_take_their_texts_from_the_page(path: Path) -> None:
    code = re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.MULTILINE)
    literals = [a or b or c for a, b, c in re.findall(r'"([^"\n]*)"|\'([^\'\n]*)\'|`([^`]*)`', code)]
    assert [literal for literal in literals if SENTENCE.match(literal)] == []


def untranslated(tree: ast.AST) -> Iterator[str]:
    """Yield visible sentences and names of fields that are not passed to a translation function."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in TRANSLATE:
            continue
        shown = list(node.args) if name in SHOWN or name.endswith("Field") else []
        shown += [
            word.value for word in node.keywords if word.arg in {"label", "help_text", "verbose_name", "description"}
        ]
        yield from (one.value for one in shown if isinstance(one, ast.Constant) and isinstance(one.value, str))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if names & {"title", "label", "help_text", "verbose_name", "verbose_name_plural", "search_help_text"}:
                yield node.value.value


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPO)))
def test_pages_and_models_contain_no_untranslated_names(path: Path) -> None:
    assert list(untranslated(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "path", sorted((REPO / "products").rglob("*.py")), ids=lambda path: str(path.relative_to(REPO))
)
def test_errors_that_pages_show_are_translated(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    errors = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ERRORS]
    plain = [
        argument for error in errors for argument in error.args if isinstance(argument, ast.Constant | ast.JoinedStr)
    ]
    codes = {
        "validation_error",
        "file_missing",
        "file_unreadable",
        "image_too_large",
        "sku_exists",
        "not_found",
        "unsafe_path",
    }
    assert {ast.unparse(argument).strip("'") for argument in plain} <= codes
