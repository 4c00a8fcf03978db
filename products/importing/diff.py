"""Find what a row of a table would change in an existing product. Saves nothing."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError

from core.history.timeline import Change
from core.spreadsheets.writer import INVALID_XML_CHARACTERS
from products.attributes import merge_attributes, parse_value
from products.importing.row import Row
from products.models import Product
from products.prices import format_price


def as_text(value: Any) -> str:
    """Return a value as the text of a cell: "" for None, JSON for other non-strings."""
    if value is None or isinstance(value, Decimal):
        return format_price(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def changed_fields(product: Product, row: Row) -> dict[str, Any]:
    """Return the fields that the row changes, with their new values. Raises ValidationError.

    An empty cell changes nothing. An exported table that comes back changes nothing, even if its format could not
    hold every character.
    """
    if row.category_from_path:  # A file name is no statement about an existing product's fields.
        return {}
    cells = {name: value for name, value in row.fields().items() if name != "sku" and value not in ("", None)}
    changed = {name: value for name, value in cells.items() if not _same(getattr(product, name), value)}
    if row.is_historical is not None and row.is_historical != product.is_historical:
        changed["is_historical"] = row.is_historical
    try:
        attributes = {
            key: _typed(key, product.attributes.get(key), text)
            for key, text in row.attributes.items()
            if not _same(product.attributes.get(key), text)
        }
        if attributes:
            changed["attributes"] = merge_attributes(product.attributes, attributes)
    except ValidationError as error:
        raise ValidationError({"attributes": error}) from error
    return changed


def describe_changes(product: Product, changed: dict[str, Any]) -> tuple[Change, ...]:
    """Return the changes as the preview shows them, with a line for each attribute."""
    changes: list[Change] = []
    for name, new in changed.items():
        old = getattr(product, name)
        if name == "attributes":
            changes += [
                Change(key, as_text(old.get(key)), as_text(new[key])) for key in new if old.get(key) != new[key]
            ]
        else:
            changes.append(Change(name, as_text(old), as_text(new)))
    return tuple(changes)


def _same(stored: Any, cell: Any) -> bool:
    return _normalize(as_text(stored)) == _normalize(as_text(cell))


def _normalize(text: str) -> str:
    """Remove what some table formats lose: controls, kinds of line ends, outer spaces."""
    return INVALID_XML_CHARACTERS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def _typed(name: str, stored: Any, cell: str) -> Any:
    """Return the cell's value, as a number, list or object if the stored value is one."""
    if stored is None or isinstance(stored, str):
        return cell
    try:
        value = parse_value(name, cell)
    except ValueError:
        return cell
    same_kind = isinstance(value, bool) == isinstance(stored, bool) and isinstance(value, (int, float, list, dict))
    return value if same_kind else cell
