"""What a row of a table would change of a product that is there."""

from __future__ import annotations

import json
from typing import Any

from core.history.timeline import Change
from core.spreadsheets.writer import INVALID_XML_CHARACTERS
from products.importing.rows import Row
from products.models import Product


def as_text(value: Any) -> str:
    """A value of a field or an attribute as a cell holds it. What is no text is JSON; nothing is empty."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def changed_fields(product: Product, row: Row) -> dict[str, Any]:
    """The fields that the row says otherwise, with their new values. An empty cell says nothing.

    What went out to a table and comes back is no change, whatever the kind of table could not hold of it.
    """
    if row.category_from_path:  # named by a path, which is told from nothing that anybody wrote about the product
        return {}
    said: dict[str, Any] = {name: getattr(row, name) for name in ("name", "category", "description")}
    changed = {name: text for name, text in said.items() if text and not _same(getattr(product, name), text)}
    if row.is_historical is not None and row.is_historical != product.is_historical:
        changed["is_historical"] = row.is_historical
    attributes = {
        key: _typed(product.attributes.get(key), text)
        for key, text in row.attributes.items()
        if not _same(product.attributes.get(key), text)
    }
    if attributes:
        changed["attributes"] = {**product.attributes, **attributes}
    return changed


def describe_changes(product: Product, changed: dict[str, Any]) -> tuple[Change, ...]:
    """The changes for people, each attribute by itself."""
    told = []
    for name, new in changed.items():
        old = getattr(product, name)
        if name == "attributes":
            told += [Change(key, as_text(old.get(key)), as_text(new[key])) for key in new if old.get(key) != new[key]]
        else:
            told.append(Change(name, as_text(old), as_text(new)))
    return tuple(told)


def _same(stored: Any, cell: str) -> bool:
    return _plain(as_text(stored)) == _plain(cell)


def _plain(text: str) -> str:
    """The text without what not every kind of table holds: controls, kinds of line ends, space around it."""
    return INVALID_XML_CHARACTERS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def _typed(stored: Any, cell: str) -> Any:
    """The cell's value; a number stays a number and a list a list where the stored value is one."""
    if stored is None or isinstance(stored, str):
        return cell
    try:
        value = json.loads(cell)
    except ValueError:
        return cell
    same_kind = isinstance(value, bool) == isinstance(stored, bool) and isinstance(value, (int, float, list, dict))
    return value if same_kind else cell
