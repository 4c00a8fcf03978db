"""Attributes that break the schema, as older rows have them."""

from __future__ import annotations

import json

import pytest
from django.db import connection

from products.models import Product

# Each is the text of a JSON column. PostgreSQL refuses half a surrogate pair, endless nesting and 1e999999.
STORED = {
    "940 levels": '{"colour": "blue", "deep": ' + "[" * 940 + "]" * 940 + "}",
    "1900 levels of objects": '{"a":' * 1900 + "1" + "}" * 1900,
    "100000 levels": '{"colour": "blue", "deep": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "a list of 940 levels": "[" * 940 + "]" * 940,
    "2.5 MB": json.dumps({"colour": "blue", "text": "é\\\" " * 500_000}),
    "many entries": json.dumps({"colour": "blue"} | {f"name {number}": number for number in range(20_000)}),
    "long names": json.dumps({"colour": "blue", "n" * 100_000: "x"}),
    "endless number": '{"colour": "blue", "number": ' + "9" * 5000 + "}",
    "infinite number": '{"colour": "blue", "number": 1e999999}',
    "half a surrogate pair": r'{"colour": "blue", "half": "\ud83d", "nul": "\u0000"}',
    "null": "null",
    "text": '"text"',
}  # fmt: skip
_ONLY_SQLITE = {"100000 levels", "infinite number", "half a surrogate pair"}


def store(product: Product, text: str, table: str = "products") -> None:
    """Write the attributes as no current version does. Skip the test if the database refuses them."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints = ON")
        elif any(text == STORED[name] for name in _ONLY_SQLITE):
            pytest.skip("PostgreSQL refuses this value")
        cursor.execute(f"UPDATE {table} SET attributes = %s WHERE id = %s", [text, product.pk])
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints = OFF")


def stored_text(product: Product, table: str = "products") -> str:
    """Return the JSON text of the column, in the product's newest row of the table."""
    order = "history_id" if table == "product_history" else "id"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT CAST(attributes AS text) FROM {table} WHERE id = %s ORDER BY {order} DESC", [product.pk]
        )
        return str(cursor.fetchone()[0])
