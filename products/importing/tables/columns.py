"""The names of CatalogMatch's own columns, and the columns of attributes."""

from __future__ import annotations

import json
import re

from core.spreadsheets.reader import column_name
from core.spreadsheets.writer import unescape_formula
from products.validation import TEXT_FIELDS, is_encodable

COLUMNS = (*TEXT_FIELDS, "is_historical", "price", "image")
# CatalogMatch writes the columns in parentheses. An import reads only the id.
ID_COLUMN = "(id)"
_NOTE = re.compile(r"\(.*\)", re.DOTALL)
_QUOTED_ATTRIBUTE = re.compile(r'attribute ("(?:.|\n)*")')


def is_note(column: str) -> bool:
    """Return whether the column is in parentheses. An import does not read it."""
    return _NOTE.fullmatch(column) is not None


def is_quoted_attribute(column: str) -> bool:
    """Return whether the column says that it is an attribute, as in ``attribute "brand"``."""
    return _QUOTED_ATTRIBUTE.fullmatch(column) is not None


def attribute_name(column: str) -> str | None:
    """Return the column's attribute, or None for a column with its own meaning."""
    column = unescape_formula(column)
    if quoted := _QUOTED_ATTRIBUTE.fullmatch(column):
        try:
            name = str(json.loads(quoted[1]))
        except ValueError:
            return column
        return name if is_encodable(name) else column
    return None if not column or column.lower() in COLUMNS or is_note(column) else column


def attribute_column(attribute: str) -> str:
    """Return an attribute's column, quoted if an import would misread it."""
    if attribute_name(attribute) == attribute == column_name(attribute):
        return attribute
    return f"attribute {json.dumps(attribute, ensure_ascii=False)}"
