"""Describe the columns of an import for its page, and remember what users choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.spreadsheets.headers import suggest_column
from products.importing.rows import ImportSource
from products.importing.tables.columns import COLUMNS, ID_COLUMN, is_note
from products.importing.tables.mapping import ATTRIBUTE, ROLES, fingerprint
from products.models import ColumnChoice

EXAMPLES = 3
_EXAMPLE_LENGTH = 60  # characters
MAX_REMEMBERED = 1_000  # headers


def describe(source: ImportSource) -> dict[str, Any]:
    """Return what was recognised: the tool, notes, and for each column its role and examples."""
    if source.mapping is None:
        return {}
    mapping = source.mapping
    unused = sorted(set(COLUMNS) - set(mapping.chains) - ({"image"} if mapping.images else set()))
    columns = []
    for index, (name, role) in enumerate(zip(mapping.columns, mapping.roles, strict=True)):
        if not name or name == ID_COLUMN or is_note(name):
            continue
        values = dict.fromkeys(row[index] for row in source.samples if index < len(row) and row[index])
        suggestion = suggest_column(name, unused) if role == ATTRIBUTE and name not in mapping.chosen else ""
        examples = [_shorten(value) for value in list(values)[:EXAMPLES]]
        columns.append({"name": name, "role": role, "examples": examples, "suggestion": suggestion})
    return {
        "tool": mapping.preset.label if mapping.preset is not None else "",
        "preset": mapping.preset.name if mapping.preset is not None else "",
        "note": source.note,
        "columns": columns,
    }


def remembered(columns: Sequence[str]) -> dict[str, str]:
    """Return what was last chosen for a table of these columns."""
    choice = ColumnChoice.objects.filter(header=fingerprint(columns)).first()
    return dict(choice.chosen) if choice is not None else {}


def remember(columns: Sequence[str], roles: Mapping[str, str]) -> None:
    """Keep the choices for the next table of these columns. Only the newest headers are kept."""
    ColumnChoice.objects.update_or_create(header=fingerprint(columns), defaults={"chosen": dict(roles)})
    oldest = ColumnChoice.objects.order_by("-changed_at", "-pk").values_list("pk", flat=True)[MAX_REMEMBERED:]
    ColumnChoice.objects.filter(pk__in=list(oldest)).delete()


def clean_roles(roles: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    """Return the choices that name a column and a role."""
    return {column: role for column, role in roles.items() if column in columns and role in ROLES}


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _EXAMPLE_LENGTH else f"{text[:_EXAMPLE_LENGTH]}…"
